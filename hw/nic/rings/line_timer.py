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
    start : one bit per queue: its deadline is ``timeout`` cycles from the cycle after next
    timeout : cycles, 0..65535, as it was in the cycle before; a change does not move deadlines already set
    due : one bit per queue, from its deadline until the cycle after it is started again
    """

    def __init__(self, queues: int):
        if not isinstance(queues, int) or queues < 1:
            raise ValueError(f"Queues must be a positive integer, not {queues!r}")
        self._queues = queues
        super().__init__({"start": In(queues), "timeout": In(_BITS), "due": Out(queues)})

    def elaborate(self, platform) -> Module:
        m = Module()
        # Two cycles pass from here until a deadline is compared.
        now, soon, later = Signal(_BITS), Signal(_BITS, init=2), Signal(_BITS)
        deadline = Signal(data.ArrayLayout(_BITS, self._queues))
        m.d.sync += [now.eq(now + 1), soon.eq(soon + 1), later.eq(soon + self.timeout)]
        for q in range(self._queues):
            # An equality costs less than an age, and no deadline is passed over as each cycle looks.
            with m.If(self.start[q]):
                m.d.sync += [deadline[q].eq(later), self.due[q].eq(0)]
            with m.Elif(now == deadline[q]):
                m.d.sync += self.due[q].eq(1)
        return m
