# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on mvneta: its cases, its rows from made-up counts, and a short run."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from driver_model.cpu.profile import Profile
from sim.experiments.base import Case
from sim.experiments.compare import disagreeing, explanation
from sim.experiments.mvneta import Mvneta
from sim.experiments.published import published
from sim.experiments.runner import plan, run_experiment
from sim.measurement import Measurement
from sim.report import Row


def cases(**given: str) -> Sequence[Case]:
    return plan(Mvneta(), given).cases


def measured(nanoseconds: int, length: int = 60, frames: int = 100, **counts: int) -> Measurement:
    """A core that is never idle, for so long with each of 100 frames."""
    return Measurement(
        clock_khz=156_250,
        core_khz=1_000_000,
        offered=frames,
        delivered=frames,
        dropped={},
        lengths={length: frames},
        cycles=Fraction(frames * nanoseconds * 156_250, 10**6),
        operations={
            "dma.cache_clean_line": (55 * frames, 684_000 * frames),
            "page.alloc": (frames, 100_000 * frames),
            "net.receive": (frames, (nanoseconds - 784) * 1000 * frames),
        },
        statistics=counts,
        accesses={},
    )


def made_up(times: dict[tuple[str, str], int], size: str = "300", workload: str = "stack_drop") -> list[Row]:
    """Rows of cases by IOMMU mode and driver, each with its CPU time, and what must hold between them."""
    experiment = Mvneta()
    rows: list[Row] = []
    for (mode, driver), time in times.items():
        [case, *_] = cases(sizes=size, workloads=workload, iommu=mode, references="off")
        case = replace(case, varied=dict(case.varied) | {"driver": driver})
        rows += experiment.rows(experiment.machine("10g"), case, measured(time, int(size) - 4))
    return [*rows, *experiment.checks(rows)]


def find(rows: Sequence[Row], name: str, **case: Any) -> Row:
    [row] = [row for row in rows if row.name == name and case.items() <= row.case.items()]
    return row


def test_the_documents_workload_runs_at_every_size_and_all_else_at_few() -> None:
    varied = [case.varied for case in cases()]
    own = [each for each in varied if (each["workload"], each["iommu"]) == ("stack_drop", "none")]
    assert len({each["size"] for each in own if each["driver"] == "before"}) == 10
    others = [each for each in varied if each["driver"] == "before" and each not in own]
    assert {each["size"] for each in others} == {"64", "261", "512"}
    assert len({tuple(each.items()) for each in varied}) == len(varied)


def test_every_case_is_on_a_machine_that_is_not_coherent_with_a_wire_of_1_gbit() -> None:
    experiment = Mvneta()
    for case in cases():
        assert case.machine is not None
        assert case.machine.mac_mbps * 1_000_000 == case.run.traffic.rate == 10**9
        assert not Profile.load(case.run.profile).coherent
        assert (case.machine.iommu is None) == (case.varied["iommu"] == "none")
    assert experiment.machine("10g").mac_mbps == 1000


def test_settings_reach_the_runs() -> None:
    for case in cases(sizes="300", cache_seed="7", seed="3", ring="64", checkers="off"):
        run = case.run
        assert (run.cache_seed, run.traffic.seed, run.ring, run.checkers) == (7, 3, 64, False)


def test_rows_of_a_case() -> None:
    rows = made_up({("none", "after"): 3000})
    values = {row.name: row.value for row in rows}
    assert values["throughput"] == pytest.approx(1_000_000 / 3000)
    assert values["wire"] == pytest.approx(1_000_000 / (320 * 8))
    assert (values["bound"], values["cpu_time"]) == ("CPU", 3000)
    assert (values["cpu_time.cache"], values["cpu_time.pages"], values["cpu_time.mapping"]) == (684, 100, 0)


def test_what_the_wire_bounds_is_said() -> None:
    assert find(made_up({("none", "after"): 2570}), "bound").value == "wire"
    assert find(made_up({("none", "after"): 2700}), "bound").value == "CPU"


