# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API through an IOMMU: strict leaves no stale window, lazy has one and closes it, no IOVA is reused before."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.iommu import IommuSetup
from driver_model.memory.dma import (
    DMA_MAPPING_ERROR,
    DmaDirection,
    dma_alloc_coherent,
    dma_free_coherent,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_single,
)
from driver_model.memory.flush_queue import ENTRIES, TIMEOUT_PS, FlushQueue
from driver_model.memory.page import PAGE_SIZE
from hw.abi.iommu import Cause
from tests.driver_model.iommu_bench import READ, WRITE, IommuBench

CHANNELS = (DmaDirection.TO_DEVICE, DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


def opened(bench: IommuBench, body: Callable[[], Any], *, close: bool = True) -> Any:
    """Run a body in a process with the IOMMU open, and check that nothing is left."""

    def process() -> Any:
        bench.open_iommu()
        result = body()
        if close:
            bench.close_iommu()
        return result

    return bench.run(process)


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

    opened(bench, body)


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

    opened(bench, body)


def test_strict_waits_for_the_fence_and_charges_no_invalidation() -> None:
    bench = IommuBench("strict")

    def body() -> int:
        page = bench.page()
        address = bench.map(page)
        start = bench.core.time
        fence_ps = 2 * 200_000  # two commands of the fake
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        assert bench.core.time - start > fence_ps
        assert bench.core.op("iommu.poll").count >= 10
        bench.dev.pages.put_page(page)
        return bench.core.op("iommu.unmap").count

    assert opened(bench, body) == 1


def test_lazy_leaves_a_window_until_the_queue_is_full() -> None:
    bench = IommuBench("lazy", checked=False)

    def body() -> None:
        page = bench.page()
        first = bench.map(page)
        assert bench.reaches(first)
        dma_unmap_single(bench.dev, first, page.size, WRITE)
        used = {first}
        for _ in range(ENTRIES - 2):
            assert bench.reaches(first)  # out of the TLB, though the tables do not have it
            address = bench.map(page)
            assert address not in used  # no IOVA comes again before the flush
            used.add(address)
            dma_unmap_single(bench.dev, address, page.size, WRITE)
        queue = bench.dma.flush_queue
        assert queue is not None
        assert (queue.flushes, queue.waiting) == (0, ENTRIES - 1)
        assert bench.iommu.commands.fences == 0
        address = bench.map(page)
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        assert (queue.flushes, queue.waiting) == (1, 1)
        assert bench.iommu.space_invalidations == bench.iommu.commands.fences == 1
        assert not bench.reaches(first)
        assert bench.map(page) in used  # now they do

    opened(bench, body, close=False)


def test_lazy_flushes_after_10_ms() -> None:
    bench = IommuBench("lazy", checked=False)

    def body() -> None:
        page = bench.page()
        address = bench.map(page)
        assert bench.reaches(address)
        start = bench.core.time
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        bench.core.sleep_until(start + TIMEOUT_PS - 10**6)
        assert bench.reaches(address)
        bench.core.sleep_until(start + TIMEOUT_PS + 10**7)
        assert not bench.reaches(address)
        queue = bench.dma.flush_queue
        assert queue is not None
        assert (queue.flushes, queue.timeouts, queue.waiting) == (1, 1, 0)
        assert bench.map(page) == address
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        bench.core.sleep_until(bench.core.time + 2 * TIMEOUT_PS)
        assert queue.timeouts == 2  # the timer starts with the next range
        bench.core.sleep_until(bench.core.time + 3 * TIMEOUT_PS)
        assert queue.timeouts == 2  # and not without one
        bench.dev.pages.put_page(page)

    opened(bench, body)


def test_the_checker_tells_the_stale_window_from_later_and_from_strict() -> None:
    """A device that still writes: 2 us after unmap, and again after the flush."""
    found: dict[str, list[str]] = {}
    for mode in ("lazy", "strict"):
        bench = IommuBench(mode)
        checker = bench.checker
        assert checker is not None
        checker.stop = False

        def body(bench: IommuBench = bench) -> None:
            page = bench.page()
            address = bench.map(page)
            bench.core.sleep_until(bench.core.time + 10**6)
            bench.nic.write(address, bytes(8))
            start = bench.core.time
            dma_unmap_single(bench.dev, address, page.size, WRITE)
            for later in (2 * 10**6, TIMEOUT_PS + 10**8):
                bench.core.sleep_until(start + later)
                bench.nic.write(address, b"\xff" * 8)
            assert bench.core.load(page.address, 1) == (b"\xff" if bench.mode == "lazy" else b"\0")
            bench.dev.pages.put_page(page)

        opened(bench, body)
        found[mode] = [violation.rule for violation in checker.violations]
        if mode == "lazy":
            (stale,) = checker.stale
            assert stale.write
            assert 1.9 * 10**6 < stale.age < 4 * 10**6  # waking up takes its time
        assert bench.iommu.faults.count == (1 if mode == "lazy" else 2)
    assert found == {"lazy": ["device access in the stale window"], "strict": []}


def test_a_flush_frees_what_other_cores_queued_before_it() -> None:
    bench = IommuBench("lazy", cores=2, checked=False)

    def body() -> None:
        page = bench.page()
        queue = bench.dma.flush_queue
        assert queue is not None
        theirs = bench.map(page, core=1)
        dma_unmap_single(bench.host.devices[1], theirs, page.size, WRITE)
        for _ in range(ENTRIES):
            dma_unmap_single(bench.dev, bench.map(page), page.size, WRITE)
        assert queue.flushes == 1
        again = bench.map(page, core=1)
        assert again != theirs  # each core frees its own, when it comes by
        dma_unmap_single(bench.host.devices[1], again, page.size, WRITE)
        assert bench.map(page, core=1) == theirs
        dma_unmap_single(bench.host.devices[1], theirs, page.size, WRITE)
        bench.dev.pages.put_page(page)

    opened(bench, body)


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

    opened(bench, body)


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

    opened(bench, body)


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

    opened(bench, body)


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

    opened(bench, body, close=False)


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

    opened(bench, body)


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

    opened(bench, body, close=False)


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

    opened(bench, body)


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

    opened(bench, body)
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

    opened(bench, body)
    (fault,) = bench.iommu.faults.faults
    assert fault.cause == Cause.WRITE_PAGE.value
    assert fault.address % PAGE_SIZE == 8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"entries": 100}, ValueError, "entries must be a power of two, 2 or more, not 100"),
        ({"entries": "256"}, TypeError, "entries must be an integer, not '256'"),
        ({"timeout_ps": 0}, ValueError, "timeout_ps must be positive, not 0"),
    ],
)
def test_bad_flush_queue(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    bench = IommuBench("lazy")

    def body() -> None:
        with pytest.raises(error, match=message):
            FlushQueue(bench.dma.domain, bench.dma.iova, bench.host.timers, **arguments)

    opened(bench, body)


def test_an_aperture_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="aperture must lie in the lower half of 3 levels, not 274877906944"):
        IommuSetup(aperture=1 << 38)
