# SPDX-License-Identifier: BSD-2-Clause
import io
import json
from fractions import Fraction

import pytest
from rich.console import Console

from sim.report import Column, Result, Row, decimals, print_table


def result():
    rows = [
        Row({"verdict": "drop", "strategy": "a"}, "throughput", "Mpps", Fraction(100, 7)),
        Row({"verdict": "drop", "strategy": "a"}, "cycles", "cycles/packet", Fraction(84, 2)),
        Row({"verdict": "drop", "strategy": "b"}, "throughput", "Mpps", 1.25, 1.2, "a paper", "prediction", ["f"]),
        Row({"verdict": "drop"}, "cheaper", "bool", True, True, "a paper", "check"),
    ]
    return Result("strategies", {"preset": "10g"}, 7, rows, {"machine": "abc"})


def test_a_result_file_has_everything_and_no_time(tmp_path):
    path = tmp_path / "deep" / "result.json"
    result().write(path)
    loaded = json.loads(path.read_text())
    assert list(loaded) == ["experiment", "version", "config", "seed", "profiles", "tools", "rows"]
    assert loaded["rows"][0] == {
        "case": {"verdict": "drop", "strategy": "a"},
        "name": "throughput",
        "unit": "Mpps",
        "value": 14.2857,
    }
    assert loaded["rows"][1]["value"] == 42
    assert loaded["rows"][2]["published"] == 1.2
    assert loaded["rows"][2]["kind"] == "prediction"
    assert loaded["rows"][2]["fits"] == ["f"]
    assert loaded["rows"][3]["value"] is True
    assert [each.name for each in path.parent.iterdir()] == ["result.json"]


def test_the_same_result_gives_the_same_bytes(tmp_path):
    result().write(tmp_path / "one.json")
    result().write(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_value_is_found_by_name_and_case():
    assert result().value("throughput", strategy="b") == 1.25
    with pytest.raises(KeyError, match="2 rows are named 'throughput'"):
        result().value("throughput", verdict="drop")


def test_the_table_has_a_line_per_case_and_nothing_cut():
    output = io.StringIO()
    columns = (Column("throughput", "Mpps", decimals(2)), Column("cycles", "CPU cycles", decimals(0)))
    print_table(Console(file=output, width=20), result(), columns, "What?")
    lines = output.getvalue().splitlines()
    assert lines[0].strip() == "What?"
    assert any("drop" in line and "14.29" in line and "42" in line for line in lines)
    assert any("1.25" in line for line in lines)
    assert sum("drop" in line for line in lines) == 2


@pytest.mark.parametrize(("width", "whole"), [(45, False), (80, True)])
def test_a_narrow_terminal_shows_every_figure_of_the_columns_it_keeps(width, whole):
    output = io.StringIO()
    columns = (
        Column("throughput", "Mpps", decimals(2)),
        Column("cycles", "a long heading that need not be there", decimals(0), optional=True),
    )
    print_table(Console(file=output, width=width, force_terminal=True), result(), columns, "What?")
    text = output.getvalue()
    assert "14.29" in text
    assert ("a long heading" in text.splitlines()[2]) == whole
    assert ("Left out: a long heading that need not be there." in " ".join(text.split())) != whole


def test_refused_rows():
    with pytest.raises(ValueError, match="kind of row 'a' must be one of input, fit, prediction, check, not 'guess'"):
        Row({}, "a", "b", 1, 1, "c", "guess")
    with pytest.raises(ValueError, match="published value 1 without source or kind"):
        Row({}, "a", "b", 1, 1)
    with pytest.raises(ValueError, match="Row 'a' has a value that is no number: inf"):
        Row({}, "a", "b", float("inf")).as_json()
