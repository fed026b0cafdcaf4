# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on a slow reader: a short run, and that each of its checks can fail."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sim.experiments.base import Case
from sim.experiments.overload import VARIANTS, Overload
from sim.experiments.registry import EXPERIMENTS
from sim.experiments.runner import plan, run_experiment
from sim.memory_samples import MemorySample
from sim.overload.run import OverloadMeasurement, OverloadRun, QueueOutcome
from sim.report import Row

PAGE = 4096
COUNTS = {"min_free_bytes": 400_000, "rx_pp_alloc_limited": 9, "claimed_bytes": 0} | dict.fromkeys(
    ("slabs_reclaimed", "pgsteal_kswapd", "pgsteal_direct", "allocstall", "pageoutrun"), 0
)


def case_of(variant: str) -> Case:
    planned = plan(Overload(), {"variants": variant, "calm": "500", "overload": "8000", "recovery": "1500"})
    return planned.cases[0]


def sample(time_us: int, pages: int, **changes: int) -> MemorySample:
    values = {"used": pages * PAGE, "free": 1 << 20, "page_cache": 1 << 20, "waiting": 0, "delivered": 0} | changes
    return MemorySample(time_us, [pages * PAGE, 300 * PAGE], **values)


def good(variant: str) -> OverloadMeasurement:
    """As it should be: 400 packets come in a millisecond, of which the slow reader takes 90."""
    other = QueueOutcome(4000, 4000, 3200, {}, 0)
    if VARIANTS[variant].limited:
        dropped = {"pool_limit" if VARIANTS[variant].device else "no_buffer": 1800}
        slow = QueueOutcome(4000, 2200, 720, dropped, 90)
        return OverloadMeasurement([slow, other], [sample(0, 320), sample(4000, 600), sample(9000, 320)], COUNTS)
    slow = QueueOutcome(4000, 3000, 720, {"no_skb": 1000}, 80)
    series = [sample(0, 320), sample(500, 321), sample(1500, 631), sample(2500, 941)]
    series.append(sample(3500, 1251, free=0, page_cache=0))
    if variant == "fragments":
        series = [replace(each, inflight_mem=[each.inflight_mem[0] // 2, 300 * PAGE]) for each in series]
    return OverloadMeasurement([slow, other], [*series, sample(9000, 320)], COUNTS)


def rows(variant: str, measured: OverloadMeasurement) -> list[Row]:
    experiment = Overload()
    return list(experiment.rows(experiment.machine("10g"), case_of(variant), measured))


def failing(variant: str, measured: OverloadMeasurement) -> list[str]:
    return [row.name for row in rows(variant, measured) if row.kind == "check" and row.value is not True]


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_checks_hold_where_all_is_well(variant: str) -> None:
    assert not failing(variant, good(variant))


@pytest.mark.parametrize("variant", ["circuit_breaker", "hw_feedback_loop"])
@pytest.mark.parametrize(
    ("slow", "other", "pages", "name"),
    [
        ({"read_in_overload": 700}, {}, 600, "slow_reader_goes_on"),
        ({}, {"read": 3999, "dropped": {"no_buffer": 1}}, 600, "other_traffic_goes_on"),
        ({}, {}, 921, "never_above_limit"),
        ({"read": 2199}, {}, 600, "every_frame_is_accounted_for"),
    ],
)
def test_what_should_not_happen_with_a_limit(
    variant: str, slow: Mapping[str, Any], other: Mapping[str, Any], pages: int, name: str
) -> None:
    measured = good(variant)
    queues = [replace(measured.queues[0], **slow), replace(measured.queues[1], **other)]
    changed = OverloadMeasurement(queues, [*measured.series, sample(9500, pages)], COUNTS)
    assert failing(variant, changed) == [name]


def test_a_limit_that_is_never_met_shows_nothing() -> None:
    measured = good("circuit_breaker")
    assert failing("circuit_breaker", replace(measured, statistics=COUNTS | {"rx_pp_alloc_limited": 0})) == [
        "limit_is_met"
    ]


def test_growth_that_is_not_the_excess_does_not_pass() -> None:
    measured = good("page_pool")
    series = [*measured.series[:4], sample(3500, 1000, free=0, page_cache=0)]
    assert failing("page_pool", replace(measured, series=series)) == ["grows_by_the_excess"]


def test_when_memory_is_exhausted() -> None:
    found = {row.name: row.value for row in rows("page_pool", good("page_pool"))}
    assert found["exhausted_after"] == 3000
    assert found["peak"] == 1251 * PAGE / (1 << 20)


def test_a_shrinker_must_give_back_what_a_pool_without_one_keeps() -> None:
    experiment = Overload()

    def checked(final: float, shrunk: int, claimed: float) -> Any:
        each = [
            Row({"variant": "page_pool"}, "final", "MiB", 2.0),
            Row({"variant": "page_pool"}, "slabs_reclaimed", "pages", 0),
            Row({"variant": "page_pool"}, "claimed", "MiB", 4.0),
            Row({"variant": "shrinker"}, "final", "MiB", final),
            Row({"variant": "shrinker"}, "slabs_reclaimed", "pages", shrunk),
            Row({"variant": "shrinker"}, "claimed", "MiB", claimed),
        ]
        return [row.value for row in experiment.checks(each)]

    assert checked(1.5, 128, 4.5) == [True, True]
    assert checked(2.0, 128, 4.5) == [False, True]
    assert checked(1.5, 0, 4.5) == [False, True]
    assert checked(1.5, 128, 4.0) == [True, False]


def test_runs_that_make_no_sense() -> None:
    run = case_of("page_pool").run
    with pytest.raises(ValueError, match="pace_us must be an integer, 1 or more, not 0"):
        replace(run, pace_us=0)
    with pytest.raises(ValueError, match="run.queues must be 2, not 1"):
        OverloadRun(replace(run.run, queues=1, traffic=replace(run.run.traffic, queues=1)))
    with pytest.raises(ValueError, match=r"memory_size must be at least .*, not 4096"):
        plan(Overload(), {"memory_size": "4096"})


def test_a_short_run_on_the_machine() -> None:
    settings = {"variants": "circuit_breaker+shrinker", "calm": "50", "overload": "600", "recovery": "100"}
    settings |= {"ring": "32", "limit": "100", "period": "50", "pace": "20", "file": "0"}
    result = run_experiment(EXPERIMENTS["overload"], settings)
    assert not [row for row in result.rows if row.kind == "check" and row.value is not True]
    series = [row for row in result.rows if row.name == "inflight_mem" and row.case["variant"] == "circuit_breaker"]
    assert [row.case["time_us"] for row in series] == list(range(0, 750, 50))
    assert max(float(row.value) for row in series) == 100 * PAGE / (1 << 20)
    assert float(result.value("peak", variant="shrinker")) > 100 * PAGE / (1 << 20)
    assert result.value("other_lost", variant="circuit_breaker") == 0
