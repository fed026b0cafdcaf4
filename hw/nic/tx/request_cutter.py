# SPDX-License-Identifier: BSD-2-Clause
"""One request's segments, and the pieces of memory that they are made of."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.tx.layouts import TxJob, TxPiece, reserved_words

HEADERS_BITS = 9
TCP_CHECKSUM = 16  #: bytes from a TCP header's start to its checksum (RFC 9293)


class RequestCutter(wiring.Component):
    """Cut requests into jobs, as :class:`hw.nic.tx.segmenter.TxSegmenter` says.

    A request takes four cycles, a segment four and two for each piece of memory that it touches, three where a
    descriptor ends.

    Members
    -------
    valid, request, headers : a request and the bytes of its headers, from the cycle after the last one's end on
    descriptors : stream of its pieces
    job_room, piece_room : a job, a piece can be pushed
    job_push, job, piece_push, piece : to the gather; with or before a job's pieces its job
    reserve, words : so much room is to be set aside for the next job
    fits : there is, from the next cycle on
    refused : the headers are not all in the first piece, which is left there; the request ends
    closed : all is pushed, and the request ends
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "request": In(TxJob(config)),
                "headers": In(HEADERS_BITS),
                "descriptors": In(stream.Signature(TxPiece(config))),
                "job_room": In(1),
                "piece_room": In(1),
                "job_push": Out(1),
                "job": Out(TxJob(config)),
                "piece_push": Out(1),
                "piece": Out(TxPiece(config)),
                "reserve": Out(1),
                "words": Out(range(config.tx_buffer_bytes // config.beat_bytes + 1)),
                "fits": In(1),
                "refused": Out(1),
                "closed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request, offload, headers = self.request, self.request.offload, self.headers
        descriptors, given = self.descriptors, self.descriptors.payload
        spare = Signal(signed(17))  # bytes of the first piece behind the headers
        headers_address, payload_left = Signal(64), Signal(16)
        # A descriptor, and what is left of it. Of its address, `step` is still to be added.
        descriptor, left, empty = Signal(TxPiece(self._config)), Signal(16), Signal()
        address, step = Signal(64), Signal(16)
        # Of the segment: its payload, what of it has no piece yet, its length, that of its TCP header and payload.
        size, size_left, length, l4_bytes = Signal(16), Signal(16), Signal(16), Signal(16)
        index, offset, first, final, next_final = Signal(16), Signal(16), Signal(), Signal(), Signal()
        fills, even = Signal(), Signal()  # the descriptor has bytes enough, and none more
        next_size, taken = Signal(16), Signal(16)
        room = self.job_room & self.piece_room
        m.d.comb += [
            next_size.eq(Mux(next_final, payload_left, offload.mss)),
            taken.eq(Mux(fills, size_left, left)),
        ]
        m.d.sync += [address.eq(address + step), step.eq(0)]

        closes = Signal()  # else what is pushed belongs to a segment
        self._segment(m, index, offset, first, final, length, l4_bytes)
        m.d.comb += [
            self.piece.read.eq(1),
            self.piece.address.eq(address),
            self.piece.length.eq(taken),
            self.piece.last.eq(fills),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += spare.eq(given.length - headers)
                m.d.comb += descriptors.ready.eq(self.valid & ~given.read)
                with m.If(self.valid & descriptors.valid & given.read):
                    m.next = "HEADERS"

            with m.State("HEADERS"):
                m.d.sync += [
                    headers_address.eq(given.address),
                    payload_left.eq(request.length - headers),
                    descriptor.eq(given),
                    address.eq(given.address),
                    step.eq(headers),
                    left.eq(spare),
                    empty.eq(spare == 0),
                    index.eq(0),
                    offset.eq(0),
                    first.eq(1),
                ]
                with m.If(spare < 0):
                    m.d.comb += self.refused.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += descriptors.ready.eq(1)
                    m.next = "COUNT"

            with m.State("COUNT"):
                m.d.sync += next_final.eq(payload_left <= offload.mss)
                m.next = "SIZE"

            with m.State("SIZE"):
                m.d.sync += [
                    final.eq(next_final),
                    size.eq(next_size),
                    size_left.eq(next_size),
                    length.eq(headers + next_size),
                    payload_left.eq(payload_left - next_size),
                ]
                m.next = "WORDS"

            with m.State("WORDS"):
                m.d.sync += [
                    self.words.eq(reserved_words(length, self._config.beat_bytes)),
                    l4_bytes.eq(offload.l4_length + size),
                    next_final.eq(payload_left <= offload.mss),
                ]
                m.next = "RESERVE"

            with m.State("RESERVE"):
                m.d.comb += self.reserve.eq(1)
                m.next = "START"

            with m.State("START"):
                m.d.comb += [
                    self.piece.address.eq(headers_address),
                    self.piece.length.eq(headers),
                    self.piece.last.eq(0),
                ]
                with m.If(room & self.fits):
                    m.d.comb += [self.job_push.eq(1), self.piece_push.eq(1)]
                    m.next = "MEASURE"

            with m.State("MEASURE"):
                m.d.sync += [fills.eq(left >= size_left), even.eq(left == size_left)]
                with m.If(~empty):
                    m.next = "TAKE"
                with m.Else():
                    m.d.comb += descriptors.ready.eq(1)
                    m.d.sync += [
                        descriptor.eq(given),
                        address.eq(given.address),
                        left.eq(given.length),
                        empty.eq(~(descriptors.valid & given.read)),
                    ]

            with m.State("TAKE"):
                with m.If(self.piece_room):
                    m.d.comb += self.piece_push.eq(1)
                    # What is left of the longer one; of the other nothing is, and no more is read of it.
                    m.d.sync += [
                        step.eq(taken),
                        left.eq(left - size_left),
                        size_left.eq(size_left - left),
                        empty.eq(~fills | even),
                        offset.eq(offset + Mux(fills, size, 0)),
                        index.eq(index + fills),
                        first.eq(first & ~fills),
                    ]
                    m.next = "MEASURE"
                    with m.If(fills):
                        m.next = "SIZE"
                    with m.If(fills & final):
                        m.next = "CLOSE"

            with m.State("CLOSE"):
                m.d.comb += [closes.eq(1), self.piece.eq(descriptor), self.piece.read.eq(0)]
                with m.If(room):
                    m.d.comb += [self.job_push.eq(1), self.piece_push.eq(1), self.closed.eq(1)]
                    m.next = "IDLE"

        with m.If(closes):
            m.d.comb += [self.job.eq(request), self.job.closing.eq(1)]
        return m

    def _segment(self, m: Module, index, offset, first, final, length, l4_bytes) -> None:
        """The segment's job."""
        job, offload = self.job, self.request.offload
        m.d.comb += [
            job.eq(self.request),
            job.length.eq(length),
            job.end.eq(0),
            job.offload.insert_l4_checksum.eq(1),
            job.offload.checksum_start.eq(offload.l2_length + offload.l3_length),
            job.offload.checksum_offset.eq(TCP_CHECKSUM),
            job.segment.present.eq(1),
            job.segment.first.eq(first),
            job.segment.last.eq(final),
            job.segment.index.eq(index),
            job.segment.offset.eq(offset),
            job.segment.l4_bytes.eq(l4_bytes),
        ]
