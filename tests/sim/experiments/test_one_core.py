# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 2 in short: who makes line rate on one core, and what a fit is allowed to do."""

import pytest

from sim.experiments.base import Case
from sim.experiments.one_core import PARTS, RESIDUAL, VARIANTS, OneCore
from sim.experiments.published import figure
from sim.experiments.residual import Residual, ResidualError
from sim.experiments.runner import run_experiment
from sim.experiments.settings import resolve
from sim.report import Row

TEXT = 'name = "a"\nfigure = "f"\nprofile = "p"\nvariant = "v"\ncycles = 3\n'


def cases(**given: str) -> list[Case]:
    experiment = OneCore()
    return list(experiment.cases(experiment.machine("10g"), resolve(experiment.settings, given), ""))


def test_only_variants_with_the_residual_are_charged_it() -> None:
    assert {case.varied["variant"] for case in cases()} == set(VARIANTS)
    for case in cases():
        charged = RESIDUAL.cycles if VARIANTS[case.varied["variant"]].residual else 0
        assert case.run.residual_cycles == charged


def test_no_program_runs_where_frames_go_up_the_stack() -> None:
    verdicts = {case.run.verdict for case in cases() if case.run.consumer == "filter"}
    assert verdicts == {"none"}


def test_a_nic_has_pools_where_one_of_them_needs_them() -> None:
    assert {case.machine.nic.pools for case in cases() if case.machine} == {2}
    assert {case.machine.nic.pools for case in cases(variants="xdp_drop+bypass") if case.machine} == {0}


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [("xdp_drop", 14.879, True), ("xdp_drop", 14.8, False), ("bypass", 14.0, False), ("stack_2016", 2, True)],
)
def test_who_must_make_it(name: str, value: float, holds: bool) -> None:
    checks = OneCore().checks([Row({"variant": name}, "throughput", "Mpps", value)])
    assert [row.value for row in checks] == [holds]


def test_savings_are_differences_from_the_fitted_stack() -> None:
    rows = [
        Row({"variant": "stack_2016"}, "cpu_cycles", "cycles/packet", 1500),
        Row({"variant": "stack_pool"}, "cpu_cycles", "cycles/packet", 1420),
    ]
    (saved,) = OneCore().checks(rows)
    assert (saved.name, saved.value, saved.kind, saved.fits) == ("saved", 80, "prediction", (RESIDUAL.name,))


def test_a_short_run() -> None:
    settings = {"variants": "xdp_drop+bypass", "microseconds": "20", "ring": "128"}
    result = run_experiment(OneCore(), settings)
    assert result.profiles[RESIDUAL.name] == RESIDUAL.digest
    for name in ("xdp_drop", "bypass"):
        assert result.value("throughput", variant=name) > 13
        parts = [result.value(f"part.{part}", variant=name) for part in (*PARTS, "other")]
        assert sum(parts) == pytest.approx(float(result.value("cpu_cycles", variant=name)))
    kinds = {row.name: row.kind for row in result.rows if row.published is not None}
    assert kinds["throughput"] == "prediction"


def test_the_fit_gives_its_total() -> None:
    settings = {"variants": "stack_2016", "microseconds": "150"}
    result = run_experiment(OneCore(), settings)
    (row,) = [row for row in result.rows if row.kind == "fit"]
    assert float(row.value) == pytest.approx(figure(RESIDUAL.figure).value, rel=0.03)
    assert row.fits == (RESIDUAL.name,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "residual: Invalid value"),
        ('name = "a"', "must have name, figure, profile, variant, cycles, not name"),
        (TEXT.replace("3", "-3"), "cycles must be 0 or more, not -3"),
        (TEXT.replace("3", '"3"'), "cycles must be a int, not '3'"),
    ],
)
def test_a_residual_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ResidualError, match=message):
        Residual(text)


def test_an_unknown_residual_is_refused() -> None:
    with pytest.raises(ValueError, match="Residual must be one of stack-2016, not 'stack'"):
        Residual.load("stack")
    assert Residual(TEXT).cycles == 3
