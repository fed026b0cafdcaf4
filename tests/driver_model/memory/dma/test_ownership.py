# SPDX-License-Identifier: BSD-2-Clause
"""Each rule of memory ownership, broken on purpose: it is caught, and explained."""

from pathlib import Path

import pytest

from driver_model.memory.dma.api import (
    dma_map_page,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
    dma_unmap_single,
)
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.dma.ownership import OwnershipChecker, OwnershipError
from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create, page_pool_put_full_page
from driver_model.memory.pages.page_frag import PageFragCache
from tests.driver_model.fake_platform import CYCLE_PS
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, KIT, TO, Kit, caught

HERE = Path(__file__).name


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_cpu_reads_before_sync(kit: Kit) -> None:
    page = kit.page()
    kit.map(page)
    caught(
        "cpu access of device memory",
        lambda: kit.core.load_owned(page.address, 60),
        rf"read of 60 bytes at {page.address:#x} at .*{HERE}:\d+ on core 0, \d+ ps, without sync_for_cpu or unmap",
        rf"mapping \(FROM_DEVICE\).*handed over by dma_map at .*{KIT}:\d+ on core 0, \d+ ps",
    )


def test_cpu_reads_beyond_what_was_synced(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page)
    dma_sync_single_for_cpu(kit.dev, address, 100, FROM)
    kit.core.load_owned(page.address, 100)
    caught("cpu access of device memory", lambda: kit.core.load_owned(page.address + 64, 64), "read of 64 bytes")


def test_cpu_writes_after_handing_back(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page, BOTH)
    dma_sync_single_for_cpu(kit.dev, address, 4096, BOTH)
    kit.core.store_owned(page.address, b"x")
    dma_sync_single_for_device(kit.dev, address, 64, BOTH)
    kit.core.store_owned(page.address + 64, b"x")
    caught(
        "cpu access of device memory", lambda: kit.core.store_owned(page.address, b"x"), "write", "sync_for_device at"
    )


def test_cpu_touches_free_memory(kit: Kit) -> None:
    page = kit.page()
    kit.core.load_owned(page.address, 8)
    kit.dev.pages.put_page(page)
    caught("cpu access of free memory", lambda: kit.core.load_owned(page.address, 8), rf"freed at .*{HERE}:\d+")
    caught("cpu access of free memory", lambda: kit.core.load_owned(page.address + (1 << 20), 8), "never allocated")


def test_double_free(kit: Kit) -> None:
    page = kit.page()
    kit.dev.pages.put_page(page)
    caught("double free", lambda: kit.dev.pages.put_page(page), rf"at .*{HERE}.* already freed at .*{HERE}")


def test_page_freed_while_mapped(kit: Kit) -> None:
    page = kit.page(order=1)
    dma_map_page(kit.dev, page, 4096, 64, FROM)
    caught(
        "freed while mapped", lambda: kit.dev.pages.put_page(page), f"page {page.pfn:#x}", "handed over by dma_map at"
    )


def test_mapping_what_is_free(kit: Kit) -> None:
    """The device would write into whatever has that memory next."""
    page, block = kit.page(), kit.page(order=1)
    kit.dev.pages.put_page(page)
    caught(
        "mapping of free memory", lambda: kit.map(page), rf"at {page.address:#x} at .*{KIT}:\d+ on core 0, .*freed at"
    )
    beyond = rf"at {block.address + 4096:#x} .*never allocated"
    caught("mapping of free memory", lambda: kit.map_part(block, 4096, 8192), beyond)
    slab = kit.bench.host.slabs[0]
    memory = slab.kmalloc(512)
    assert memory is not None
    slab.kfree(memory)
    story = (
        rf"at {memory.address:#x} at .*{HERE}:\d+ .*object {memory.address:#x} of kmalloc-512, allocated at .*freed at"
    )
    caught("mapping of free memory", lambda: dma_map_single(kit.dev, memory.address, 512, TO), story)


def test_an_object_freed_while_mapped(kit: Kit) -> None:
    slab = kit.bench.host.slabs[0]
    first, second = slab.kmalloc(512), slab.kmalloc(512)
    assert first is not None
    assert second is not None
    address = dma_map_single(kit.dev, first.address + 64, 100, TO)
    assert not dma_mapping_error(kit.dev, address)
    slab.kfree(second)
    story = rf"object {first.address:#x} of kmalloc-512 freed at .*{HERE}:\d+ on core 0"
    caught("freed while mapped", lambda: slab.kfree_bulk([first]), story, "handed over by dma_map at")
    dma_unmap_single(kit.dev, address, 100, TO)
    slab.kfree(first)


