# SPDX-License-Identifier: BSD-2-Clause
"""Recycling as a whole: all pools, between RX, TX and the registers."""

from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.pools import RecycleSource
from hw.abi.rings import DropReason
from hw.bus.join import join
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import DescriptorTake, QueueControl, QueueWrite
from hw.nic.interrupts import VECTOR_BITS
from hw.nic.recycle.commands import PoolCommands
from hw.nic.recycle.interfaces import (
    BufferEvent,
    Claim,
    DeliveredBuffer,
    PoolWrite,
    ReturnedBuffer,
    SuppliedBuffer,
    Verdict,
    claim_stream,
)
from hw.nic.recycle.lifecycle import PoolLifecycle
from hw.nic.recycle.limits import PoolLimits
from hw.nic.recycle.low_water import LowWater
from hw.nic.recycle.misuse import MisuseRecord
from hw.nic.recycle.overdue import Overdue
from hw.nic.recycle.queue_pools import PoolOfQueue, QueuePools
from hw.nic.recycle.recycle_fifo import RecycleFifo
from hw.nic.recycle.return_words import ReturnWords
from hw.nic.recycle.steady_state import SteadyState
from hw.nic.recycle.supply import RecycleSupply
from hw.nic.recycle.unused import UnusedBuffers
from hw.nic.register_block import register_layout
from hw.nic.register_set import pool_registers
from hw.nic.stats.events import QueueRxEvent

_LIMITED_LONGER = 5  #: cycles that a queue is limited, from each in which its pool is
TAKEN = 255  #: owner of a buffer that software took


def pool_values(config: NicConfig) -> data.StructLayout:
    """Registers of a pool whose value the hardware gives."""
    return data.StructLayout({name: register_layout(r) for name, r in pool_registers(config).items() if r.hardware})


