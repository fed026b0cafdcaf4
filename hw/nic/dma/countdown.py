# SPDX-License-Identifier: BSD-2-Clause
"""First and last of a number of beats."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Countdown(wiring.Component):
    """Say which of an item's beats is its first and which its last.

    Nothing is compared on the way to ``last``: whether a later beat is the last was found when the one before it
    passed, and whether the first is, the user knows. The next item may follow at once.

    Parameters
    ----------
    width : bits of ``beats``

    Members
    -------
    beats : the item's beats - 1; it and ``single`` hold until its last beat has passed
    single : ``beats`` is 0
    step : a beat passes
    first, last : it is the item's first, its last
    """

    def __init__(self, width: int):
        self._width = width
        super().__init__({"beats": In(width), "single": In(1), "step": In(1), "first": Out(1, init=1), "last": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left, following, ends = Signal(self._width), Signal(self._width), Signal()
        m.d.comb += [
            following.eq(Mux(self.first, self.beats, left)),
            self.last.eq(Mux(self.first, self.single, ends)),
        ]
        with m.If(self.step):
            m.d.sync += [self.first.eq(self.last), left.eq(following - 1), ends.eq(following == 1)]
        return m