def test_a_fragment_freed_while_mapped(kit: Kit) -> None:
    cache = PageFragCache(kit.dev.pages)
    first, second = cache.page_frag_alloc(2048), cache.page_frag_alloc(2048)
    assert first is not None
    assert second is not None
    dma_map_single(kit.dev, first.address, 2048, TO)
    cache.page_frag_free(second)
    story = rf"fragment of 2048 bytes at {first.address:#x} in .* freed at .*{HERE}:\d+ on core 0"
    caught("freed while mapped", lambda: cache.page_frag_free(first), story, "handed over by dma_map at")


@pytest.mark.parametrize("direct", [False, True])
def test_put_into_a_pool_while_another_device_may_read(kit: Kit, direct: bool) -> None:
    """A frame that is forwarded is mapped for the other device as well, until that has sent it."""
    pool = kit.pool()
    page = page_pool_alloc_pages(pool)
    assert page is not None
    sent = kit.map(page, TO, 600)
    dma_unmap_page(kit.dev, sent, 600, TO)
    page_pool_put_full_page(pool, page, True)
    assert page_pool_alloc_pages(pool) is page
    kit.map(page, TO, 600)
    story = rf"page {page.pfn:#x} .*at .*{HERE}:\d+, mapping \(TO_DEVICE\)"
    caught("put while mapped", lambda: page_pool_put_full_page(pool, page, direct), story)


def test_a_page_that_others_keep_may_leave_its_pool_while_they_have_it_mapped(kit: Kit) -> None:
    pool = kit.pool()
    page = page_pool_alloc_pages(pool)
    assert page is not None
    kit.dev.pages.get_page(page)
    sent = kit.map(page, TO, 600)
    page_pool_put_full_page(pool, page, False)
    dma_unmap_page(kit.dev, sent, 600, TO)
    kit.dev.pages.put_page(page)


def test_double_put_into_a_pool(kit: Kit) -> None:
    pool = kit.pool()
    page = page_pool_alloc_pages(pool)
    assert page is not None
    page_pool_put_full_page(pool, page, True)
    caught("double put", lambda: page_pool_put_full_page(pool, page, True), rf"already put at .*{HERE}:\d+")


def test_put_into_another_pool(kit: Kit) -> None:
    first, second = kit.pool(), kit.pool()
    page = page_pool_alloc_pages(first)
    assert page is not None
    caught("wrong pool", lambda: page_pool_put_full_page(second, page, True), "belongs to")


def test_pool_page_freed_behind_its_back(kit: Kit) -> None:
    pool = page_pool_create(PagePoolParams(kit.dev))
    page = page_pool_alloc_pages(pool)
    assert page is not None
    caught("freed while in a pool", lambda: kit.dev.pages.put_page(page), "behind the back")


def test_posting_what_is_not_the_devices(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page)
    dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
    caught("device access of cpu memory", lambda: kit.checker.posted(kit.core, address, 64), "posted at")
    caught("device access outside a mapping", lambda: kit.checker.posted(kit.core, 1 << 20, 64), "posted at")


def test_posting_more_than_is_mapped(kit: Kit) -> None:
    """Told at once: the device's own access may fall into another buffer, where it looks as it should."""
    page = kit.page(order=1)
    first, second = (kit.map_part(page, offset, 4096) for offset in (0, 4096))
    kit.checker.posted(kit.core, second, 4096)
    kit.checker.posted(kit.core, first, 4096)
    story = rf"4000 bytes at {page.address + 200:#x} posted at .*{HERE}:\d+ reach beyond the mapping \(FROM_DEVICE\)"
    caught("device access outside a mapping", lambda: kit.checker.posted(kit.core, first + 200, 4000), story)


