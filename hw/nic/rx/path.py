# SPDX-License-Identifier: BSD-2-Clause
"""The RX path: from the wire to buffers and completions."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.rings import RxCompletion
from hw.bus.join import join
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.in_flight import InFlight
from hw.nic.interfaces import (
    CompletionPort,
    DescriptorPort,
    QueueControl,
    QueueWrite,
    TracePoint,
    WritePort,
    queue_fault_stream,
)
from hw.nic.packet_buffer import PacketBuffer
from hw.nic.probes import RX_STREAMS, Probes, handshakes, show
from hw.nic.recycle.interfaces import DeliveredBuffer
from hw.nic.rx.aligner import WriteBeat
from hw.nic.rx.classifier import RxClassifier
from hw.nic.rx.ingress import RxIngress
from hw.nic.rx.interfaces import RssControl, RuleWindow
from hw.nic.rx.planner import RxPlanner
from hw.nic.rx.steering import RxSteering
from hw.nic.rx.writer import RxWriter
from hw.nic.stats.events import QueueRxEvent, RxFrameEvent


class RxPath(wiring.Component):
    """Everything between the MAC's stream and the shared DMA and completion blocks.

    ::

             ┌► classifier ─┐
        wire ┴► ingress ────┴► steering ─► planner ─► writer ─► write, completions.entry
                   │                          │          ▲
                   │        descriptors, completions     │
                   └────────────► packet buffer ─────────┘

    The classifier is there where ``config.classify`` says so; a frame then waits for what is known of it:
    :attr:`hw.nic.rx.classifier.RxClassifier.latency`.

    A frame whose headers are split off has two writes, of a beat each at least, where a whole one has one: at 512 bits
    a 64-byte frame then takes two cycles of ``write`` instead of one.

    Frames keep the order of the wire from end to end. A frame that waits for a fetch holds up those behind it, at most
    ``starvation`` cycles. A queue is ``busy`` from the cycle after a buffer for a frame was looked up, until the
    entries of all buffers that were taken have been handed to the completion writer, and some cycles longer.

    Each buffer that leaves the cache is ``delivered`` once, the cycle after its entry was handed to the completion
    writer, in the order of the entries: also one that memory refused bytes of, and one of a queue that stops. Header
    buffers are not. The completion writer drops entries of a queue that it stopped with RING_WRITE, and those of the
    write that was refused may never have reached memory: their buffers are delivered, though software never hears of
    them by a completion.

    Members
    -------
    wire, rx_enable, carrier, min_length, max_length, vlan_strip : see :class:`hw.nic.rx.ingress.RxIngress`
    default_queue, rss, rules : see :class:`hw.nic.rx.steering.RxSteering`
    queue_write : register writes, of MAC_ADDRESS, and of what header split needs
    starvation, descriptors, fault : see :class:`hw.nic.rx.planner.RxPlanner`
    write : see :class:`hw.nic.rx.writer.RxWriter`
    control, completions : lifecycle, and the completion writer
    frame_event : each frame on the wire, good or dropped by the port
    drop_event, delivery_event : each frame that reached a queue, one of the two; both may strobe in one cycle
    accepted, refused, taken, dropped, completed : trace points: frame stored, dropped by the port; buffer taken; frame
        dropped by its queue; buffer completed
    probes : only where ``config.probes``
    pool_refused, pool_limited : only where ``config.pools`` is not 0: ``refused`` and ``limited`` of
        :class:`hw.nic.rx.planner.RxPlanner`
    delivered : only where ``config.pools`` is not 0: buffers of all queues that are software's from now on
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "wire": In(packet_stream(config.data_width, config.serial_width)),
            "rx_enable": In(1),
            "carrier": In(1),
            "min_length": In(16),
            "max_length": In(16),
            "starvation": In(16),
            "default_queue": In(8),
            "queue_write": In(QueueWrite(config)),
            "control": In(QueueControl(config)),
            "descriptors": Out(DescriptorPort(config)),
            "completions": Out(CompletionPort(config)),
            "write": Out(WritePort(config)),
            "fault": Out(queue_fault_stream(config)),
            "frame_event": Out(RxFrameEvent(config)),
            "drop_event": Out(QueueRxEvent(config)),
            "delivery_event": Out(QueueRxEvent(config)),
        }
        if config.serial_width:
            trace_points = ("accepted", "refused", "taken", "dropped", "completed")
            members |= {name: Out(TracePoint(config)) for name in trace_points}
        if config.classify:
            members["vlan_strip"] = In(1)
        if config.rss:
            members["rss"] = In(RssControl())
        if config.steering_rules:
            members["rules"] = In(RuleWindow())
        if config.pools:
            members |= {"pool_refused": In(config.queues), "pool_limited": In(config.queues)}
            members["delivered"] = Out(DeliveredBuffer(config))
        if config.probes:
            members["probes"] = Out(Probes(RX_STREAMS))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.ingress = ingress = RxIngress(config)
        m.submodules.steering = steering = RxSteering(config)
        m.submodules.planner = planner = RxPlanner(config)
        m.submodules.writer = writer = RxWriter(config)
        words = config.rx_buffer_bytes // config.beat_bytes
        m.submodules.buffer = buffer = PacketBuffer(config.data_width, words, WriteBeat(config))
        # Planned segments lie in the planner's FIFO, in the writer's, and in the registers behind them.
        limit = 2 * config.fetch_depth + 4 * config.outstanding_writes + 10
        m.submodules.in_flight = in_flight = InFlight(config.queues, limit)

        self._classify(m, ingress, steering)
        join(m, steering.output, planner.input)
        join(m, planner.output, writer.segments)
        join(m, writer.request, buffer.request)
        join(m, buffer.response, writer.response)
        for inner, outer in (
            (ingress.wire, self.wire),
            (ingress.event, self.frame_event),
            (steering.write, self.queue_write),
            (planner.descriptors, self.descriptors),
            (planner.fault, self.fault),
            (planner.event, self.drop_event),
            (writer.write, self.write),
            (writer.entry, self.completions.entry),
            (writer.event, self.delivery_event),
        ):
            join(m, inner, flipped(outer))
        m.d.comb += [
            ingress.rx_enable.eq(self.rx_enable),
            ingress.carrier.eq(self.carrier),
            ingress.min_length.eq(self.min_length),
            ingress.max_length.eq(self.max_length),
            ingress.read_pointer.eq(writer.read_pointer),
            buffer.write_enable.eq(ingress.write_enable),
            buffer.write_address.eq(ingress.write_address),
            buffer.write_data.eq(ingress.write_data),
            steering.default_queue.eq(self.default_queue),
            planner.enable.eq(self.control.enable),
            planner.clear.eq(self.control.clear),
            planner.starvation.eq(self.starvation),
            planner.slots.free.eq(self.completions.free),
            self.completions.reserve.eq(planner.slots.reserve),
            self.completions.reserve_queue.eq(planner.slots.reserve_queue),
            self.completions.reserve_count.eq(planner.slots.reserve_count),
            in_flight.start.eq(planner.descriptors.take.strobe),
            in_flight.start_queue.eq(planner.descriptors.take.queue),
            in_flight.start_count.eq(planner.descriptors.take.count),
            in_flight.finish.eq(writer.entry.valid & writer.entry.ready),
            in_flight.finish_queue.eq(writer.entry.payload.queue),
            self.control.busy.eq(planner.busy | in_flight.busy),
        ]
        if config.header_split:
            join(m, flipped(self.queue_write), planner.queue_write)
        if config.pools:
            entry = writer.entry
            m.d.comb += [planner.refused.eq(self.pool_refused), planner.limited.eq(self.pool_limited)]
            m.d.sync += [
                self.delivered.strobe.eq(entry.valid & entry.ready),
                self.delivered.queue.eq(entry.payload.queue),
                self.delivered.buffer_id.eq(data.View(RxCompletion, entry.payload.entry).buffer_id),
            ]
        if config.rss:
            join(m, flipped(self.rss), steering.rss)
        if config.steering_rules:
            join(m, flipped(self.rules), steering.rules)
        if config.probes:
            shown = handshakes(rx_frames=ingress.frames, rx_parsed=steering.input)
            shown |= handshakes(rx_steered=steering.output, rx_segments=planner.output)
            show(m, self.probes, shown)
        if config.serial_width:
            for point, outer in (
                (ingress.accepted, self.accepted),
                (ingress.dropped, self.refused),
                (planner.dropped, self.dropped),
                (writer.taken, self.taken),
                (writer.completed, self.completed),
            ):
                join(m, point, flipped(outer))
        return m

    def _classify(self, m: Module, ingress: Any, steering: Any) -> None:
        """Give each frame what is known of it."""
        parsed = steering.input.payload
        frames = ingress.frames
        for name in ("length", "destination", "serial"):
            m.d.comb += parsed[name].eq(frames.payload[name])
        if not self._config.classify:
            m.d.comb += [steering.input.valid.eq(frames.valid), frames.ready.eq(steering.input.ready)]
            return

        m.submodules.classifier = classifier = RxClassifier(self._config)
        known = classifier.output
        headers, checksum, stripped = known.payload.headers, known.payload.checksum, frames.payload.stripped
        join(m, ingress.beats, classifier.beats)
        m.d.comb += [
            ingress.vlan_strip.eq(self.vlan_strip),
            steering.input.valid.eq(frames.valid & known.valid),
            frames.ready.eq(known.valid & steering.input.ready),
            known.ready.eq(frames.valid & steering.input.ready),
            parsed.info.packet_type.eq(headers.packet_type),
            parsed.info.header_length.eq(headers.header_length),
            parsed.info.vlan.eq(Mux(stripped, frames.payload.tag, headers.vlan)),
            parsed.info.vlan_valid.eq(stripped | headers.vlan_valid),
            parsed.info.vlan_stripped.eq(stripped),
            parsed.info.checksum.eq(checksum.checksum),
            parsed.info.checksum_status.eq(checksum.status),
            parsed.flow.eq(headers.flow),
        ]
