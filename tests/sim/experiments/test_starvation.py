# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on starvation: its arithmetic, a short search, and that each of its checks can fail."""

from dataclasses import replace
from typing import Any

import pytest

from sim.experiments.base import Case
from sim.experiments.registry import EXPERIMENTS
from sim.experiments.runner import plan, run_experiment
from sim.experiments.settings import SettingError
from sim.experiments.starvation import Starvation
from sim.report import Row
from sim.starvation.run import Point, StarvationMeasurement

EXPERIMENT = Starvation()
MACHINE = EXPERIMENT.machine("10g")


def case_of(**given: str) -> Case:
    settings = {"supplies": "page_pool", "patterns": "steady", "holds": "100", "page_sizes": "4096"} | given
    return plan(EXPERIMENT, settings).cases[0]


def found(*drops: tuple[int, int], other: int = 0) -> StarvationMeasurement:
    return StarvationMeasurement([Point(extra, 1000, starved, other) for extra, starved in drops])


def failing(case: Case, measured: StarvationMeasurement) -> list[str]:
    rows = EXPERIMENT.rows(MACHINE, case, measured)
    return [row.name for row in rows if row.kind == "check" and row.value is not True]


def values(case: Case, measured: StarvationMeasurement) -> dict[str, Any]:
    return {row.name: row.value for row in EXPERIMENT.rows(MACHINE, case, measured) if "extra" not in row.case}


def test_what_is_held_is_the_rate_times_the_time() -> None:
    """800 packets in a millisecond, held for 100 us: 80, and the one that comes as the first one goes."""
    assert case_of().run.arrivals(MACHINE, 100) == 81
    assert case_of(holds="0").run.arrivals(MACHINE, 0) == 1


def test_a_burst_holds_more_than_its_rate() -> None:
    """Bursts of 32 every 40 us take 13.6 us each: within 100 us there are three."""
    run = case_of(patterns="burst").run
    assert run.arrivals(MACHINE, 100) == 96
    assert run.arrivals(MACHINE, 5) == 12


def test_the_search_is_bounded_by_what_must_be_enough() -> None:
    assert case_of().run.most(MACHINE) == 81 + 64
    fragments = case_of(supplies="page_pool_fragments", page_sizes="65536").run
    assert (fragments.per_page, fragments.ring_pages, fragments.most(MACHINE)) == (32, 2, 3 + 2 + 2)


def test_pools_get_their_size_each_in_its_way() -> None:
    pool = case_of().run.with_extra(36).pool
    assert (pool.inflight_limit, pool.inflight_resume) == (100, 99)
    assert case_of(supplies="hw_recycle").run.with_extra(36).pool_size == 100


@pytest.mark.parametrize(
    ("drops", "needed"),
    [
        ([(0, 0), (10, 0)], 0),
        ([(0, 5), (4, 1), (8, 0), (10, 0)], 8),
        ([(0, 5), (4, 0), (8, 1), (10, 0)], 10),
        ([(0, 5), (10, 1)], None),
    ],
)
def test_what_is_needed_is_enough_from_there_on(drops: list[tuple[int, int]], needed: int | None) -> None:
    assert found(*drops).needed == needed


def test_figures_of_a_search() -> None:
    shown = values(case_of(page_sizes="65536"), found((0, 500), (68, 1), (72, 0), (145, 0)))
    assert (shown["extra_pages"], shown["pages"], shown["buffers"]) == (72, 136, 136)
    assert (shown["held"], shown["enough"], shown["memory"], shown["dropped"]) == (81, 145, 8.5, 50)
    assert all(value is True for value in shown.values() if isinstance(value, bool))


@pytest.mark.parametrize(
    ("hold", "measured", "name"),
    [
        ("100", found((0, 9), (145, 1)), "enough_is_enough"),
        ("100", found((0, 9), (80, 0), other=1), "nothing_else_is_dropped"),
        ("100", found((0, 9), (150, 0)), "at_most_as_much_as_the_ring_more"),
        ("500", found((0, 9), (300, 0)), "at_least_what_is_held"),
    ],
)
def test_what_should_not_happen_does_not_pass(hold: str, measured: StarvationMeasurement, name: str) -> None:
    assert failing(case_of(holds=hold), measured) == [name]


def memory(supply: str, page_size: int, value: float) -> Row:
    case = {"supply": supply, "page_size": page_size, "pattern": "steady", "hold_us": 100}
    return Row(case, "memory", "MiB", value)


def test_memory_of_large_pages_and_fragments() -> None:
    rows = [memory("page_pool", 4096, 0.5), memory("page_pool", 65536, 8.0), memory("page_pool_fragments", 65536, 0.5)]
    checked = {row.name: row.value for row in EXPERIMENT.checks(rows)}
    assert checked == {
        "times_the_memory": 16,
        "large_pages_take_more": True,
        "saved_by_fragments": 16,
        "fragments_take_less": True,
    }
    worse = [memory("page_pool", 65536, 8.0), memory("page_pool_fragments", 65536, 8.0)]
    assert [row.value for row in EXPERIMENT.checks(worse) if row.kind == "check"] == [False]


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingError, match=r"holds must be in 0\.\.10000, not '10001'"):
        plan(EXPERIMENT, {"holds": "10001"})
    with pytest.raises(ValueError, match="resolution must be an integer, 1 or more, not 0"):
        replace(case_of().run, resolution=0)
    with pytest.raises(ValueError, match=r"memory_size must be at least \d+ for \d+ pages of 65536 bytes"):
        plan(EXPERIMENT, {"holds": "3000", "page_sizes": "65536", "supplies": "page_pool"})


def test_a_short_search_on_the_machine() -> None:
    settings = {"supplies": "page_pool+page_pool_fragments+hw_recycle", "patterns": "steady", "holds": "100"}
    settings |= {"page_sizes": "4096", "ring": "32", "resolution": "16", "checkers": "on"}
    result = run_experiment(EXPERIMENTS["starvation"], settings)
    assert not [row for row in result.rows if row.kind == "check" and row.value is not True]
    for supply in ("page_pool", "hw_recycle"):
        assert 81 - 1 <= int(result.value("pages", supply=supply)) <= 81 + 64
        assert float(result.value("dropped", supply=supply)) > 10
    assert float(result.value("memory", supply="page_pool_fragments")) < float(
        result.value("memory", supply="page_pool")
    )