def test_a_page_that_is_mapped_twice_is_the_devices_by_either_and_the_cpus_by_both(kit: Kit) -> None:
    """As a pool's page is that leaves by way of the stack."""
    page = kit.page()
    pooled = kit.map(page)
    dma_sync_single_for_cpu(kit.dev, pooled, 1000, FROM)
    sent = kit.map(page, TO, 1000)
    assert sent == pooled
    kit.checker.posted(kit.core, sent, 600)
    kit.device(kit.cycle, page.address, 600, write=False)
    rule = "device access against the direction"
    caught(rule, lambda: kit.device(kit.cycle, page.address, 601, write=False), "read of 601")
    caught("device access of cpu memory", lambda: kit.device(kit.cycle, page.address, 1000), "write of 1000")
    caught("cpu access of device memory", lambda: kit.core.load_owned(page.address, 8), r"mapping \(TO_DEVICE\)")
    dma_unmap_page(kit.dev, sent, 1000, TO)
    kit.core.load_owned(page.address, 8)
    kit.core.time += CYCLE_PS
    caught(rule, lambda: kit.device(kit.cycle, page.address, 8, write=False), "read of 8")


def test_coherent_memory_is_everyones(kit: Kit) -> None:
    def use() -> None:
        ring = dma_alloc_coherent(kit.dev, 4096)
        assert ring is not None
        kit.core.store(ring.address, b"x" * 64)
        kit.device(kit.cycle, ring.address, 4096)
        kit.core.load(ring.address, 64)
        dma_free_coherent(kit.dev, ring)
        kit.core.time += CYCLE_PS
        caught("device access after unmap", lambda: kit.device(kit.cycle, ring.address, 64), "dma_free_coherent at")
        caught(
            "DMA-API: device driver tries to free DMA memory it has not allocated",
            lambda: dma_free_coherent(kit.dev, ring),
            "handed over by dma_free_coherent at",
        )

    kit.bench.run(use)


def test_history_is_forgotten_once_settled(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page, BOTH)
    for _ in range(1000):
        dma_sync_single_for_cpu(kit.dev, address, 64, BOTH)
        kit.core.time += CYCLE_PS
        dma_sync_single_for_device(kit.dev, address, 64, BOTH)
        kit.core.time += CYCLE_PS
        kit.checker.device_accesses(kit.cycle, [(kit.cycle, page.address, 64, True)])
    assert len(kit.checker._table.by_frame[page.pfn][0].history) == 1
    dma_unmap_page(kit.dev, address, 4096, BOTH)
    kit.checker.device_accesses(kit.cycle + 1, [])
    assert page.pfn not in kit.checker._table.by_frame


def test_violations_can_be_collected(kit: Kit) -> None:
    kit.checker.stop = False
    page = kit.page()
    kit.map(page)
    kit.core.load_owned(page.address, 8)
    dma_unmap_page(kit.dev, page.address, 4096, FROM)
    dma_unmap_page(kit.dev, page.address, 4096, FROM)
    assert [violation.rule for violation in kit.checker.violations] == [
        "cpu access of device memory",
        "DMA-API: device driver tries to free DMA memory it has not allocated",
    ]


@pytest.mark.parametrize("cycle", [0, -1, 6.4, True])
def test_bad_cycle_time(cycle: int) -> None:
    with pytest.raises(ValueError, match=f"positive integer of picoseconds, not {cycle}"):
        OwnershipChecker(cycle)


def test_a_packet_may_grow_where_its_buffer_is_with_the_cpu() -> None:
    """As SKBs do, into their tailroom; not what the device has again, nor reading what nobody wrote."""
    kit = Kit()
    page = kit.page()
    address = kit.map(page, BOTH)
    kit.checker.posted(kit.core, address, 4096)
    dma_sync_single_for_cpu(kit.dev, address, 100, BOTH)
    with pytest.raises(OwnershipError, match="cpu access of device memory: read"):
        kit.core.load_owned(page.address + 100, 8)
    kit.core.store_owned(page.address + 100, bytes(8))
    assert kit.core.load_owned(page.address, 108) == bytes(108)
    dma_sync_single_for_device(kit.dev, address, 4096, BOTH)
    with pytest.raises(OwnershipError, match="cpu access of device memory: write"):
        kit.core.store_owned(page.address + 200, bytes(8))
    kit.checker.posted(kit.core, address, 2048)
    dma_sync_single_for_cpu(kit.dev, address, 100, BOTH)
    kit.checker.posted(kit.core, address + 2048, 2048)
    kit.core.store_owned(page.address + 200, bytes(8))
    with pytest.raises(OwnershipError, match="cpu access of device memory: write"):
        kit.core.store_owned(page.address + 2048, bytes(8))