class Recycler(wiring.Component):
    """All pools of the NIC: see :mod:`hw.nic.recycle` for how its parts relate.

    A buffer that RX delivers is out three cycles later, before its completion can be seen. One that is handed back can
    go to RX again some dozen cycles later. Fill descriptors are fetched while fewer than ``config.recycle_ahead``
    buffers are free, or the pool's limit or loop lets none of them out.

    **Stopping.** A queue is ``busy`` while it holds buffers in advance. When it is not enabled any more and RX is done
    with it (``rx_busy``), they go back to their pool. Buffers of which software has not heard by a completion are out
    all the same: of a stopped queue software asks for each (QUERY), and hands back what it finds out and does not have.

    **Reset.** A function reset forgets all pools, when no DMA is under way any more.

    Members
    -------
    queue_write, write : register writes to queues' pages, and to pools'
    control : of the RX queues, see :class:`hw.nic.interfaces.QueueControl`
    rx_busy : RX queues for which frames are judged or moved
    pooled, wanted, fills, supply, supplying : see :class:`hw.nic.rings.descriptor_fetch.DescriptorFetch`
    existing, pools : queues that have a pool, and its number: see :class:`hw.nic.recycle.queue_pools.QueuePools`
    given : buffers left the descriptor cache for a frame
    delivered : buffers of which completions tell
    dropped : RX frames that were dropped
    refused, limited : see :class:`hw.nic.rx.planner.RxPlanner`
    tx_claims, verdict, returned : see :class:`hw.nic.tx.path.TxPath`
    hold, interrupt : low-water messages, see :class:`hw.nic.recycle.low_water.LowWater`
    read, values : a pool, and in the next cycle its registers, see :func:`pool_values`
    returns_full, command_busy : see :class:`hw.nic.register_block.RegisterBlock`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        queues = config.queues
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "write": In(PoolWrite(config)),
                "control": In(QueueControl(config)),
                "rx_busy": In(queues),
                "pooled": Out(queues),
                "existing": Out(queues),
                "pools": Out(PoolOfQueue(config)),
                "wanted": Out(queues),
                "fills": In(stream.Signature(ReturnedBuffer(config))),
                "supply": Out(stream.Signature(SuppliedBuffer(config))),
                "supplying": Out(queues),
                "given": In(DescriptorTake(config)),
                "delivered": In(DeliveredBuffer(config)),
                "dropped": In(QueueRxEvent(config)),
                "refused": Out(queues),
                "limited": Out(queues),
                "tx_claims": In(claim_stream(config)),
                "verdict": Out(Verdict(config)),
                "returned": In(BufferEvent(config)),
                "hold": In(1),
                "interrupt": Out(stream.Signature(VECTOR_BITS)),
                "read": In(range(config.pools)),
                "values": Out(pool_values(config)),
                "returns_full": Out(1),
                "command_busy": Out(config.pools),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.lifecycle = lifecycle = PoolLifecycle(config)
        m.submodules.fifo = fifo = RecycleFifo(config)
        m.submodules.supply = supply = RecycleSupply(config)
        m.submodules.unused = unused = UnusedBuffers(config)
        m.submodules.limits = limits = PoolLimits(config)
        m.submodules.steady_state = steady_state = SteadyState(config)
        m.submodules.low_water = low_water = LowWater(config)
        m.submodules.commands = commands = PoolCommands(config)
        m.submodules.misuse = misuse = MisuseRecord(config)
        m.submodules.overdue = overdue = Overdue(config)
        m.submodules.queue_pools = queues = QueuePools(config)
        join(m, flipped(self.queue_write), queues.write)
        for block in (lifecycle, limits, steady_state, low_water, commands, misuse, overdue):
            join(m, flipped(self.write), block.write)
        for block in (fifo, limits, steady_state, low_water, commands, misuse, overdue):
            m.d.comb += block.clear.eq(lifecycle.clear)
        for source, sink in (
            (commands.requests, fifo.commands),
            (overdue.requests, fifo.scans),
            (commands.owners, overdue.questions),
            (commands.take, supply.take),
            (commands.table, supply.table_write),
            (commands.refused, misuse.command),
            (fifo.verdict, misuse.verdict),
            (steady_state.bounds, limits.bounds),
            (unused.unused, fifo.unused),
            (supply.held, unused.held),
            (unused.left, supply.unused),
            (supply.pop, fifo.pop),
            (fifo.popped, supply.popped),
        ):
            join(m, source, sink)
        for inner, outer in (
            (supply.supply, self.supply),
            (fifo.tx_claims, self.tx_claims),
            (fifo.verdict, self.verdict),
            (fifo.returned, self.returned),
            (low_water.interrupt, self.interrupt),
        ):
            join(m, inner, flipped(outer))
        self._manage(m, lifecycle, fifo, limits, steady_state, low_water, commands, overdue)
        self._claim(m, fifo, queues)
        self._follow_rx(m, fifo, supply, unused, overdue, queues)
        self._tell_queues(m, fifo, supply, unused, limits, lifecycle, queues)
        self._count(m, fifo, supply, unused, limits, queues)
        self._show(m, lifecycle, fifo, limits, commands, misuse, overdue)
        return m

    def _manage(self, m, lifecycle, fifo, limits, steady_state, low_water, commands, overdue) -> None:
        """States of pools, and what follows from them."""
        idle = Signal(self._config.pools)
        for pool in range(self._config.pools):
            # Whatever is anywhere else is not on the free list.
            m.d.sync += idle[pool].eq(fifo.free[pool] == fifo.joined[pool])
        m.d.comb += [
            fifo.lifo.eq(lifecycle.lifo),
            lifecycle.clearing.eq(fifo.clearing),
            lifecycle.idle.eq(idle),
            *(block.live.eq(lifecycle.live) for block in (fifo, commands, overdue)),
            *(block.enabled.eq(lifecycle.enabled) for block in (fifo, commands)),
            steady_state.counts.eq(limits.counts),
            steady_state.refused.eq(limits.refused),
            low_water.free.eq(fifo.free),
            low_water.hold.eq(self.hold),
            self.command_busy.eq(commands.busy),
        ]

    def _claim(self, m, fifo, queues) -> None:
        """Claims of return registers and of fill descriptors, in turns."""
        m.submodules.return_words = words = ReturnWords(self._config)
        m.submodules.claims = claims = SkidBuffer(Claim(self._config))
        join(m, flipped(self.write), words.write)
        connect(m, claims.output, fifo.claims)
        fill, last, fills = self.fills.payload, Signal(), Signal()  # whether the last one was a fill's
        m.d.comb += [
            self.returns_full.eq(words.full),
            fills.eq(self.fills.valid & ~(words.claims.valid & last)),
            claims.input.valid.eq(self.fills.valid | words.claims.valid),
            claims.input.payload.eq(words.claims.payload),
            self.fills.ready.eq(claims.input.ready & fills),
            words.claims.ready.eq(claims.input.ready & ~fills),
        ]
        with m.If(fills):
            m.d.comb += [
                claims.input.payload.pool.eq(queues.pools[fill.queue]),
                claims.input.payload.id.eq(fill.buffer_id),
                claims.input.payload.queue.eq(fill.queue),
                claims.input.payload.source.eq(RecycleSource.FILL),
            ]
        with m.If(claims.input.valid & claims.input.ready):
            m.d.sync += last.eq(fills)

    def _follow_rx(self, m, fifo, supply, unused, overdue, queues) -> None:
        """Buffers go to frames, and on to software; software takes one where RX delivers none."""
        delivered, given = self.delivered, self.given
        pool = queues.pools[delivered.queue]
        out, owner = fifo.delivered, Signal(8)
        ours = Signal()
        m.d.comb += [
            ours.eq(delivered.strobe & queues.existing.bit_select(delivered.queue, 1)),
            supply.took.ready.eq(~ours),
            *(
                sink.strobe.eq(given.strobe & queues.existing.bit_select(given.queue, 1))
                for sink in (supply.given, unused.given)
            ),
            *(sink.queue.eq(given.queue) for sink in (supply.given, unused.given)),
            *(sink.count.eq(given.count) for sink in (supply.given, unused.given)),
            overdue.handed_over.strobe.eq(out.strobe),
            overdue.handed_over.buffer.eq(out.buffer),
            overdue.handed_over.owner.eq(owner),
        ]
        strobe, buffer = Signal(), Signal.like(out.buffer)
        m.d.sync += [
            strobe.eq(ours | supply.took.valid),
            buffer.pool.eq(Mux(ours, pool, supply.took.payload.pool)),
            buffer.id.eq(Mux(ours, delivered.buffer_id, supply.took.payload.id)),
            owner.eq(Mux(ours, delivered.queue, TAKEN)),
        ]
        m.d.comb += [out.strobe.eq(strobe), out.buffer.eq(buffer)]

    def _tell_queues(self, m, fifo, supply, unused, limits, lifecycle, queues) -> None:
        """What each queue's pool means for it."""
        some = Signal(self._config.pools)  # buffers are free
        wanted = Signal(self._config.pools)  # what fill descriptors hand back
        for pool in range(self._config.pools):
            # Where the limit keeps buffers from frames, however many are free, only those that come back let more out.
            few = fifo.free[pool] < self._config.recycle_ahead
            m.d.sync += [
                some[pool].eq(fifo.free[pool] != 0),
                wanted[pool].eq(few | limits.limited[pool]),
            ]
        m.d.comb += [
            queues.enabled.eq(lifecycle.enabled),
            supply.enable.eq(self.control.enable),
            supply.supplied.eq(queues.supplied),
            supply.pools.eq(queues.pools),
            supply.some.eq(some),
            supply.open.eq(limits.open),
            unused.pools.eq(queues.pools),
            unused.stopping.eq(queues.existing & ~self.control.enable & ~self.rx_busy),
            self.pooled.eq(queues.pooled),
            self.existing.eq(queues.existing),
            self.pools.eq(queues.pools),
            self.supplying.eq(supply.supplying),
            self.control.busy.eq(supply.ahead),
        ]
        # Of what the loop lets out again nobody is to hear before buffers are known to be on their way.
        limited = [Signal(self._config.queues, name=f"limited_{age}") for age in range(_LIMITED_LONGER)]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(limited)]
        m.d.comb += self.limited.eq(reduce(or_, limited))
        for queue in range(self._config.queues):
            pool = queues.pools[queue]
            for told, says in ((self.wanted, wanted), (self.refused, limits.refused), (limited[0], limits.limited)):
                m.d.sync += told[queue].eq(queues.supplied[queue] & says.bit_select(pool, 1))

    def _count(self, m, fifo, supply, unused, limits, queues) -> None:
        """All that happens to the buffers of each pool."""
        given, dropped = self.given, self.dropped
        limit_drop = Signal()
        m.d.comb += limit_drop.eq(dropped.strobe & dropped.dropped & (dropped.reason == DropReason.POOL_LIMIT))
        events: tuple[tuple[str, Value, Value], ...] = (
            ("granted", supply.granted.strobe, supply.granted.pool),
            ("missed", supply.missed.strobe, supply.missed.pool),
            ("unused", unused.left.strobe, unused.unused.payload.pool),
            ("given", supply.given.strobe, queues.pools[given.queue]),
            ("taken", supply.took.valid & supply.took.ready, supply.took.payload.pool),
            ("handed_back", fifo.handed_back.strobe, fifo.handed_back.pool),
            ("returned", self.returned.strobe, self.returned.buffer.pool),
            ("removed", fifo.removed.strobe, fifo.removed.pool),
            ("dropped", limit_drop & queues.existing.bit_select(dropped.queue, 1), queues.pools[dropped.queue]),
        )
        for name, strobe, pool in events:
            event = getattr(limits, name)
            m.d.comb += [event.strobe.eq(strobe), event.pool.eq(pool), event.count.eq(1)]
        m.d.comb += limits.given.count.eq(given.count)

    def _show(self, m, lifecycle, fifo, limits, commands, misuse, overdue) -> None:
        """A pool's registers."""
        pool, values = self.read, self.values
        m.d.sync += [
            values.status.state.eq(lifecycle.state[pool]),
            values.status.closed.eq(limits.refused.bit_select(pool, 1)),
            values.buffers.free.eq(fifo.free[pool]),
            values.buffers.joined.eq(fifo.joined[pool]),
            values.outstanding.outstanding.eq(limits.counts[pool].outstanding),
            values.outstanding.ahead.eq(limits.counts[pool].ahead),
            values.loop_status.limit.eq(limits.loop_status[pool].limit),
            values.loop_status.closings.eq(limits.loop_status[pool].closings),
            values.result.eq(commands.result[pool]),
            values.misuse.eq(misuse.offender[pool]),
            values.misuse_count.refused.eq(misuse.refused[pool]),
            values.misuse_count.overdue.eq(overdue.overdue[pool]),
        ]