def test_gains_are_of_throughput_and_of_cpu_time() -> None:
    rows = made_up({("none", "before"): 5000, ("none", "after"): 3200, ("none", "after_length"): 2700})
    assert find(rows, "gain", driver="after").value == pytest.approx(5000 / 3200)
    assert find(rows, "cpu_gain", driver="after_length").value == pytest.approx(5000 / 2700)
    rows = made_up({("none", "before"): 5000, ("none", "documented"): 2600})
    assert find(rows, "gain_in_window").value == pytest.approx(5000 / 2600)
    assert find(rows, "gain_in_window").kind == "prediction"


@pytest.mark.parametrize("size", ["64", "256", "512", "1518"])
def test_the_window_is_between_256_and_512(size: str) -> None:
    rows = made_up({("none", "before"): 50_000, ("none", "documented"): 20_000}, size)
    assert "gain_in_window" not in {row.name for row in rows}


@pytest.mark.parametrize(("strict", "holds"), [(8000, True), (5000, False), (4000, False)])
def test_an_smmu_must_make_the_gain_larger(strict: int, holds: bool) -> None:
    rows = made_up(
        {("none", "before"): 5000, ("none", "after"): 2700, ("strict", "before"): strict, ("strict", "after"): 2700}
    )
    assert find(rows, "smmu_gains_more").value is holds


def test_below_the_copybreak_the_sign_is_told_and_not_judged() -> None:
    rows = made_up({("none", "before"): 2500, ("none", "after"): 3200}, "64")
    assert find(rows, "saved_below_copybreak").value == -700
    assert find(rows, "saved_below_copybreak").kind is None
    assert "saved_below_copybreak" not in {row.name for row in made_up({("none", "before"): 2500}, "300")}


@pytest.mark.parametrize(("twice", "holds"), [(3, True), (4, False)])
def test_the_pools_slow_path_must_not_be_taken_in_the_steady_state(twice: int, holds: bool) -> None:
    experiment = Mvneta()
    rows: list[Row] = []
    for case in cases(sizes="300", workloads="stack_drop", iommu="none"):
        if case.varied["driver"] in ("steady", "steady_twice"):
            slow = twice if case.varied["driver"] == "steady_twice" else 3
            rows += experiment.rows(experiment.machine("10g"), case, measured(3000, 296, rx_pp_alloc_slow=slow))
    found = [row.value for row in experiment.checks(rows) if row.name == "alloc_slow_stays"]
    assert found == [holds, holds]


def test_published_figures_are_of_the_registry_or_the_profile_as_their_kind_says() -> None:
    experiment = Mvneta()
    rows: list[Row] = []
    for case in cases(sizes="64+300", workloads="stack_drop", iommu="none"):
        rows += experiment.rows(experiment.machine("10g"), case, measured(3000, int(case.varied["size"]) - 4))
    rows += experiment.checks(rows)
    profile = Profile.load("cortex-a53")
    names = {(row.name, row.kind) for row in rows if row.published is not None and row.kind != "check"}
    assert names == {
        ("recycling", "prediction"),
        ("recycling_saves", "prediction"),
        ("gain_in_window", "prediction"),
        ("not_recycling", "input"),
        ("xdp_drop", "input"),
    }
    for row in rows:
        if row.kind == "prediction":
            assert any(str(row.source).startswith(known.source) for known in published().values())
        elif row.kind == "input":
            assert any(str(row.source).startswith(known.source) for known in profile.benchmarks)
        for known in disagreeing([row]):
            assert explanation(known, experiment.explanations)


def test_a_short_run() -> None:
    settings = {**Mvneta.short, "sizes": "261", "microseconds": "400"}
    result = run_experiment(Mvneta(), settings)
    assert all(row.value for row in result.rows if row.kind == "check")
    before = result.value("cpu_time.cache", driver="before")
    lines = 4096 // 64
    assert before == pytest.approx(lines * 2 * 14.458, rel=0.01)
    assert (
        float(result.value("cpu_gain", driver="after_length")) > float(result.value("cpu_gain", driver="after")) > 1.2
    )
