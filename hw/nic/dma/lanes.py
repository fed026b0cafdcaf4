# SPDX-License-Identifier: BSD-2-Clause
"""Moving bytes between lane 0 and the lanes of an address."""

from amaranth.hdl import Cat, Const, Mux, Value


def rotate_up(word: Value, lanes: Value) -> Value:
    """The word with byte 0 moved to byte ``lanes``, and what leaves at the top back at the bottom."""
    for bit in range(len(lanes)):
        word = Mux(lanes[bit], word.rotate_left(8 << bit), word)
    return word


def rotate_down(word: Value, lanes: Value) -> Value:
    """The word with byte ``lanes`` moved to byte 0, and what leaves at the bottom back at the top."""
    for bit in range(len(lanes)):
        word = Mux(lanes[bit], word.rotate_right(8 << bit), word)
    return word


def below(lane: Value) -> Value:
    """One bit per lane, set for the lanes below ``lane``."""
    return (Const(1, 1 << len(lane)) << lane)[: 1 << len(lane)] - 1


def merge(low: Value, high: Value, mask: Value) -> Value:
    """Bytes of ``low`` in the lanes of ``mask``, of ``high`` in the others."""
    return Cat(Mux(mask[i], low[8 * i :][:8], high[8 * i :][:8]) for i in range(len(mask)))
