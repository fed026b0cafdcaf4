# SPDX-License-Identifier: BSD-2-Clause
"""Pictures of results."""

from pathlib import Path

import pytest

from sim.picture import Lines, Stacked, check_picture, draw_picture
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


def test_lines_and_the_same_bytes_twice(tmp_path: Path) -> None:
    picture = Lines("drops", "pool", "strategy", "packets", log=True)
    for name in ("one.png", "two.png"):
        draw_picture(picture, ROWS, "How many?", tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a file of png, svg, pdf, not"):
        check_picture(tmp_path / "bars.gif")
