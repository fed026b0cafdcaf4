# SPDX-License-Identifier: BSD-2-Clause
"""The fault queue's thread: a device that faults without end takes no core away from others."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.iommu.driver import IommuSetup, RiscvIommu
from tests.driver_model.iommu_bench import IommuBench

MICROSECOND = 10**6
PERIOD = 100_000  #: picoseconds between two faults
STORM = 10_000 * MICROSECOND


def storm(bench: IommuBench, length: int = STORM) -> None:
    """Fault after fault from now on."""
    end = bench.platform.now + length

    def fault() -> None:
        bench.hardware.translate(0, 0x1000, 8, write=False)
        if bench.platform.now < end:
            bench.platform.at(bench.platform.now + PERIOD, fault)

    bench.platform.at(bench.platform.now + PERIOD, fault)


def within(bench: IommuBench, body: Callable[[], Any]) -> Any:
    """Run a body in a process with the IOMMU open."""

    def process() -> Any:
        bench.open_iommu()
        result = body()
        bench.close_iommu()
        return result

    return bench.run(process)


def test_a_storm_leaves_other_processes_their_share_of_the_core_and_interrupts_all_they_need() -> None:
    bench = IommuBench(setup=IommuSetup(fault_entries=64))
    core = bench.core
    seen: list[int] = []

    def body() -> tuple[int, int]:
        storm(bench)
        core.sync()
        start, before = core.time, core.hardirq_ps
        for number in range(100):
            at = core.time + 50 * MICROSECOND * number
            bench.platform.at(at, lambda at=at: core.interrupt(lambda: seen.append(core.time - at)))
        step = core.op("cache.miss")
        for _ in range(5_000 * MICROSECOND // (step.ps * 100)):
            core.spend(step, 100)
            core.sync()
        return core.time - start, core.hardirq_ps - before

    took, hardirqs = within(bench, body)
    assert took <= 1.2 * STORM  # for half of it, with one other process
    assert hardirqs < took / 10
    assert len(seen) == 100
    assert max(seen) < 5 * MICROSECOND
    assert bench.iommu.faults.overflows
    assert bench.iommu.faults.count > 1000


def test_the_queue_can_be_turned_off_in_a_storm() -> None:
    bench = IommuBench(setup=IommuSetup(fault_entries=64))

    def body() -> int:
        storm(bench, 4 * STORM)
        bench.core.sleep_until(bench.core.time + 100 * MICROSECOND)
        return bench.core.time

    begun = within(bench, body)
    assert bench.core.time - begun < 100 * MICROSECOND
    assert bench.iommu.faults.count


@pytest.mark.parametrize("irq_core", [0, 1])
def test_the_thread_is_where_the_interrupt_is(irq_core: int) -> None:
    bench = IommuBench(setup=IommuSetup(irq_core=irq_core), cores=2)

    def body() -> None:
        for number in range(3):
            assert not bench.reaches(0x9000)
            bench.core.sleep_until(bench.core.time + 100 * MICROSECOND)
            assert bench.iommu.faults.count == number + 1
        loads = [core.op("irq.entry").count for core in bench.host.cores]
        assert loads[irq_core] >= 3

    before = [core.hardirq_ps for core in bench.host.cores]
    within(bench, body)
    assert bench.host.cores[irq_core].hardirq_ps > before[irq_core]


def test_a_core_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="irq_core must be in 0..0, not 1"):
        RiscvIommu(IommuBench().host, IommuSetup(irq_core=1))
