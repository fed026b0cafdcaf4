# SPDX-License-Identifier: BSD-2-Clause
"""Whose frame is next."""

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.queue_memory import QueueMemory
from hw.nic.tx.framer import FramedFrame, FrameRecord
from hw.nic.tx.slot_gate import AdmittedFrames


class NextFrame(data.StructLayout):
    """A frame that has its turn: its ``queue`` and ``record``; ``stopped`` if the queue was not enabled at some time
    since it was chosen, and then its record is nobody's."""

    def __init__(self, config: NicConfig):
        super().__init__({"queue": range(config.queues), "record": FrameRecord(config), "stopped": 1})


def is_stopped(frame: data.View, enable: Signal) -> ValueLike:
    """The frame's queue is not enabled, now or since the frame was chosen."""
    return frame.stopped | ~enable.bit_select(frame.queue, 1)


class FrameTurns(wiring.Component):
    """Keep each queue's frames in order, and hand out admitted ones by turns.

    Turns go round among the queues that are enabled and have admitted frames, a frame each. A queue without costs no
    turn, and one that gets a frame has its turn after at most one of each other.

    A frame is chosen the cycle after it was admitted and is on ``next`` three cycles later, with those chosen in
    between; one frame a cycle, of one queue or many. All move together: ``next.ready`` may come late in the cycle.

    Members
    -------
    enable, clear : as in :class:`hw.nic.interfaces.QueueControl`
    open : frames may be chosen
    framed : frames; each queue has room for as many as its cache has descriptors
    admitted : how many more of them may be taken
    next : stream of :class:`NextFrame`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "enable": In(config.queues),
                "clear": In(config.queues),
                "open": In(1),
                "framed": In(FramedFrame(config)),
                "admitted": In(AdmittedFrames(config)),
                "next": Out(stream.Signature(NextFrame(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        index_bits = exact_log2(config.fetch_depth)
        # A record is read some cycles after it was written at the earliest.
        m.submodules.records = records = Memory(
            shape=FrameRecord(config), depth=config.queues * config.fetch_depth, init=[], attrs={"no_rw_check": 1}
        )
        write, read = records.write_port(), records.read_port()
        m.d.comb += [
            write.en.eq(self.framed.strobe),
            write.addr.eq(Cat(self.framed.place, self.framed.queue)),
            write.data.eq(self.framed.record),
        ]

        moves = Signal()
        m.d.comb += moves.eq(~self.next.valid | self.next.ready)

        # What is chosen in a cycle is counted in the next, so it needs a second frame to be chosen again.
        chosen, may_choose, ready = Signal(config.queues), Signal(config.queues), Signal(config.queues)
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        m.d.comb += [arbiter.requests.eq(ready), arbiter.taken.eq(moves)]
        m.d.sync += [may_choose.eq(Mux(self.open, self.enable, 0)), chosen.eq(0)]
        with m.If(moves & arbiter.valid):
            m.d.sync += chosen.eq(1 << arbiter.grant)
        for q in range(config.queues):
            count = Signal(range(config.fetch_depth + 1), name=f"count_{q}")
            some, more = Signal(name=f"some_{q}"), Signal(name=f"more_{q}")
            m.d.comb += [
                some.eq(count != 0),
                more.eq(count[1:] != 0),
                ready[q].eq(may_choose[q] & Mux(chosen[q], more, some)),
            ]
            added = Signal.like(self.admitted.count, name=f"added_{q}")
            m.d.comb += added.eq(Mux(self.admitted.strobe & (self.admitted.queue == q), self.admitted.count, 0))
            m.d.sync += count.eq(count + added - chosen[q])
            with m.If(self.clear[q]):
                m.d.sync += count.eq(0)

        # The record's place is looked up, its memory read, and a register takes what it gives.
        m.submodules.heads = heads = QueueMemory(index_bits, config.queues)
        step = data.StructLayout({"valid": 1, "stopped": 1, "queue": range(config.queues)})
        placed, found, shown = (Signal(step, name=n) for n in ("placed", "found", "shown"))
        record = Signal(FrameRecord(config), reset_less=True)
        m.d.comb += [
            heads.clear.eq(self.clear),
            heads.read_queue.eq(placed.queue),
            heads.write_enable.eq(placed.valid & ~placed.stopped & moves),
            heads.write_queue.eq(placed.queue),
            heads.write_value.eq(heads.value + 1),
            read.addr.eq(Cat(heads.value, placed.queue)),
            read.en.eq(moves),
            self.next.valid.eq(shown.valid),
            self.next.payload.queue.eq(shown.queue),
            self.next.payload.record.eq(record),
            self.next.payload.stopped.eq(shown.stopped),
        ]
        with m.If(moves):
            m.d.sync += [
                placed.valid.eq(arbiter.valid),
                placed.queue.eq(arbiter.grant),
                placed.stopped.eq(0),
                record.eq(read.data),
            ]
        for earlier, later in ((placed, found), (found, shown)):
            with m.If(moves):
                m.d.sync += [later.eq(earlier), later.stopped.eq(is_stopped(earlier, self.enable))]
            with m.Else():
                m.d.sync += later.stopped.eq(is_stopped(later, self.enable))
        with m.If(~moves):
            m.d.sync += placed.stopped.eq(is_stopped(placed, self.enable))
        return m
