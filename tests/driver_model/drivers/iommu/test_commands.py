# SPDX-License-Identifier: BSD-2-Clause
"""The command queue, between cores that share it."""

import random
from collections.abc import Callable

import pytest

from driver_model.drivers.iommu.driver import IommuSetup
from driver_model.memory.pages.page import PAGE_SIZE
from tests.driver_model.iommu_bench import IommuBench

US = 10**6
TURNS = 40


def test_a_fence_whose_write_is_not_acknowledged_is_still_in_the_ring() -> None:
    """Its data is in memory before that: the driver sees it, and goes on to fill the ring."""
    bench = IommuBench(setup=IommuSetup(command_entries=8))

    def body() -> None:
        bench.hardware.retire_ps = 20 * US
        for turn in range(5):
            bench.iommu.invalidate_range(bench.core, 1, 16 * turn * PAGE_SIZE, 9 * PAGE_SIZE)

    bench.run_open(body)
    executed = [each.address for each in bench.hardware.executed if "pscv" in each._fields and each.av]
    assert executed == [16 * turn + page for turn in range(5) for page in range(9)]


@pytest.mark.parametrize("seed", range(4))
def test_cores_share_a_short_ring_and_every_command_is_executed_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A register's value is that of when the read reached the IOMMU: another core may know better by the time it has
    come back."""
    bench = IommuBench(setup=IommuSetup(command_entries=8), cores=3)
    platform, cores = bench.platform, bench.system.cores
    rng = random.Random(seed)
    asked: list[int] = []
    done: list[int] = []

    def read(offset: int, reply: Callable[[int, bool], None]) -> None:
        place = platform._iommu_offset(offset)
        value, error = bench.hardware._read(place) if place is not None else bench.nic._read(offset)
        platform.at(platform.now + 3 * US, lambda: reply(value, error))

    def body(index: int) -> None:
        for turn in range(TURNS):
            pages = rng.choice((1, 2, 9))
            first = (index * TURNS + turn) * 16
            asked.extend(range(first, first + pages))
            bench.iommu.invalidate_range(cores[index], 1, first * PAGE_SIZE, pages * PAGE_SIZE)
            cores[index].sleep_until(cores[index].time + rng.randrange(4 * US))
        done.append(index)

    def run() -> None:
        bench.open_iommu()
        monkeypatch.setattr(platform, "mmio_read", read)
        for core in cores[1:]:
            core.spawn("body", lambda core=core: body(core.index))
        body(0)
        bench.wait(lambda: len(done) == len(cores), "the other cores", 10**12)
        bench.close_iommu()

    bench.run(run)
    executed = [each.address for each in bench.hardware.executed if "pscv" in each._fields and each.av]
    assert sorted(executed) == sorted(asked)
