# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 5: its cases, its rows from made-up counts, and a short run of it."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from driver_model.net.skb.policy import Clearing, Head, Place
from sim.experiments.base import Case
from sim.experiments.compare import disagreeing, explanation
from sim.experiments.published import published
from sim.experiments.runner import plan, run_experiment
from sim.experiments.skb import VARIANTS, Skb
from sim.measurement import Measurement
from sim.report import Row


def measured(**operations: int) -> Measurement:
    """Ten packets at 1 GHz, each of which took so many cycles by operation (``__`` for a dot)."""
    return Measurement(
        clock_khz=156_250,
        core_khz=1_000_000,
        offered=12,
        delivered=10,
        dropped={"no_buffer": 2},
        lengths={60: 10},
        cycles=Fraction(1000),
        operations={name.replace("__", "."): (10, 10_000 * cycles) for name, cycles in operations.items()},
        statistics={},
        accesses={},
    )


def rows(found: Mapping[tuple[str, int, str], Measurement]) -> list[Row]:
    """Of cases by profile, size and variant, the checks included."""
    experiment = Skb()
    result: list[Row] = []
    for (profile, size, variant), each in found.items():
        case = Case({"profile": profile, "consumer": "filter", "bytes": size, "skb": variant}, None)
        result += experiment.rows(experiment.machine("10g"), case, each)
    return result + list(experiment.checks(result))


def by_variant(found: list[Row], name: str) -> dict[str, Any]:
    return {row.case["skb"]: row.value for row in found if row.name == name}


def test_ways_have_every_size_and_details_the_first_one() -> None:
    cases = plan(Skb(), {"consumers": "forward"}).cases
    own = [case for case in cases if case.varied["profile"] == "e5-1650v4"]
    sizes = {size: {case.varied["skb"] for case in own if case.varied["bytes"] == size} for size in (64, 256, 1024)}
    assert sizes[64] == set(VARIANTS)
    assert sizes[256] == sizes[1024] == {"copied", "copied_kmalloc", "copybreak", "build", "headroom", "tailroom"}
    others = [case.varied["skb"] for case in cases if case.varied["profile"] == "epyc-9684x"]
    assert others == ["build", "build_movq", "build_avx2"]


def test_a_variant_is_a_policy_or_a_strategy() -> None:
    runs = {case.varied["skb"]: case.run for case in plan(Skb(), {"bytes": "64", "consumers": "filter"}).cases}
    assert runs["copied"].skb.head is Head.COPY
    assert runs["headroom"].skb.place is Place.HEADROOM
    assert not runs["headroom_cold"].skb.prefetchw
    assert {runs[f"build_{each.value}"].skb.clearing for each in Clearing if each is not Clearing.MEMSET} == {
        *Clearing
    } - {Clearing.MEMSET}
    assert [name for name, run in runs.items() if run.strategy == "copybreak"] == ["copybreak"]
    assert {run.strategy for name, run in runs.items() if name != "copybreak"} == {"page_pool"}


def test_only_strategies_whose_buffers_may_be_written_to_are_compared() -> None:
    with pytest.raises(ValueError, match="Parameter strategy must be one of .*page_pool.*, not 'page_flip'"):
        plan(Skb(), {"strategy": "page_flip"})


def test_cycles_are_summed_by_what_they_are_for() -> None:
    found = rows({("e5-1650v4", 64, "build"): measured(skb__clear=43, skb__init=7, slab__alloc=5, net__receive=100)})
    values = {row.name: row.value for row in found}
    assert values["cpu_cycles"] == 155
    assert values["skb_cycles"] == 55
    assert values["clear_cycles"] == 43
    assert values["cpu_cycles.net.receive"] == 100
    assert values["dropped"] == 2


def test_variants_are_ranked_and_compared_with_the_first() -> None:
    found = rows(
        {
            ("e5-1650v4", 64, "copied"): measured(skb__init=90),
            ("e5-1650v4", 64, "build"): measured(skb__init=60),
            ("e5-1650v4", 64, "build_cold"): measured(skb__init=95),
            ("e5-1650v4", 256, "copied"): measured(skb__init=10),
        }
    )
    small = [row for row in found if row.case["bytes"] == 64]
    assert by_variant(small, "rank") == {"copied": 2, "build": 1, "build_cold": 3}
    assert by_variant(small, "saved") == {"copied": 0, "build": 30, "build_cold": -5}
    assert by_variant(small, "saved_by_prefetchw") == {"build": 35}
    assert [row.value for row in found if row.name == "rank" and row.case["bytes"] == 256] == [1]


@pytest.mark.parametrize(("size", "built", "expected"), [(260, 101, []), (261, 99, [True]), (1518, 101, [False])])
def test_build_skb_must_be_cheaper_where_a_packet_is_not_copied_whole(
    size: int, built: int, expected: list[bool]
) -> None:
    found = rows(
        {
            ("e5-1650v4", size, "copied"): measured(skb__init=100),
            ("e5-1650v4", size, "build"): measured(skb__init=built),
        }
    )
    assert [row.value for row in found if row.kind == "check"] == expected


def test_the_largest_gain_of_build_skb_is_the_prediction() -> None:
    found = rows(
        {
            ("e5-1650v4", 64, "copied"): measured(skb__init=110),
            ("e5-1650v4", 64, "build"): measured(skb__init=100),
            ("e5-1650v4", 1024, "copied"): measured(skb__init=125),
            ("e5-1650v4", 1024, "build"): measured(skb__init=100),
        }
    )
    (gain,) = [row for row in found if row.kind == "prediction"]
    assert (gain.case["bytes"], gain.name, gain.value, gain.published) == (1024, "build_skb.gain", 25, 30)


def test_clearing_is_an_input_where_the_profile_has_it_and_else_a_prediction() -> None:
    found = rows(
        {
            (profile, 64, variant): measured(**{f"skb__clear{clearing}": 40})
            for profile in ("e5-1650v4", "epyc-9684x", "i7-4790k")
            for variant, clearing in (("build", ""), ("build_movq", "_movq"))
        }
    )
    assert {
        (row.case["profile"], row.name): (row.kind, row.published) for row in found if row.name.startswith("clear.")
    } == {
        ("e5-1650v4", "clear.memset"): ("input", 43),
        ("e5-1650v4", "clear.movq"): ("input", 30),
        ("epyc-9684x", "clear.memset"): ("prediction", 104),
        ("epyc-9684x", "clear.movq"): ("prediction", 64),
    }


def test_a_short_run() -> None:
    given = {"variants": "copied+build+build_movq", "consumers": "filter", "bytes": "1024", "microseconds": "60"}
    result = run_experiment(Skb(), given | {"ring": "64", "checkers": "on"})
    assert result.value("build_is_cheaper", skb="build") is True
    saved = result.value("cpu_cycles", skb="copied") - result.value("cpu_cycles", skb="build", profile="e5-1650v4")
    assert 50 < saved < 400
    cleared = [result.value("clear_cycles", skb=each, profile="e5-1650v4") for each in ("build", "build_movq")]
    assert cleared == pytest.approx([43, 30], abs=0.1)
    assert all(result.value("dropped", skb=each, profile="e5-1650v4") == 0 for each in ("copied", "build"))
    wrong = disagreeing(result.rows)
    assert wrong
    assert all(explanation(row, Skb.explanations) for row in wrong)
    sources = {each.source for each in published().values()}
    for row in result.rows:
        if row.kind == "prediction":
            assert any(row.source.startswith(source) for source in sources if row.source)
