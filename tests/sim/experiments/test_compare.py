# SPDX-License-Identifier: BSD-2-Clause
"""Published figures beside simulated ones: what they are called, and what counts as agreeing."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from driver_model.cpu.profile import Profile
from sim.experiments import compare
from sim.experiments.compare import (
    AGREES,
    broken,
    deviation,
    difference,
    disagreeing,
    explanation,
    fed_in,
    given,
    predicted,
    print_checks,
    print_comparison,
)
from sim.experiments.published import figure, published
from sim.report import Row


def test_a_prediction_says_where_its_figure_stands() -> None:
    row = predicted({"size": 64}, "throughput", "Mpps", 14.0, "line_rate.10g", fits=("residual",))
    assert (row.published, row.kind, row.fits) == (14.88, "prediction", ("residual",))
    assert row.source == "Ethernet, 64 bytes at 10 Gbit/s (any)"


def test_a_recalled_figure_says_so() -> None:
    recalled = next(each for each in published().values() if each.recalled)
    assert predicted({}, "x", recalled.unit, 1, recalled.id).source.endswith("(recalled)")


def test_an_input_is_a_benchmark_of_the_profile_in_the_rows_unit() -> None:
    row = given({}, "fast", "cycles", 19.2, "e5-1650v4", "page_pool, fast")
    assert (row.published, row.kind) == (19, "input")
    assert given({}, "drop", "Mpps", 24, "e5-1650v4", "XDP_DROP, one core").published == 24
    with pytest.raises(KeyError, match="0 benchmarks 'page_pool, slowest'"):
        given({}, "slow", "cycles", 1, "e5-1650v4", "page_pool, slowest")


def test_only_predictions_can_disagree() -> None:
    value = figure("line_rate.10g").value
    rows = [
        predicted({}, "near", "Mpps", value * (1 + AGREES - 0.01), "line_rate.10g"),
        predicted({}, "far", "Mpps", value * (1 - AGREES - 0.01), "line_rate.10g"),
        given({}, "input", "cycles", 100, "e5-1650v4", "page_pool, fast"),
        Row({}, "order", "bool", False, True, "somewhere", "check"),
        Row({}, "plain", "Mpps", 3),
    ]
    assert [row.name for row in disagreeing(rows)] == ["far"]
    assert [deviation(row) is None for row in rows] == [False, False, False, True, True]


def test_the_longest_beginning_explains() -> None:
    row = predicted({}, "bulk.64", "cycles", 1, "line_rate.10g")
    assert explanation(row, {"bulk": "all", "bulk.6": "some", "other": "none"}) == "some"
    assert explanation(row, {"page": "none"}) == ""


def test_the_comparison_counts_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        predicted({"n": 1}, "near", "Mpps", 14.88, "line_rate.10g"),
        predicted({"n": 2}, "far", "Mpps", 7, "line_rate.10g"),
    ]
    console = Console(width=200)
    print_comparison(console, rows, {"far": "Because."})
    shown = capsys.readouterr().out
    assert "1 of 2 predictions agree within 15%" in shown
    assert "Not: far. Because." in shown
    assert "-53.0%" in shown
    print_comparison(console, [Row({}, "plain", "Mpps", 3)], {})
    assert capsys.readouterr().out == ""


def test_checks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row({}, name, "bool", name == "right", True, "arithmetic", "check") for name in ("right", "wrong")]
    assert [row.name for row in broken(rows)] == ["wrong"]
    print_checks(Console(width=200), [*rows, Row({}, "plain", "Mpps", 3)])
    assert capsys.readouterr().out == "1 of 2 checks hold.\n"
    print_checks(Console(width=200), [])
    assert capsys.readouterr().out == ""


def test_a_difference_from_a_fit_is_a_prediction_without_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    row = difference({"n": 1}, "saved", "cycles", 73, ("stack",))
    assert (row.kind, row.published, row.fits) == ("prediction", None, ("stack",))
    near = predicted({"n": 2}, "near", "Mpps", 14.88, "line_rate.10g")
    print_comparison(Console(width=200), [row, near], {})
    shown = capsys.readouterr().out
    assert "saved" in shown
    assert "1 of 1 predictions agree" in shown


def test_what_was_fitted_to_is_not_predicted() -> None:
    assert fed_in() == {"stack.2016"}
    with pytest.raises(ValueError, match="Figure 'stack.2016' went into the model, so nothing predicts it"):
        predicted({}, "throughput", "Mpps", 2, "stack.2016")


def test_what_a_profile_is_solved_from_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one of its sources among the published figures."""
    source = Profile.load("e5-1650v4").benchmarks[0].source
    known = {**published(), "line_rate.10g": replace(figure("line_rate.10g"), source=source)}
    monkeypatch.setattr(compare, "published", lambda: known)
    assert compare.fed_in.__wrapped__() == {"stack.2016", "line_rate.10g"}


def test_no_experiment_makes_predictions_otherwise() -> None:
    """All come from where what is fed in is refused; those of a fit's curves have their kind in its file."""
    folder = Path(compare.__file__).parent
    makers = {path.name for path in folder.glob("*.py") if '"prediction"' in path.read_text(encoding="utf-8")}
    assert makers == {"compare.py"}
