# SPDX-License-Identifier: BSD-2-Clause
"""Segmentation requests become segments."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from hw.abi.rings import CompletionError
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.tx.layouts import TxJob, TxPiece, reserved_words
from hw.nic.tx.request_cutter import HEADERS_BITS, RequestCutter


class TxSegmenter(wiring.Component):
    """Cut requests into jobs of one frame each, and set room in the packet buffer aside for every job.

    A request of ``l2_length + l3_length + l4_length`` bytes of headers and *n* of payload becomes ceil(n / mss) jobs
    with ``segment.present``, each of which begins with the headers, read anew, and a closing job of a single piece that
    reads nothing and stands for the request: it carries the last descriptor's completion. So memory belongs to the NIC
    until the last segment has been read, and one segment costs one read of a line more than its payload. A request
    whose headers are not all in its first data descriptor gets the error OFFLOAD. Other jobs pass as they are.

    Room is set aside here, job by job, because a request may be longer than the buffer. Jobs that were taken behind it
    have no room yet, so those in front of it always leave, and room comes as the wire takes them.

    Jobs take three cycles. An ordinary job's pieces pass one a cycle; for a request see
    :class:`hw.nic.tx.request_cutter.RequestCutter`. ``jobs`` and ``pieces`` come from registers, both ways.

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
        jobs, pieces = stream.Signature(TxJob(config)), stream.Signature(TxPiece(config))
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
        m.submodules.pieces_skid = pieces_skid = SkidBuffer(TxPiece(self._config))
        connect(m, jobs_skid.output, flipped(self.jobs))
        connect(m, pieces_skid.output, flipped(self.pieces))
        jobs, pieces = jobs_skid.input, pieces_skid.input

        # A job, and the one after it.
        shape = data.StructLayout(
            {"job": TxJob(self._config), "headers": HEADERS_BITS, "cut": 1, "words": range(self._words + 1)}
        )
        current, following = Signal(shape), Signal(shape)
        following_valid, load = Signal(), Signal()
        new, piece = self.jobs_in.payload, self.pieces_in.payload
        offload, sound = new.offload, (new.error == CompletionError.NONE) & new.end & ~new.aborted
        m.d.comb += self.jobs_in.ready.eq(~following_valid | load)
        with m.If(self.jobs_in.ready):
            m.d.sync += [
                following_valid.eq(self.jobs_in.valid),
                following.job.eq(new),
                following.headers.eq(offload.l2_length + offload.l3_length + offload.l4_length),
                following.cut.eq(sound & offload.segment),
                following.words.eq(
                    Mux(sound & ~offload.segment, reserved_words(new.length, self._config.beat_bytes), 0)
                ),
            ]

        m.submodules.cutter = cutter = RequestCutter(self._config)
        ordinary, begun, refused, passes = (Signal(name=n) for n in ("ordinary", "begun", "refused", "passes"))
        fits = Signal()
        m.d.comb += [
            passes.eq(ordinary & self.pieces_in.valid & pieces.ready & (begun | (jobs.ready & fits))),
            load.eq(~(ordinary | cutter.valid) | (passes & piece.last)),
            cutter.request.eq(current.job),
            cutter.headers.eq(current.headers),
            cutter.descriptors.valid.eq(self.pieces_in.valid),
            cutter.descriptors.payload.eq(piece),
            cutter.job_room.eq(jobs.ready),
            cutter.piece_room.eq(pieces.ready),
            cutter.fits.eq(fits),
            self.pieces_in.ready.eq(passes | cutter.descriptors.ready),
            jobs.valid.eq((passes & ~begun) | cutter.job_push),
            jobs.payload.eq(Mux(ordinary, current.job, cutter.job)),
            pieces.valid.eq(passes | cutter.piece_push),
            pieces.payload.eq(Mux(ordinary, piece, cutter.piece)),
        ]
        with m.If(refused):
            m.d.comb += jobs.payload.error.eq(CompletionError.OFFLOAD)
        with m.If(load):
            m.d.sync += [
                current.eq(following),
                ordinary.eq(following_valid & ~following.cut),
                cutter.valid.eq(following_valid & following.cut),
                begun.eq(0),
                refused.eq(0),
            ]
        with m.If(passes & ~piece.last):
            m.d.sync += begun.eq(1)
        with m.If(cutter.closed | cutter.refused):
            m.d.sync += [cutter.valid.eq(0), ordinary.eq(cutter.refused), refused.eq(cutter.refused)]
        self._count_words(m, fits, load & following_valid, following.words, cutter)
        return m

    def _count_words(self, m: Module, fits, load, words, cutter: RequestCutter) -> None:
        """Room in the packet buffer, without what the next job needs: it fits if that is not negative."""
        room = Signal(signed(bits_for(self._words) + 1), init=self._words)
        freed, back = Signal(range(self._words + 1)), Signal(range(self._words + 1))  # and not counted in `room` yet
        m.d.comb += fits.eq(room >= 0)
        m.d.sync += [freed.eq(self.released + self.returned), back.eq(back + freed)]
        with m.If(load):
            m.d.sync += room.eq(room - words)
        with m.Elif(cutter.reserve):
            m.d.sync += room.eq(room - cutter.words)
        with m.Else():
            m.d.sync += [room.eq(room + back), back.eq(freed)]
