# SPDX-License-Identifier: BSD-2-Clause
"""From the packet buffer into host memory."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, flipped
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import BUFFER_ID_BITS, CompletionError, RxCompletion
from hw.bus.join import join
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import Command, CompletionPort, TracePoint, WritePort
from hw.nic.rx.aligner import RxAligner, WriteBeat
from hw.nic.rx.headers import TAG_BYTES
from hw.nic.rx.layouts import PacketInfo, Segment
from hw.nic.rx.pipeline import register_stage
from hw.nic.stats.events import QueueRxEvent

_PLANS = 8  #: segments taken in whose command has not been offered
_AHEAD = 4  #: commands offered ahead of the segment whose bytes are moved


class RxWriter(wiring.Component):
    """Move segments to memory, and complete them.

    ::

        segments ─┬► plan ─► FIFO ─► write.command ─► FIFO ─► request ─► packet buffer ─► aligner ─► write.data
                  └► pending ───────────────────────────────────────┐
                                             write.done ─► answers ─┴► entry

    Each segment is one command, sent before its bytes and up to four ahead of those of the segment that is moved; its
    bytes follow gaplessly, also from one segment to the next, shifted to lane 0 where a segment begins inside a word.
    A command comes three cycles after its segment, and 6 cycles and the aligner's latency after it its first byte; up
    to twice ``config.outstanding_writes`` commands whose entry was not handed over. A word of the packet buffer is free
    the cycle after it has been read, so that a long frame makes room while it leaves; the words of dropped frames are
    free when their turn comes.

    A ``done`` is taken in the cycle in which it comes, so that memory's responses never wait for the completion writer,
    whose own writes may be behind them. The segment's completion entry is handed over from five cycles after, in order;
    it carries WRITE_FAULT if memory refused some byte. With a frame's last entry ``event`` tells the whole frame's
    length, with a tag that was stripped, and ``fault`` if any entry carried one, the cycle after.

    A ``header`` segment has a command like any other, but no entry: the next one says ``header_split``, and carries
    WRITE_FAULT if memory refused some byte of either. The next segment begins with the byte behind the headers, at lane
    0 of its transfer.

    Members
    -------
    segments : stream of :class:`hw.nic.rx.layouts.Segment`, covering frame after frame without gap
    request, response : the packet buffer's read side, tagged with :class:`hw.nic.rx.aligner.WriteBeat`
    read_pointer : words read or dropped, modulo twice the buffer's
    write : to the DMA writer
    entry : to the completion writer, as :class:`hw.nic.interfaces.CompletionPort`
    event : frames delivered
    taken, completed : trace points with the buffer's id: its segment came, its entry was handed over; none of headers
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.rx_buffer_bytes // config.beat_bytes
        self._lane_bits = exact_log2(config.beat_bytes)
        beats = 17 - self._lane_bits
        # How a segment's bytes lie in words and beats.
        self._job = data.StructLayout(
            {
                "drop": 1,
                "beats": beats,  # or words, if it is dropped
                "single": 1,  # nothing follows the first beat
                "last_count": range(config.beat_bytes + 1),
                "offset": self._lane_bits,  # of the first byte in its word
                "spill": 1,  # the last beat needs a word that none before it needed
            }
        )
        self._plan = data.StructLayout({"command": Command(config), "job": self._job})
        # What a segment's entry needs of it.
        self._pending = data.StructLayout(
            {
                "queue": range(config.queues),
                "buffer_id": BUFFER_ID_BITS,
                "length": 16,
                "header": 1,
                "end_of_packet": 1,
                "info": PacketInfo(config),
                "serial": config.serial_width,
            }
        )
        tag = WriteBeat(config)
        members = {
            "segments": In(stream.Signature(Segment(config))),
            "request": Out(stream.Signature(data.StructLayout({"address": range(self._words), "tag": tag}))),
            "response": In(stream.Signature(data.StructLayout({"data": config.data_width, "tag": tag}))),
            "read_pointer": Out(range(2 * self._words)),
            "write": Out(WritePort(config)),
            "entry": CompletionPort(config).members["entry"],
            "event": Out(QueueRxEvent(config)),
        }
        if config.serial_width:
            members |= {"taken": Out(TracePoint(config)), "completed": Out(TracePoint(config))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.pending = pending = CommitFifo(self._pending, 2 << ceil_log2(config.outstanding_writes))
        m.submodules.plans = plans = SyncFIFO(width=Shape.cast(self._plan).width, depth=_PLANS)
        m.submodules.jobs = jobs = SyncFIFO(width=Shape.cast(self._job).width, depth=_AHEAD)
        m.submodules.aligner = aligner = RxAligner(config)
        join(m, flipped(self.response), aligner.response)
        join(m, aligner.output, flipped(self.write.data))
        self._take(m, pending, plans)
        self._command(m, plans, jobs)
        self._request(m, jobs)
        self._complete(m, pending)
        return m

    def _take(self, m: Module, pending: CommitFifo, plans: SyncFIFO) -> None:
        """Note what a segment's entry needs, and find out which words and beats its bytes are."""
        beat_bytes, lane_bits = self._config.beat_bytes, self._lane_bits
        segment = self.segments.payload
        room, taken = Signal(), Signal()
        offset = Signal(lane_bits)  # of the next segment's first byte in its word
        m.d.comb += [
            self.segments.ready.eq(room & pending.room),
            taken.eq(self.segments.valid & self.segments.ready),
            pending.push.eq(taken & ~segment.drop),
            pending.commit.eq(pending.push),
        ]
        m.d.comb += [pending.payload[name].eq(segment[name]) for name, _ in self._pending]
        # Three more may be on the way by the time this is heard of.
        m.d.sync += room.eq(plans.level <= _PLANS - 3)
        with m.If(taken):
            ends = segment.drop | segment.end_of_packet
            m.d.sync += offset.eq(Mux(ends, 0, offset + segment.length[:lane_bits]))
        cut = register_stage(
            m,
            "cut",
            taken,
            address=segment.address,
            length=segment.length,
            queue=segment.queue,
            drop=segment.drop,
            **({"named": ~segment.header, "buffer_id": segment.buffer_id} if self._config.ats else {}),
            offset=offset,
            beats=(segment.length + (beat_bytes - 1)) >> lane_bits,
            last_lane=(segment.length - 1)[:lane_bits],
        )
        plan = Signal(self._plan)
        m.d.comb += [
            plan.command.address.eq(cut.address),
            plan.command.length.eq(cut.length),
            plan.command.queue.eq(cut.queue),
            plan.job.drop.eq(cut.drop),
            plan.job.beats.eq(cut.beats),
            plan.job.single.eq(cut.drop | (cut.beats == 1)),
            plan.job.last_count.eq(cut.last_lane + 1),
            plan.job.offset.eq(cut.offset),
            plan.job.spill.eq((cut.offset == 0) | (cut.offset + cut.last_lane)[lane_bits]),
            plans.w_en.eq(cut.valid),
            plans.w_data.eq(plan),
        ]
        if self._config.ats:
            m.d.comb += [plan.command.named.eq(cut.named), plan.command.buffer_id.eq(cut.buffer_id)]
        if self._config.serial_width:
            m.d.sync += [
                self.taken.strobe.eq(pending.push & ~segment.header),
                self.taken.serial.eq(segment.serial),
                self.taken.queue.eq(segment.queue),
                self.taken.detail.eq(segment.buffer_id),
            ]

    def _command(self, m: Module, plans: SyncFIFO, jobs: SyncFIFO) -> None:
        """Send the command of each segment that is not dropped, and let its job follow."""
        plan = data.View(self._plan, plans.r_data)
        command = self.write.command
        held, moves = Signal(), Signal()
        job = Signal(self._job)
        m.d.comb += [
            moves.eq(~command.valid | command.ready),
            # The job that is held goes to the FIFO as well.
            plans.r_en.eq(moves & (jobs.level <= _AHEAD - 2)),
            jobs.w_en.eq(held & moves),
            jobs.w_data.eq(job),
        ]
        with m.If(moves):
            loads = plans.r_en & plans.r_rdy
            m.d.sync += [held.eq(loads), command.valid.eq(loads & ~plan.job.drop)]
            m.d.sync += [command.payload.eq(plan.command), job.eq(plan.job)]

    def _request(self, m: Module, jobs: SyncFIFO) -> None:
        """One request per beat of a segment's bytes."""
        request, tag = self.request, self.request.payload.tag
        pointer = Signal.like(self.read_pointer)  # behind the word that is requested
        active, final = Signal(), Signal()
        job = Signal(self._job)  # ``beats`` are left
        moves, steps, fetch = Signal(), Signal(), Signal()
        m.d.comb += [
            moves.eq(~request.valid | request.ready),
            steps.eq(active & moves),
            fetch.eq(~final | job.spill),
            jobs.r_en.eq(~active | (steps & final)),
        ]
        with m.If(jobs.r_en):
            following = data.View(self._job, jobs.r_data)
            m.d.sync += [active.eq(jobs.r_rdy), job.eq(following), final.eq(following.single)]
        with m.Elif(steps):
            m.d.sync += [job.beats.eq(job.beats - 1), final.eq(job.beats == 2)]
        with m.If(moves):
            # What was requested has been read.
            m.d.sync += [self.read_pointer.eq(pointer), request.valid.eq(steps & ~job.drop)]
        with m.If(steps):
            m.d.sync += [
                pointer.eq(pointer + Mux(job.drop, job.beats, fetch)),
                request.payload.address.eq(pointer),
                tag.count.eq(Mux(final, job.last_count, self._config.beat_bytes)),
                tag.last.eq(final),
                tag.offset.eq(job.offset),
                tag.fetch.eq(fetch),
            ]

    def _complete(self, m: Module, pending: CommitFifo) -> None:
        """An entry per ``done``, an event per frame."""
        segment, done = pending.output.payload, self.write.done
        # As deep as `pending`, so there is room for every command's answer: its error bit.
        m.submodules.answers = answers = CommitFifo(1, pending.depth)
        error = answers.output.payload
        moves, takes, handed = Signal(), Signal(), Signal()
        completion = Signal(RxCompletion)
        # Of the frame up to the segment completed last, which may be its last, or its headers.
        length, fault, ends = Signal(16), Signal(), Signal(init=1)
        split, header_error, any_error = Signal(), Signal(), Signal()
        m.d.comb += [
            done.ready.eq(1),
            answers.push.eq(done.valid),
            answers.commit.eq(done.valid),
            answers.payload.eq(done.payload.error),
            moves.eq(~self.entry.valid | self.entry.ready),
            takes.eq(answers.output.valid & pending.output.valid & moves),
            answers.output.ready.eq(takes),
            pending.output.ready.eq(takes),
            handed.eq(self.entry.valid & self.entry.ready),
            completion.buffer_id.eq(segment.buffer_id),
            completion.length.eq(segment.length),
            any_error.eq(error | header_error),
            completion.error.eq(Mux(any_error, CompletionError.WRITE_FAULT, CompletionError.NONE)),
            completion.packet_type.eq(segment.info.packet_type),
            completion.header_length.eq(segment.info.header_length),
            completion.vlan.eq(segment.info.vlan),
            completion.checksum.eq(segment.info.checksum),
            completion.rss_hash.eq(segment.info.rss_hash),
            completion.hash_ports.eq(segment.info.hash_ports),
            completion.flags.end_of_packet.eq(segment.end_of_packet),
            completion.flags.vlan_valid.eq(segment.info.vlan_valid),
            completion.flags.checksum_status.eq(segment.info.checksum_status),
            completion.flags.hash_valid.eq(segment.info.hash_valid),
            completion.flags.header_split.eq(split),
        ]
        before = 0  # the frame's first segment: bytes that it had on the wire and has no more
        if self._config.classify:
            m.d.comb += completion.flags.vlan_stripped.eq(segment.info.vlan_stripped)
            before = Mux(segment.info.vlan_stripped, TAG_BYTES, 0)
        with m.If(moves):
            m.d.sync += self.entry.valid.eq(takes & ~segment.header)
        with m.If(takes):
            m.d.sync += [
                self.entry.payload.queue.eq(segment.queue),
                self.entry.payload.entry.eq(completion),
                length.eq(Mux(ends, before, length) + segment.length),
                fault.eq((~ends & fault) | error),
                ends.eq(segment.end_of_packet),
                split.eq(segment.header),
                header_error.eq(segment.header & error),
            ]
        m.d.sync += [
            self.event.strobe.eq(handed & ends),
            self.event.queue.eq(self.entry.payload.queue),
            self.event.length.eq(length),
            self.event.fault.eq(fault),
        ]
        if self._config.serial_width:
            serial = Signal(self._config.serial_width)
            offered = data.View(RxCompletion, self.entry.payload.entry)
            with m.If(takes):
                m.d.sync += serial.eq(segment.serial)
            m.d.sync += [
                self.completed.strobe.eq(handed),
                self.completed.serial.eq(serial),
                self.completed.queue.eq(self.entry.payload.queue),
                self.completed.detail.eq(offered.buffer_id),
            ]
