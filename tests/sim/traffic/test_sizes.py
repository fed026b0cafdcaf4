# SPDX-License-Identifier: BSD-2-Clause
import re
from collections import Counter
from itertools import islice

import pytest

from sim.traffic.sizes import parse_sizes


def wire_sizes(name, count, seed=1):
    return [length + 4 for length in islice(parse_sizes(name).lengths(seed), count)]


def test_a_flood_has_one_size():
    assert set(wire_sizes("64", 100)) == {64}


def test_imix_is_seven_to_four_to_one_in_every_round():
    sizes = wire_sizes("imix", 1200)
    for start in range(0, 1200, 12):
        assert Counter(sizes[start : start + 12]) == {64: 7, 594: 4, 1518: 1}
    assert sizes[:12] != sizes[12:24] or sizes[:12] != sizes[24:36]


def test_the_internet_mix_has_a_mean_of_300_bytes():
    sizes = wire_sizes("internet", 2100)
    assert sum(sizes) / len(sizes) == 300


def test_weights_and_ranges():
    assert Counter(wire_sizes("64:3,1518:1", 400)) == {64: 300, 1518: 100}
    sizes = wire_sizes("64-70", 2000)
    assert set(sizes) == set(range(64, 71))


def test_the_seed_decides_the_order():
    assert wire_sizes("imix", 60, seed=5) == wire_sizes("imix", 60, seed=5)
    assert wire_sizes("imix", 60, seed=5) != wire_sizes("imix", 60, seed=6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("63", "in 64..9220 bytes, not 63"),
        ("9221", "in 64..9220 bytes, not 9221"),
        ("tiny", "must be a size in bytes"),
        ("", "not ''"),
        ("64:0", "weight of size 64 must be an integer in 1"),
        ("128-64", "from the smaller to the larger, not from 128 to 64"),
    ],
)
def test_refused_sizes(name, message):
    with pytest.raises(ValueError, match=re.escape(message).replace(r"in\ 64\.\.", "in 64..")):
        parse_sizes(name)
