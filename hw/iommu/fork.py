# SPDX-License-Identifier: BSD-2-Clause
"""One stream to several takers."""

from typing import Any

from amaranth import Module, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Fork(wiring.Component):
    """Every transfer of ``source`` happens once on each of ``branches``, each in its own time; the source's with
    the last of them. Combinational from ``source``.

    Parameters
    ----------
    shape : of the payload
    count : how many branches

    Ports
    -----
    source : In, stream
    branches : Out, array of streams
    """

    def __init__(self, shape: ShapeLike, count: int):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"A fork must have at least one branch, not {count!r}")
        super().__init__({"source": In(stream.Signature(shape)), "branches": Out(stream.Signature(shape)).array(count)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = len(self.branches)
        taken, taking = Signal(count), Signal(count)  # before this cycle, and by its end
        for index, branch in enumerate(self.branches):
            m.d.comb += [
                branch.payload.eq(self.source.payload),
                branch.valid.eq(self.source.valid & ~taken[index]),
                taking[index].eq(taken[index] | branch.ready),
            ]
        m.d.comb += self.source.ready.eq(taking.all())
        with m.If(self.source.valid):
            m.d.sync += taken.eq(taking)
            with m.If(self.source.ready):
                m.d.sync += taken.eq(0)
        return m
