# SPDX-License-Identifier: BSD-2-Clause
"""How long each queue's oldest completion has waited."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

_BITS = 16


class LineTimer(wiring.Component):
    """One deadline for each queue, on a common clock.

    Members
    -------
    start : one bit per queue: its deadline is ``timeout`` cycles from now
    timeout : cycles, 0..65535; a change does not move deadlines already set
    due : one bit per queue, from the cycle after its deadline until it is started again
    """

    def __init__(self, queues: int):
        if not isinstance(queues, int) or queues < 1:
            raise ValueError(f"Queues must be a positive integer, not {queues!r}")
        self._queues = queues
        super().__init__({"start": In(queues), "timeout": In(_BITS), "due": Out(queues)})

    def elaborate(self, platform) -> Module:
        m = Module()
        now = Signal(_BITS)
        deadline = Signal(data.ArrayLayout(_BITS, self._queues))
        m.d.sync += now.eq(now + 1)
        for q in range(self._queues):
            # An equality costs less than an age, and no deadline is passed over as each cycle looks.
            with m.If(self.start[q]):
                m.d.sync += [deadline[q].eq(now + self.timeout), self.due[q].eq(self.timeout == 0)]
            with m.Elif(now == deadline[q]):
                m.d.sync += self.due[q].eq(1)
        return m
