# SPDX-License-Identifier: BSD-2-Clause
"""Ones' complement sums, a word a cycle (RFC 1071)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LANE_BITS = 16
RADIX = 4
ACCUMULATOR_BITS = 32
FOLD_STAGES = 3


class SumTree(wiring.Component):
    """The plain sum of a word's 16-bit lanes, ``stages`` cycles later; four summands are added a cycle.

    Parameters
    ----------
    width : bits of a word, a multiple of 16

    Members
    -------
    data : a word
    sum : of its lanes
    """

    def __init__(self, width: int):
        if not isinstance(width, int) or isinstance(width, bool):
            raise TypeError(f"Width of a sum tree must be an integer, not {width!r}")
        if width < LANE_BITS or width % LANE_BITS:
            raise ValueError(f"Width of a sum tree must be a multiple of {LANE_BITS}, not {width!r}")
        self._lanes = width // LANE_BITS
        super().__init__({"data": In(width), "sum": Out(range(self._lanes * ((1 << LANE_BITS) - 1) + 1))})

    @property
    def stages(self) -> int:
        """Cycles from a word to its sum."""
        return next(stages for stages in range(self._lanes) if RADIX**stages >= self._lanes)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values = [self.data.word_select(lane, LANE_BITS) for lane in range(self._lanes)]
        for stage in range(self.stages):
            groups = [values[position : position + RADIX] for position in range(0, len(values), RADIX)]
            values = []
            for position, group in enumerate(groups):
                bits = LANE_BITS + 2 * stage + 2
                value = Signal(bits, name=f"stage_{stage}_{position}")
                m.d.sync += value.eq(sum(group[1:], group[0]))
                values.append(value)
        m.d.comb += self.sum.eq(values[0])
        return m


class OnesComplementFold(wiring.Component):
    """A frame's checksum from the sums of its words: folded to 16 bits, inverted, 0xFFFF in place of 0.

    ``checksum`` belongs to the frame whose last sum came three cycles ago. Lanes are little-endian, and so is the
    checksum: its low byte belongs first in memory, if the summed bytes began in an even lane; ``swap`` if they did not.

    Parameters
    ----------
    width : bits of a word's sum

    Members
    -------
    valid, first, value : a word's sum; ``first``: of a new frame
    seed : with ``first``: what the frame's sum begins with
    swap : of the frame whose last sum came two cycles ago
    checksum : of the frame whose last sum came three cycles ago
    """

    def __init__(self, width: int):
        super().__init__(
            {"valid": In(1), "first": In(1), "value": In(width), "seed": In(16), "swap": In(1), "checksum": Out(16)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(ACCUMULATOR_BITS)
        once, twice = Signal(LANE_BITS + 1), Signal(LANE_BITS)
        with m.If(self.valid):
            m.d.sync += total.eq(Mux(self.first, self.seed, total) + self.value)
        inverted = Signal(LANE_BITS)
        m.d.sync += once.eq(total[:LANE_BITS] + total[LANE_BITS:])
        m.d.comb += [
            twice.eq(once[:LANE_BITS] + once[LANE_BITS]),
            inverted.eq(Mux(twice.all(), twice, ~twice)),
        ]
        m.d.sync += self.checksum.eq(Mux(self.swap, Cat(inverted[8:], inverted[:8]), inverted))
        return m
