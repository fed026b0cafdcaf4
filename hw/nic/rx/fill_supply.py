# SPDX-License-Identifier: BSD-2-Clause
"""Buffers from the fill rings, looked up before it is known how many a frame needs."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import FillDescriptor
from hw.config import NicConfig
from hw.nic.interfaces import FETCHING_DELAY, DescriptorPort, DescriptorTake

_TO_TAKE = 6  #: cycles from a lookup to its descriptor's ``take``


class FillSupply(wiring.Component):
    """Look up descriptors in ring order, and go back to those that were not taken.

    A lookup's descriptor is at ``entry`` four cycles later; one lookup a cycle. ``some`` and ``pending`` know of all
    lookups up to the cycle before.

    Members
    -------
    enable : queues that take frames
    clear : a queue returns to index 0
    lookup, queue : one-hot and by number, the queue whose next descriptor is looked up; only one that has ``some``
    some : queues with a descriptor that was not looked up
    pending : enabled queues that have none, but may have one without software's doing: ``descriptors.fetching`` says
        so, or does not yet tell of all that was looked up
    recent : queues with lookups whose ``take`` may still come, from the cycle after until it has come
    entry : the descriptor
    take : descriptors leave, the sixth cycle after the last of them was looked up
    restart : lookups begin again behind what was taken up to two cycles before the end of ``restart``; two cycles after
        its end ``some`` knows
    descriptors : the fill rings' cache
    refused, limited : only where ``config.pools`` is not 0: queues whose frames take no buffer, so that the queue has
        neither ``some`` nor any ``pending``; queues that get no further buffer but those of which
        ``descriptors.fetching`` already tells. ``some`` and ``pending`` know of both in the cycle before.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "enable": In(config.queues),
            "clear": In(config.queues),
            "lookup": In(config.queues),
            "queue": In(range(config.queues)),
            "some": Out(config.queues),
            "pending": Out(config.queues),
            "recent": Out(config.queues),
            "entry": Out(FillDescriptor),
            "take": In(DescriptorTake(config)),
            "restart": In(1),
            "descriptors": Out(DescriptorPort(config)),
        }
        if config.pools:
            members |= {"refused": In(config.queues), "limited": In(config.queues)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        port = self.descriptors
        indices = data.ArrayLayout(range(config.fetch_depth), config.queues)
        ahead, first = Signal(indices), Signal(indices)  # next to look up, next to take
        queue = Signal.like(self.queue)  # of the lookup before
        looked, arrived, fetching = Signal(config.queues), Signal(config.queues), Signal(config.queues)
        m.d.comb += [self.entry.eq(port.entry), port.read_enable.eq(1)]
        wiring.connect(m, wiring.flipped(self.take), wiring.flipped(port.take))
        m.d.sync += [
            queue.eq(self.queue),
            looked.eq(self.lookup),
            fetching.eq(port.fetching),
            port.read_queue.eq(queue),
            port.read_index.eq(ahead[queue]),
        ]
        for q in range(config.queues):
            # Counts lag a cycle behind arrivals and lookups.
            left, held = (Signal(range(config.fetch_depth + 1), name=f"{n}_{q}") for n in ("left", "held"))
            age = Signal(range(_TO_TAKE + FETCHING_DELAY + 1), name=f"age_{q}")
            taken = Signal.like(self.take.count, name=f"taken_{q}")
            some = _more_than(left, arrived[q], looked[q], self.lookup[q]) & ~self.restart & ~self.clear[q]
            waits = self.recent[q] | fetching[q] | self.lookup[q]
            if config.pools:
                some &= ~self.refused[q]
                unsure = (self.recent[q] | self.lookup[q]) & ~self.limited[q]
                waits = (fetching[q] | unsure) & ~self.refused[q]
            m.d.comb += taken.eq(Mux(self.take.strobe & (self.take.queue == q), self.take.count, 0))
            m.d.sync += [
                arrived[q].eq(port.arrived.strobe & (port.arrived.queue == q)),
                first[q].eq(first[q] + taken),
                held.eq(held + arrived[q] - taken),
                ahead[q].eq(Mux(self.restart, first[q], ahead[q] + looked[q])),
                left.eq(Mux(self.restart, held, left) + arrived[q] - looked[q]),
                self.some[q].eq(some),
                self.pending[q].eq(self.enable[q] & ~some & waits),
            ]
            m.d.comb += self.recent[q].eq(age != 0)
            with m.If(self.lookup[q]):
                m.d.sync += age.eq(_TO_TAKE + FETCHING_DELAY)
            with m.Elif(self.recent[q]):
                m.d.sync += age.eq(age - 1)
            with m.If(self.clear[q]):
                m.d.sync += [index.eq(0) for index in (ahead[q], first[q], left, held)]
        return m


def _more_than(left: Signal, arrived: Value, looked: Value, lookup: Value) -> Value:
    """Whether ``left + arrived - looked - lookup`` is more than 0, soon after ``lookup``."""
    few = Cat(left[:2], arrived, looked)
    after, same = (
        Const(sum((place % 4 + (place >> 2 & 1) - (place >> 3) > limit) << place for place in range(16)), 16)
        for limit in (1, 0)
    )
    return left[2:].any() | Mux(lookup, after.bit_select(few, 1), same.bit_select(few, 1))
