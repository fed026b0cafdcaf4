# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on overload of recycled buffers: a short run of every loop, and that each of its checks can fail."""

from dataclasses import replace
from typing import Any

import pytest

from sim.experiments.base import Case
from sim.experiments.recycle_overload import RecycleOverload
from sim.experiments.runner import plan, run_experiment
from sim.recycle_overload.run import QUEUES, Look, OverloadMeasurement, OverloadRun, QueueMeasurement
from sim.report import Result

SHORT = {"frames": "4000", "limit": "256", "slack": "64", "window": "10", "ids": "512"}
CYCLES = 840_000  #: in which each queue is offered 20,000 frames at 10g
BEGIN = Look(0, free=200, outstanding=40, ahead=16, limit=1024, closings=0, joined=256, held=30, consumed=1000)
FAST = QueueMeasurement(23_000, 23_000, {}, 60, 60, 40, 0, 0, {"begin": BEGIN, "end": BEGIN}, [BEGIN])


def slow(loop: str) -> QueueMeasurement:
    """Queue 0 as it should be."""
    consumed = BEGIN.consumed + 10_000
    if loop == "off":
        begin = replace(BEGIN, limit=0)
        end = replace(begin, cycle=CYCLES, outstanding=10_040, held=10_030, joined=10_272, consumed=consumed)
        return QueueMeasurement(
            23_000, 23_000, {}, 60, 10_056, 10_030, 0, 0, {"begin": begin, "end": end}, [begin, end]
        )
    limit = 1024 if loop == "fixed" else 300
    begin = replace(BEGIN, limit=limit)
    end = replace(begin, cycle=CYCLES, outstanding=limit - 50, closings=9, joined=limit + 160, consumed=consumed)
    looks = {"begin": begin, "closed": replace(begin, closings=1), "end": end}
    return QueueMeasurement(23_000, 14_000, {"pool_limit": 9_000}, 60, limit, 240, limit, limit, looks, [begin, end])


def values(loop: str, queue: QueueMeasurement, fast: QueueMeasurement = FAST) -> dict[str, Any]:
    """Rows by name; of the last queue those that all have."""
    experiment = RecycleOverload()
    case = Case({"loop": loop}, OverloadRun(loop=loop))
    measured = OverloadMeasurement([queue, *[fast] * (QUEUES - 1)])
    return {row.name: row.value for row in experiment.rows(experiment.machine("10g"), case, measured)}


def checks(loop: str, queue: QueueMeasurement, fast: QueueMeasurement = FAST) -> dict[str, bool]:
    return {name: value for name, value in values(loop, queue, fast).items() if isinstance(value, bool)}


@pytest.mark.parametrize(("loop", "count"), [("off", 3), ("fixed", 6), ("track", 7)])
def test_all_checks_hold_where_all_is_well(loop: str, count: int) -> None:
    found = checks(loop, slow(loop))
    assert (len(found), all(found.values())) == (count, True)


@pytest.mark.parametrize(
    ("loop", "changes", "end", "failing"),
    [
        ("off", {}, {"held": 9_400}, "grows_by_the_excess"),
        ("off", {}, {"consumed": 10_700}, "traffic_continues"),
        ("fixed", {}, {"consumed": 10_700}, "traffic_continues"),
        ("fixed", {}, {"closings": 0}, "closes"),
        ("fixed", {"used": 1025}, {}, "never_above_limit"),
        ("fixed", {"held": 1025}, {}, "never_above_limit"),
        ("fixed", {}, {"joined": 1024 + 128 + 33}, "memory_is_bounded"),
        ("fixed", {}, {"limit": 1000}, "limit_is_in_force"),
        ("track", {"settled_limit": 347}, {}, "limit_does_not_creep"),
    ],
)
def test_what_should_not_happen_does_not_pass(
    loop: str, changes: dict[str, int], end: dict[str, int], failing: str
) -> None:
    good = slow(loop)
    looks = {**good.looks, "end": replace(good.looks["end"], **end)}
    found = checks(loop, replace(good, looks=looks, **changes))
    assert [name for name, holds in found.items() if not holds] == [failing]


def test_a_loop_that_never_knew_the_steady_state_does_not_pass() -> None:
    good = slow("track")
    looks = {**good.looks, "begin": replace(good.looks["begin"], limit=1024)}
    assert not checks("track", replace(good, looks=looks))["limit_is_tracked"]


def test_no_other_pool_may_drop_frames() -> None:
    assert not checks("fixed", slow("fixed"), replace(FAST, dropped={"no_buffer": 1}))["nothing_dropped"]


def test_when_memory_ends_is_measured_or_extrapolated() -> None:
    """One buffer more every 84 cycles of 6.4 ns."""
    good = slow("off")
    begin, end = good.looks["begin"], good.looks["end"]
    some = replace(end, cycle=84_000, outstanding=1040)
    expected = (84_000 + (8192 - 1040) * 84) / 156_250
    assert float(values("off", replace(good, looks={"begin": begin, "end": some}))["would_be_exhausted"]) == expected
    looks = {"begin": begin, "exhausted": replace(end, cycle=500_000), "end": end}
    assert float(values("off", replace(good, looks=looks))["exhausted"]) == 3.2


@pytest.fixture(scope="module")
def result() -> Result:
    return run_experiment(RecycleOverload(), SHORT)


def test_every_loop_in_short(result: Result) -> None:
    failed = [(row.case, row.name) for row in result.rows if row.kind == "check" and row.value is not True]
    assert not failed
    assert {row.case["loop"] for row in result.rows} == {"off", "fixed", "track"}


def test_without_a_loop_memory_ends_and_with_one_it_does_not(result: Result) -> None:
    assert result.value("joined", loop="off", queue=0) == 512
    assert result.value("drop.no_buffer", loop="off", queue=0)
    for loop in ("fixed", "track"):
        assert int(result.value("joined", loop=loop, queue=0)) < 512
        assert result.value("drop.pool_limit", loop=loop, queue=0)
        assert not [row for row in result.rows if row.name == "drop.no_buffer" and row.case["loop"] == loop]


def test_memory_is_shown_over_time(result: Result) -> None:
    for loop in ("off", "fixed", "track"):
        series = [row for row in result.rows if row.name == "series.joined" and row.case["loop"] == loop]
        values = [row.value for row in series if row.case["queue"] == 0]
        assert len(values) == 16
        assert values == sorted(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop": "on"}, "loop must be one of off, fixed, track, not 'on'"),
        ({"overload": 1}, "overload must be in 2..100, not 1"),
        ({"frames": 10}, "frames must be in 1000..10000000, not 10"),
        ({"frames": 8191}, "frames must be at least 8192 for a limit of 1024, not 8191: else the loop never closes"),
        ({"limit": 8192}, "limit must be less than the 8192 ids, not 8192: else nothing is bounded"),
        ({"ids": 512, "buffers": 513}, "buffers must be in 64..512, not 513"),
        ({"ids": 500}, "ids must be a power of two in 128..32768, not 500"),
        ({"size": 2053}, "size must be in 64..2052, not 2053"),
    ],
)
def test_runs_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OverloadRun(**changes)


def test_a_machine_without_pools_is_refused() -> None:
    with pytest.raises(ValueError, match="queues must be at most the 0 pools"):
        plan(RecycleOverload(), {"nic.pools": "0"})
