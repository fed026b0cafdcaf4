# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of results."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from sim.picture import Lines, Picture, Stacked, check_picture, draw_picture, merged
from sim.report import Row

ROWS = [
    *(Row({"variant": v}, f"part.{p}", "cycles", n) for v in "ab" for p, n in (("memory", 40), ("skb", 60), ("x", 1))),
    *(Row({"pool": n, "strategy": s}, "drops", "packets", n * k) for s, k in (("p", 1), ("q", 2)) for n in (1, 2, 4)),
]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_bars(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"bars.{suffix}"
    draw_picture(Stacked("part.", "cycles"), ROWS, "What?", file)
    assert file.stat().st_size > 1000


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize("picture", [Lines("drops", "pool", "packets", log=True), Stacked("part.", "cycles")])
def test_the_same_bytes_twice(tmp_path: Path, picture: Picture, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for file in files:
        draw_picture(picture, ROWS, "How many?", file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_small_parts_are_put_together_and_none_is_lost() -> None:
    bar = {"rx.refill": 80.0, "skb.init": 2.0, "skb.clear": 2.0, "dma.map": 1.0, "irq.entry": 1.0, "other": 0.5}
    assert merged({"a": bar}) == {"a": {"rx.refill": 80.0, "skb.*": 4.0, "other": 2.5}}


def test_short_bars_have_a_scale_of_their_own() -> None:
    figure = Figure()
    rows = [Row({"variant": v}, "part.skb", "cycles", n) for v, n in (("a", 100), ("b", 10), ("c", 26), ("d", 24))]
    Stacked("part.", "cycles").draw(figure, rows)
    names = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes]
    assert names == [["a", "c"], ["b", "d"]]


def test_lines_stand_at_their_numbers_and_only_those_asked_for() -> None:
    figure = Figure()
    rows = [Row({"size": s, "iommu": i}, "rate", "kpps", 1) for i in ("none", "lazy") for s in ("64", "1518")]
    Lines("rate", "size", "kpps", only={"iommu": "lazy"}).draw(figure, rows)
    [line] = figure.axes[0].lines
    assert list(line.get_xdata()) == [64, 1518]


def test_published_values_of_the_same_cases_are_crosses() -> None:
    figure = Figure()
    rows = [Row({"bulk": n}, "cycles", "cycles", 10 * n) for n in (1, 2)]
    rows.append(Row({"bulk": 2}, "slub.bulk", "cycles", 20, 21, "a paper", "prediction"))
    rows.append(Row({"bulk": 2}, "gain", "%", 20, 22, "a paper", "prediction"))
    Lines("cycles", "bulk", "cycles an object").draw(figure, rows)
    line, cross, _ = figure.axes[0].lines
    assert (list(line.get_ydata()), list(cross.get_ydata())) == ([10, 20], [21])


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a file of png, svg, pdf, not"):
        check_picture(tmp_path / "bars.gif")
