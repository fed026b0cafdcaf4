# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 4: its cases, its rows from made-up counts, and a short run of each part."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from driver_model.cpu.profile import Profile
from driver_model.net.skb.policy import NapiCache
from sim.bulk.loops import LoopMeasurement, LoopRun
from sim.bulk.pktgen import PktgenRun
from sim.bulk.shared import SharedRun
from sim.experiments.base import Case
from sim.experiments.bulk import PARTS, Bulk
from sim.experiments.bulk_rows import EXPLANATIONS, GIVEN, SAVED, THROUGHPUT
from sim.experiments.compare import disagreeing, explanation
from sim.experiments.published import figure
from sim.experiments.runner import plan, run_experiment
from sim.measurement import Measurement
from sim.report import Result, Row
from sim.run import RunConfig

HASWELL = "i7-4790k 4.2 GHz"


def measured(nanoseconds: int, **operations: tuple[int, int]) -> Measurement:
    """Ten packets of so many nanoseconds each, at 1 GHz; of operations the times and cycles of a packet (``__`` for a
    dot)."""
    return Measurement(
        clock_khz=1_000_000,
        core_khz=1_000_000,
        offered=10,
        delivered=10,
        dropped={},
        lengths={60: 10},
        cycles=Fraction(10 * nanoseconds),
        operations={
            name.replace("__", "."): (10 * count, 10_000 * cycles) for name, (count, cycles) in operations.items()
        },
        statistics={},
        accesses={},
    )


def rows(found: Mapping[tuple[Any, ...], Any]) -> list[Row]:
    """Of cases by part, profile, way and, of loops, count; the checks included."""
    experiment = Bulk()
    result: list[Row] = []
    for key, each in found.items():
        varied = dict(zip(("part", "profile", "way", "bulk"), key, strict=False))
        result += experiment.rows(experiment.machine("10g"), Case(varied, None), each)
    return result + list(experiment.checks(result))


def named(found: list[Row], name: str) -> dict[str, Any]:
    return {row.case["way"]: row.value for row in found if row.name == name}


def test_each_part_has_its_kind_of_run() -> None:
    kinds = {
        part: {type(case.run) for case in plan(Bulk(), {"parts": part, "microseconds": "20"}).cases} for part in PARTS
    }
    assert kinds["pages"] == kinds["slab"] == kinds["shared"] == {LoopRun}
    assert kinds["forward"] == {RunConfig, SharedRun}
    assert kinds["kfree_skb_list"] == {PktgenRun}
    assert kinds["refill"] == {RunConfig}


def test_forwarding_is_of_the_published_machine_at_both_clocks() -> None:
    cases = plan(Bulk(), {"parts": "forward", "microseconds": "20"}).cases
    runs = {(case.varied["profile"], case.varied["way"]): case.run for case in cases}
    first, later = runs["i7-4790k 4.0 GHz", "bulk_free"], runs[HASWELL, "bulk_free"]
    assert (first.core_khz, later.core_khz) == (4_000_000, 4_200_000)
    assert {first.strategy, later.strategy} == {"page_flip"}
    assert later.skb.napi_cache is NapiCache.BULK_FREE
    assert not runs[HASWELL, "bulk_object_by_object"].detached_freelists
    assert runs[HASWELL, "one_by_one_shared"].run == runs[HASWELL, "one_by_one"]


def test_the_qdisc_that_drops_is_before_a_device_that_is_held_back() -> None:
    cases = plan(Bulk(), {"parts": "kfree_skb_list"}).cases
    assert {case.machine.mac_mbps for case in cases if case.machine is not None} == {173}
    assert {(case.run.limit, case.run.drop_batch) for case in cases} == {(10_240, 64)}
    assert [case.varied["way"] for case in cases if not case.run.skb.bulk_lists] == ["one_by_one", "under_lock", "rcu"]


def test_loops_are_inputs_where_a_profile_has_them_and_else_predictions() -> None:
    found = rows(
        {
            ("pages", "e5-1650v4", "array", 2): LoopMeasurement(123.0),
            ("pages", "e5-1650v4", "array", 8): LoopMeasurement(101.0),
            ("slab", "i7-4790k", "looped", 1): LoopMeasurement(47.0),
            ("slab", "i7-4790k", "detached", 250): LoopMeasurement(29.0),
            ("shared", "i7-4790k", "others_hold_1", 32): LoopMeasurement(81.0),
        }
    )
    assert [(row.case["bulk"], row.name, row.kind, row.published) for row in found if row.kind] == [
        (2, "page.bulk.array", "input", 123),
        (8, "page.bulk.array", "prediction", 102),
        (1, "slub.looped", "input", 47),
        (1, "slub.looped", "prediction", 62),
        (250, "slub.detached", "prediction", 37),
    ]


