# SPDX-License-Identifier: BSD-2-Clause
"""Lazy mode: what was unmapped is reachable until the flush, and no IOVA is used again before it."""

from typing import Any

import pytest

from driver_model.memory.dma.api import dma_unmap_single
from driver_model.memory.dma.flush_queue import ENTRIES, TIMEOUT_PS, FlushQueue
from tests.driver_model.iommu_bench import WRITE, IommuBench


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

    bench.run_open(body, close=False)


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

    bench.run_open(body)


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

        bench.run_open(body)
        found[mode] = [violation.rule for violation in checker.violations]
        if mode == "lazy":
            (stale,) = checker.stale
            assert stale.write
            assert 1.9 * 10**6 < stale.age < 4 * 10**6  # waking up takes its time
        assert bench.iommu.faults.count == (1 if mode == "lazy" else 2)
    assert found == {"lazy": ["device access in the stale window"], "strict": []}


def test_accesses_judged_while_unmap_is_under_way_are_stale_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another core may report the device's accesses between a change of the tables and the queue."""
    bench = IommuBench("lazy")
    checker = bench.checker
    assert checker is not None
    checker.stop = False

    def body() -> None:
        page = bench.page()
        address = bench.map(page)
        bench.core.sleep_until(bench.core.time + 10**6)
        bench.nic.write(address, bytes(8))
        unmap = bench.dma.domain.unmap

        def interrupted(*arguments: Any) -> None:
            unmap(*arguments)
            bench.nic.write(address + 8, bytes(8))
            bench.settle()

        monkeypatch.setattr(bench.dma.domain, "unmap", interrupted)
        dma_unmap_single(bench.dev, address, page.size, WRITE)
        monkeypatch.undo()
        bench.core.sleep_until(bench.core.time + 10**6)
        bench.nic.write(address + 16, bytes(8))
        bench.settle()
        bench.dev.pages.put_page(page)

    bench.run_open(body)
    assert [violation.rule for violation in checker.violations] == ["device access in the stale window"] * 2


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

    bench.run_open(body)


def test_a_timer_that_another_core_is_late_for_does_not_flush_what_is_gone() -> None:
    bench = IommuBench("lazy", cores=2, checked=False)
    core = bench.system.cores[1]
    done: list[int] = []

    def other() -> None:
        page = bench.page()
        dma_unmap_single(bench.host.devices[1], bench.map(page, core=1), page.size, WRITE)
        core.sleep_until(core.time + TIMEOUT_PS - 10**7)
        with core.irq_save():
            done.append(core.time)
            core.spend(core.op("atomic"), 50_000)
        bench.host.devices[1].pages.put_page(page)
        done.append(core.time)

    def body() -> None:
        core.spawn("other", other)
        bench.core.sleep_until(bench.core.time + TIMEOUT_PS + 10**7)
        assert len(done) == 1
        bench.iommu.tear_down_dma(0, bench.ops)
        bench.iommu.close()
        assert len(done) == 1
        bench.core.sleep_until(bench.core.time + 3 * 10**10)
        assert len(done) == 2
        queue = bench.dma.flush_queue
        assert queue is not None
        assert (queue.flushes, queue.timeouts) == (1, 0)

    bench.run_open(body, close=False)


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

    bench.run_open(body)
