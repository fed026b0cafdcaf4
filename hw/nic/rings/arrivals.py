# SPDX-License-Identifier: BSD-2-Clause
"""Fetched descriptors, one after the other."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.abi.rings import ENTRY_BYTES, LINE_BYTES
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import Bytes, DescriptorArrival

_ENTRY_BITS = 8 * ENTRY_BYTES


class DescriptorArrivals(wiring.Component):
    """Turn the beats of fetches into descriptors, one a cycle (every second cycle where a beat holds half of one).

    The descriptors of a fetch arrive in order once all of it has come, the first of them six cycles after the last
    beat. A fetch that was answered with an error is reported in its place, and none of its descriptors arrives. Nothing
    of a queue that is not live arrives or is reported. ``beats`` is never paused: there is room for
    ``outstanding_reads`` fetches of a line each, from their command to their ``finish``.

    Members
    -------
    beats : stream of the fetches' bytes
    queue : whose the fetch is that ``beats`` belongs to
    live : queues whose descriptors are wanted
    arrived : descriptors, as in :class:`hw.nic.interfaces.DescriptorPort`
    finish, finish_queue : with the cycle after, the last descriptor of a fetch has arrived, or it has been reported
    failed, failed_queue : a fetch was answered with an error, for one cycle
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._wide = max(1, config.beat_bytes // ENTRY_BYTES)  # descriptors in a beat
        super().__init__(
            {
                "beats": In(stream.Signature(Bytes(config))),
                "queue": In(range(config.queues)),
                "live": In(config.queues),
                "arrived": Out(DescriptorArrival(config)),
                "finish": Out(1),
                "finish_queue": Out(range(config.queues)),
                "failed": Out(1),
                "failed_queue": Out(range(config.queues)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        stored = data.StructLayout(
            {
                "data": config.data_width,
                "more": range(self._wide),  # descriptors behind the first
                "queue": range(config.queues),
                "last": 1,
                "failed": 1,
            }
        )
        depth = config.outstanding_reads * (LINE_BYTES // config.beat_bytes)
        m.submodules.fifo = fifo = CommitFifo(stored, max(2, 1 << ceil_log2(depth)))
        come, beat, queue = Signal(), Signal(Bytes(config)), Signal(range(config.queues))
        fails = Signal()
        m.d.sync += [come.eq(self.beats.valid), beat.eq(self.beats.payload), queue.eq(self.queue)]
        m.d.comb += [
            self.beats.ready.eq(1),
            fails.eq(beat.last & beat.error),
            fifo.push.eq(come),
            fifo.commit.eq(come & beat.last),
            fifo.rewind.eq(come & fails),
            fifo.payload.data.eq(beat.data),
            fifo.payload.queue.eq(queue),
            fifo.payload.last.eq(beat.last),
            fifo.payload.failed.eq(fails),
            fifo.payload.more.eq(Mux(fails, 0, beat.count[ceil_log2(ENTRY_BYTES) :] - 1)),
        ]

        part, entry, here, ends = (self._split if config.data_width >= _ENTRY_BITS else self._gather)(m, stored, fifo)
        wanted = Signal()
        m.d.comb += [
            wanted.eq(here & self.live.bit_select(part.queue, 1)),
            self.finish.eq(here & ends),
            self.finish_queue.eq(part.queue),
            self.failed.eq(wanted & part.failed),
            self.failed_queue.eq(part.queue),
        ]
        m.d.sync += [
            self.arrived.strobe.eq(wanted & ~part.failed),
            self.arrived.queue.eq(part.queue),
            self.arrived.entry.eq(entry),
        ]
        return m

    def _split(self, m: Module, stored: data.Layout, fifo: CommitFifo) -> tuple[Any, Value, Value, Value]:
        """Each beat's descriptors, the lowest first."""
        held, holding, ends = Signal(stored), Signal(), Signal()
        m.d.comb += [ends.eq(held.more == 0), fifo.output.ready.eq(~holding | ends)]
        with m.If(fifo.output.ready):
            m.d.sync += [holding.eq(fifo.output.valid), held.eq(fifo.output.payload)]
        with m.Else():
            m.d.sync += [held.data.eq(held.data >> _ENTRY_BITS), held.more.eq(held.more - 1)]
        return held, held.data[:_ENTRY_BITS], holding, held.last & ends

    def _gather(self, m: Module, stored: data.Layout, fifo: CommitFifo) -> tuple[Any, Value, Value, Value]:
        """A descriptor of two beats."""
        part = fifo.output.payload
        low, second = Signal(_ENTRY_BITS // 2), Signal()
        m.d.comb += fifo.output.ready.eq(1)
        with m.If(fifo.output.valid):
            m.d.sync += [low.eq(part.data), second.eq(~second & ~part.failed)]
        return part, Cat(low, part.data), fifo.output.valid & (second | part.failed), part.last
