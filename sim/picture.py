# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of results, drawn by matplotlib without a screen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from sim.report import Row

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
DATES = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  #: what says when a file was made
SALT = "pagewheel"  #: of the names of an SVG file's parts, which are random otherwise
SIZE = (12, 7)  #: inches
TITLE = 100  #: characters of a line of it
FLAT = 8  #: bars whose labels have room side by side
COLOURS = 20  #: of tab20, its dark ones before its light ones
HATCHES = ("", "//", "..")  #: of parts, each for as many as there are colours
GREY = "0.8"  #: of what is put together
STYLES = ("-", "--", ":")  #: of lines, as there are ten colours
OTHERS = 0.03  #: parts below this share of the tallest bar beside them are drawn together
OTHER = "other"  #: what those are called
SHORT = 0.25  #: bars below this share of the tallest have a scale of their own

Bars = dict[str, dict[str, float]]  #: heights by bar and part


class Picture(ABC):
    """How rows become a picture."""

    @abstractmethod
    def draw(self, figure: Figure, rows: Sequence[Row]) -> None:
        """Draw the rows."""


@dataclass(frozen=True)
class Stacked(Picture):
    """A bar for each case, made of the rows whose names begin alike: what takes how much. Short bars stand apart, with
    a scale of their own.

    Attributes
    ----------
    prefix : of those rows' names
    label : of the axis
    only : the cases that are drawn, by values that they have
    """

    prefix: str
    label: str
    only: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, figure: Figure, rows: Sequence[Row]) -> None:
        """Draw the bars, largest parts first."""
        bars = self.bars(rows)
        totals = {name: sum(bar.values()) for name, bar in bars.items()}
        tallest = max(totals.values(), default=0.0)
        short = [name for name, total in totals.items() if total < SHORT * tallest]
        panels = [merged({name: bars[name] for name in bars if (name in short) == low}) for low in (False, True)]
        panels = [panel for panel in panels if panel]
        order = parts_of(panels)
        many = len(bars) > FLAT
        widths = [len(panel) for panel in panels]
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
        for axes, panel in zip(grid[0], panels, strict=True):
            stack(axes, panel, order)
            if many:
                axes.tick_params(axis="x", rotation=90)
        figure.axes[0].set_ylabel(self.label)
        handles: dict[str, Artist] = {}
        for axes in figure.axes:
            handles |= zip(*reversed(axes.get_legend_handles_labels()), strict=True)
        shown = [part for part in reversed(order) if part in handles]
        figure.legend([handles[part] for part in shown], shown, fontsize="small", loc="outside right center")

    def bars(self, rows: Sequence[Row]) -> Bars:
        """Heights of all that there is to draw."""
        bars: Bars = {}
        for row in rows:
            if row.name.startswith(self.prefix) and self.only.items() <= row.case.items():
                name = " ".join(str(value) for key, value in row.case.items() if key not in self.only)
                bars.setdefault(name, {})[row.name.removeprefix(self.prefix)] = float(row.value)
        return bars


def merged(bars: Bars) -> Bars:
    """The same bars, parts too small to be seen put together: those of a kind, ``skb.*``, and what is too small yet."""
    least = OTHERS * max((sum(bar.values()) for bar in bars.values()), default=0.0)
    return {name: _joined(_joined(bar, least, "{}.*"), least, OTHER) for name, bar in bars.items()}


def _joined(bar: Mapping[str, float], least: float, whole: str) -> dict[str, float]:
    """Parts below a height joined under a name, which may have their kind in it."""
    result: dict[str, float] = {}
    for part, height in bar.items():
        name = part if height >= least else whole.format(part.partition(".")[0])
        result[name] = result.get(name, 0.0) + height
    return result


def parts_of(panels: Sequence[Bars]) -> list[str]:
    """Parts of all bars, the largest in total first, and the other ones last."""
    totals: dict[str, float] = {}
    for panel in panels:
        for bar in panel.values():
            for part, height in bar.items():
                totals[part] = totals.get(part, 0.0) + height
    return sorted(totals, key=lambda part: (part == OTHER, -totals[part]))


def stack(axes: Axes, bars: Bars, order: Sequence[str]) -> None:
    """Draw bars of parts, one part on the other; a part has its colour and hatch by its place in the order."""
    from matplotlib import colormaps

    bottom = [0.0] * len(bars)
    for number, part in enumerate(order):
        heights = [bar.get(part, 0.0) for bar in bars.values()]
        if any(heights):
            turn, place = divmod(number, COLOURS)
            colour = GREY if part == OTHER else colormaps["tab20"](2 * place % COLOURS + 2 * place // COLOURS)
            axes.bar(list(bars), heights, bottom=bottom, label=part, color=colour, hatch=HATCHES[turn % len(HATCHES)])
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]


@dataclass(frozen=True)
class Lines(Picture):
    """A line for each of what is varied, over one thing that is varied, too.

    Attributes
    ----------
    name : of the rows
    x : what is varied along the axis; the rest of a case names its line
    label : of the axis upwards
    log, log_up : the axis along, and that upwards, is logarithmic
    only : the cases that are drawn, by values that they have
    """

    name: str
    x: str
    label: str
    log: bool = False
    log_up: bool = False
    only: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, figure: Figure, rows: Sequence[Row]) -> None:
        """Draw the lines, and what was published of the same cases in the same unit as crosses."""
        axes = figure.subplots()
        drawn = [row for row in rows if self.x in row.case and self.only.items() <= row.case.items()]
        units = {row.unit for row in drawn if row.name == self.name}
        lines: dict[str, list[tuple[float, float]]] = {}
        marks: dict[str, list[tuple[float, float]]] = {}
        for row in drawn:
            known = {self.x, *self.only}
            rest = " ".join(str(value) for key, value in row.case.items() if key not in known) or self.name
            if row.name == self.name:
                lines.setdefault(rest, []).append((float(row.case[self.x]), float(row.value)))
            if isinstance(row.published, int | float) and row.unit in units:
                marks.setdefault(rest, []).append((float(row.case[self.x]), float(row.published)))
        for number, (label, points) in enumerate(lines.items()):
            style = STYLES[number // 10 % len(STYLES)]
            [line] = axes.plot(*zip(*points, strict=True), marker=".", label=label, linestyle=style)
            if label in marks:
                axes.plot(*zip(*marks[label], strict=True), "x", color=line.get_color())
        if marks:
            axes.plot([], [], "kx", label="published")
        axes.set_xlabel(self.x.replace("_", " "))
        axes.set_ylabel(self.label)
        if self.log:
            axes.set_xscale("log", base=2)
        if self.log_up:
            axes.set_yscale("log")
        figure.legend(fontsize="small", loc="outside right center")


def check_picture(path: Path) -> None:
    """Raise ``ValueError`` for a file of another kind than can be drawn."""
    if path.suffix.lstrip(".") not in FORMATS:
        raise ValueError(f"A picture must be a file of {', '.join(FORMATS)}, not {str(path)!r}")


def draw_picture(picture: Picture, rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw a picture into a file; the same rows give the same bytes."""
    check_picture(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": SALT}):
        figure = pyplot.figure(figsize=SIZE, layout="constrained")
        picture.draw(figure, rows)
        figure.suptitle("\n".join(wrap(title, TITLE)))
        figure.savefig(path, metadata=DATES.get(path.suffix, {}))
        pyplot.close(figure)
