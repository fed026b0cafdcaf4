# SPDX-License-Identifier: BSD-2-Clause
"""Fill descriptors that hand buffers back to pools."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import ENTRIES_PER_LINE, FillDescriptor
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.in_flight import InFlight
from hw.nic.interfaces import DescriptorArrival
from hw.nic.recycle.interfaces import ReturnedBuffer


class PooledFills(wiring.Component):
    """Part the fill descriptors of queues with a pool from others, and hold them until they are claimed.

    A descriptor is at ``kept`` or ``left`` the cycle after it was at ``fetched``. One that left is at ``fills`` four
    cycles later; they keep their order, one a cycle.

    Room is kept for a whole line from when it is asked for, so that nothing fetched ever waits: ``fetch_depth`` fills
    of all queues together are on their way or here. While they are not claimed, no more of them are fetched, and those
    of queues without a pool are.

    Members
    -------
    pooled : queues that have a pool; it changes only while the queue is neither enabled nor busy
    wanted : queues with a pool whose fills are to be fetched; the last command may come two cycles after the last one
        in which it was high
    fetches : queues of which fetches may be commanded, of others than ``pooled`` always
    issued, issued_queue, finish, finish_queue : of fetches, as in :class:`hw.nic.rings.fetch_requests.FetchRequests`;
        ``issued`` is at least four cycles apart
    fetched : descriptors of all queues
    kept : those of queues without a pool
    left : those of queues with a pool, of which only ``buffer_id`` counts: one is handed back
    fills : stream of :class:`hw.nic.recycle.interfaces.ReturnedBuffer`
    busy : queues with fills here, as :class:`hw.nic.in_flight.InFlight` tells it, since ``left``
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "pooled": In(config.queues),
                "wanted": In(config.queues),
                "fetches": Out(config.queues),
                "issued": In(1),
                "issued_queue": In(range(config.queues)),
                "finish": In(1),
                "finish_queue": In(range(config.queues)),
                "fetched": In(DescriptorArrival(config)),
                "kept": Out(DescriptorArrival(config)),
                "left": Out(wiring.Signature({"strobe": Out(1), "queue": Out(range(config.queues))})),
                "fills": Out(stream.Signature(ReturnedBuffer(config))),
                "busy": Out(config.queues),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, depth, line = self._config, self._config.fetch_depth, ENTRIES_PER_LINE
        m.submodules.fifo = fifo = CommitFifo(ReturnedBuffer(config), depth)
        m.submodules.in_flight = in_flight = InFlight(config.queues, depth)
        fetched, kept, left = self.fetched, self.kept, self.left
        pooled, claimed = self.pooled.bit_select(fetched.queue, 1), Signal()
        fill = data.View(FillDescriptor, kept.entry)
        wiring.connect(m, fifo.output, wiring.flipped(self.fills))
        m.d.sync += [
            kept.strobe.eq(fetched.strobe & ~pooled),
            kept.queue.eq(fetched.queue),
            kept.entry.eq(fetched.entry),
            left.strobe.eq(fetched.strobe & pooled),
            left.queue.eq(fetched.queue),
        ]
        m.d.comb += [
            claimed.eq(self.fills.valid & self.fills.ready),
            fifo.push.eq(left.strobe),
            fifo.commit.eq(left.strobe),
            fifo.payload.queue.eq(left.queue),
            fifo.payload.buffer_id.eq(fill.buffer_id),
            in_flight.start.eq(left.strobe),
            in_flight.start_queue.eq(left.queue),
            in_flight.start_count.eq(1),
            in_flight.finish.eq(claimed),
            in_flight.finish_queue.eq(self.fills.payload.queue),
            self.busy.eq(in_flight.busy),
        ]

        # Fills that are here, and a line for each fetch under way: until the last that it brought is among the former.
        used = Signal(range(depth + line))
        begins, ends, over = Signal(), Signal(), Signal()
        m.d.sync += [
            begins.eq(self.issued & self.pooled.bit_select(self.issued_queue, 1)),
            ends.eq(self.finish & self.pooled.bit_select(self.finish_queue, 1)),
            over.eq(ends),
            used.eq(used + (Mux(begins, line, 0) - Mux(over, line, 0) + left.strobe - claimed)),
            self.fetches.eq(~self.pooled | Mux(used <= depth - line, self.wanted, 0)),
        ]
        return m
