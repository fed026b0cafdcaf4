# SPDX-License-Identifier: BSD-2-Clause
"""Counting what is in use of a bounded number."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Room(wiring.Component):
    """Whether one more of at most ``limit`` may be taken, known from a register.

    A take counts for ``room`` in the next cycle. What is given back counts a cycle later than that, so that ``give``
    may come late in its cycle.

    Parameters
    ----------
    limit : how many may be in use

    Ports
    -----
    room : one more may be taken
    take : one is; only with ``room``
    give : one comes back
    """

    def __init__(self, limit: int):
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ValueError(f"Limit must be an integer from 1 up, not {limit!r}")
        self._limit = limit
        super().__init__({"room": Out(1, init=1), "take": In(1), "give": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        used, given = Signal(range(self._limit + 1)), Signal()
        m.d.sync += given.eq(self.give)
        with m.If(self.take != given):
            m.d.sync += [
                used.eq(Mux(self.take, used + 1, used - 1)),
                self.room.eq(given | (used != self._limit - 1)),
            ]
        return m
