# SPDX-License-Identifier: BSD-2-Clause
"""Buffers for each frame, all of them or none."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import DropReason, FillDescriptor, QueueError
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import (
    CompletionSlots,
    DescriptorPort,
    QueueRxEvent,
    TracePoint,
    queue_fault_stream,
)
from hw.nic.rx.layouts import Segment, SteeredFrame


class RxPlanner(wiring.Component):
    """Decide where a frame's bytes go, or that it is dropped.

    The descriptors of the frame's queue are looked at, one a cycle, until their lengths cover the frame. Only then, in
    one cycle, all of them leave the cache, as many completion slots are reserved, and the segments become visible;
    before that nothing has happened that would have to be undone. A frame that fits one buffer takes one cycle.

    A frame is dropped, for the first of these that holds:

    - QUEUE_DISABLED, at once: its queue is not enabled, or does not exist, or has a descriptor of length 0. The latter
      also faults the queue with DESCRIPTOR_LENGTH, and holds for all of its frames until the queue is started again;
    - COMPLETION_FULL, at once: fewer slots are free than descriptors looked at;
    - NO_BUFFER: the cache has no further descriptor and no fetch of this queue is under way, or the frame has waited
      ``starvation`` cycles. Frames behind it, of all queues, wait with it.

    A dropped frame leaves one segment with ``drop``, so that the packet buffer's words are freed in order.

    Members
    -------
    enable, clear : of the queues, as in :class:`hw.nic.interfaces.QueueControl`
    starvation : register TIMEOUTS, cycles
    input : stream of :class:`hw.nic.rx.layouts.SteeredFrame`
    descriptors, slots : the fill rings' cache and the completion rings' free slots
    output : stream of :class:`hw.nic.rx.layouts.Segment`, an entry every cycle
    fault : queues to stop
    event : frames dropped here, the cycle after
    dropped : trace point of those
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "enable": In(config.queues),
            "clear": In(config.queues),
            "starvation": In(16),
            "input": In(stream.Signature(SteeredFrame(config))),
            "descriptors": Out(DescriptorPort(config)),
            "slots": Out(CompletionSlots(config)),
            "output": Out(stream.Signature(Segment(config))),
            "fault": Out(queue_fault_stream(config)),
            "event": Out(QueueRxEvent(config)),
        }
        if config.serial_width:
            members["dropped"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        # Deep enough for the longest frame while the one before it is being moved.
        m.submodules.fifo = fifo = CommitFifo(Segment(config), 2 * config.fetch_depth)
        wiring.connect(m, wiring.flipped(self.output), fifo.output)

        m.submodules.skid = skid = SkidBuffer(SteeredFrame(config))
        wiring.connect(m, wiring.flipped(self.input), skid.input)
        steered = skid.output
        frame = steered.payload
        entry = Signal(FillDescriptor)
        looked = Signal(range(config.fetch_depth + 1))  # descriptors before the one at which we look
        uncovered, remaining = Signal(16), Signal(16)
        waited = Signal(16)
        faulted = Signal(config.queues)
        usable, covers, drop = Signal(), Signal(), Signal()
        reason = Signal(DropReason)
        m.d.comb += [
            entry.eq(self.descriptors.entry),
            self.descriptors.queue.eq(frame.queue),
            self.descriptors.offset.eq(looked),
            self.descriptors.take_count.eq(looked + 1),
            self.slots.queue.eq(frame.queue),
            self.slots.reserve_count.eq(looked + 1),
            self.slots.reserve.eq(self.descriptors.take),
            usable.eq((self.enable & ~faulted).bit_select(frame.queue, 1) & frame.routed),
            remaining.eq(Mux(looked == 0, frame.length, uncovered)),
            covers.eq(entry.length >= remaining),
        ]

        with m.If(steered.valid & fifo.room):
            with m.If(~usable):
                m.d.comb += [drop.eq(1), reason.eq(DropReason.QUEUE_DISABLED)]
            with m.Elif(self.slots.free <= looked):
                m.d.comb += [drop.eq(1), reason.eq(DropReason.COMPLETION_FULL)]
            with m.Elif(self.descriptors.available > looked):
                with m.If(entry.length == 0):
                    with m.If(~self.fault.valid):
                        m.d.comb += [drop.eq(1), reason.eq(DropReason.QUEUE_DISABLED)]
                        m.d.sync += [
                            self.fault.valid.eq(1),
                            self.fault.payload.queue.eq(frame.queue),
                            self.fault.payload.error.eq(QueueError.DESCRIPTOR_LENGTH),
                            faulted.bit_select(frame.queue, 1).eq(1),
                        ]
                with m.Else():
                    m.d.comb += fifo.push.eq(1)
                    m.d.sync += [looked.eq(looked + 1), uncovered.eq(remaining - entry.length)]
                    with m.If(covers):
                        m.d.comb += [self.descriptors.take.eq(1), fifo.commit.eq(1), steered.ready.eq(1)]
            with m.Elif(self.descriptors.fetching & (waited < self.starvation)):
                m.d.sync += waited.eq(waited + 1)
            with m.Else():
                m.d.comb += [drop.eq(1), reason.eq(DropReason.NO_BUFFER)]

        m.d.comb += [
            fifo.rewind.eq((looked == 0) | drop),
            fifo.payload.address.eq(entry.address),
            fifo.payload.length.eq(Mux(covers, remaining, entry.length)),
            fifo.payload.buffer_id.eq(entry.buffer_id),
            fifo.payload.queue.eq(frame.queue),
            fifo.payload.end_of_packet.eq(covers),
            fifo.payload.drop.eq(drop),
            fifo.payload.info.eq(frame.info),
            fifo.payload.serial.eq(frame.serial),
        ]
        with m.If(drop):
            m.d.comb += [
                fifo.push.eq(1),
                fifo.commit.eq(1),
                fifo.payload.length.eq(frame.length),
                steered.ready.eq(1),
            ]
        # A queue that stops between two looks may be started anew before there is room for the drop: begin again then.
        with m.If(steered.ready | ~usable):
            m.d.sync += [looked.eq(0), waited.eq(0)]
        with m.If(self.fault.valid & self.fault.ready):
            m.d.sync += self.fault.valid.eq(0)
        for queue in range(config.queues):
            with m.If(self.clear[queue]):
                m.d.sync += faulted[queue].eq(0)

        m.d.sync += [
            self.event.strobe.eq(drop),
            self.event.dropped.eq(drop),
            self.event.queue.eq(frame.queue),
            self.event.length.eq(frame.length),
            self.event.reason.eq(reason),
        ]
        if config.serial_width:
            m.d.sync += [
                self.dropped.strobe.eq(drop),
                self.dropped.serial.eq(frame.serial),
                self.dropped.queue.eq(frame.queue),
                self.dropped.detail.eq(reason),
            ]
        return m
