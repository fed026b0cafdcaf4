# SPDX-License-Identifier: BSD-2-Clause
"""Simulated against published: rows that say where a published figure stands, and what agrees.

A row is a ``prediction`` if its figure is one of :mod:`sim.experiments.published`, from which nothing is solved or
fitted; an ``input`` if it is a benchmark that a cost profile is solved from, replayed; a ``fit`` if something was
fitted to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table

from driver_model.cpu.profile import Profile
from sim.experiments.fit import Fit
from sim.experiments.published import figure, published
from sim.experiments.residual import Residual
from sim.report import Row, Value

AGREES = 0.15  #: share by which a simulated value may differ from the published one


@cache
def fed_in() -> frozenset[str]:
    """Ids of figures that went into the model: what residuals were fitted to, and whatever has the source of a
    profile's benchmark or of a fit."""
    sources = {each.source for name in Profile.names() for each in Profile.load(name).benchmarks}
    sources |= {Fit.load_file(name).source for name in Fit.names()}
    same = {name for name, known in published().items() if known.source in sources}
    return frozenset(same | {Residual.load(name).figure for name in Residual.names()})


def predicted(
    case: Mapping[str, Any], name: str, unit: str, value: Value | Fraction, identity: str, fits: Sequence[str] = ()
) -> Row:
    """A row beside the published figure of that id. Raises ``ValueError`` if something was solved from it or fitted to
    it."""
    if identity in fed_in():
        raise ValueError(f"Figure {identity!r} went into the model, so nothing predicts it")
    known = figure(identity)
    source = f"{known.source} ({known.machine})" + (" (recalled)" if known.recalled else "")
    return Row(case, name, unit, value, known.value, source, "prediction", fits)


def fitted(
    case: Mapping[str, Any], name: str, unit: str, value: Value | Fraction, identity: str, fits: Sequence[str]
) -> Row:
    """A row beside the published figure that ``fits`` were made to meet."""
    known = figure(identity)
    return Row(case, name, unit, value, known.value, f"{known.source} ({known.machine})", "fit", fits)


def difference(case: Mapping[str, Any], name: str, unit: str, value: Value | Fraction, fits: Sequence[str]) -> Row:
    """A prediction that nobody published: a difference from what was fitted, which the fit has no part in."""
    return Row(case, name, unit, value, kind="prediction", fits=fits)


def given(case: Mapping[str, Any], name: str, unit: str, value: Value | Fraction, profile: str, benchmark: str) -> Row:
    """A row beside the benchmark of that name that a cost profile is solved from, in cycles, ns or Mpps."""
    loaded = Profile.load(profile)
    found = [each for each in loaded.benchmarks if each.name == benchmark]
    if len(found) != 1:
        raise KeyError(f"Profile {profile} has {len(found)} benchmarks {benchmark!r}, not one")
    ps = found[0].ps
    values = {"cycles": ps * loaded.khz / 10**9, "ns": ps / 1000, "mpps": 10**6 / ps}
    shown = round(float(values[unit.lower().split("/")[0]]), 4)
    return Row(case, name, unit, value, shown, f"{found[0].source} ({profile})", "input")


def deviation(row: Row) -> float | None:
    """By what share a row's value lies above the published one; None where they are no numbers to compare."""
    if row.kind not in ("input", "fit", "prediction") or isinstance(row.published, str | bool | None):
        return None
    return float(row.value) / float(row.published) - 1 if row.published else None


def compares(row: Row) -> bool:
    """Whether a row stands in the comparison: beside a published number, or predicted where there is none."""
    return deviation(row) is not None or (row.kind == "prediction" and row.published is None)


def disagreeing(rows: Iterable[Row]) -> list[Row]:
    """Predictions that are off by more than 15 %."""
    found = []
    for row in rows:
        off = deviation(row)
        if row.kind == "prediction" and off is not None and abs(off) > AGREES:
            found.append(row)
    return found


def explanation(row: Row, explanations: Mapping[str, str]) -> str:
    """Why a row does not agree: by the longest beginning of its name that is explained."""
    keys = [key for key in explanations if row.name.startswith(key)]
    return explanations[max(keys, key=len)] if keys else ""


def print_comparison(console: Console, rows: Sequence[Row], explanations: Mapping[str, str]) -> None:
    """Print what was published beside what was simulated, how much of it agrees, and why the rest does not."""
    shown = [(row, deviation(row)) for row in rows if compares(row)]
    if not shown:
        return
    table = Table(title="Published and simulated", title_justify="left", header_style="bold")
    for heading in ("case", "figure", "unit"):
        table.add_column(heading)
    for heading in ("published", "simulated", "off by"):
        table.add_column(heading, justify="right")
    table.add_column("kind")
    table.add_column("source")
    for row, off in shown:
        case = " ".join(map(str, row.case.values()))
        figures = ("" if each is None else f"{float(each):,.4g}" for each in (row.published, row.value))
        table.add_row(case, row.name, row.unit, *figures, "" if off is None else f"{off:+.1%}", row.kind, row.source)
    console.print(table)
    predictions = [row for row, off in shown if row.kind == "prediction" and off is not None]
    wrong = disagreeing(predictions)
    if predictions:
        console.print(f"{len(predictions) - len(wrong)} of {len(predictions)} predictions agree within {AGREES:.0%}.")
    reasons: dict[str, list[str]] = {}
    for row in wrong:
        reasons.setdefault(explanation(row, explanations), []).append(row.name)
    for reason, names in reasons.items():
        console.print(f"Not: {', '.join(dict.fromkeys(names))}. {reason}", highlight=False)


def broken(rows: Iterable[Row]) -> list[Row]:
    """Checks that do not hold."""
    return [row for row in rows if row.kind == "check" and row.value != row.published]


def print_checks(console: Console, rows: Sequence[Row]) -> None:
    """Print how many checks hold: arithmetic, orders, bounds."""
    count = sum(row.kind == "check" for row in rows)
    if count:
        console.print(f"{count - len(broken(rows))} of {count} checks hold.")
