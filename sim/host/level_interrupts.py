# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt wires beside interrupt messages."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from sim.host.link import VECTOR_BITS


class LevelInterrupts(wiring.Component):
    """Turns each rising edge of a wire into a message, and puts it among messages that come anyway.

    A wire has fallen and risen again if it was low on one clock edge; edges of one wire that come faster than messages
    are taken become one message. Messages pass in the same cycle, a wire's follows two cycles after its edge; where
    both wait, they take turns. Of several wires the lowest goes first.

    Parameters
    ----------
    count : wires
    first : vector of wire 0; the others follow

    Ports
    -----
    wires : In ``count``
    messages : In stream of vectors
    output : Out stream of vectors
    """

    def __init__(self, count: int, first: int):
        for name, value, low in (("count", count, 1), ("first", first, 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Interrupt wires' {name} must be an integer, not {value!r}")
            if not low <= value < 1 << VECTOR_BITS:
                raise ValueError(f"Interrupt wires' {name} must be in {low}..{(1 << VECTOR_BITS) - 1}, not {value!r}")
        if first + count > 1 << VECTOR_BITS:
            raise ValueError(f"Interrupt wires' last vector must be below {1 << VECTOR_BITS}, not {first + count - 1}")
        self.count = count
        self.first = first
        vectors = stream.Signature(VECTOR_BITS)
        super().__init__({"wires": In(count), "messages": In(vectors), "output": Out(vectors)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        before, pending, moving = Signal(self.count), Signal(self.count), Signal(self.count)
        vector, waiting = Signal(VECTOR_BITS), Signal()
        held, turn, chosen = Signal(), Signal(), Signal()  # of the wires
        lowest = pending & -pending
        free = ~waiting | (chosen & self.output.ready)
        m.d.comb += moving.eq(Mux(free, lowest[: self.count], 0))
        m.d.sync += [before.eq(self.wires), pending.eq((pending & ~moving) | (self.wires & ~before))]
        with m.If(free):
            m.d.sync += waiting.eq(pending.any())
            for index in range(self.count):
                with m.If(moving[index]):
                    m.d.sync += vector.eq(self.first + index)
        m.d.comb += [
            chosen.eq(Mux(held, turn, waiting & (turn | ~self.messages.valid))),
            self.output.valid.eq(Mux(chosen, waiting, self.messages.valid)),
            self.output.payload.eq(Mux(chosen, vector, self.messages.payload)),
            self.messages.ready.eq(~chosen & self.output.ready),
        ]
        m.d.sync += held.eq(self.output.valid & ~self.output.ready)
        with m.If(self.output.valid):
            m.d.sync += turn.eq(Mux(self.output.ready, ~chosen, chosen))
        return m
