# SPDX-License-Identifier: BSD-2-Clause
import re
from fractions import Fraction
from itertools import islice, repeat

import pytest

from sim.traffic.pacing import LineRate

TEN_G = 10_000_000_000


def test_a_64_byte_frame_is_due_every_ten_and_a_half_cycles():
    line = LineRate(TEN_G, 156_250)
    assert line.frame_cycles(60) == Fraction(21, 2)
    assert list(islice(line.starts(repeat(60)), 5)) == [0, 11, 21, 32, 42]
    assert round(line.frames_per_second(60)) == 14_880_952


def test_a_64_byte_frame_at_100g_is_due_every_1_68_cycles():
    assert LineRate(10 * TEN_G, 250_000).frame_cycles(60) == Fraction(168, 100)


def test_rounding_does_not_accumulate():
    starts = list(islice(LineRate(TEN_G, 156_250).starts(repeat(61)), 80_001))
    assert starts[8] == 85  # 8 frames of 85 bytes at 8 bytes a cycle
    assert starts[80_000] == 850_000


def test_half_the_load_doubles_the_distance():
    assert list(LineRate(TEN_G, 156_250, "0.5").starts([60] * 3, first=100)) == [100, 121, 142]


def test_a_burst_comes_back_to_back_and_its_pause_follows():
    starts = list(LineRate(TEN_G, 156_250, "0.25").starts([60] * 7, first=100, burst=3))
    assert starts == [100, 111, 121, 226, 237, 247, 352]
    assert starts[::3] == list(LineRate(TEN_G, 156_250, "0.25").starts([60] * 7, first=100))[::3]


def test_a_captures_own_times_are_kept_where_the_line_is_free():
    line = LineRate(TEN_G, 156_250)
    starts = list(line.starts_at([5_000, 5_001, 6_024], [60, 60, 60]))
    assert starts == [0, 11, 160]  # the second waits for the first; 1,024 ns are 160 cycles


@pytest.mark.parametrize("load", [0, -1, "1.01", "much", "1/0"])
def test_refused_load(load):
    with pytest.raises(ValueError, match=f"load must be .*above 0 and at most 1, not {re.escape(repr(load))}"):
        LineRate(TEN_G, 156_250, load)


def test_refused_rate_and_clock():
    with pytest.raises(ValueError, match="bits_per_second must be at least 1, not 0"):
        LineRate(0, 156_250)
    with pytest.raises(TypeError, match=r"clock_khz must be an integer, not 156\.25"):
        LineRate(TEN_G, 156.25)
