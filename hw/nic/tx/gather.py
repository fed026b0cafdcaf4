# SPDX-License-Identifier: BSD-2-Clause
"""From host memory into the TX packet buffer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from hw.abi.rings import CompletionError, TxCompletion
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import CompletionPort, QueueTxEvent, ReadPort, TracePoint
from hw.nic.tx.checksums import TxChecksums
from hw.nic.tx.header_edit import EDIT_STAGES, TxHeaderEdit
from hw.nic.tx.layouts import PADDED_FRAME, TxFrame, TxJob, TxPiece, reserved_words


class TxGather(wiring.Component):
    """Read a job's pieces, join them to a frame, and complete them.

    Reads run ahead: a command is sent as soon as the piece is there, up to twice ``config.outstanding_reads`` pieces
    without their bytes, across frames and queues. Bytes are written to the packet buffer as they come, one beat a
    cycle, shifted to follow the piece before; a frame whose last beat crosses a word costs one cycle more. The
    scheduler has reserved room for all of it. A frame appears on ``frames`` when its last byte is in the buffer and,
    with ``config.tx_offload``, its checksums are known: see :class:`hw.nic.tx.checksums.TxChecksums`.

    If a piece cannot be read, its frame is not sent, its words are given back with ``returned`` and the next frame
    takes them; likewise those of a frame refused with OFFLOAD. A piece that asked for a completion gets it when its
    bytes have been read, in the order of the ring; from the first piece on that could not be read it carries
    READ_FAULT, in a frame that was not to be sent FRAME_LENGTH or OFFLOAD. Pieces that did not ask get none, whatever
    happened; the queue's counters tell.

    With ``config.segmentation`` words pass :class:`hw.nic.tx.header_edit.TxHeaderEdit`. A request's last job says what
    became of it, at the latest a few cycles after the request's last word: once a piece of it cannot be read, neither
    its segment nor a later one is sent, and those before are.

    Members
    -------
    jobs, pieces : from the scheduler
    read : to the DMA reader
    write_enable, write_address, write_data : to the packet buffer
    returned : words of frames that are not sent, the cycle after
    entry : to the completion writer, as :class:`hw.nic.interfaces.CompletionPort`
    frames : stream of :class:`hw.nic.tx.layouts.TxFrame`
    event : every job's end, the cycle after; a request counts once
    finished, finished_queue : a job is done; its last entry is on ``entry`` from the next cycle
    gathered : trace point: a piece's bytes were read, with its buffer's id
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        members = {
            "jobs": In(stream.Signature(TxJob(config))),
            "pieces": In(stream.Signature(TxPiece())),
            "read": Out(ReadPort(config)),
            "write_enable": Out(1),
            "write_address": Out(range(self._words)),
            "write_data": Out(config.data_width),
            "returned": Out(range(self._words + 1)),
            "entry": CompletionPort(config).members["entry"],
            "frames": Out(stream.Signature(TxFrame(config))),
            "event": Out(QueueTxEvent(config)),
            "finished": Out(1),
            "finished_queue": Out(range(config.queues)),
        }
        if config.serial_width:
            members["gathered"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.pending = pending = CommitFifo(
            data.StructLayout({"job": TxJob(config), "piece": TxPiece()}), 2 << ceil_log2(config.outstanding_reads)
        )
        # One entry for each frame that the buffer can hold, so that bytes read never wait for the wire.
        words_per_frame = -(-PADDED_FRAME // config.beat_bytes)
        m.submodules.frames = frames = CommitFifo(TxFrame(config), self._words // words_per_frame)
        connect(m, flipped(self.frames), frames.output)
        self._issue(m, pending)
        self._collect(m, pending, frames)
        return m

    def _issue(self, m: Module, pending: CommitFifo) -> None:
        """A read command for each piece that has something to read."""
        job, piece = self.jobs.payload, self.pieces.payload
        ready, wanted, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            ready.eq(self.jobs.valid & self.pieces.valid & pending.room),
            wanted.eq(piece.read & (job.error == CompletionError.NONE)),
            self.read.command.valid.eq(ready & wanted),
            self.read.command.payload.address.eq(piece.address),
            self.read.command.payload.length.eq(piece.length),
            self.read.command.payload.queue.eq(job.queue),
            moves.eq(ready & (~wanted | self.read.command.ready)),
            pending.push.eq(moves),
            pending.commit.eq(moves),
            pending.payload.job.eq(job),
            pending.payload.piece.eq(piece),
            pending.payload.piece.read.eq(wanted),
            self.pieces.ready.eq(moves),
            self.jobs.ready.eq(moves & piece.last),
        ]

    def _collect(self, m: Module, pending: CommitFifo, frames: CommitFifo) -> None:
        """Bytes into words, pieces into completions, jobs into frames."""
        config = self._config
        width, beat_bytes = config.data_width, config.beat_bytes
        job, piece = pending.output.payload.job, pending.output.payload.piece
        beat = self.read.data.payload

        is_segment = job.segment.present if config.segmentation else 0
        awaits_verdict, verdict = Signal(), Signal()  # on a request's headers
        spilled = Signal()  # one more word of the last frame waits in `held`
        can_complete, takes_beat, piece_done, job_done = (
            Signal(name=n) for n in ("can_complete", "takes_beat", "piece_done", "job_done")
        )
        failed, failure = Signal(), Signal()
        m.d.comb += [
            can_complete.eq((~piece.report | ~self.entry.valid | self.entry.ready) & ~awaits_verdict),
            self.read.data.ready.eq(pending.output.valid & piece.read & ~spilled & (~beat.last | can_complete)),
            takes_beat.eq(self.read.data.valid & self.read.data.ready),
            piece_done.eq(Mux(piece.read, takes_beat & beat.last, pending.output.valid & can_complete & ~spilled)),
            pending.output.ready.eq(piece_done),
            job_done.eq(piece_done & piece.last),
            failure.eq(failed | (takes_beat & beat.last & beat.error)),
        ]
        with m.If(piece_done):
            m.d.sync += failed.eq(failure & ~(piece.last & ~is_segment))

        # `held` has the frame's last `offset` bytes, which do not fill a word yet; zero above them.
        held, joined = Signal(width), Signal(2 * width)
        offset, fill = Signal(range(beat_bytes)), Signal(range(2 * beat_bytes))
        start, tail, after = (Signal(range(self._words), name=n) for n in ("start", "tail", "after"))
        write_enable, write_data = Signal(), Signal(width)
        frame_ends, spills = Signal(), Signal()
        mask = (1 << (beat.count << 3)) - 1
        m.d.comb += [
            joined.eq(Mux(offset == 0, 0, held) | ((beat.data & mask) << (offset << 3))),
            fill.eq(offset + beat.count),
            frame_ends.eq(takes_beat & beat.last & piece.last),
            spills.eq(frame_ends & (fill > beat_bytes) & ~failure),
            write_enable.eq(spilled | (takes_beat & ((fill >= beat_bytes) | frame_ends))),
            write_data.eq(Mux(spilled, held, joined)),
            after.eq(tail + write_enable),
        ]
        m.d.sync += [spilled.eq(spills), tail.eq(after)]
        with m.If(takes_beat):
            m.d.sync += [
                held.eq(Mux(fill >= beat_bytes, joined[width:], joined[:width])),
                offset.eq(Mux(frame_ends, 0, fill)),
            ]
        with m.If(frame_ends):
            with m.If(failure):
                m.d.sync += tail.eq(start)
            with m.Else():
                m.d.sync += start.eq(after + spills)

        unread = job.error != CompletionError.NONE
        # The segmenter sets nothing aside for frames that are refused.
        refused = 0 if config.segmentation else job.error == CompletionError.OFFLOAD
        reserved = reserved_words(job.length, beat_bytes)
        error = Signal(CompletionError)
        m.d.comb += error.eq(Mux(verdict, CompletionError.OFFLOAD, CompletionError.NONE))
        with m.If(unread):
            m.d.comb += error.eq(job.error)
        with m.Elif(failure):
            m.d.comb += error.eq(CompletionError.READ_FAULT)
        m.d.comb += [
            self.write_enable.eq(write_enable),
            self.write_address.eq(tail),
            self.write_data.eq(write_data),
            frames.push.eq(frame_ends & ~failure),
            frames.commit.eq(frames.push),
            frames.payload.length.eq(job.length),
            frames.payload.serial.eq(job.serial),
        ]
        if config.tx_offload:
            m.submodules.checksums = checksums = TxChecksums(config)
            m.d.comb += [frames.push.eq(checksums.strobe), frames.payload.eq(checksums.frame)]
            started, last = Signal(), Signal()
            m.d.comb += last.eq(spilled | (frame_ends & ~spills & ~failure))
            with m.If(write_enable):
                m.d.sync += started.eq(~last & ~(frame_ends & failure))
            entrance = checksums
            if config.segmentation:
                m.submodules.edit = entrance = self._edit(m, checksums, tail)
                since = Signal(range(EDIT_STAGES + 2))  # a word came; its verdict is there when this is 0
                with m.If(write_enable):
                    m.d.sync += since.eq(EDIT_STAGES + 1)
                with m.Elif(since != 0):
                    m.d.sync += since.eq(since - 1)
                m.d.comb += [
                    awaits_verdict.eq(job.closing & (since != 0)),
                    verdict.eq(job.closing & entrance.refused),
                ]
            m.d.comb += [
                entrance.word.strobe.eq(write_enable),
                entrance.word.data.eq(write_data),
                entrance.word.first.eq(~started),
                entrance.word.last.eq(last),
                entrance.job.eq(job),
            ]
        m.d.comb += [
            self.finished.eq(job_done & ~is_segment),
            self.finished_queue.eq(job.queue),
        ]
        m.d.sync += [
            self.returned.eq(Mux((frame_ends & failure) | (job_done & refused), reserved, 0)),
            self.event.strobe.eq(job_done & job.end),
            self.event.queue.eq(job.queue),
            self.event.length.eq(job.length),
            self.event.error.eq(error),
            self.event.aborted.eq(job.aborted),
        ]

        completion = Signal(TxCompletion)
        m.d.comb += [
            completion.buffer_id.eq(piece.buffer_id),
            completion.index.eq(piece.index),
            completion.error.eq(error),
        ]
        with m.If(piece_done & piece.report):
            m.d.sync += [
                self.entry.valid.eq(1),
                self.entry.payload.queue.eq(job.queue),
                self.entry.payload.entry.eq(completion),
            ]
        with m.Elif(self.entry.ready):
            m.d.sync += self.entry.valid.eq(0)
        if config.serial_width:
            m.d.sync += [
                self.gathered.strobe.eq(piece_done & piece.read),
                self.gathered.serial.eq(job.serial),
                self.gathered.queue.eq(job.queue),
                self.gathered.detail.eq(piece.buffer_id),
            ]

    def _edit(self, m: Module, checksums: TxChecksums, address: Signal) -> TxHeaderEdit:
        """Words pass it on their way to the packet buffer and the checksums."""
        edit = TxHeaderEdit(self._config)
        m.d.comb += [
            edit.address.eq(address),
            checksums.word.strobe.eq(edit.edited.strobe),
            checksums.word.data.eq(edit.edited.data),
            checksums.word.first.eq(edit.edited.first),
            checksums.word.last.eq(edit.edited.last),
            checksums.job.eq(edit.edited_job),
            checksums.discard.eq(edit.discard),
            self.write_enable.eq(edit.edited.strobe),
            self.write_address.eq(edit.edited_address),
            self.write_data.eq(edit.edited.data),
        ]
        return edit
