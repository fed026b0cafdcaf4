# SPDX-License-Identifier: BSD-2-Clause
"""Recycled buffers for RX queues, ahead of their frames."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.fifo import StreamFifo
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import DescriptorTake
from hw.nic.recycle.free_list import POP_CYCLES, Pop, Popped
from hw.nic.recycle.interfaces import BufferName, PoolEvent, SuppliedBuffer, TakePort
from hw.nic.recycle.pool_table import PoolTable, TableWrite
from hw.nic.recycle.queue_pools import PoolOfQueue

_TABLE_CYCLES = 2
_FIFO_CYCLES = 2
_FIFO = 16  #: entries that are under way at most
_SPARE = 3  #: grants, after which `room` has heard of the first
#: From a grant to its entry on ``supply``.
SUPPLY_CYCLES = 1 + POP_CYCLES + _TABLE_CYCLES + _FIFO_CYCLES


class QueueBuffer(wiring.Signature):
    """A queue holds one more buffer in advance: ``strobe`` for one cycle with the pool's ``id`` of it."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues)), "id": Out(range(config.pool_buffers))})


class _Grant(data.StructLayout):
    """Who a buffer is for: a queue, or software that takes it."""

    def __init__(self, config: NicConfig):
        super().__init__({"queue": range(config.queues), "take": 1})


