# SPDX-License-Identifier: BSD-2-Clause
"""Each rule of memory ownership, broken on purpose: it is caught, and explained."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from driver_model.memory.dma import (
    Device,
    DmaDirection,
    dma_alloc_coherent,
    dma_free_coherent,
    dma_map_page,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
)
from driver_model.memory.ownership import OwnershipChecker, OwnershipError
from driver_model.memory.page import Page
from driver_model.memory.page_pool import page_pool_alloc_pages, page_pool_create, page_pool_put_full_page
from driver_model.memory.page_pool_params import PP_FLAG_DMA_MAP, PagePoolParams
from driver_model.memory.page_pool_state import PagePool
from tests.driver_model.bench import Bench
from tests.driver_model.fake_platform import CYCLE_PS

FROM, TO, BOTH = DmaDirection.FROM_DEVICE, DmaDirection.TO_DEVICE, DmaDirection.BIDIRECTIONAL
HERE = Path(__file__).name


class Kit:
    """A device, and a way to break rules with it."""

    def __init__(self) -> None:
        self.bench = Bench()
        assert self.bench.checker is not None
        self.checker: OwnershipChecker = self.bench.checker
        self.dev: Device = self.bench.host.devices[0]
        self.core = self.bench.core

    def page(self, order: int = 0) -> Page:
        page = self.dev.pages.alloc_pages(order)
        assert page is not None
        return page

    def map(self, page: Page, direction: DmaDirection = FROM, size: int = 4096) -> int:
        address = dma_map_page(self.dev, page, 0, size, direction)
        assert not dma_mapping_error(self.dev, address)
        return address

    def pool(self) -> PagePool:
        return page_pool_create(PagePoolParams(self.dev, PP_FLAG_DMA_MAP, dma_dir=BOTH))

    @property
    def cycle(self) -> int:
        """The first hardware cycle after what the core did so far."""
        return self.core.time // CYCLE_PS + 1

    def device(self, cycle: int, address: int, length: int, write: bool = True) -> None:
        self.checker.device_accesses(cycle, [(cycle, address, length, write)])


def caught(rule: str, break_it: Callable[[], object], *story: str) -> None:
    """The rule is broken at a line of this file, and the message says so and more."""
    with pytest.raises(OwnershipError) as error:
        break_it()
    assert error.value.violation.rule == rule
    message = str(error.value)
    assert message.startswith(f"{rule}: ")
    for part in story:
        assert re.search(part, message), f"{part!r} is not in {message!r}"


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
        rf"mapping \(FROM_DEVICE\).*handed over by dma_map at .*{HERE}:\d+ on core 0, \d+ ps",
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


def test_double_map(kit: Kit) -> None:
    page = kit.page()
    kit.map(page)
    caught("double map", lambda: kit.map(page), rf"there is a mapping \(FROM_DEVICE\) {page.address:#x}")


def test_reading_twice_from_memory_is_no_double_map(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, TO)
    kit.map(page, TO)


def test_double_unmap(kit: Kit) -> None:
    address = kit.map(kit.page())
    dma_unmap_page(kit.dev, address, 4096, FROM)
    caught(
        "double unmap", lambda: dma_unmap_page(kit.dev, address, 4096, FROM), rf"handed over by dma_unmap at .*{HERE}"
    )


def test_unmap_of_what_is_not_mapped(kit: Kit) -> None:
    address = kit.map(kit.page())
    caught("unmap of what is not mapped", lambda: dma_unmap_page(kit.dev, 1 << 20, 64, FROM), "was never mapped")
    caught(
        "unmap of what is not mapped", lambda: dma_unmap_page(kit.dev, address + 64, 64, FROM), "which is in a mapping"
    )


def test_unmap_with_other_size_or_direction(kit: Kit) -> None:
    address = kit.map(kit.page())
    caught("wrong size", lambda: dma_unmap_page(kit.dev, address, 2048, FROM), "2048 bytes at .*, 4096 mapped")
    caught("wrong direction", lambda: dma_unmap_page(kit.dev, address, 4096, TO), "unmap TO_DEVICE")


def test_sync_outside_a_mapping_or_in_another_direction(kit: Kit) -> None:
    address = kit.map(kit.page(), size=1024)
    caught("wrong size", lambda: dma_sync_single_for_cpu(kit.dev, address, 1025, FROM), "1025 bytes")
    caught("wrong direction", lambda: dma_sync_single_for_cpu(kit.dev, address, 64, TO), "TO_DEVICE")
    dma_unmap_page(kit.dev, address, 1024, FROM)
    caught("sync of what is not mapped", lambda: dma_sync_single_for_device(kit.dev, address, 64, FROM), "dma_unmap at")
    caught("sync of what is not mapped", lambda: dma_sync_single_for_device(kit.dev, 1 << 20, 64, FROM), "never mapped")


def test_a_map_call_whose_success_was_not_asked_for(kit: Kit) -> None:
    address = dma_map_page(kit.dev, kit.page(), 0, 64, FROM)
    caught("mapping error not tested", lambda: dma_unmap_page(kit.dev, address, 64, FROM), "dma_mapping_error")


def test_page_freed_while_mapped(kit: Kit) -> None:
    page = kit.page(order=1)
    dma_map_page(kit.dev, page, 4096, 64, FROM)
    caught(
        "freed while mapped", lambda: kit.dev.pages.put_page(page), f"page {page.pfn:#x}", "handed over by dma_map at"
    )


def test_page_left_mapped(kit: Kit) -> None:
    kit.map(kit.page())
    caught("never unmapped", kit.checker.finish, rf"handed over by dma_map at .*{HERE}")


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


def test_device_outside_any_mapping(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, size=128)
    kit.device(kit.cycle, page.address, 128)
    caught(
        "device access outside a mapping", lambda: kit.device(kit.cycle, page.address + 64, 65), "write of 1 bytes at"
    )


def test_device_before_and_after_the_mapping(kit: Kit) -> None:
    page = kit.page()
    before = kit.cycle - 1
    address = kit.map(page)
    during = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_unmap_page(kit.dev, address, 4096, FROM)
    after = kit.cycle
    accesses = [(during, page.address, 64, True)]
    kit.checker.device_accesses(before, accesses)
    caught(
        "device access outside a mapping", lambda: kit.device(before, page.address, 64), f"in cycle {before}: mapping"
    )
    caught("device access after unmap", lambda: kit.device(after, page.address, 64), "handed over by dma_unmap at")


def test_device_is_judged_by_who_owned_the_bytes_then(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page)
    first = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_sync_single_for_cpu(kit.dev, address, 128, FROM)
    second = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_sync_single_for_device(kit.dev, address, 128, FROM)
    third = kit.cycle
    fine = [(third, page.address, 64, True), (first, page.address, 64, True), (second, page.address + 128, 64, True)]
    kit.checker.device_accesses(0, fine)
    caught(
        "device access of cpu memory",
        lambda: kit.checker.device_accesses(0, [(second, page.address + 64, 65, True)]),
        rf"write of 65 bytes .* in cycle {second}.*then dma_sync_for_cpu at .*{HERE}",
    )


def test_the_edge_of_a_handover_still_belongs_to_the_state_before(kit: Kit) -> None:
    """Software that acts at a time has seen that time's edge already."""
    page = kit.page()
    address = kit.map(page)
    kit.core.time = 1000 * CYCLE_PS - kit.dev.op_sync_cpu.ps
    dma_sync_single_for_cpu(kit.dev, address, 128, FROM)
    assert kit.core.time == 1000 * CYCLE_PS
    kit.device(1000, page.address, 64)
    caught("device access of cpu memory", lambda: kit.device(1001, page.address, 64), "in cycle 1001")


