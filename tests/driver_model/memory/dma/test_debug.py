# SPDX-License-Identifier: BSD-2-Clause
"""Every error class of DMA_API_DEBUG, made on purpose: it is caught, in the kernel's words, and explained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    dma_map_page,
    dma_map_page_attrs,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
)
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.dma.scatterlist import (
    Scatterlist,
    dma_map_sg,
    dma_set_max_seg_size,
    dma_set_seg_boundary,
    dma_sync_sg_for_cpu,
    dma_unmap_sg,
)
from driver_model.memory.pages.kernel_map import RODATA_START, TEXT_START, VMALLOC_START, KernelMap
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, KIT, TO, Kit, caught

HERE = Path(__file__).name
NOT_ALLOCATED = "DMA-API: device driver tries to free DMA memory it has not allocated"
OVERLAP = "DMA-API: cacheline tracking EEXIST, overlapping mappings aren't supported"
STORY = rf"handed over by dma_map at .*{KIT}:\d+ on core 0, \d+ ps"


@pytest.fixture
def kit() -> Kit:
    return Kit()


# Map


@pytest.mark.parametrize(
    ("where", "area"),
    [
        (lambda areas: areas.stack(0) + 64, "stack"),
        (lambda areas: TEXT_START + 4096, "kernel text or rodata"),
        (lambda areas: RODATA_START, "kernel text or rodata"),
        (lambda areas: TEXT_START - 8, "kernel text or rodata"),
        (lambda areas: VMALLOC_START, "vmalloc area"),
        (lambda areas: areas.memory_size - 8, "invalid area"),
        (lambda areas: 0, "invalid area"),
    ],
)
def test_memory_that_cannot_be_mapped(kit: Kit, where: Callable[[KernelMap], int], area: str) -> None:
    assert kit.checker.dma_debug.kernel_map is not None
    address = where(kit.checker.dma_debug.kernel_map)
    caught(
        f"DMA-API: device driver maps memory from {area}",
        lambda: dma_map_single(kit.dev, address, 64, TO),
        rf"\[addr={address:#x}\] \[len=64\] at .*{HERE}:\d+ on core 0, \d+ ps",
    )


def test_all_of_memory_can_be_mapped(kit: Kit) -> None:
    while kit.dev.pages.alloc_pages() is not None:
        pass
    for address in (4096, kit.bench.platform.memory_size - 64):
        assert dma_map_single(kit.dev, address, 64, TO) == address


def test_overlapping_mappings(kit: Kit) -> None:
    page = kit.page()
    kit.map(page)
    caught(OVERLAP, lambda: kit.map(page), rf": mapping \(FROM_DEVICE\) {page.address:#x}", STORY)


@pytest.mark.parametrize("beside", [32, 63, 64])
def test_two_mappings_may_not_share_a_cache_line(kit: Kit, beside: int) -> None:
    page = kit.page()
    dma_map_page(kit.dev, page, 0, beside, FROM)
    if beside % 64:
        caught(OVERLAP, lambda: dma_map_page(kit.dev, page, beside, 64, FROM), f"handed over by dma_map at .*{HERE}")
    else:
        dma_map_page(kit.dev, page, beside, 64, FROM)


def test_what_the_device_only_reads_may_overlap(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, TO)
    kit.map(page, TO)
    kit.map(page, FROM)
    kit.map(page, TO)


def test_a_mapping_that_leaves_the_caches_alone_may_overlap(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, FROM)
    dma_map_page_attrs(kit.dev, page, 0, 4096, FROM, DMA_ATTR_SKIP_CPU_SYNC)


def test_an_ended_mapping_overlaps_nothing(kit: Kit) -> None:
    page = kit.page()
    dma_unmap_page(kit.dev, kit.map(page), 4096, FROM)
    kit.map(page)


def test_a_segment_that_is_longer_than_the_device_claims_to_support(kit: Kit) -> None:
    dma_set_max_seg_size(kit.dev, 2048)
    page = kit.page()
    dma_map_sg(kit.dev, [Scatterlist(page, 0, 2048)], TO)
    caught(
        "DMA-API: mapping sg segment longer than device claims to support",
        lambda: dma_map_sg(kit.dev, [Scatterlist(page, 0, 2049)], TO),
        r"\[len=2049\] \[max=2048\]",
    )


def test_a_segment_across_a_boundary(kit: Kit) -> None:
    dma_set_seg_boundary(kit.dev, 2047)
    page = kit.page()
    dma_map_sg(kit.dev, [Scatterlist(page, 0, 2048), Scatterlist(page, 2048, 2048)], TO)
    caught(
        "DMA-API: mapping sg segment across boundary",
        lambda: dma_map_sg(kit.dev, [Scatterlist(page, 2047, 2)], TO),
        r"\[start=0x.*7ff\] \[end=0x.*800\] \[boundary=0x7ff\]",
    )


# Unmap


def test_unmap_of_an_error(kit: Kit) -> None:
    rule = "DMA-API: device driver tries to free an invalid DMA memory address"
    caught(rule, lambda: dma_unmap_page(kit.dev, DMA_MAPPING_ERROR, 64, FROM))


def test_unmap_twice(kit: Kit) -> None:
    address = kit.map(kit.page())
    dma_unmap_page(kit.dev, address, 4096, FROM)
    caught(
        NOT_ALLOCATED,
        lambda: dma_unmap_page(kit.dev, address, 4096, FROM),
        rf"\[device address={address:#x}\] \[size=4096 bytes\] at .*{HERE}:\d+ on core 0, \d+ ps",
        rf"handed over by dma_unmap at .*{HERE}",
    )


def test_unmap_of_what_is_not_mapped(kit: Kit) -> None:
    address = kit.map(kit.page())
    caught(NOT_ALLOCATED, lambda: dma_unmap_page(kit.dev, 1 << 20, 64, FROM))
    caught(NOT_ALLOCATED, lambda: dma_unmap_page(kit.dev, address + 64, 64, FROM), STORY)


def test_unmap_of_one_of_several_that_fits_none(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, TO)
    kit.map(page, TO, 2048)
    caught(NOT_ALLOCATED, lambda: dma_unmap_page(kit.dev, page.address, 1024, TO))
    dma_unmap_page(kit.dev, page.address, 2048, TO)
    dma_unmap_page(kit.dev, page.address, 4096, TO)
    kit.checker.finish()


def test_unmap_with_different_size(kit: Kit) -> None:
    address = kit.map(kit.page())
    caught(
        "DMA-API: device driver frees DMA memory with different size",
        lambda: dma_unmap_page(kit.dev, address, 2048, FROM),
        r"\[map size=4096 bytes\] \[unmap size=2048 bytes\]",
        STORY,
    )


def test_unmap_with_different_direction(kit: Kit) -> None:
    address = kit.map(kit.page())
    caught(
        "DMA-API: device driver frees DMA memory with different direction",
        lambda: dma_unmap_page(kit.dev, address, 4096, TO),
        r"\[mapped with FROM_DEVICE\] \[unmapped with TO_DEVICE\]",
        STORY,
    )


def test_unmap_with_the_wrong_function(kit: Kit) -> None:
    address = kit.map(kit.page())
    entry = Scatterlist(kit.page(), 0, 4096)
    dma_map_sg(kit.dev, [entry], FROM)
    rule = "DMA-API: device driver frees DMA memory with wrong function"
    mapped = Scatterlist(kit.page(), 0, 4096, address)
    caught(rule, lambda: dma_unmap_sg(kit.dev, [mapped], FROM), r"\[mapped as single\] \[unmapped as scatter-gather\]")
    caught(
        rule,
        lambda: dma_unmap_page(kit.dev, entry.dma_address, 4096, FROM),
        r"\[mapped as scatter-gather\] \[unmapped as single\]",
    )


def test_coherent_memory_freed_with_the_wrong_function_or_address(kit: Kit) -> None:
    def use() -> None:
        ring = dma_alloc_coherent(kit.dev, 4096)
        assert ring is not None
        caught(
            "DMA-API: device driver frees DMA memory with wrong function",
            lambda: dma_unmap_page(kit.dev, ring.dma_address, 4096, BOTH),
            r"\[mapped as coherent\] \[unmapped as single\]",
        )
        other = replace(ring, address=ring.address + 64)
        caught(
            "DMA-API: device driver frees DMA memory with different CPU address",
            lambda: dma_free_coherent(kit.dev, other),
            rf"\[cpu alloc address={ring.address:#x}\] \[cpu free address={other.address:#x}\]",
        )

    kit.bench.run(use)


def test_unmap_of_a_part_of_a_list(kit: Kit) -> None:
    entries = [Scatterlist(kit.page(), 0, 4096) for _ in range(3)]
    dma_map_sg(kit.dev, entries, FROM)
    caught(
        "DMA-API: device driver frees DMA sg list with different entry count",
        lambda: dma_unmap_sg(kit.dev, entries[:2], FROM),
        r"\[map count=3\] \[unmap count=2\]",
    )


def test_a_map_call_whose_success_was_not_asked_for(kit: Kit) -> None:
    address = dma_map_page(kit.dev, kit.page(), 0, 64, FROM)
    caught(
        "DMA-API: device driver failed to check map error",
        lambda: dma_unmap_page(kit.dev, address, 64, FROM),
        r"\[mapped as single\]",
        rf"handed over by dma_map at .*{HERE}:\d+",
    )


def test_asking_once_answers_for_one_of_several_mappings(kit: Kit) -> None:
    page = kit.page()
    for _ in range(2):
        dma_map_page(kit.dev, page, 0, 64, TO)
    assert not dma_mapping_error(kit.dev, page.address)
    kit.checker.stop = False
    for _ in range(2):
        dma_unmap_page(kit.dev, page.address, 64, TO)
    rules = [violation.rule for violation in kit.checker.violations]
    assert rules == ["DMA-API: device driver failed to check map error"]


# Sync


def test_sync_of_what_is_not_mapped(kit: Kit) -> None:
    rule = "DMA-API: device driver tries to sync DMA memory it has not allocated"
    address = kit.map(kit.page())
    dma_unmap_page(kit.dev, address, 4096, FROM)
    caught(rule, lambda: dma_sync_single_for_device(kit.dev, address, 64, FROM), "dma_unmap at")
    caught(rule, lambda: dma_sync_single_for_cpu(kit.dev, 1 << 20, 64, FROM), r"\[size=64 bytes\]")


def test_sync_outside_the_range(kit: Kit) -> None:
    address = kit.map(kit.page(), size=1024)
    caught(
        "DMA-API: device driver syncs DMA memory outside allocated range",
        lambda: dma_sync_single_for_cpu(kit.dev, address + 1000, 25, FROM),
        r"\[allocation size=1024 bytes\] \[sync offset\+size=1025\]",
        STORY,
    )


def test_sync_in_a_different_direction(kit: Kit) -> None:
    rule = "DMA-API: device driver syncs DMA memory with different direction"
    address = kit.map(kit.page())
    caught(
        rule,
        lambda: dma_sync_single_for_cpu(kit.dev, address, 64, TO),
        r"\[mapped with FROM_DEVICE\] \[synced with TO_DEVICE\]",
    )


def test_a_mapping_in_both_directions_may_be_synced_in_either(kit: Kit) -> None:
    address = kit.map(kit.page(), BOTH)
    dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
    dma_sync_single_for_device(kit.dev, address, 64, TO)


def test_sync_of_what_the_device_cannot_have_written_or_cannot_read(kit: Kit) -> None:
    read, written = kit.map(kit.page(), TO), kit.map(kit.page(), FROM)
    kit.checker.stop = False
    dma_sync_single_for_cpu(kit.dev, read, 64, FROM)
    dma_sync_single_for_device(kit.dev, written, 64, TO)
    different = "DMA-API: device driver syncs DMA memory with different direction"
    assert [violation.rule for violation in kit.checker.violations] == [
        different,
        "DMA-API: device driver syncs device read-only DMA memory for cpu",
        different,
        "DMA-API: device driver syncs device write-only DMA memory to device",
    ]


def test_sync_of_a_part_of_a_list(kit: Kit) -> None:
    entries = [Scatterlist(kit.page(), 0, 4096) for _ in range(3)]
    dma_map_sg(kit.dev, entries, FROM)
    caught(
        "DMA-API: device driver syncs DMA sg list with different entry count",
        lambda: dma_sync_sg_for_cpu(kit.dev, entries[:1], FROM),
        r"\[map count=3\] \[sync count=1\]",
    )


# Unbind


def test_what_is_left_mapped(kit: Kit) -> None:
    kit.map(kit.page())
    kit.map(kit.page(), TO, 64)
    caught(
        "DMA-API: device driver has pending DMA allocations while released from device",
        kit.checker.finish,
        r"\[count of leaked entries\]=2",
        r"\[size=4096 bytes\] \[mapped with FROM_DEVICE\] \[mapped as single\]",
        STORY,
    )
