# SPDX-License-Identifier: BSD-2-Clause
"""Segmentation requests become segments."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import CompletionError
from hw.config import NicConfig
from hw.nic.tx.layouts import TxJob, TxPiece, reserved_words

TCP_CHECKSUM = 16  #: bytes from a TCP header's start to its checksum (RFC 9293)


class TxSegmenter(wiring.Component):
    """Cut requests into jobs of one frame each, and set room in the packet buffer aside for every job.

    A request of ``l2_length + l3_length + l4_length`` bytes of headers and *n* of payload becomes ceil(n / mss) jobs
    with ``segment.present``, each of which begins with the headers, read anew, and a closing job of a single piece that
    reads nothing and stands for the request: it carries the last descriptor's completion. So memory belongs to the NIC
    until the last segment has been read, and one segment costs one read of a line more than its payload. A request
    whose headers are not all in its first data descriptor gets the error OFFLOAD. Other jobs pass as they are.

    Room is set aside here, job by job, because a request may be longer than the buffer. Jobs that were taken behind it
    have no room yet, so those in front of it always leave, and room comes as the wire takes them.

    An ordinary job's pieces pass one a cycle. A segment takes three cycles and one for each piece of memory that it
    touches, two where a descriptor ends.

    Members
    -------
    jobs_in, pieces_in : from the scheduler; a request's lengths have been checked
    jobs, pieces : to the gather
    released : a word of the packet buffer that was set aside is free again
    returned : that many words of the packet buffer were set aside for a frame that is not sent
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        jobs, pieces = stream.Signature(TxJob(config)), stream.Signature(TxPiece())
        super().__init__(
            {
                "jobs_in": In(jobs),
                "pieces_in": In(pieces),
                "jobs": Out(jobs),
                "pieces": Out(pieces),
                "released": In(1),
                "returned": In(range(self._words + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, piece = self.jobs_in.payload, self.pieces_in.payload
        offload = job.offload
        both = self.jobs_in.valid & self.pieces_in.valid
        piece_slot, job_slot = Signal(), Signal()
        m.d.comb += [
            piece_slot.eq(~self.pieces.valid | self.pieces.ready),
            job_slot.eq(~self.jobs.valid | self.jobs.ready),
        ]
        with m.If(self.pieces.ready):
            m.d.sync += self.pieces.valid.eq(0)
        with m.If(self.jobs.ready):
            m.d.sync += self.jobs.valid.eq(0)

        free_words, reserved = Signal(range(self._words + 1), init=self._words), Signal(range(self._words + 1))
        m.d.sync += free_words.eq(free_words - reserved + self.released + self.returned)

        headers, headers_address, payload_left = Signal(9), Signal(64), Signal(16)
        current, address, left = Signal(TxPiece()), Signal(64), Signal(16)  # a descriptor, and what is left of it
        size, size_left, index, offset = Signal(16), Signal(16), Signal(16), Signal(16)  # of the segment's payload
        final, begun, refused = Signal(), Signal(), Signal()
        header_bytes = Signal(9)
        m.d.comb += header_bytes.eq(offload.l2_length + offload.l3_length + offload.l4_length)

        with m.FSM():
            with m.State("PASS"):
                sound = (job.error == CompletionError.NONE) & job.end & ~job.aborted
                request, sent = Signal(), Signal()
                words = Signal(range(self._words + 1))
                m.d.comb += [
                    request.eq(sound & offload.segment & ~refused),
                    sent.eq(sound & ~offload.segment & ~begun),
                    words.eq(Mux(sent, reserved_words(job.length, self._config.beat_bytes), 0)),
                ]
                with m.If(both & request):
                    with m.If(~piece.read):
                        m.d.comb += self.pieces_in.ready.eq(1)
                    with m.Elif(piece.length < header_bytes):
                        m.d.sync += refused.eq(1)
                    with m.Else():
                        m.d.comb += self.pieces_in.ready.eq(1)
                        m.d.sync += [
                            headers.eq(header_bytes),
                            headers_address.eq(piece.address),
                            payload_left.eq(job.length - header_bytes),
                            current.eq(piece),
                            address.eq(piece.address + header_bytes),
                            left.eq(piece.length - header_bytes),
                            index.eq(0),
                            offset.eq(0),
                        ]
                        m.next = "SIZE"
                with m.Elif(both & piece_slot & (begun | job_slot) & (words <= free_words)):
                    m.d.comb += [
                        self.pieces_in.ready.eq(1),
                        self.jobs_in.ready.eq(piece.last),
                        reserved.eq(words),
                    ]
                    m.d.sync += [
                        self.pieces.valid.eq(1),
                        self.pieces.payload.eq(piece),
                        self.jobs.valid.eq(1),
                        self.jobs.payload.eq(job),
                        begun.eq(~piece.last),
                    ]
                    with m.If(refused):
                        m.d.sync += self.jobs.payload.error.eq(CompletionError.OFFLOAD)
                    with m.If(piece.last):
                        m.d.sync += refused.eq(0)

            with m.State("SIZE"):
                m.d.sync += [
                    final.eq(payload_left <= offload.mss),
                    size.eq(Mux(payload_left <= offload.mss, payload_left, offload.mss)),
                ]
                m.next = "ROOM"

            with m.State("ROOM"):
                length, room = Signal(16), Signal(range(self._words + 1))
                m.d.comb += [
                    length.eq(headers + size),
                    room.eq(reserved_words(length, self._config.beat_bytes)),
                ]
                with m.If(job_slot & piece_slot & (room <= free_words)):
                    m.d.comb += reserved.eq(room)
                    segment = self.jobs.payload
                    m.d.sync += [
                        self.jobs.valid.eq(1),
                        segment.eq(job),
                        segment.length.eq(length),
                        segment.end.eq(0),
                        segment.offload.insert_l4_checksum.eq(1),
                        segment.offload.checksum_start.eq(offload.l2_length + offload.l3_length),
                        segment.offload.checksum_offset.eq(TCP_CHECKSUM),
                        segment.segment.present.eq(1),
                        segment.segment.first.eq(index == 0),
                        segment.segment.last.eq(final),
                        segment.segment.index.eq(index),
                        segment.segment.offset.eq(offset),
                        segment.segment.l4_bytes.eq(offload.l4_length + size),
                        size_left.eq(size),
                        payload_left.eq(payload_left - size),
                    ]
                    self._push(m, headers_address, headers)
                    m.next = "PIECES"

            with m.State("PIECES"):
                taken, fills = Signal(16), Signal()
                m.d.comb += [
                    fills.eq(left >= size_left),
                    taken.eq(Mux(fills, size_left, left)),
                ]
                with m.If(left == 0):
                    m.d.comb += self.pieces_in.ready.eq(1)
                    m.d.sync += [
                        current.eq(piece),
                        address.eq(piece.address),
                        left.eq(Mux(self.pieces_in.valid & piece.read, piece.length, 0)),
                    ]
                with m.Elif(piece_slot):
                    self._push(m, address, taken, last=fills)
                    m.d.sync += [
                        address.eq(address + taken),
                        left.eq(left - taken),
                        size_left.eq(size_left - taken),
                    ]
                    with m.If(fills):
                        m.d.sync += [index.eq(index + 1), offset.eq(offset + size)]
                        m.next = "SIZE"
                        with m.If(final):
                            m.next = "CLOSE"

            with m.State("CLOSE"):
                with m.If(job_slot & piece_slot):
                    m.d.comb += self.jobs_in.ready.eq(1)
                    m.d.sync += [
                        self.jobs.valid.eq(1),
                        self.jobs.payload.eq(job),
                        self.jobs.payload.closing.eq(1),
                        self.pieces.valid.eq(1),
                        self.pieces.payload.eq(current),
                        self.pieces.payload.read.eq(0),
                    ]
                    m.next = "PASS"
        return m

    def _push(self, m: Module, address, length, last=0) -> None:
        """A piece to read, without completion."""
        piece = self.pieces.payload
        m.d.sync += [
            self.pieces.valid.eq(1),
            piece.address.eq(address),
            piece.length.eq(length),
            piece.read.eq(1),
            piece.report.eq(0),
            piece.last.eq(last),
        ]
