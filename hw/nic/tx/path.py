# SPDX-License-Identifier: BSD-2-Clause
"""The TX path: from descriptors to the wire."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.bus.join import join
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.in_flight import InFlight
from hw.nic.interfaces import (
    CompletionPort,
    DescriptorPort,
    QueueControl,
    QueueWrite,
    ReadPort,
    TracePoint,
    queue_fault_stream,
)
from hw.nic.packet_buffer import PacketBuffer
from hw.nic.probes import TX_STREAMS, Probes, handshakes, show
from hw.nic.recycle.interfaces import BufferEvent, Verdict, claim_stream
from hw.nic.stats.events import QueueTxEvent, TxFrameEvent
from hw.nic.tx.claims import WAITING, TxClaims
from hw.nic.tx.egress import TxEgress
from hw.nic.tx.emitter import JOBS
from hw.nic.tx.framer import max_descriptors
from hw.nic.tx.gather import TxGather
from hw.nic.tx.layouts import SendBeat
from hw.nic.tx.offload_check import OffloadCheck
from hw.nic.tx.scheduler import TxScheduler
from hw.nic.tx.segmenter import TxSegmenter


class TxPath(wiring.Component):
    """Everything between the shared DMA and completion blocks and the MAC's stream.

    ::

        descriptors ─► scheduler ─► gather ─► egress ─► wire
                           │        │ ▲  │      ▲
              completions.slots  read │  └─► packet buffer
                                      └─► completions.entry

    With ``config.pools`` jobs and pieces pass :class:`hw.nic.tx.claims.TxClaims` behind the scheduler. A buffer whose
    claim was granted always comes back by itself, once, in ``returned``: when its last byte has been read, or in its
    turn if none is to be, also when its frame is not sent or its queue stops or fails. What was not taken from its ring
    is not claimed. Whether a completion was asked for makes no difference, nor the other way round.

    With ``config.tx_offload`` jobs pass :class:`hw.nic.tx.offload_check.OffloadCheck` on their way to the gather,
    with ``config.segmentation`` jobs and pieces then :class:`hw.nic.tx.segmenter.TxSegmenter`, and a queue that stops
    is ``busy`` until the wire has taken what the packet buffer cannot hold of its requests.

    Frames of a queue keep the order of its ring, on the wire and in completions. A queue is ``busy`` from the cycle
    after a frame was taken from its ring until its claims are judged, its bytes have been read, its buffers have come
    back and its completions were handed to the completion writer; the frame may leave for the wire later, also after
    the queue has stopped.

    Members
    -------
    control, tx_enable, descriptors, fault : see :class:`hw.nic.tx.scheduler.TxScheduler`
    read : see :class:`hw.nic.tx.gather.TxGather`
    wire : see :class:`hw.nic.tx.egress.TxEgress`
    completions : the completion writer
    queue_event : each frame taken from a ring: gathered, or why not
    frame_event : each frame on the wire
    sending : a frame was gathered, at least three cycles ago, and has not gone to the wire whole
    claims, verdict, queue_write : only with ``config.pools``: see :class:`hw.nic.tx.claims.TxClaims`
    returned : likewise: a buffer whose claim was granted, two cycles after its last byte came on ``read`` or later
    gathered, sent : trace points: a buffer's bytes were read; a frame left
    probes : only where ``config.probes``
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "tx_enable": In(1),
            "control": In(QueueControl(config)),
            "descriptors": Out(DescriptorPort(config)),
            "completions": Out(CompletionPort(config)),
            "read": Out(ReadPort(config)),
            "wire": Out(packet_stream(config.data_width, config.serial_width)),
            "fault": Out(queue_fault_stream(config)),
            "queue_event": Out(QueueTxEvent(config)),
            "frame_event": Out(TxFrameEvent(config)),
            "sending": Out(1),
        }
        if config.pools:
            members |= {
                "claims": Out(claim_stream(config)),
                "verdict": In(Verdict(config)),
                "returned": Out(BufferEvent(config)),
                "queue_write": In(QueueWrite(config)),
            }
        if config.serial_width:
            members |= {"gathered": Out(TracePoint(config)), "sent": Out(TracePoint(config))}
        if config.probes:
            members["probes"] = Out(Probes(TX_STREAMS))
        super().__init__(members)

    @property
    def max_descriptors(self) -> int:
        """Descriptors that a frame may have; see :class:`hw.nic.tx.framer.TxFramer`."""
        return max_descriptors(self._config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.scheduler = scheduler = TxScheduler(config)
        m.submodules.gather = gather = TxGather(config)
        m.submodules.egress = egress = TxEgress(config)
        words = config.tx_buffer_bytes // config.beat_bytes
        m.submodules.buffer = buffer = PacketBuffer(config.data_width, words, SendBeat(config))
        # Jobs lie in the scheduler's FIFO, among claims, in the gather's FIFO, and in the registers between them.
        limit = JOBS + (WAITING if config.pools else 0) + 4 * config.outstanding_reads + 16
        m.submodules.in_flight = in_flight = InFlight(config.queues, limit)

        jobs, pieces = scheduler.jobs, scheduler.pieces
        if config.pools:
            m.submodules.claims = claims = TxClaims(config)
            join(m, jobs, claims.jobs_in)
            join(m, pieces, claims.pieces_in)
            join(m, claims.claims, flipped(self.claims))
            join(m, flipped(self.verdict), claims.verdict)
            join(m, flipped(self.queue_write), claims.queue_write)
            join(m, gather.recycled, flipped(self.returned))
            jobs, pieces = claims.jobs, claims.pieces
        if config.tx_offload:
            m.submodules.check = check = OffloadCheck(config)
            join(m, jobs, check.input)
            jobs = check.output
        if config.segmentation:
            m.submodules.segmenter = reserver = segmenter = TxSegmenter(config)
            join(m, jobs, segmenter.jobs_in)
            join(m, pieces, segmenter.pieces_in)
            join(m, segmenter.jobs, gather.jobs)
            join(m, segmenter.pieces, gather.pieces)
        else:
            reserver = scheduler
            join(m, jobs, gather.jobs)
            join(m, pieces, gather.pieces)
        join(m, gather.frames, egress.frames)
        join(m, egress.request, buffer.request)
        join(m, buffer.response, egress.response)
        for inner, outer in (
            (scheduler.descriptors, self.descriptors),
            (scheduler.fault, self.fault),
            (gather.read, self.read),
            (gather.entry, self.completions.entry),
            (gather.event, self.queue_event),
            (egress.wire, self.wire),
            (egress.event, self.frame_event),
        ):
            join(m, inner, flipped(outer))
        m.d.comb += [
            buffer.write_enable.eq(gather.write_enable),
            buffer.write_address.eq(gather.write_address),
            buffer.write_data.eq(gather.write_data),
            scheduler.enable.eq(self.control.enable),
            scheduler.clear.eq(self.control.clear),
            scheduler.tx_enable.eq(self.tx_enable),
            reserver.released.eq(egress.released),
            reserver.returned.eq(gather.returned),
            scheduler.slots.free.eq(self.completions.free),
            self.completions.reserve.eq(scheduler.slots.reserve),
            self.completions.reserve_queue.eq(scheduler.slots.reserve_queue),
            self.completions.reserve_count.eq(scheduler.slots.reserve_count),
            in_flight.start.eq(scheduler.emits),
            in_flight.start_queue.eq(scheduler.emits_queue),
            in_flight.start_count.eq(1),
            in_flight.finish.eq(gather.finished),
            in_flight.finish_queue.eq(gather.finished_queue),
            self.control.busy.eq(in_flight.busy | scheduler.busy),
        ]
        # Of each word that is set aside there may be a frame, and some are behind the buffer.
        gathered = Signal(range(2 * words))
        m.d.sync += gathered.eq(gathered + gather.framed - egress.left)
        m.d.comb += self.sending.eq(gathered != 0)
        if config.probes:
            shown = handshakes(tx_jobs=scheduler.jobs, tx_pieces=scheduler.pieces, tx_frames=gather.frames)
            show(m, self.probes, shown)
        if config.serial_width:
            join(m, gather.gathered, flipped(self.gathered))
            join(m, egress.sent, flipped(self.sent))
        return m
