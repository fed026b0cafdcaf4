# SPDX-License-Identifier: BSD-2-Clause
"""Between walker and cache: walks may end in consecutive cycles, and a cache takes a few for each fill."""

from typing import Any

from amaranth import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

FILL_CYCLES = 4  #: that :class:`hw.iommu.cache.Cache` is at a fill; it drops one that comes meanwhile


class FillQueue(wiring.Component):
    """Hands on fills no closer than ``FILL_CYCLES``, in order, the first of them in the cycle in which it comes.

    What waits is dropped with an invalidation, as the cache drops what comes with one; and so is what comes while
    ``depth`` wait. Until a fill that waits is handed on, lookups do not find it: at worst its walk is done again.

    Parameters
    ----------
    fill : signature of a fill, with ``strobe``
    depth : fills that wait

    Ports
    -----
    input : In, from the walker; output : Out, to the cache
    invalidating : an invalidation is offered to the cache in this cycle
    """

    def __init__(self, fill: wiring.Signature, *, depth: int):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(f"Depth of a queue of fills must be a positive integer, not {depth!r}")
        self.depth = depth
        super().__init__({"input": In(fill), "output": Out(fill), "invalidating": In(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        names = [name for name in self.input.signature.members if name != "strobe"]
        came = Cat(Value.cast(getattr(self.input, name)) for name in names)
        gone = Cat(Value.cast(getattr(self.output, name)) for name in names)
        waiting = SyncFIFO(width=len(came), depth=self.depth)
        m.submodules.waiting = ResetInserter(self.invalidating)(waiting)
        pause = Signal(range(FILL_CYCLES))
        free = Signal()
        m.d.comb += [
            free.eq(pause == 0),
            self.output.strobe.eq(free & (waiting.r_rdy | self.input.strobe)),
            gone.eq(Mux(waiting.r_rdy, waiting.r_data, came)),
            waiting.r_en.eq(free),
            waiting.w_data.eq(came),
            waiting.w_en.eq(self.input.strobe & (waiting.r_rdy | ~free)),
        ]
        with m.If(self.output.strobe):
            m.d.sync += pause.eq(FILL_CYCLES - 1)
        with m.Elif(~free):
            m.d.sync += pause.eq(pause - 1)
        return m