def test_what_a_way_saves_is_counted_from_the_first() -> None:
    found = rows(
        {
            ("refill", "e5-1650v4", "single"): measured(280),
            ("refill", "e5-1650v4", "bulk"): measured(250),
            ("refill", "e5-1650v4", "recycled"): measured(190),
        }
    )
    assert named(found, "saved_ns") == {"single": 0, "bulk": pytest.approx(30), "recycled": pytest.approx(90)}
    predictions = {row.name: (row.value, row.published) for row in found if row.kind == "prediction"}
    assert predictions == {
        "page_pool.refill.saved": (pytest.approx(30), 43.0),
        "page_pool.refill.later_saved": (pytest.approx(30), 30.4),
    }


def test_forwarding_is_compared_with_throughput_gain_and_nanoseconds() -> None:
    found = rows(
        {
            ("forward", HASWELL, "one_by_one"): measured(500, slab__free=(1, 20), slab__free_slow=(1, 60)),
            ("forward", HASWELL, "bulk_free"): measured(480, slab__free_bulk=(1, 8), slab__free_slow=(0, 1)),
        }
    )
    values = {row.name: row.value for row in found if row.kind == "prediction"}
    assert values["forward.bulk_free.before"] == 2
    assert values["forward.bulk_free.after"] == pytest.approx(2.0833, abs=1e-4)
    assert values["forward.bulk_free.saved"] == pytest.approx(20)
    assert values["forward.bulk_free.gain"] == pytest.approx(100 * (500 / 480 - 1))
    assert named(found, "saved_by_bulk_free") == {"bulk_free": pytest.approx(20)}
    assert named(found, "saved_slab") == {"bulk_free": 71}
    assert named(found, "free_slowpath") == {"one_by_one": 1, "bulk_free": 0}


@pytest.mark.parametrize(("slow", "fast", "holds"), [(60, 20, True), (19, 60, False)])
def test_most_of_what_the_slab_saves_must_be_the_slow_path(slow: int, fast: int, holds: bool) -> None:
    found = rows(
        {
            ("forward", HASWELL, "one_by_one"): measured(500, slab__free=(1, fast), slab__free_slow=(1, slow)),
            ("forward", HASWELL, "bulk_free"): measured(480),
        }
    )
    assert named(found, "slow_path_is_most") == {"bulk_free": holds}


def test_what_is_compared_is_published_and_what_is_given_is_a_profiles() -> None:
    for *_, identity in (*THROUGHPUT, *SAVED):
        assert figure(identity).unit in ("mpps", "ns", "percent")
    known = {each.name for profile in Profile.names() for each in Profile.load(profile).benchmarks}
    assert set(GIVEN.values()) <= known


def explained(result: Result) -> bool:
    """Every prediction that does not agree has a reason."""
    return all(explanation(row, EXPLANATIONS) for row in disagreeing(result.rows))


def test_the_loops_run_and_agree_with_what_the_profiles_say() -> None:
    result = run_experiment(Bulk(), {"parts": "pages+slab+shared"})
    assert result.value("cycles", part="pages", way="single") == pytest.approx(207, rel=0.03)
    for row in result.rows:
        if row.kind == "input":
            assert row.value == pytest.approx(row.published, rel=0.03)
    loops = {"part": "slab", "profile": "i7-4790k", "way": "object_by_object"}
    alone = [result.value("cycles", bulk=count, **loops) for count in (30, 32)]
    shared = [result.value("cycles", bulk=count, part="shared", way="others_hold_1") for count in (30, 32)]
    assert alone[1] < 1.1 * alone[0]
    assert shared[1] > 3 * shared[0]
    assert explained(result)


def test_forwarding_and_refill_run() -> None:
    result = run_experiment(Bulk(), {"parts": "forward+refill", "microseconds": "300", "ring": "64", "checkers": "on"})
    forward = {"part": "forward", "profile": HASWELL}
    slow = {way: result.value("free_slowpath", way=way, **forward) for way in ("one_by_one", "bulk_free")}
    assert slow["bulk_free"] < slow["one_by_one"] / 4
    assert result.value("saved_by_bulk_free", way="bulk_free", **forward) > 0
    assert result.value("slow_path_is_most", way="bulk_free", **forward) is True
    pages = [result.value("page_cycles", part="refill", way=way) for way in ("single", "bulk", "recycled")]
    assert pages == sorted(pages, reverse=True)
    assert pages[2] < 5
    assert explained(result)
