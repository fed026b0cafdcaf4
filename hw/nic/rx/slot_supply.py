# SPDX-License-Identifier: BSD-2-Clause
"""Completion slots, counted before they are reserved."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.interfaces import CompletionSlots, DescriptorTake

_BITS = 3
_SIZE = 1 << _BITS  #: more than the lookups that can be on their way to their reservation


class SlotSupply(wiring.Component):
    """Tell whether a queue has a slot for one more lookup than those under way.

    ``some`` knows of all lookups up to the cycle before, and counts one slot for each. A frame that takes more slots is
    reserved all of them at once, behind a ``restart``. Of a frame that is looked up for longer, not all
    lookups are counted.

    Members
    -------
    lookup : one-hot, the queue of a lookup; only one that has ``some``
    some : queues with a free slot
    take : as many slots as descriptors leave the cache are reserved, the sixth cycle after the lookup
    restart : the lookups that were not taken are forgotten. In the second cycle from then, ``some`` knows of it, and of
        a ``take`` up to the cycle before ``restart``.
    slots : of the completion writer
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "lookup": In(config.queues),
                "some": Out(config.queues),
                "take": In(DescriptorTake(config)),
                "restart": In(1),
                "slots": Out(CompletionSlots(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.slots.reserve.eq(self.take.strobe),
            self.slots.reserve_queue.eq(self.take.queue),
            self.slots.reserve_count.eq(self.take.count),
        ]
        cases = range(1 << 2 * _BITS)
        same, after = (
            Const(sum((case % _SIZE > case // _SIZE + more) << case for case in cases), len(cases)) for more in (0, 1)
        )
        for q in range(self._config.queues):
            pending = Signal(_BITS, name=f"pending_{q}")  # looked up, and not reserved
            free = self.slots.free[q]
            reserved = self.take.strobe & (self.take.queue == q)
            few = Cat(free[:_BITS], pending)
            m.d.sync += self.some[q].eq(
                free[_BITS:].any() | Mux(self.lookup[q], after.bit_select(few, 1), same.bit_select(few, 1))
            )
            with m.If(self.restart):
                m.d.sync += pending.eq(0)
            with m.Elif(self.lookup[q] & ~reserved & (pending != _SIZE - 1)):
                m.d.sync += pending.eq(pending + 1)
            with m.Elif(~self.lookup[q] & reserved & (pending != 0)):
                m.d.sync += pending.eq(pending - 1)
        return m
