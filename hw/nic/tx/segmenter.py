# SPDX-License-Identifier: BSD-2-Clause
"""Segmentation requests become segments."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from hw.abi.rings import CompletionError
from hw.bus.skid import SkidBuffer
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

    Jobs take three cycles. An ordinary job's pieces pass one a cycle. A request takes four cycles, a segment four and
    two for each piece of memory that it touches, three where a descriptor ends. All handshakes come from registers but
    that of ``pieces_in``.

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
        m.submodules.jobs_skid = jobs_skid = SkidBuffer(TxJob(self._config))
        m.submodules.pieces_skid = pieces_skid = SkidBuffer(TxPiece())
        connect(m, jobs_skid.output, flipped(self.jobs))
        connect(m, pieces_skid.output, flipped(self.pieces))
        jobs, pieces = jobs_skid.input, pieces_skid.input

        # A job, and the one after it.
        shape = data.StructLayout({"job": TxJob(self._config), "headers": 9, "cut": 1, "words": range(self._words + 1)})
        current, following = Signal(shape), Signal(shape)
        valid, following_valid, load = Signal(), Signal(), Signal()
        new = self.jobs_in.payload
        sound = (new.error == CompletionError.NONE) & new.end & ~new.aborted
        m.d.comb += self.jobs_in.ready.eq(~following_valid | load)
        with m.If(self.jobs_in.ready):
            m.d.sync += [
                following_valid.eq(self.jobs_in.valid),
                following.job.eq(new),
                following.headers.eq(new.offload.l2_length + new.offload.l3_length + new.offload.l4_length),
                following.cut.eq(sound & new.offload.segment),
                following.words.eq(
                    Mux(sound & ~new.offload.segment, reserved_words(new.length, self._config.beat_bytes), 0)
                ),
            ]
        done = Signal()
        m.d.comb += load.eq(~valid | done)
        begun = Signal()
        with m.If(load):
            m.d.sync += [valid.eq(following_valid), current.eq(following), begun.eq(0)]

        fits, reserve, words = Signal(), Signal(), Signal(range(self._words + 1))
        self._count_words(m, fits, load & following_valid, following.words, reserve, words)
        self._cut(m, valid, current, begun, done, fits, reserve, words, jobs, pieces)
        return m

    def _count_words(self, m: Module, fits, load, load_words, reserve, words) -> None:
        """Room in the packet buffer, without what the job at hand needs: it fits if that is not negative."""
        room = Signal(signed(bits_for(self._words) + 1), init=self._words)
        freed, back = Signal(range(self._words + 1)), Signal(range(self._words + 1))  # and not counted in `room` yet
        m.d.comb += fits.eq(room >= 0)
        m.d.sync += [freed.eq(self.released + self.returned), back.eq(back + freed)]
        with m.If(load):
            m.d.sync += room.eq(room - load_words)
        with m.Elif(reserve):
            m.d.sync += room.eq(room - words)
        with m.Else():
            m.d.sync += [room.eq(room + back), back.eq(freed)]

    def _cut(self, m: Module, valid, current, begun, done, fits, reserve, words, jobs, pieces) -> None:
        """Pieces of ordinary jobs, and of requests, until these are ``done``."""
        job, piece, offload = current.job, self.pieces_in.payload, current.job.offload
        refused = Signal()  # a request with its headers in several pieces
        spare = Signal(signed(17))  # bytes of the first piece behind the headers
        headers_address, payload_left = Signal(64), Signal(16)
        # A descriptor, and what is left of it. The sum of an address carries into its upper half a cycle later.
        descriptor, left, empty = Signal(TxPiece()), Signal(16), Signal()
        low, high, carry = Signal(32), Signal(32), Signal()
        # Of the segment: its payload, what of it has no piece yet, its length, that of its TCP header and payload.
        size, size_left, length, l4_bytes = Signal(16), Signal(16), Signal(16), Signal(16)
        index, offset, first, final, next_final = Signal(16), Signal(16), Signal(), Signal(), Signal()
        fills, even = Signal(), Signal()  # the descriptor has bytes enough, and none more
        bytes_ = Signal(16)
        m.d.comb += [jobs.payload.eq(job), pieces.payload.eq(piece)]
        m.d.sync += high.eq(high + carry)
        m.d.sync += carry.eq(0)

        with m.FSM():
            with m.State("PASS"):
                with m.If(valid & self.pieces_in.valid):
                    with m.If(current.cut):
                        m.d.comb += self.pieces_in.ready.eq(~piece.read)
                        with m.If(piece.read):
                            m.d.sync += spare.eq(piece.length - current.headers)
                            m.next = "HEADERS"
                    with m.Elif(pieces.ready & (begun | (jobs.ready & fits))):
                        m.d.comb += [
                            self.pieces_in.ready.eq(1),
                            pieces.valid.eq(1),
                            jobs.valid.eq(~begun),
                            done.eq(piece.last),
                        ]
                        m.d.sync += begun.eq(~piece.last)
                with m.If(refused):
                    m.d.comb += jobs.payload.error.eq(CompletionError.OFFLOAD)
                with m.If(done):
                    m.d.sync += refused.eq(0)

            with m.State("HEADERS"):
                with m.If(spare < 0):
                    m.d.sync += [refused.eq(1), current.cut.eq(0)]
                    m.next = "PASS"
                with m.Else():
                    m.d.comb += self.pieces_in.ready.eq(1)
                    m.d.sync += [
                        headers_address.eq(piece.address),
                        payload_left.eq(job.length - current.headers),
                        descriptor.eq(piece),
                        Cat(low, carry).eq(piece.address[:32] + current.headers),
                        high.eq(piece.address[32:]),
                        left.eq(spare),
                        empty.eq(spare == 0),
                        index.eq(0),
                        offset.eq(0),
                        first.eq(1),
                    ]
                    m.next = "COUNT"

            with m.State("COUNT"):
                m.d.sync += next_final.eq(payload_left <= offload.mss)
                m.next = "SIZE"

            with m.State("SIZE"):
                m.d.comb += bytes_.eq(Mux(next_final, payload_left, offload.mss))
                m.d.sync += [
                    final.eq(next_final),
                    size.eq(bytes_),
                    size_left.eq(bytes_),
                    length.eq(current.headers + bytes_),
                    payload_left.eq(payload_left - bytes_),
                ]
                m.next = "WORDS"

            with m.State("WORDS"):
                m.d.sync += [
                    words.eq(reserved_words(length, self._config.beat_bytes)),
                    l4_bytes.eq(offload.l4_length + size),
                    next_final.eq(payload_left <= offload.mss),
                ]
                m.next = "RESERVE"

            with m.State("RESERVE"):
                m.d.comb += reserve.eq(1)
                m.next = "START"

            with m.State("START"):
                segment = jobs.payload
                m.d.comb += [
                    segment.length.eq(length),
                    segment.end.eq(0),
                    segment.offload.insert_l4_checksum.eq(1),
                    segment.offload.checksum_start.eq(offload.l2_length + offload.l3_length),
                    segment.offload.checksum_offset.eq(TCP_CHECKSUM),
                    segment.segment.present.eq(1),
                    segment.segment.first.eq(first),
                    segment.segment.last.eq(final),
                    segment.segment.index.eq(index),
                    segment.segment.offset.eq(offset),
                    segment.segment.l4_bytes.eq(l4_bytes),
                ]
                _describe(m, pieces.payload, headers_address, current.headers)
                with m.If(jobs.ready & pieces.ready & fits):
                    m.d.comb += [jobs.valid.eq(1), pieces.valid.eq(1)]
                    m.next = "MEASURE"

            with m.State("MEASURE"):
                with m.If(empty):
                    m.d.comb += self.pieces_in.ready.eq(1)
                    m.d.sync += [
                        descriptor.eq(piece),
                        Cat(low, high).eq(piece.address),
                        left.eq(piece.length),
                        empty.eq(~(self.pieces_in.valid & piece.read)),
                    ]
                with m.Else():
                    m.d.sync += [fills.eq(left >= size_left), even.eq(left == size_left)]
                    m.next = "TAKE"

            with m.State("TAKE"):
                m.d.comb += bytes_.eq(Mux(fills, size_left, left))
                _describe(m, pieces.payload, Cat(low, high), bytes_, last=fills)
                with m.If(pieces.ready):
                    m.d.comb += pieces.valid.eq(1)
                    m.d.sync += [
                        Cat(low, carry).eq(low + bytes_),
                        left.eq(left - bytes_),
                        size_left.eq(size_left - bytes_),
                        empty.eq(~fills | even),
                    ]
                    m.next = "MEASURE"
                    with m.If(fills):
                        m.d.sync += [index.eq(index + 1), offset.eq(offset + size), first.eq(0)]
                        m.next = "SIZE"
                        with m.If(final):
                            m.next = "CLOSE"

            with m.State("CLOSE"):
                m.d.comb += [
                    jobs.payload.closing.eq(1),
                    pieces.payload.eq(descriptor),
                    pieces.payload.read.eq(0),
                ]
                with m.If(jobs.ready & pieces.ready):
                    m.d.comb += [jobs.valid.eq(1), pieces.valid.eq(1), done.eq(1)]
                    m.next = "PASS"


def _describe(m: Module, piece, address, length, last=0) -> None:
    """A piece to read, without completion."""
    m.d.comb += [
        piece.address.eq(address),
        piece.length.eq(length),
        piece.read.eq(1),
        piece.report.eq(0),
        piece.last.eq(last),
    ]
