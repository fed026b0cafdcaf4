# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of results, drawn by matplotlib without a screen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.report import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg", "pdf")
SIZE = (10, 6)  #: inches
FLAT = 8  #: bars whose labels have room side by side
COLOURS = 20  #: of tab20, each dark one before its light one
OTHERS = 0.02  #: parts below this share of the tallest bar are drawn together


class Picture(ABC):
    """How rows become a picture."""

    @abstractmethod
    def draw(self, axes: Axes, rows: Sequence[Row]) -> None:
        """Draw the rows."""


@dataclass(frozen=True)
class Stacked(Picture):
    """A bar for each case, made of the rows whose names begin alike: what takes how much.

    Attributes
    ----------
    prefix : of those rows' names
    label : of the axis
    group : ends a part's name: operations with the same text before it are one part
    only : the cases that are drawn, by values that they have
    """

    prefix: str
    label: str
    group: str = "."
    only: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, axes: Axes, rows: Sequence[Row]) -> None:
        """Draw the bars, largest parts first."""
        from matplotlib import colormaps

        bars: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in rows:
            if row.name.startswith(self.prefix) and self.only.items() <= row.case.items():
                part = row.name.removeprefix(self.prefix).split(self.group)[0]
                bar = bars.setdefault(tuple(value for key, value in row.case.items() if key not in self.only), {})
                bar[part] = bar.get(part, 0.0) + float(row.value)
        tallest = max((sum(bar.values()) for bar in bars.values()), default=0.0)
        totals: dict[str, float] = {}
        for bar in bars.values():
            for part, value in list(bar.items()):
                if value < OTHERS * tallest:
                    del bar[part]
                    bar["other"] = bar.get("other", 0.0) + value
        for bar in bars.values():
            for part, value in bar.items():
                totals[part] = totals.get(part, 0.0) + value
        many = len(bars) > FLAT
        labels = [("  " if many else "\n").join(map(str, case)) for case in bars]
        bottom = [0.0] * len(bars)
        colours = colormaps["tab20"](np.arange(COLOURS))
        axes.set_prop_cycle(color=[*colours[::2], *colours[1::2]])
        for part in sorted(totals, key=lambda name: -totals[name]):
            heights = [bar.get(part, 0.0) for bar in bars.values()]
            axes.bar(labels, heights, bottom=bottom, label=part)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_ylabel(self.label)
        if many:
            axes.tick_params(axis="x", rotation=90)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)


@dataclass(frozen=True)
class Lines(Picture):
    """A line for each value of one thing varied, over another.

    Attributes
    ----------
    name : of the rows
    x, by : what is varied along the axis, and from line to line; the rest of a case names its line, too
    label : of the axis upwards
    log : the axis along is logarithmic
    """

    name: str
    x: str
    by: str
    label: str
    log: bool = False

    def draw(self, axes: Axes, rows: Sequence[Row]) -> None:
        """Draw the lines, and published values as crosses."""
        lines: dict[str, list[tuple[Any, float]]] = {}
        marks: list[tuple[Any, float]] = []
        for row in rows:
            if row.name == self.name and self.x in row.case:
                rest: Mapping[str, Any] = {key: value for key, value in row.case.items() if key != self.x}
                lines.setdefault(" ".join(map(str, rest.values())), []).append((row.case[self.x], float(row.value)))
                if isinstance(row.published, int | float):
                    marks.append((row.case[self.x], float(row.published)))
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
        if marks:
            axes.plot(*zip(*marks, strict=True), "kx", label="published")
        axes.set_xlabel(self.x.replace("_", " "))
        axes.set_ylabel(self.label)
        if self.log:
            axes.set_xscale("log", base=2)
        axes.legend(fontsize="small")


def check_picture(path: Path) -> None:
    """Raise ``ValueError`` for a file of another kind than can be drawn."""
    if path.suffix.lstrip(".") not in FORMATS:
        raise ValueError(f"A picture must be a file of {', '.join(FORMATS)}, not {str(path)!r}")


def draw_picture(picture: Picture, rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw a picture into a file."""
    check_picture(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    picture.draw(axes, rows)
    axes.set_title(title)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})
    pyplot.close(figure)
