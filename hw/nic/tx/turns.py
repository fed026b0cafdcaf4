# SPDX-License-Identifier: BSD-2-Clause
"""Whose turn it is."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig

REMEMBERED = 64


class TurnOrder(wiring.Component):
    """Round robin that does not call on queues which had nothing to do a moment ago.

    A queue that passes its turn is left out until the next multiple of 64 cycles, or until all queues have passed. So
    sixteen queues of which one is active lose a quarter of the turns at most, a queue that becomes active among
    active ones is called within 64 cycles and one turn of each other, and one that becomes active alone within
    ``queues`` turns.

    Members
    -------
    queue : whose turn it is
    next : the turn is over; another queue's, if there is one, begins in the next cycle
    passed : with ``next``: the queue had nothing to do
    """

    def __init__(self, config: NicConfig):
        self._queues = config.queues
        super().__init__({"queue": Out(range(config.queues)), "next": In(1), "passed": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        resting, called = Signal(self._queues), Signal(self._queues)
        age = Signal(range(REMEMBERED))
        later, order = Signal(self._queues), Signal(self._queues)
        m.d.sync += age.eq(age + 1)
        m.d.comb += [
            called.eq(~(resting | Mux(self.passed, 1 << self.queue, 0))),
            later.eq(called & (-2 << self.queue)),
            order.eq(Mux(later.any(), later, called)),
        ]
        with m.If(self.next):
            m.d.sync += resting.eq(~called)
            # The last assignment wins, so the lowest queue comes last.
            for queue in reversed(range(self._queues)):
                with m.If(order[queue]):
                    m.d.sync += self.queue.eq(queue)
            with m.If(~called.any()):
                m.d.sync += self.queue.eq(Mux(self.queue == self._queues - 1, 0, self.queue + 1))
        with m.If((age == 0) | (self.next & ~called.any())):
            m.d.sync += resting.eq(0)
        return m
