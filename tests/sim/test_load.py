# SPDX-License-Identifier: BSD-2-Clause
"""Runs of a load generator: behind an IOMMU its bytes land where the tables say, and what is wrong is refused."""

import re
from typing import Any

import numpy as np
import pytest

from hw.config import CacheConfig, IommuConfig, NicConfig
from sim.backends.base import Backend, launch
from sim.host.link_config import link_preset
from sim.host.load_client import Load, LoadClient, LoadResult
from sim.load import (
    MEMORY,
    PHYSICAL,
    VIRTUAL,
    LoadMachineConfig,
    LoadMeasurement,
    LoadRun,
    LoadRunError,
    play,
    run_loads,
)
from sim.load_tables import PAGE_SIZES

HERE = "tests.sim.test_load"
SMALL = CacheConfig(2, 2)
MACHINE = LoadMachineConfig(
    nic=NicConfig(queues=1, clock_khz=250_000),
    link=link_preset("on-chip"),
    host_width=64,
    memory_size=6 << 20,
    iommu=IommuConfig(tlb_4k=SMALL, tlb_64k=SMALL, tlb_2m=SMALL, walks=2, reads=2, writes=2, counters=2),
)
LOAD = {"size": 64, "count": 24, "write": True, "ids": 4}


def behind_the_iommu(backend: Backend, machine: LoadMachineConfig, pages: list[int]) -> list[Any]:
    """Writes with each page size: misses, and the words found in memory with what they hold."""
    seen = []
    for page in pages:
        run = {"load": {**LOAD, "window": 32 << 10}, "page": page, "warm": 2, "alone": 2}
        (measured,) = run_loads(backend, machine, [{"label": str(page), "run": run}])["cases"]
        words = backend.storage[MEMORY].view(np.uint64)[PHYSICAL // 8 : (PHYSICAL + (2 << 20)) // 8]
        written = np.flatnonzero(words)
        right = bool((words[written] == VIRTUAL + 8 * written).all())
        seen.append([LoadMeasurement.from_json(measured).events["misses"], len(written), right])
        backend.reset()
    return seen


def test_what_is_written_lands_where_the_tables_say_with_pages_of_each_size() -> None:
    seen = launch("amaranth", MACHINE, f"{HERE}:behind_the_iommu", list(PAGE_SIZES))
    assert all(right for _, _, right in seen)
    assert len({written for _, written, _ in seen}) == 1
    assert seen[0][1] > 20 * 8
    small, *large = (misses for misses, _, _ in seen)
    assert small > 4  # of 8 pages, 4 are in the IOTLB
    assert large == [0, 0]


class Failing(LoadClient):
    """A client whose runs end with errors."""

    def __init__(self) -> None:
        pass

    def run(self, load: Load, *, limit: int) -> LoadResult:
        return LoadResult(load.count, 1, 1, 1, 1, errors=3)


def test_errors_fail_a_run() -> None:
    with pytest.raises(LoadRunError, match=re.escape("3 responses to Load(window=16384")):
        play(Failing(), Load(window=16384))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"page": 4096, "window": 64 << 20}, "A window of 67108864 bytes does not fit into memory_size = 6291456"),
        ({"page": 0, "window": 4096}, "Page size 0 is for a machine without an IOMMU, another for one with it, not 0"),
        ({"page": 1000, "window": 4096}, "page must be 0 or one of 4096, 65536, 2097152, not 1000"),
        ({"page": 4096, "window": 4096, "warm": 1}, "warm must be an integer of at least 2, not 1"),
    ],
)
def test_runs_that_do_not_fit_are_refused(run: dict[str, int], message: str) -> None:
    values = dict(run)
    with pytest.raises(ValueError, match=re.escape(message)):
        LoadRun(Load(window=values.pop("window")), **values).check(MACHINE)


def test_the_loads_of_a_run_differ_in_their_places_and_number_only() -> None:
    run = LoadRun(Load(window=8192, count=50, outstanding=7, interval=999, ids=3), page=4096, warm=5, alone=6)
    warm, rate, alone = run.loads
    assert (warm.count, rate.count, alone.count, alone.outstanding) == (5, 50, 6, 1)
    assert {load.base for load in run.loads} == {VIRTUAL}
    assert len({load.seed for load in run.loads}) == 3
    assert (rate.outstanding, rate.interval, rate.ids) == (7, 999, 3)


def test_frames_are_never_numbered() -> None:
    assert LoadMachineConfig(nic=NicConfig(serial_width=32)).nic.serial_width == 0
