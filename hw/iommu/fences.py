# SPDX-License-Identifier: BSD-2-Clause
"""Waiting for the accesses that the channels have accepted."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.iommu.interfaces import FenceSignature


class Fences(wiring.Component):
    """Says when every access that was under way is done, without holding back new ones.

    Accesses are marked with a color. A wait begins when none of the other color is left; then the color changes, and
    the wait is over when none of the former color is left. ``done`` comes at the earliest in the cycle after the color
    changed. Those who wait take turns; one that takes its request back is forgotten at once, and what is left of its
    color is waited for by the next.

    Parameters
    ----------
    waiters : number of those who wait
    channels : number of those who accept accesses

    Ports
    -----
    request : In
        Bit per waiter, held until ``done``.
    done : Out
        Bit per waiter, for one cycle.
    channels : Out
        To those who accept accesses.
    """

    def __init__(self, waiters: int, channels: int):
        self._waiters = waiters
        super().__init__(
            {"request": In(waiters), "done": Out(waiters), "channels": Out(FenceSignature()).array(channels)},
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        color = Signal()
        busy = Signal(2)
        served = Signal(range(self._waiters))
        following = Mux(served == self._waiters - 1, 0, served + 1)
        wanted = self.request.bit_select(served, 1)
        m.d.comb += [channel.color.eq(color) for channel in self.channels]
        m.d.sync += busy.eq(Cat(Cat(channel.busy[k] for channel in self.channels).any() for k in range(2)))
        with m.FSM():
            with m.State("IDLE"):
                with m.If(wanted):
                    with m.If(~busy.bit_select(~color, 1)):
                        m.d.sync += color.eq(~color)
                        m.next = "WAIT"
                with m.Else():
                    m.d.sync += served.eq(following)
            with m.State("WAIT"):
                with m.If(~wanted):
                    m.next = "IDLE"
                with m.Elif(~busy.bit_select(~color, 1)):
                    m.d.comb += self.done.eq(1 << served)
                    m.d.sync += served.eq(following)
                    m.next = "IDLE"
        return m
