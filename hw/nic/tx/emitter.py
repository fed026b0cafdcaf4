# SPDX-License-Identifier: BSD-2-Clause
"""From taken descriptors to jobs and their pieces."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import ENTRY_BYTES, INDEX_BITS, CompletionError, TxContext, TxDescriptor, TxDescriptorType
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.tx.layouts import TxJob, TxPiece

JOBS = 16


class TakenDescriptor(data.StructLayout):
    """A descriptor of a job.

    Members
    -------
    queue : its queue
    index : its free-running ring index
    last : the job ends here
    length, unsent, end : of the job: see :class:`hw.nic.tx.framer.FrameRecord`
    aborted : the job is an aborted one, and the descriptor none
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "queue": range(config.queues),
                "index": INDEX_BITS,
                "last": 1,
                "length": 16,
                "unsent": 1,
                "end": 1,
                "aborted": 1,
            }
        )


class TxEmitter(wiring.Component):
    """Read taken descriptors from the cache, and emit them as pieces, and each job with its last piece.

    A descriptor is read in the cycle in which it is taken; its piece is on ``pieces`` six cycles later. One a cycle.

    Members
    -------
    taken : stream of :class:`TakenDescriptor`; the cache is asked for the descriptor that is offered
    read_enable, entry : as in :class:`hw.nic.interfaces.DescriptorPort`; nothing is read while it is low
    jobs, pieces : what was taken; a job's pieces are there when the job is
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "taken": In(stream.Signature(TakenDescriptor(config))),
                "read_enable": Out(1),
                "entry": In(8 * ENTRY_BYTES),
                "jobs": Out(stream.Signature(TxJob(config))),
                "pieces": Out(stream.Signature(TxPiece(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        # A whole frame's pieces wait for its job, while those of the frame before leave.
        m.submodules.jobs = jobs = CommitFifo(TxJob(config), JOBS)
        m.submodules.pieces = pieces = CommitFifo(TxPiece(config), config.fetch_depth)
        connect(m, flipped(self.jobs), jobs.output)
        connect(m, flipped(self.pieces), pieces.output)

        moves, read, here = Signal(), Signal(), Signal()
        asked, taken = Signal(TakenDescriptor(config)), Signal(TakenDescriptor(config))
        m.d.comb += [
            moves.eq(jobs.room & pieces.room),
            self.taken.ready.eq(moves),
            self.read_enable.eq(moves),
        ]
        with m.If(moves):
            m.d.sync += [
                read.eq(self.taken.valid),
                asked.eq(self.taken.payload),
                here.eq(read),
                taken.eq(asked),
                taken.index.eq(asked.index + 1),
            ]

        entry = Signal(TxDescriptor)
        is_data, piece_pushed, job_pushed = Signal(), Signal(), Signal()
        job, piece = jobs.payload, pieces.payload
        m.d.comb += [
            entry.eq(self.entry),
            is_data.eq((entry.type == TxDescriptorType.DATA) & ~taken.aborted),
            piece_pushed.eq(here & moves),
            job_pushed.eq(piece_pushed & taken.last),
            pieces.push.eq(piece_pushed),
            pieces.commit.eq(piece_pushed),
            piece.address.eq(entry.address),
            piece.length.eq(entry.length),
            piece.buffer_id.eq(entry.buffer_id),
            piece.index.eq(taken.index),
            piece.read.eq(is_data),
            piece.report.eq(is_data & entry.flags.report),
            piece.last.eq(taken.last),
            jobs.push.eq(job_pushed),
            jobs.commit.eq(job_pushed),
            job.queue.eq(taken.queue),
            job.length.eq(taken.length),
            job.error.eq(Mux(taken.unsent, CompletionError.FRAME_LENGTH, CompletionError.NONE)),
            job.aborted.eq(taken.aborted),
            job.end.eq(taken.end),
        ]
        if config.pools:
            m.d.comb += [piece.recycle.eq(is_data & entry.flags.recycle), piece.pool.eq(entry.pool)]
        if config.tx_offload:
            self._offload(m, entry, piece, job.offload, piece_pushed)
        if config.serial_width:
            serial = Signal(config.serial_width)
            m.d.comb += job.serial.eq(serial)
            with m.If(job_pushed):
                m.d.sync += serial.eq(serial + 1)
        return m

    def _offload(self, m: Module, entry: data.View, piece: data.View, offload: data.View, pushed: Signal) -> None:
        """What the last context before it and the job's last descriptor ask for."""
        context, seen, here = Signal(TxContext), Signal(), Signal(TxContext)
        m.d.comb += here.eq(self.entry)
        with m.If(pushed & piece.last):
            m.d.sync += seen.eq(0)
        with m.Elif(pushed & (entry.type == TxDescriptorType.CONTEXT)):
            m.d.sync += [context.eq(here), seen.eq(1)]
        m.d.comb += [
            offload.insert_ip_checksum.eq(entry.flags.insert_ip_checksum),
            offload.insert_l4_checksum.eq(entry.flags.insert_l4_checksum),
            offload.insert_vlan.eq(entry.flags.insert_vlan),
            offload.has_context.eq(seen),
            offload.checksum_start.eq(entry.checksum_start),
            offload.checksum_offset.eq(entry.checksum_offset),
            offload.l2_length.eq(context.l2_length),
            offload.l3_length.eq(context.l3_length),
            offload.vlan.eq(context.vlan),
        ]
        if self._config.segmentation:
            early_report = Signal()
            with m.If(pushed):
                m.d.sync += early_report.eq(~piece.last & (early_report | piece.report))
            m.d.comb += [
                offload.segment.eq(entry.flags.segment),
                offload.mss.eq(context.mss),
                offload.l4_length.eq(context.l4_length),
                offload.early_report.eq(early_report),
            ]
