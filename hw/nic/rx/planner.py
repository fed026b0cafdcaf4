# SPDX-License-Identifier: BSD-2-Clause
"""Buffers for each frame, all of them or none."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import QueueError
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import CompletionSlots, DescriptorPort, QueueWrite, TracePoint, queue_fault_stream
from hw.nic.rings.faults import QueueFaults
from hw.nic.rx.decision import RxDecision
from hw.nic.rx.fill_supply import FillSupply
from hw.nic.rx.frame_window import FrameWindow
from hw.nic.rx.header_split import RxHeaderSplit
from hw.nic.rx.layouts import PlannedSegment, Segment, SteeredFrame
from hw.nic.rx.lookups import RxLookups
from hw.nic.rx.slot_supply import SlotSupply
from hw.nic.stats.events import QueueRxEvent

_UNSEEN = 4  #: more than the lookups of which ``room`` does not know yet


class RxPlanner(wiring.Component):
    """Decide where a frame's bytes go, or that it is dropped.

    ::

        input ─► window ─► lookups ─► decision ─► segments ─► header split ─► output
                            │   ▲         │
                            ▼   │         ├─► take, reserve
                    fill and slot supply ◄┘

    The descriptors of the frame's queue are looked at until their lengths cover the frame. Only when it is decided, all
    of them leave the cache, as many completion slots are reserved, and the segments become visible, in one cycle;
    before that nothing has happened that would have to be undone.

    Where header split is built in, and register RX_HEADER of the queue lets it, a frame is split if its TCP or UDP
    header was recognised, all its headers fit a header buffer, and bytes are left behind them. Descriptors then cover
    only these, and a segment for the headers goes before theirs, which takes neither a descriptor nor a slot: see
    :class:`hw.nic.rx.header_split.RxHeaderSplit`.

    **Timing.** One frame a cycle is decided while each fits one buffer, of any queues, or is dropped at once; one that
    is split takes two cycles of the output. Its segment is committed seven cycles after the frame came, eight where
    header split is built in, whose output is four cycles later. Its descriptor is read before it is known what the
    frames before it take, on the guess that each takes one; a frame of n > 1 buffers refutes that, and takes 16 + 2n
    cycles, in which no other is decided.

    A frame is dropped, for the first of these that holds:

    - QUEUE_DISABLED, at once: its queue is not enabled, or does not exist, or has a descriptor of length 0. The latter
      also faults the queue with DESCRIPTOR_LENGTH, and holds for all of its frames until the queue is started again;
    - POOL_LIMIT, at once: its queue is ``refused``;
    - COMPLETION_FULL, at once: fewer slots are free than descriptors looked at;
    - NO_BUFFER: the cache has no further descriptor and no fetch of this queue is under way, or the frame has waited
      ``starvation`` cycles. Frames behind it, of all queues, wait with it. Of a queue that had a descriptor in the last
      dozen cycles the cache is waited for that long, to tell whether a fetch is due. If the queue is ``limited`` the
      reason is POOL_LIMIT, and only what is on the way already is waited for.

    A dropped frame leaves one segment with ``drop``, so that the packet buffer's words are freed in order.

    ``refused`` and ``limited`` may change in any cycle. Frames whose buffers leave the cache, or which are dropped, up
    to six cycles later may have been judged before: at most one in each of them. A frame of many buffers may be judged
    by both: it is dropped as soon as it must not have the next one.

    **Stopping.** A queue that is not enabled gives no more descriptors. ``busy``: some may be taken yet, of frames that
    were looked up before; ``clear`` must not come while it is high.

    Members
    -------
    enable, clear, busy : of the queues, as in :class:`hw.nic.interfaces.QueueControl`
    starvation : register TIMEOUTS, cycles
    input : stream of :class:`hw.nic.rx.layouts.SteeredFrame`; ``ready`` comes from a register
    descriptors, slots : the fill rings' cache and the completion rings' free slots
    output : stream of :class:`hw.nic.rx.layouts.Segment`, an entry every cycle
    fault : queues to stop
    event : frames dropped here, with their segment's commit
    dropped : trace point of those
    queue_write : only where header split is built in: register writes; those of the rings and RX_HEADER come only while
        the queue is neither enabled nor busy, here or behind the output
    refused, limited : only where ``config.pools`` is not 0: one bit per queue, whose pool lets no more buffers out.
        ``refused``: no frame gets a buffer. ``limited``: a frame gets what the cache has, or is on its way to it; it
        does not fall before ``descriptors.fetching`` tells of what is on the way since.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "enable": In(config.queues),
            "clear": In(config.queues),
            "busy": Out(config.queues),
            "starvation": In(16),
            "input": In(stream.Signature(SteeredFrame(config))),
            "descriptors": Out(DescriptorPort(config)),
            "slots": Out(CompletionSlots(config)),
            "output": Out(stream.Signature(Segment(config))),
            "fault": Out(queue_fault_stream(config)),
            "event": Out(QueueRxEvent(config)),
        }
        if config.header_split:
            members["queue_write"] = In(QueueWrite(config))
        if config.pools:
            members |= {"refused": In(config.queues), "limited": In(config.queues)}
        if config.serial_width:
            members["dropped"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.window = window = FrameWindow(config)
        m.submodules.lookups = lookups = RxLookups(config)
        m.submodules.buffers = buffers = FillSupply(config)
        m.submodules.free = free = SlotSupply(config)
        m.submodules.decision = decision = RxDecision(config)
        m.submodules.faults = faults = QueueFaults(config, sources=1)
        # Deep enough for the longest frame while the one before it is being moved.
        m.submodules.fifo = fifo = CommitFifo(PlannedSegment(config), 2 * config.fetch_depth)
        for inner, outer in (
            (window.input, self.input),
            (buffers.descriptors, self.descriptors),
            (free.slots, self.slots),
            (faults.faults, self.fault),
        ):
            connect(m, inner, flipped(outer))
        connect(m, decision.take, buffers.take, free.take)
        self._split(m, lookups, fifo)
        verdict = decision.verdict
        m.d.comb += [
            lookups.enable.eq(self.enable & ~faults.failed),
            lookups.starvation.eq(self.starvation),
            lookups.head_valid.eq(window.head_valid),
            lookups.head.eq(window.head),
            window.advance.eq(lookups.advance),
            lookups.buffers.eq(buffers.some),
            lookups.pending.eq(buffers.pending),
            lookups.slots.eq(free.some),
            buffers.lookup.eq(lookups.lookup),
            buffers.queue.eq(window.head.queue),
            buffers.enable.eq(self.enable & ~faults.failed),
            buffers.clear.eq(self.clear),
            free.lookup.eq(lookups.lookup),
            decision.lookup_valid.eq(lookups.output_valid),
            decision.lookup.eq(lookups.output),
            decision.entry.eq(buffers.entry),
            decision.free.eq(self.slots.free),
            lookups.many.eq(decision.many),
            *(block.restart.eq(decision.restart) for block in (window, lookups, buffers, free)),
            window.place.eq(decision.place),
            window.decided.eq(verdict.final),
            self.busy.eq(buffers.recent | lookups.waits),
            faults.clear.eq(self.clear),
            faults.reports[0].strobe.eq(decision.empty),
            faults.reports[0].queue.eq(verdict.queue),
            faults.reports[0].error.eq(QueueError.DESCRIPTOR_LENGTH),
            fifo.push.eq(verdict.valid),
            fifo.commit.eq(verdict.final),
            fifo.rewind.eq(verdict.first | verdict.drop),
            fifo.payload.address.eq(verdict.address),
            fifo.payload.length.eq(Mux(verdict.drop, window.aside.length, verdict.length)),
            fifo.payload.buffer_id.eq(verdict.buffer_id),
            fifo.payload.queue.eq(verdict.queue),
            fifo.payload.end_of_packet.eq(verdict.final),
            fifo.payload.drop.eq(verdict.drop),
            fifo.payload.split.eq(verdict.split & verdict.first & ~verdict.drop),
            fifo.payload.info.eq(window.aside.info),
            fifo.payload.serial.eq(window.aside.serial),
            self.event.strobe.eq(verdict.final & verdict.drop),
            self.event.dropped.eq(verdict.drop),
            self.event.queue.eq(verdict.queue),
            self.event.length.eq(window.aside.length),
            self.event.reason.eq(verdict.reason),
        ]
        self._keep_room(m, lookups, decision, fifo)
        if config.pools:
            m.d.comb += [buffers.refused.eq(self.refused), buffers.limited.eq(self.limited)]
            m.d.sync += [lookups.refused.eq(self.refused), lookups.limited.eq(self.limited)]
        if config.serial_width:
            m.d.comb += [
                self.dropped.strobe.eq(self.event.strobe),
                self.dropped.serial.eq(window.aside.serial),
                self.dropped.queue.eq(verdict.queue),
                self.dropped.detail.eq(verdict.reason),
            ]
        return m

    def _split(self, m: Module, lookups: RxLookups, fifo: CommitFifo) -> None:
        """Give headers segments of their own, where that is built in."""
        planned, output = fifo.output, self.output
        if not self._config.header_split:
            m.d.comb += [
                output.valid.eq(planned.valid),
                planned.ready.eq(output.ready),
                *(
                    output.payload[name].eq(planned.payload[name])
                    for name, _ in planned.payload.shape()
                    if name != "split"
                ),
            ]
            return
        m.submodules.split = split = RxHeaderSplit(self._config)
        connect(m, planned, split.input)
        connect(m, split.output, flipped(output))
        # Registers are written long before their queue is started, and come from far away.
        for listener in (lookups, split):
            for name in listener.queue_write.signature.members:
                m.d.sync += getattr(listener.queue_write, name).eq(getattr(self.queue_write, name))
        m.d.comb += split.clear.eq(self.clear)

    def _keep_room(self, m: Module, lookups: RxLookups, decision: RxDecision, fifo: CommitFifo) -> None:
        """Issue lookups only while there is room for the segment of each."""
        depth = 2 * self._config.fetch_depth
        # Segments that were or will be pushed and have not left: with the lookups under way, and without.
        ahead, kept = Signal(range(depth + 1)), Signal(range(depth + 1))
        issued, left = Signal(), Signal()
        m.d.sync += [
            issued.eq(lookups.issued),
            left.eq(fifo.output.valid & fifo.output.ready),
            kept.eq(kept + Mux(decision.verdict.final, decision.segments, 0) - left),
            ahead.eq(Mux(decision.restart, kept, ahead) + issued - left),
            lookups.room.eq(ahead < depth - _UNSEEN),
        ]
