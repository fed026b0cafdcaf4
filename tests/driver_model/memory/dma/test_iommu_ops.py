# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API through an IOMMU: what is reachable, what is invalidated and how that is charged, and what runs out."""

from typing import Any

import pytest

from driver_model.drivers.iommu.driver import IommuSetup
from driver_model.memory.dma.api import (
    DMA_MAPPING_ERROR,
    DmaDirection,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_single,
)
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.pages.page import PAGE_SIZE
from hw.abi.iommu import Cause
from tests.driver_model.iommu_bench import READ, WRITE, IommuBench

CHANNELS = (DmaDirection.TO_DEVICE, DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


@pytest.mark.parametrize("direction", CHANNELS)
def test_a_buffer_within_a_page_keeps_its_offset_and_its_direction(direction: DmaDirection) -> None:
    bench = IommuBench()

    def body() -> None:
        page = bench.page()
        address = dma_map_single(bench.dev, page.address + 100, 1000, direction)
        assert not dma_mapping_error(bench.dev, address)
        assert address != page.address + 100
        assert address % PAGE_SIZE == 100
        assert bench.ops.physical(address) == page.address + 100
        assert bench.reaches(address, write=False)  # what may be written may be read: W without R is reserved
        assert bench.reaches(address) == (direction is not READ)
        dma_unmap_single(bench.dev, address, 1000, direction)
        with pytest.raises(ValueError, match="is not mapped"):
            bench.ops.physical(address)
        bench.dev.pages.put_page(page)

    bench.run_open(body)


def test_strict_leaves_nothing_reachable_when_unmap_returns() -> None:
    bench = IommuBench("strict")

    def body() -> None:
        pages = [bench.page() for _ in range(20)]
        addresses = [bench.map(page) for page in pages]
        for page, address in zip(pages, addresses, strict=True):
            assert bench.reaches(address)
            dma_unmap_single(bench.dev, address, page.size, WRITE)
            assert not bench.reaches(address)
            bench.dev.pages.put_page(page)
        assert bench.iommu.page_invalidations == 20
        assert bench.iommu.space_invalidations == 0
        assert bench.iommu.commands.fences == 20

    bench.run_open(body)


def test_strict_waits_for_the_fence_and_charges_no_invalidation() -> None:
    bench = IommuBench("strict")

    def body() -> int:
        page = bench.page()
        address = bench.map(page)
        start, lines = bench.core.time, bench.core.device_line.count
        fence_ps = 2 * 200_000  # two commands of the fake
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        assert bench.core.time - start > fence_ps
        assert bench.core.op("iommu.poll").count >= 10
        assert bench.core.device_line.count == lines + 1  # the fence's word comes from the IOMMU
        bench.dev.pages.put_page(page)
        return bench.core.op("iommu.unmap").count

    assert bench.run_open(body) == 1


def test_sync_is_free_of_iommu_work() -> None:
    bench = IommuBench("strict")

    def body() -> None:
        page = bench.page()
        address = bench.map(page)
        before = (len(bench.hardware.executed), bench.dma.domain.table.statistics.writes)
        dma_sync_single_for_cpu(bench.dev, address, 64, WRITE)
        dma_sync_single_for_device(bench.dev, address, 64, WRITE)
        assert (len(bench.hardware.executed), bench.dma.domain.table.statistics.writes) == before
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        bench.dev.pages.put_page(page)

    bench.run_open(body)


@pytest.mark.parametrize(
    ("size", "range_invalidation", "commands"),
    [(PAGE_SIZE, False, 1), (5 * PAGE_SIZE, False, 5), (5 * PAGE_SIZE, True, 2), (512 * PAGE_SIZE, True, 1)],
)
def test_what_is_invalidated(size: int, range_invalidation: bool, commands: int) -> None:
    bench = IommuBench("strict", setup=IommuSetup(range_invalidation=range_invalidation), memory=16 << 20)

    def body() -> None:
        page = bench.dev.pages.alloc_pages((size // PAGE_SIZE - 1).bit_length())
        assert page is not None
        address = dma_map_single(bench.dev, page.address, size, WRITE)
        assert not dma_mapping_error(bench.dev, address)
        places = range(address, address + size, PAGE_SIZE)
        assert all(bench.reaches(place) for place in places)
        dma_unmap_single(bench.dev, address, size, WRITE)
        assert not any(bench.reaches(place) for place in places)
        assert bench.iommu.page_invalidations == (commands if size < 2 << 20 else 0)
        assert bench.iommu.space_invalidations == (0 if size < 2 << 20 else 1)
        bench.dev.pages.put_page(page)

    bench.run_open(body)


def test_coherent_memory_is_mapped_in_large_pages_where_it_can() -> None:
    bench = IommuBench("strict", setup=IommuSetup(page_sizes=(4096, 65536, 2 << 20)), memory=16 << 20)

    def body() -> None:
        memory = dma_alloc_coherent(bench.dev, 100_000)
        assert memory is not None
        assert memory.dma_address != memory.address
        leaf = bench.dma.domain.lookup(memory.dma_address)
        assert leaf == (memory.address, 65536, True)
        assert bench.reaches(memory.dma_address + 99_000)
        dma_free_coherent(bench.dev, memory)
        assert not bench.reaches(memory.dma_address + 99_000)

    bench.run_open(body)


def test_coherent_memory_is_zero_before_the_device_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = IommuBench("strict", checked=False)
    seen: list[bytes] = []

    def body() -> None:
        page = bench.page()
        bench.core.store(page.address, b"secret")
        bench.dev.pages.put_page(page)
        map_ = bench.dma.map

        def spy(dev: Any, address: int, *rest: Any) -> int:
            dma_address = map_(dev, address, *rest)
            seen.append(bench.nic.read(dma_address, 6))
            return dma_address

        monkeypatch.setattr(bench.dma, "map", spy)
        memory = dma_alloc_coherent(bench.dev, PAGE_SIZE)
        assert memory is not None
        assert memory.address == page.address
        dma_free_coherent(bench.dev, memory)

    bench.run_open(body)
    assert seen == [bytes(6)]


def test_a_larger_page_in_a_tables_place_is_known_before_map_returns() -> None:
    """A walk under way could still be in the old table, and a cache could still lead there."""
    bench = IommuBench("strict", setup=IommuSetup(aperture=(8 << 20) - 1), memory=16 << 20)

    def body() -> None:
        small = [bench.map(bench.page()) for _ in range(2)]
        for address in small:
            dma_unmap_single(bench.dev, address, PAGE_SIZE, WRITE)
        bench.dma.iova.flush(bench.core)
        before = bench.iommu.space_invalidations
        large = bench.dev.pages.alloc_pages(10)
        assert large is not None
        address = dma_map_single(bench.dev, large.address, large.size, WRITE)
        assert not dma_mapping_error(bench.dev, address)
        assert address <= small[0] < address + large.size
        assert bench.iommu.space_invalidations == before + 1
        assert bench.reaches(small[0])

    bench.run_open(body, close=False)


def test_no_room_and_no_memory() -> None:
    bench = IommuBench("strict", setup=IommuSetup(aperture=16 * PAGE_SIZE - 1), checked=False, memory=1 << 20)

    def body() -> None:
        page = bench.page()
        addresses = [bench.map(page) for _ in range(15)]
        assert dma_map_single(bench.dev, page.address, page.size, WRITE) == DMA_MAPPING_ERROR
        assert (bench.dev.map_errors, bench.dma.failures) == (1, 1)
        for address in addresses:
            dma_unmap_single(bench.dev, address, page.size, WRITE)
        bench.dev.pages.put_page(page)

    bench.run_open(body)


def test_memory_for_tables_runs_out_and_nothing_stays_mapped() -> None:
    bench = IommuBench("strict", setup=IommuSetup(command_entries=64, fault_entries=64), memory=1 << 20)

    def body() -> None:
        held = []
        while (page := bench.dev.pages.alloc_pages()) is not None:
            held.append(page)
        assert dma_map_single(bench.dev, held[0].address, PAGE_SIZE, WRITE) == DMA_MAPPING_ERROR
        assert bench.dma.failures == 1
        for page in held:
            bench.dev.pages.put_page(page)
        assert bench.reaches(bench.map(bench.page()))

    bench.run_open(body, close=False)


def test_a_map_that_fails_leaves_no_way_into_a_table_that_it_replaced() -> None:
    """What was mapped in larger pages before memory ran out is taken back; a cache may still lead to the old table."""
    bench = IommuBench("strict", setup=IommuSetup(command_entries=64, fault_entries=64), memory=1 << 20)

    def body() -> None:
        size = 2 << 20
        domain = bench.dma.domain
        page = bench.page()
        assert domain.map(bench.dev, size, page.address, PAGE_SIZE, writable=True)
        domain.unmap(bench.dev, size, PAGE_SIZE)
        domain.flush_range(bench.dev, size, PAGE_SIZE)
        held = []
        while (other := bench.dev.pages.alloc_pages()) is not None:
            held.append(other)
        before = bench.iommu.space_invalidations
        assert not domain.map(bench.dev, size, 0, size + PAGE_SIZE, writable=True)
        assert domain.lookup(size) is None
        assert bench.iommu.space_invalidations > before
        for each in (page, *held):
            bench.dev.pages.put_page(each)

    bench.run_open(body)


def test_cores_map_and_unmap_at_once() -> None:
    bench = IommuBench("strict", cores=4)
    done: list[int] = []

    def worker(index: int) -> None:
        dev = bench.host.devices[index]
        for turn in range(12):
            pages = [dev.pages.alloc_pages() for _ in range(1 + turn % 3)]
            addresses = [bench.map(page, core=index) for page in pages if page is not None]
            for page, address in zip(pages, addresses, strict=True):
                assert page is not None
                assert bench.ops.physical(address) == page.address
                dma_unmap_single(dev, address, page.size, WRITE)
                assert bench.hardware.translate(0, address, 64, write=True) is None
                dev.pages.put_page(page)
        done.append(index)

    def body() -> None:
        for index in range(1, 4):
            bench.system.cores[index].spawn("worker", lambda index=index: worker(index))
        worker(0)
        bench.wait(lambda: len(done) == 4, "the other cores")
        assert bench.hardware.field("cqcsr", "cmd_ill") == 0
        assert bench.iommu.commands.fences == 4 * (1 + 2 + 3) * 4

    bench.run_open(body)


@pytest.mark.parametrize("mode", ["passthrough", "strict", "lazy"])
@pytest.mark.parametrize("strategy", ["page_per_packet", "page_pool"])
@pytest.mark.parametrize("iova_mode", ["top_down", "contiguous"])
def test_the_whole_driver_behind_it(mode: str, strategy: str, iova_mode: str) -> None:
    bench = IommuBench(mode, strategy, setup=IommuSetup(iova_mode=iova_mode), verdict="tx", rx_entries=64)
    frames = [bytes([number]) * 200 for number in range(150)]

    def body() -> None:
        bench.start()
        bench.nic.receive(0, list(frames))
        bench.wait(lambda: len(bench.nic.queues[0].sent) == len(frames), "every frame to leave")
        bench.finish()

    bench.run(body)
    assert bench.nic.queues[0].sent == frames
    assert bench.iommu.faults.count == 0
    if mode == "strict" and strategy == "page_per_packet":
        assert bench.iommu.page_invalidations >= 2 * len(frames)
    if strategy == "page_pool" or mode == "passthrough":
        assert bench.iommu.page_invalidations + bench.iommu.space_invalidations < len(frames)


def test_counters() -> None:
    bench = IommuBench("lazy")

    def body() -> None:
        page = bench.page()
        for _ in range(3):
            dma_unmap_single(bench.dev, bench.map(page), page.size, WRITE)
        bench.dev.pages.put_page(page)

    bench.run_open(body)
    counters = bench.dma.statistics()
    assert counters["iommu_maps"] == counters["iommu_unmaps"] == counters["iommu_queued"] == 3
    assert counters["iommu_queue_flushes"] == 1
    assert counters["iommu_table_writes"] == 2 + 3 + 3
    assert counters["iova_tree_allocs"] == 3


def test_faults_tell_what_a_device_did_after_unmap() -> None:
    bench = IommuBench("strict")

    def body() -> None:
        page = bench.page()
        address = bench.map(page)
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        bench.nic.write(address + 8, b"late")
        bench.core.sleep_until(bench.core.time + 10**8)
        bench.dev.pages.put_page(page)

    bench.run_open(body)
    (fault,) = bench.iommu.faults.faults
    assert fault.cause == Cause.WRITE_PAGE.value
    assert fault.address % PAGE_SIZE == 8


def test_an_aperture_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="aperture must lie in the lower half of 3 levels, not 274877906944"):
        IommuSetup(aperture=1 << 38)
