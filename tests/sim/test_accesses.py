# SPDX-License-Identifier: BSD-2-Clause
"""Accesses are whole, wherever the log was cut."""

import random

import pytest

from sim.accesses import AccessJoiner
from sim.backends.base import Access

WORD = 8


def cut(access: Access, beats: int) -> list[Access]:
    """An access in two, the first of so many beats."""
    stop = (access.address // WORD + beats) * WORD
    return [
        access._replace(length=stop - access.address),
        Access(access.cycle + beats, stop, access.address + access.length - stop, access.is_write),
    ]


@pytest.mark.parametrize("address", [0x1000, 0x1003])
def test_an_access_cut_anywhere_is_one_again(address: int) -> None:
    access = Access(100, address, 61, True)
    for beats in range(1, 8):
        joiner = AccessJoiner(WORD)
        first, second = cut(access, beats)
        assert joiner.add([first]) == []
        assert joiner.add([second]) == []
        assert joiner.rest() == [access]
        assert joiner.rest() == []


@pytest.mark.parametrize(
    "second",
    [Access(102, 0x1010, 16, False), Access(103, 0x1010, 16, True), Access(102, 0x1018, 16, True)],
    ids=["other direction", "later", "elsewhere"],
)
def test_others_stay_apart(second: Access) -> None:
    joiner = AccessJoiner(WORD)
    first = Access(100, 0x1000, 16, True)
    assert sorted(joiner.add([first, second]) + joiner.rest()) == sorted([first, second])


@pytest.mark.parametrize("seed", range(3))
def test_cuts_anywhere_in_both_directions(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    accesses, parts = [], []
    for is_write in (False, True):
        cycle = 0
        for _ in range(100):
            access = Access(cycle, rng.randrange(1 << 20) * 64, rng.randint(9, 256), is_write)
            accesses.append(access)
            parts += cut(access, 1) if rng.random() < 0.5 else [access]
            cycle += 64
    joiner, found = AccessJoiner(WORD), []
    parts.sort()
    while parts:
        some = rng.randint(1, 5)
        found += joiner.add(parts[:some])
        del parts[:some]
    assert sorted(found + joiner.rest()) == sorted(accesses)
