# SPDX-License-Identifier: BSD-2-Clause
"""What a stopped queue held in advance goes back to its pool."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.interfaces import DescriptorTake
from hw.nic.recycle.interfaces import BufferName
from hw.nic.recycle.queue_pools import PoolOfQueue
from hw.nic.recycle.supply import QueueBuffer


class UnusedBuffers(wiring.Component):
    """Remember which buffers each queue holds, in order, and give those back that no frame took.

    A queue that is ``stopping`` gives back all that it holds, one every fifth cycle, queues one after the
    other. What comes to it meanwhile follows.

    Members
    -------
    pools : of each queue, the number of its pool
    held : a queue holds one more buffer, behind the others; of ``config.recycle_ahead`` at most
    given : the first buffers of a queue went to a frame; not while it is stopping
    stopping : queues that take no frames any more, and for which none is judged
    left : one buffer of a queue was given back, in the cycle in which ``unused`` is taken
    unused : stream of :class:`hw.nic.recycle.interfaces.BufferName`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        queue = range(config.queues)
        super().__init__(
            {
                "pools": In(PoolOfQueue(config)),
                "held": In(QueueBuffer(config)),
                "given": In(DescriptorTake(config)),
                "stopping": In(config.queues),
                "left": Out(wiring.Signature({"strobe": Out(1), "queue": Out(queue)})),
                "unused": Out(stream.Signature(BufferName(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        ahead = config.recycle_ahead
        m.submodules.ids = ids = Memory(
            shape=range(config.pool_buffers), depth=config.queues * ahead, init=[], attrs={"no_rw_check": 1}
        )
        write, read = ids.write_port(), ids.read_port()
        # One bit more than a place.
        places = data.ArrayLayout(range(2 * ahead), config.queues)
        behind, first = Signal(places), Signal(places)
        keeps, queue, asked = Signal(config.queues), Signal(range(config.queues)), Signal()
        bits = exact_log2(ahead)
        m.d.comb += [
            write.en.eq(self.held.strobe),
            write.addr.eq(Cat(behind[self.held.queue][:bits], self.held.queue)),
            write.data.eq(self.held.id),
            read.addr.eq(Cat(first[queue][:bits], queue)),
            self.unused.payload.pool.eq(self.pools[queue]),
            self.left.strobe.eq(self.unused.valid & self.unused.ready),
            self.left.queue.eq(queue),
        ]
        for q in range(config.queues):
            given = Signal.like(self.given.count, name=f"given_{q}")
            m.d.comb += given.eq(self.given.count & (self.given.strobe & (self.given.queue == q)).replicate(len(given)))
            m.d.sync += [
                behind[q].eq(behind[q] + (self.held.strobe & (self.held.queue == q))),
                first[q].eq(first[q] + given + (self.left.strobe & (queue == q))),
                keeps[q].eq(self.stopping[q] & (behind[q] != first[q])),
            ]
        with m.FSM():
            with m.State("LOOK"):
                # The buffer that left last is not counted yet in the first cycle.
                for q in reversed(range(config.queues)):
                    with m.If(keeps[q]):
                        m.d.sync += queue.eq(q)
                with m.If(keeps.any() & ~asked):
                    m.next = "READ"
                m.d.sync += asked.eq(0)
            with m.State("READ"):
                m.next = "KNOW"
            with m.State("KNOW"):
                m.d.sync += [self.unused.valid.eq(1), self.unused.payload.id.eq(read.data)]
                m.next = "GIVE"
            with m.State("GIVE"):
                with m.If(self.unused.ready):
                    m.d.sync += [self.unused.valid.eq(0), asked.eq(1)]
                    m.next = "LOOK"
        return m
