# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on pinned memory: its cases, its rows from made-up counts, and a short run."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from sim.experiments.base import Case
from sim.experiments.pin_down import ALONE, ORDER_3, PinDown
from sim.experiments.published import figure
from sim.experiments.runner import plan, run_experiment
from sim.measurement import Measurement
from sim.report import Row

KIB = 1024


def cases(**given: str) -> Sequence[Case]:
    return plan(PinDown(), given).cases


def measured(growth: int, held: int = 0, truesize: int = 0, other: int = 1024) -> Measurement:
    """Memory grew by so many KiB, of 2048 frames."""
    return Measurement(
        clock_khz=156_250,
        core_khz=3_600_000,
        offered=2048,
        delivered=1024 + other,
        dropped={"no_buffer": 1024 - other} if other < 1024 else {},
        lengths={508: 1024 + other},
        cycles=Fraction(100_000),
        operations={},
        statistics={
            "memory_before": 100 * KIB,
            "memory_after": (100 + growth) * KIB,
            "pin_held": held,
            "pin_truesize": truesize * KIB,
            "nic_queue0_rx_packets": 1024,
            "nic_queue1_rx_packets": other,
        },
        accesses={},
    )


def made_up(strategy: str, without: int, attacked: Measurement, one_in: int = 8) -> list[Row]:
    """Rows of a strategy without and with the attacker."""
    experiment = PinDown()
    chosen = cases(strategies="page_pool" if strategy == ALONE else strategy, page_sizes="4096", references="off")
    rows: list[Row] = []
    for case, found in zip(chosen, (measured(without), attacked), strict=True):
        case = replace(case, varied=dict(case.varied) | {"strategy": strategy, "one_in": one_in})
        rows += experiment.rows(experiment.machine("10g"), case, found)
    return rows


def values(rows: Sequence[Row]) -> dict[str, object]:
    return {row.name: row.value for row in rows if row.case.get("attacked", True)}


def test_each_strategy_runs_with_and_without_the_attacker_who_has_one_in_eight_of_its_queue() -> None:
    chosen = cases(references="off")
    assert len(chosen) == 7 * 2 * 2
    for case in chosen:
        assert case.run.consumer == ("pin" if case.varied["attacked"] else "filter")
        assert (case.run.traffic.flows, case.run.traffic.queues, case.run.queues) == (16, 2, 2)
        assert case.run.traffic.frames == 16 * 256


def test_only_limited_strategies_have_a_limit() -> None:
    limits = {case.varied["strategy"]: case.run.pool.inflight_limit for case in cases(limit="300")}
    assert {name for name, limit in limits.items() if limit} == {"page_pool_limit", "hw_recycle"}
    assert limits["page_pool_limit"] == limits["hw_recycle"] == 300


def test_what_is_pinned_is_what_memory_grew_more_than_without_the_attacker() -> None:
    rows = made_up("page_flip", 40, measured(440, held=100, truesize=200))
    found = values(PinDown().checks(rows))
    assert found == {"pinned": 400, "pinned_per_packet": 4, "pinned_per_charged": 2}


@pytest.mark.parametrize(
    ("attacked", "broken"),
    [
        (measured(800, held=200, truesize=900), set()),
        (measured(900, held=200, truesize=900), {"memory_is_bounded"}),
        (measured(800, held=230, truesize=900), {"held_is_bounded"}),
        (measured(800, held=200, truesize=900, other=1023), {"other_queue_goes_on"}),
    ],
)
def test_a_limit_bounds_memory_and_leaves_the_other_queue_alone(attacked: Measurement, broken: set[str]) -> None:
    rows = made_up("page_pool_limit", 0, attacked)
    checks = {row.name: row.value for row in rows if row.kind == "check"}
    assert len(checks) == 3
    assert {name for name, holds in checks.items() if not holds} == broken


@pytest.mark.parametrize(("pinned", "holds"), [(2000, True), (300, False)])
def test_fragments_must_pin_more_than_page_pool(pinned: int, holds: bool) -> None:
    rows = made_up("page_pool", 0, measured(400, held=100, truesize=400))
    rows += made_up("fragments", 0, measured(pinned, held=100, truesize=200))
    checks = {row.name: row.value for row in PinDown().checks(rows) if row.kind == "check"}
    assert checks == {"fragments_pin_more_than_page_pool": holds}


@pytest.mark.parametrize("pages", [8, 12])
def test_the_published_figure_is_of_one_fragment_in_a_whole_order_3_page(pages: int) -> None:
    rows = made_up(ALONE, 0, measured(pages * 4 * 100, held=100, truesize=200), ORDER_3)
    [row] = [row for row in PinDown().checks(rows) if row.kind == "prediction"]
    known = figure("page_frag.pinned")
    assert (row.value, row.published) == (pages, known.value)
    assert str(row.source).startswith(known.source)


def test_a_short_run_in_which_the_attacker_pins_a_page_for_each_packet() -> None:
    result = run_experiment(PinDown(), {**PinDown.short, "held": "70", "strategies": "page_per_packet"})
    assert result.value("held") == 70
    assert float(result.value("delivered.other", attacked=True)) == 100
    assert 4 <= float(result.value("pinned_per_packet")) < 5
