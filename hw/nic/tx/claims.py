# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that TX descriptors hand back are claimed from software."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.pools import RecycleError, RecycleSource
from hw.bus.fifo import StreamFifo
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.queue_register import QueueRegister
from hw.nic.recycle.interfaces import POOL_BITS, Claim, Verdict, claim_stream
from hw.nic.tx.layouts import TxJob, TxPiece

WAITING = 16  #: pieces that can wait for a verdict: one cell of distributed RAM, and enough for one a cycle


class NamedPiece(data.StructLayout):
    """A piece and what its claim depends on: its ``queue``, a bit for each of the ``pools`` that the queue may hand
    buffers back to, and ``segment``, if its frame is a request for segmentation."""

    def __init__(self, config: NicConfig):
        super().__init__({"piece": TxPiece(config), "queue": range(config.queues), "pools": config.pools, "segment": 1})


class TxClaims(wiring.Component):
    """Claim the buffer of each piece with ``recycle``, and let the piece go on when its verdict is there.

    A piece keeps ``recycle`` if its claim was granted: from then on the NIC owns its buffer, and hands it back when the
    piece is done, whatever becomes of its frame or its queue. If it was refused, the piece goes on without, and its
    frame is sent all the same: the buffer stays with whom it was. All else of a piece, and every job, goes on as it is.
    Frames that are not sent are claimed like others, for their descriptors were taken.

    A claim has the error POOL if register TX_POOLS of its queue does not name the pool, or there is none of that
    number; else SEGMENT if its frame is a request for segmentation, so none of that keeps ``recycle``; else NONE.

    A claim is offered two cycles after its piece was taken, and a piece goes on two cycles after its verdict, one
    without a claim three after it was taken, but none before the one before it. One piece a cycle, of one frame or of
    many, with verdicts up to ten cycles after their claims; :data:`WAITING` pieces wait in between, and their jobs.
    ``jobs`` and ``claims`` come from registers, both ways; ``pieces.valid`` and both inputs' ``ready`` do not.

    Members
    -------
    jobs_in, pieces_in : from the scheduler; a piece is taken when its job is there, too, and a job with its last piece
    jobs, pieces : to what comes next; a job is there not later than its first piece
    claims : of source TRANSMIT, in the order of the pieces
    verdict : on all claims; those of source TRANSMIT come in the order of ``claims``, one for each after it was taken
    queue_write : broadcast of register writes; TX_POOLS changes only while the queue is stopped
    """

    def __init__(self, config: NicConfig):
        self._config = config
        jobs, pieces = stream.Signature(TxJob(config)), stream.Signature(TxPiece(config))
        super().__init__(
            {
                "jobs_in": In(jobs),
                "pieces_in": In(pieces),
                "jobs": Out(jobs),
                "pieces": Out(pieces),
                "claims": Out(claim_stream(config)),
                "verdict": In(Verdict(config)),
                "queue_write": In(QueueWrite(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.jobs = jobs = StreamFifo(TxJob(config), WAITING)
        m.submodules.pieces = pieces = StreamFifo(TxPiece(config), WAITING)
        connect(m, jobs.output, flipped(self.jobs))

        # A piece goes to a register with what its queue may do, and its job on with the first.
        m.submodules.pools = pools = QueueRegister(config, "tx_pools", width=config.pools)
        connect(m, flipped(self.queue_write), pools.write)
        job, piece = self.jobs_in.payload, self.pieces_in.payload
        named, named_valid, goes_on = Signal(NamedPiece(config)), Signal(), Signal()
        begun, moves = Signal(), Signal()
        m.d.comb += [
            moves.eq(self.jobs_in.valid & self.pieces_in.valid & jobs.input.ready & (~named_valid | goes_on)),
            self.pieces_in.ready.eq(moves),
            self.jobs_in.ready.eq(moves & piece.last),
            jobs.input.valid.eq(moves & ~begun),
            jobs.input.payload.eq(job),
            pools.reads[0].queue.eq(job.queue),
        ]
        with m.If(moves):
            m.d.sync += [
                begun.eq(~piece.last),
                named.piece.eq(piece),
                named.queue.eq(job.queue),
                named.pools.eq(pools.reads[0].value),
                named.segment.eq(job.offload.segment & job.end if config.segmentation else 0),
            ]
        with m.If(~named_valid | goes_on):
            m.d.sync += named_valid.eq(moves)

        m.submodules.claims = claims = SkidBuffer(Claim(config))
        connect(m, claims.output, flipped(self.claims))
        claim, may_recycle = claims.input.payload, Signal()
        m.d.comb += [
            goes_on.eq(named_valid & pieces.input.ready & claims.input.ready),
            pieces.input.valid.eq(named_valid & claims.input.ready),
            pieces.input.payload.eq(named.piece),
            claims.input.valid.eq(goes_on & named.piece.recycle),
            may_recycle.eq(Cat(named.pools, Const(0, (1 << POOL_BITS) - config.pools)).bit_select(named.piece.pool, 1)),
            claim.pool.eq(named.piece.pool),
            claim.id.eq(named.piece.buffer_id),
            claim.queue.eq(named.queue),
            claim.source.eq(RecycleSource.TRANSMIT),
            claim.error.eq(
                Mux(may_recycle, Mux(named.segment, RecycleError.SEGMENT, RecycleError.NONE), RecycleError.POOL)
            ),
        ]
        self._judge(m, pieces)
        return m

    def _judge(self, m: Module, pieces: StreamFifo) -> None:
        """Pieces whose verdict is there go on."""
        # All pieces that wait, in the FIFO and in its output, may have theirs: none finds it full.
        m.submodules.verdicts = verdicts = StreamFifo(1, 2 * WAITING)
        waiting, judged = pieces.output, Signal()
        m.d.comb += [
            verdicts.input.valid.eq(self.verdict.strobe & (self.verdict.claim.source == RecycleSource.TRANSMIT)),
            verdicts.input.payload.eq(self.verdict.error == RecycleError.NONE),
            judged.eq(~waiting.payload.recycle | verdicts.output.valid),
            self.pieces.valid.eq(waiting.valid & judged),
            self.pieces.payload.eq(waiting.payload),
            self.pieces.payload.recycle.eq(waiting.payload.recycle & verdicts.output.payload),
            waiting.ready.eq(self.pieces.ready & judged),
            verdicts.output.ready.eq(self.pieces.ready & waiting.valid & waiting.payload.recycle),
        ]