def test_device_against_the_direction(kit: Kit) -> None:
    page, other = kit.page(), kit.page()
    kit.map(page, FROM)
    kit.map(other, TO)
    kit.device(kit.cycle, other.address, 64, write=False)
    rule = "device access against the direction"
    caught(rule, lambda: kit.device(kit.cycle, page.address, 64, write=False), "read of 64")
    caught(rule, lambda: kit.device(kit.cycle, other.address, 64), "write of 64")


def test_device_writes_more_than_was_posted(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page, BOTH)
    kit.checker.posted(kit.core, address + 256, 1000)
    kit.device(kit.cycle, page.address + 256, 1000)
    rule = "device access beyond the posted length"
    caught(rule, lambda: kit.device(kit.cycle, page.address + 256, 1001), rf"then descriptor at .*{HERE}")
    dma_sync_single_for_cpu(kit.dev, address, 64, BOTH)
    kit.core.time += CYCLE_PS
    caught(rule, lambda: kit.device(kit.cycle, page.address + 256, 64), "then dma_sync_for_cpu at")


def test_posting_what_is_not_the_devices(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page)
    dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
    caught("device access of cpu memory", lambda: kit.checker.posted(kit.core, address, 64), "posted at")
    caught("device access outside a mapping", lambda: kit.checker.posted(kit.core, 1 << 20, 64), "posted at")


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
        caught("unmap of what is not mapped", lambda: dma_free_coherent(kit.dev, ring), "not coherent memory")

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
    assert len(kit.checker._by_frame[page.pfn][0].history) == 1
    dma_unmap_page(kit.dev, address, 4096, BOTH)
    kit.checker.device_accesses(kit.cycle + 1, [])
    assert page.pfn not in kit.checker._by_frame


def test_violations_can_be_collected(kit: Kit) -> None:
    kit.checker.stop = False
    page = kit.page()
    kit.map(page)
    kit.core.load_owned(page.address, 8)
    dma_unmap_page(kit.dev, page.address, 4096, FROM)
    dma_unmap_page(kit.dev, page.address, 4096, FROM)
    assert [violation.rule for violation in kit.checker.violations] == ["cpu access of device memory", "double unmap"]


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
    with pytest.raises(OwnershipError, match="cpu access of device memory: write"):
        kit.core.store_owned(page.address + 200, bytes(8))