class RecycleSupply(wiring.Component):
    """Take buffers from the free lists for queues that hold fewer than ``config.recycle_ahead`` of them.

    ::

        arbiter ─► pop ─► free list ─► pool table ─► FIFO ─► supply

    Queues take turns, one grant a cycle, of one queue or of many; no queue has more than ``recycle_ahead`` buffers
    granted and not given to frames. A grant's entry is on ``supply`` :data:`SUPPLY_CYCLES` later, where nothing waits
    there; entries of a queue come in the order of its pool's list. At most 16 are under way, so ``supply`` may pause.

    A buffer that software takes goes first, and does not ask whether the pool is ``open``.

    Members
    -------
    enable, supplied : queues that take frames, and whose pool gives buffers
    pools : of each queue, its number
    some, open : pools whose list is not empty, as of a few cycles before; that may let out one more, which knows of a
        grant in the next cycle
    granted, missed : a buffer of a pool was granted, in this cycle; it was not there
    pop, popped : to and from the free list
    table_write : a buffer joins
    supply : stream of :class:`hw.nic.recycle.interfaces.SuppliedBuffer`; ``held`` tells of its transfers
    supplying : queues that get a buffer soon, without software's doing: one is under way, or due and there; it holds
        for two cycles after the last one was accepted
    held : a queue holds one more buffer
    given, unused : buffers left a queue: for a frame; back to the pool
    ahead : queues that have buffers granted and not left, from a register
    take : software's requests; each is answered when its buffer is taken from ``took``, or with it missing
    took : buffers that software took
    """

    def __init__(self, config: NicConfig):
        self._config = config
        queue = range(config.queues)
        super().__init__(
            {
                "enable": In(config.queues),
                "supplied": In(config.queues),
                "pools": In(PoolOfQueue(config)),
                "some": In(config.pools),
                "open": In(config.pools),
                "granted": Out(PoolEvent(config)),
                "missed": Out(PoolEvent(config)),
                "pop": Out(Pop(config)),
                "popped": In(Popped(config)),
                "table_write": In(TableWrite(config)),
                "supply": Out(stream.Signature(SuppliedBuffer(config))),
                "supplying": Out(config.queues),
                "held": Out(QueueBuffer(config)),
                "given": In(DescriptorTake(config)),
                "unused": In(wiring.Signature({"strobe": Out(1), "queue": Out(queue)})),
                "ahead": Out(config.queues),
                "take": In(TakePort(config)),
                "took": Out(stream.Signature(BufferName(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.table = table = PoolTable(config)
        m.submodules.fifo = fifo = StreamFifo(SuppliedBuffer(config), _FIFO)
        connect(m, table.write, flipped(self.table_write))
        connect(m, fifo.output, flipped(self.supply))
        due, granted = Signal(config.queues), Signal(config.queues)
        grant = self._grant(m, due, granted)
        self._count(m, due, granted, grant)
        self._take(m, grant)

        popped = self.popped
        step = data.StructLayout({"valid": 1, "queue": range(config.queues), "id": range(config.pool_buffers)})
        steps = [Signal(step, name=f"step_{i}") for i in range(_TABLE_CYCLES + 1)]
        for before, after in pairwise(steps):
            m.d.sync += after.eq(before)
        found, known = steps[0], steps[-1]
        entry = fifo.input.payload.entry
        m.d.comb += [
            self.missed.strobe.eq(popped.strobe & ~popped.valid),
            self.missed.pool.eq(popped.buffer.pool),
            self.missed.count.eq(1),
            table.buffer.eq(popped.buffer),
            found.valid.eq(popped.strobe & popped.valid & ~grant.take),
            found.queue.eq(grant.queue),
            found.id.eq(popped.buffer.id),
            fifo.input.valid.eq(known.valid),
            fifo.input.payload.queue.eq(known.queue),
            entry.address.eq(table.entry.address),
            entry.length.eq(table.entry.length),
            entry.buffer_id.eq(known.id),
            self.held.strobe.eq(self.supply.valid & self.supply.ready),
            self.held.queue.eq(self.supply.payload.queue),
            self.held.id.eq(self.supply.payload.entry.buffer_id),
        ]
        return m

    def _grant(self, m: Module, due: Signal, granted: Signal) -> data.View:
        """Grant a buffer to one of the queues that are ``due``, or to software, and pop it; whose the popped one is."""
        config = self._config
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        take, takes = self.take.request, Signal()
        m.d.comb += [
            arbiter.requests.eq(due),
            takes.eq(take.valid & take.ready),
            arbiter.taken.eq(~takes),
            granted.eq(Mux(arbiter.valid & ~takes, 1 << arbiter.grant, 0)),
            self.granted.strobe.eq(takes | arbiter.valid),
            self.granted.pool.eq(Mux(takes, take.payload.pool, self.pools[arbiter.grant])),
            self.granted.count.eq(1),
        ]
        asked = [Signal(_Grant(config), name=f"asked_{i}") for i in range(POP_CYCLES + 1)]
        m.d.sync += [
            self.pop.strobe.eq(self.granted.strobe),
            self.pop.pool.eq(self.granted.pool),
            asked[0].queue.eq(arbiter.grant),
            asked[0].take.eq(takes),
        ]
        for before, after in pairwise(asked):
            m.d.sync += after.eq(before)
        return asked[-1]

    def _count(self, m: Module, due: Signal, granted: Signal, grant: data.View) -> None:
        """Count the buffers that each queue has in advance, and those of them that are under way; who is ``due``."""
        config = self._config
        flying, room = Signal(range(_FIFO + 1)), Signal()
        missed = Signal()
        m.d.comb += missed.eq(self.missed.strobe & ~grant.take)
        m.d.sync += [
            flying.eq(flying + granted.any() - missed - self.held.strobe),
            room.eq(flying < _FIFO - _SPARE),
        ]
        for q in range(config.queues):
            count = Signal(range(config.recycle_ahead + 1), name=f"count_{q}")
            left = Signal(range(config.recycle_ahead + 3), name=f"left_{q}")
            under_way = Signal.like(flying, name=f"under_way_{q}")
            few, there, missing, put, came = (
                Signal(name=f"{name}_{q}") for name in ("few", "there", "missing", "put", "came")
            )
            pool = self.pools[q]
            m.d.comb += [
                few.eq(~count[-1]),
                there.eq(self.some.bit_select(pool, 1) & self.open.bit_select(pool, 1)),
                due[q].eq(self.enable[q] & self.supplied[q] & few & there & room),
                missing.eq(missed & (grant.queue == q)),
                put.eq(self.held.strobe & (self.held.queue == q)),
            ]
            given = Mux(self.given.strobe & (self.given.queue == q), self.given.count, 0)
            m.d.sync += [
                left.eq(given + missing + (self.unused.strobe & (self.unused.queue == q))),
                count.eq(count + granted[q] - left),
                under_way.eq(under_way + granted[q] - missing - put),
                came.eq(put),
                self.ahead[q].eq((count != 0) | granted[q]),
                self.supplying[q].eq(self.enable[q] & self.supplied[q] & ((under_way != 0) | came | (few & there))),
            ]

    def _take(self, m: Module, grant: data.View) -> None:
        """Answer software."""
        taking, taken, missing = Signal(), Signal(), Signal()
        answer, request = self.take.answer, self.take.request
        m.d.comb += [
            request.ready.eq(~taking),
            taken.eq(self.took.valid & self.took.ready),
            missing.eq(self.popped.strobe & grant.take & ~self.popped.valid),
        ]
        with m.If(request.valid & request.ready):
            m.d.sync += taking.eq(1)
        with m.Elif(taken | missing):
            m.d.sync += taking.eq(0)
        with m.If(self.popped.strobe & grant.take):
            m.d.sync += [self.took.valid.eq(self.popped.valid), self.took.payload.eq(self.popped.buffer)]
        with m.Elif(taken):
            m.d.sync += self.took.valid.eq(0)
        m.d.sync += [
            answer.strobe.eq(taken | missing),
            answer.empty.eq(missing),
            answer.id.eq(self.took.payload.id),
        ]
