# SPDX-License-Identifier: BSD-2-Clause
"""From the packet buffer into host memory."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.abi.rings import BUFFER_ID_BITS, CompletionError, RxCompletion
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import CompletionPort, QueueRxEvent, TracePoint, WritePort
from hw.nic.rx.layouts import PacketInfo, Segment


class WriteBeat(data.StructLayout):
    """How a beat of a transfer is cut from the packet buffer's words.

    Members
    -------
    count, last : of the beat, see :class:`hw.nic.interfaces.Bytes`
    offset : lane of its first byte in the word where that lies
    fetch : it needs a word that no beat before it needed: the only one if ``offset`` is 0, else the second
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {"count": range(config.beat_bytes + 1), "last": 1, "offset": range(config.beat_bytes), "fetch": 1},
        )


class RxWriter(wiring.Component):
    """Move segments to memory, and complete them.

    Each segment is one command, sent before its bytes; its bytes follow gaplessly, also from one segment to the next,
    shifted to lane 0 where a segment begins inside a word. First byte four cycles after the command; up to twice
    ``config.outstanding_writes`` commands whose entry was not handed over. A word of the packet buffer is free as soon
    as it has been read, so that a long frame makes room while it leaves; the words of dropped frames are free when
    their turn comes.

    A ``done`` is taken in the cycle in which it comes, so that memory's responses never wait for the completion writer,
    whose own writes may be behind them. The segment's completion entry is handed over from the cycle after, in order;
    it carries WRITE_FAULT if memory refused some byte. With a frame's last entry ``event`` tells the whole frame's
    length, and ``fault`` if any entry carried one, the cycle after.

    Members
    -------
    segments : stream of :class:`hw.nic.rx.layouts.Segment`, covering frame after frame without gap
    request, response : the packet buffer's read side, tagged with :class:`WriteBeat`
    read_pointer : words read or dropped, modulo twice the buffer's
    write : to the DMA writer
    entry : to the completion writer, as :class:`hw.nic.interfaces.CompletionPort`
    event : frames delivered
    taken, completed : trace points with the buffer's id: its command was sent, its entry was handed over
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.rx_buffer_bytes // config.beat_bytes
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
        pending_layout = data.StructLayout(
            {
                "queue": range(config.queues),
                "buffer_id": BUFFER_ID_BITS,
                "length": 16,
                "end_of_packet": 1,
                "info": PacketInfo,
                "serial": config.serial_width,
            }
        )
        m.submodules.pending = pending = CommitFifo(pending_layout, 2 << ceil_log2(config.outstanding_writes))
        self._issue(m, pending)
        self._align(m)
        self._complete(m, pending)
        return m

    def _issue(self, m: Module, pending: CommitFifo) -> None:
        """One command per segment, one request per beat of its bytes."""
        beat_bytes = self._config.beat_bytes
        segment = self.segments.payload
        started = Signal()  # the segment's command has been sent
        left, remaining = Signal(16), Signal(16)
        offset = Signal(range(beat_bytes))
        end = Signal(range(2 * beat_bytes))
        fetch = Signal()
        sent, goes = Signal(), Signal()
        beat = self.request.payload.tag
        m.d.comb += [
            self.write.command.valid.eq(self.segments.valid & ~segment.drop & ~started & pending.room),
            self.write.command.payload.address.eq(segment.address),
            self.write.command.payload.length.eq(segment.length),
            self.write.command.payload.queue.eq(segment.queue),
            sent.eq(self.write.command.valid & self.write.command.ready),
            pending.push.eq(sent),
            pending.commit.eq(sent),
            pending.payload.queue.eq(segment.queue),
            pending.payload.buffer_id.eq(segment.buffer_id),
            pending.payload.length.eq(segment.length),
            pending.payload.end_of_packet.eq(segment.end_of_packet),
            pending.payload.info.eq(segment.info),
            pending.payload.serial.eq(segment.serial),
            goes.eq(sent | started),
            remaining.eq(Mux(started, left, segment.length)),
            beat.last.eq(remaining <= beat_bytes),
            beat.count.eq(Mux(beat.last, remaining, beat_bytes)),
            end.eq(offset + beat.count),
            fetch.eq((offset == 0) | (end > beat_bytes)),
            beat.offset.eq(offset),
            beat.fetch.eq(fetch),
            self.request.valid.eq(goes),
            self.request.payload.address.eq(self.read_pointer),
        ]
        with m.If(goes):
            m.d.sync += [started.eq(1), left.eq(remaining)]
            with m.If(self.request.ready):
                m.d.sync += [
                    left.eq(remaining - beat.count),
                    offset.eq(end),
                    self.read_pointer.eq(self.read_pointer + fetch),
                ]
                with m.If(beat.last):
                    m.d.comb += self.segments.ready.eq(1)
                    m.d.sync += started.eq(0)
                    with m.If(segment.end_of_packet):
                        m.d.sync += offset.eq(0)
        with m.Elif(self.segments.valid & segment.drop):
            words = (segment.length + beat_bytes - 1) >> ceil_log2(beat_bytes)
            m.d.comb += self.segments.ready.eq(1)
            m.d.sync += self.read_pointer.eq(self.read_pointer + words)
        if self._config.serial_width:
            m.d.sync += [
                self.taken.strobe.eq(sent),
                self.taken.serial.eq(segment.serial),
                self.taken.queue.eq(segment.queue),
                self.taken.detail.eq(segment.buffer_id),
            ]

    def _align(self, m: Module) -> None:
        """Cut beats from words."""
        width = self._config.data_width
        word, beat = self.response.payload.data, self.response.payload.tag
        held = Signal(width)  # the word in which the beat before ended
        output = self.write.data
        m.d.comb += self.response.ready.eq(~output.valid | output.ready)
        with m.If(self.response.ready):
            m.d.sync += output.valid.eq(self.response.valid)
            with m.If(self.response.valid):
                m.d.sync += [
                    output.payload.data.eq(Mux(beat.offset == 0, word, Cat(held, word) >> (beat.offset << 3))),
                    output.payload.count.eq(beat.count),
                    output.payload.last.eq(beat.last),
                ]
                with m.If(beat.fetch):
                    m.d.sync += held.eq(word)

    def _complete(self, m: Module, pending: CommitFifo) -> None:
        """An entry per ``done``, an event per frame."""
        segment = pending.output.payload
        completion = Signal(RxCompletion)
        done = self.write.done
        # As deep as `pending`, so there is room for every command's answer: its error bit.
        m.submodules.answers = answers = SyncFIFO(width=1, depth=pending.depth)
        handed = Signal()
        length, total = Signal(16), Signal(16)  # of the frame's segments before this one, and with it
        fault, any_fault = Signal(), Signal()
        m.d.comb += [
            done.ready.eq(1),
            answers.w_en.eq(done.valid),
            answers.w_data.eq(done.payload.error),
            self.entry.valid.eq(answers.r_rdy & pending.output.valid),
            handed.eq(self.entry.valid & self.entry.ready),
            answers.r_en.eq(handed),
            pending.output.ready.eq(handed),
            completion.buffer_id.eq(segment.buffer_id),
            completion.length.eq(segment.length),
            completion.error.eq(Mux(answers.r_data, CompletionError.WRITE_FAULT, CompletionError.NONE)),
            completion.packet_type.eq(segment.info.packet_type),
            completion.header_length.eq(segment.info.header_length),
            completion.vlan.eq(segment.info.vlan),
            completion.checksum.eq(segment.info.checksum),
            completion.rss_hash.eq(segment.info.rss_hash),
            completion.flags.end_of_packet.eq(segment.end_of_packet),
            completion.flags.vlan_valid.eq(segment.info.vlan_valid),
            completion.flags.checksum_status.eq(segment.info.checksum_status),
            completion.flags.hash_valid.eq(segment.info.hash_valid),
            self.entry.payload.queue.eq(segment.queue),
            self.entry.payload.entry.eq(completion),
            total.eq(length + segment.length),
            any_fault.eq(fault | answers.r_data),
        ]
        with m.If(handed):
            m.d.sync += [
                length.eq(Mux(segment.end_of_packet, 0, total)),
                fault.eq(any_fault & ~segment.end_of_packet),
            ]
        m.d.sync += [
            self.event.strobe.eq(handed & segment.end_of_packet),
            self.event.queue.eq(segment.queue),
            self.event.length.eq(total),
            self.event.fault.eq(any_fault),
        ]
        if self._config.serial_width:
            m.d.sync += [
                self.completed.strobe.eq(handed),
                self.completed.serial.eq(segment.serial),
                self.completed.queue.eq(segment.queue),
                self.completed.detail.eq(segment.buffer_id),
            ]
