# SPDX-License-Identifier: BSD-2-Clause
"""From host memory into the TX packet buffer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import BUFFER_ID_BITS, INDEX_BITS, CompletionError, TxCompletion
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import Bytes, Command, CompletionPort, ReadPort, TracePoint
from hw.nic.recycle.interfaces import BufferEvent
from hw.nic.stats.events import QueueTxEvent
from hw.nic.tx.checksums import TxChecksums
from hw.nic.tx.delay import delay
from hw.nic.tx.frame_beats import BEATS_STAGES, FrameBeats
from hw.nic.tx.header_edit import EDIT_STAGES, TxHeaderEdit
from hw.nic.tx.layouts import PADDED_FRAME, TxFrame, TxFrameJob, TxJob, TxPiece, reserved_words
from hw.nic.tx.word_joiner import JOIN_STAGES, Placement, WordJoiner


class PendingPiece(data.StructLayout):
    """A piece whose bytes may be under way: of :class:`hw.nic.tx.layouts.TxPiece` what counts then, and where its bytes
    go. ``read``: it was commanded."""

    def __init__(self, config: NicConfig):
        members = {
            "buffer_id": BUFFER_ID_BITS,
            "index": INDEX_BITS,
            "read": 1,
            "report": 1,
            "last": 1,
            "placement": Placement(config),
        }
        super().__init__({**members, "recycle": 1, "pool": range(config.pools)} if config.pools else members)


class TxGather(wiring.Component):
    """Read a job's pieces, join them to a frame, and complete them.

    Reads run ahead: a command is sent as soon as the piece is there, up to twice ``config.outstanding_reads`` pieces,
    rounded up to a power of two, without their bytes, across frames and queues. Bytes are written to the packet buffer
    as they come, one beat a cycle, shifted to follow the piece before: a word four cycles after the beat that fills it
    was taken. A frame whose last beat crosses a word costs one cycle more. The scheduler has reserved room for all of
    it. A frame appears on ``frames`` when its last byte is in the buffer, its beats are counted
    (:class:`hw.nic.tx.frame_beats.FrameBeats`) and, with ``config.tx_offload``, its checksums are known
    (:class:`hw.nic.tx.checksums.TxChecksums`). ``read`` comes from registers, both ways.

    If a piece cannot be read, its frame is not sent, its words are given back with ``returned`` and the next frame
    takes them; likewise those of a frame refused with OFFLOAD. A piece that asked for a completion gets it when its
    bytes have been read, in the order of the ring; from the first piece on that could not be read it carries
    READ_FAULT, in a frame that was not to be sent FRAME_LENGTH or OFFLOAD. Pieces that did not ask get none, whatever
    happened; the queue's counters tell.

    With ``config.segmentation`` words pass :class:`hw.nic.tx.header_edit.TxHeaderEdit` first. A request's last job says
    what became of it, at the latest a few cycles after the request's last word: once a piece of it cannot be read,
    neither its segment nor a later one is sent, and those before are.

    Members
    -------
    jobs, pieces : from the scheduler
    read : to the DMA reader
    write_enable, write_address, write_data : to the packet buffer
    returned : words of frames that are not sent, each once
    entry : to the completion writer, as :class:`hw.nic.interfaces.CompletionPort`
    frames : stream of :class:`hw.nic.tx.layouts.TxFrame`
    framed : a frame was put there in the cycle before, behind all that wait
    event : every job's end, the cycle after; a request counts once
    finished, finished_queue : a job is done; its last entry was taken in the cycle before, or earlier
    recycled : only with ``config.pools``: a piece with ``recycle`` was done in the cycle before: its last byte has been
        read, or it was not to be read
    gathered : trace point: a piece's bytes were read, with its buffer's id
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        members = {
            "jobs": In(stream.Signature(TxJob(config))),
            "pieces": In(stream.Signature(TxPiece(config))),
            "read": Out(ReadPort(config)),
            "write_enable": Out(1),
            "write_address": Out(range(self._words)),
            "write_data": Out(config.data_width),
            "returned": Out(range(self._words + 1)),
            "entry": CompletionPort(config).members["entry"],
            "frames": Out(stream.Signature(TxFrame(config))),
            "framed": Out(1),
            "event": Out(QueueTxEvent(config)),
            "finished": Out(1),
            "finished_queue": Out(range(config.queues)),
        }
        if config.pools:
            members["recycled"] = Out(BufferEvent(config))
        if config.serial_width:
            members["gathered"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.pending = pending = CommitFifo(
            data.StructLayout({"job": TxJob(config), "piece": PendingPiece(config)}),
            2 << ceil_log2(config.outstanding_reads),
        )
        # One entry for each frame that the buffer can hold, so that bytes read never wait for the wire.
        words_per_frame = -(-PADDED_FRAME // config.beat_bytes)
        m.submodules.frames = frames = CommitFifo(TxFrame(config), self._words // words_per_frame)
        connect(m, flipped(self.frames), frames.output)
        m.submodules.joiner = joiner = WordJoiner(config)
        self._issue(m, pending)
        if config.segmentation:
            m.submodules.edit = edit = TxHeaderEdit(config)
            self._collect(m, pending, joiner, edit.refused)
            word, address, job = self._edit(m, joiner, edit)
        else:
            self._collect(m, pending, joiner)
            word, address, job = joiner.word, joiner.address, joiner.word_job
        m.d.comb += [
            self.write_enable.eq(word.strobe),
            self.write_address.eq(address),
            self.write_data.eq(word.data),
        ]
        if config.tx_offload:
            m.submodules.checksums = checksums = TxChecksums(config)
            connect(m, word, checksums.word)
            m.d.comb += [
                checksums.job.eq(job),
                frames.push.eq(checksums.strobe),
                frames.payload.eq(checksums.frame),
            ]
            if config.segmentation:
                m.d.comb += checksums.discard.eq(edit.discard)
        else:
            m.submodules.frame_beats = frame_beats = FrameBeats(config)
            m.d.comb += [
                frame_beats.length.eq(job.length),
                frames.push.eq(delay(m, word.strobe & word.last, BEATS_STAGES)),
                frames.payload.beats.eq(frame_beats.beats),
                frames.payload.serial.eq(delay(m, job.serial, BEATS_STAGES)),
            ]
        m.d.comb += frames.commit.eq(frames.push)
        m.d.sync += self.framed.eq(frames.push)
        return m

    def _issue(self, m: Module, pending: CommitFifo) -> None:
        """A read command for each piece that has something to read, and a place for its bytes."""
        m.submodules.commands = commands = SkidBuffer(Command(self._config))
        connect(m, commands.output, flipped(self.read.command))
        job, piece = self.jobs.payload, self.pieces.payload
        ready, wanted, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            ready.eq(self.jobs.valid & self.pieces.valid & pending.room),
            wanted.eq(piece.read & (job.error == CompletionError.NONE)),
            commands.input.valid.eq(ready & wanted),
            commands.input.payload.address.eq(piece.address),
            commands.input.payload.length.eq(piece.length),
            commands.input.payload.queue.eq(job.queue),
            moves.eq(ready & (~wanted | commands.input.ready)),
            pending.push.eq(moves),
            pending.commit.eq(moves),
            pending.payload.job.eq(job),
            pending.payload.piece.buffer_id.eq(piece.buffer_id),
            pending.payload.piece.index.eq(piece.index),
            pending.payload.piece.read.eq(wanted),
            pending.payload.piece.report.eq(piece.report),
            pending.payload.piece.last.eq(piece.last),
            self.pieces.ready.eq(moves),
            self.jobs.ready.eq(moves & piece.last),
        ]

        if self._config.pools:
            m.d.comb += [
                pending.payload.piece.recycle.eq(piece.recycle),
                pending.payload.piece.pool.eq(piece.pool),
            ]

        if self._config.ats:
            m.d.comb += [commands.input.payload[name].eq(piece[name]) for name in ("pool", "buffer_id")]
            m.d.comb += commands.input.payload.named.eq(piece.recycle)

        beat_bytes = self._config.beat_bytes
        placement = pending.payload.piece.placement
        offset, rest, end = Signal(range(beat_bytes)), Signal(range(beat_bytes)), Signal(range(2 * beat_bytes))
        whole = rest == 0  # the last beat is full
        m.d.comb += [
            rest.eq(piece.length[: exact_log2(beat_bytes)]),
            end.eq(offset + rest),
            placement.offset.eq(offset),
            placement.fills.eq(whole | (end >= beat_bytes)),
            placement.spills.eq(piece.last & Mux(whole, offset != 0, end > beat_bytes)),
        ]
        with m.If(moves & piece.last):
            m.d.sync += offset.eq(0)
        with m.Elif(moves & wanted):
            m.d.sync += offset.eq(end)

    def _collect(self, m: Module, pending: CommitFifo, joiner: WordJoiner, refused_headers=0) -> None:
        """Bytes to the joiner, pieces into completions, jobs into events."""
        config = self._config
        m.submodules.beats = beats = SkidBuffer(Bytes(config))
        connect(m, flipped(self.read.data), beats.input)
        job, piece = pending.output.payload.job, pending.output.payload.piece
        beat = beats.output.payload

        is_segment = job.segment.present if config.segmentation else 0
        report = data.StructLayout({"queue": range(config.queues), "entry": TxCompletion, "shown": 1, "finishes": 1})
        m.submodules.reports = reports = SkidBuffer(report)
        can_complete, takes_beat, piece_done, job_done = (
            Signal(name=n) for n in ("can_complete", "takes_beat", "piece_done", "job_done")
        )
        ends = Signal()  # the piece's last beat is here, and may be taken
        awaits_verdict, verdict = Signal(), Signal()  # on a request's headers
        failed, failure = Signal(), Signal()
        m.d.comb += [
            can_complete.eq(reports.input.ready & ~awaits_verdict),
            beats.output.ready.eq(pending.output.valid & piece.read & ~joiner.spilling & (~beat.last | can_complete)),
            takes_beat.eq(beats.output.valid & beats.output.ready),
            ends.eq(beats.output.valid & beat.last & ~joiner.spilling),
            piece_done.eq(pending.output.valid & can_complete & (~piece.read | ends)),
            pending.output.ready.eq(piece_done),
            job_done.eq(piece_done & piece.last),
            failure.eq(failed | (piece.read & beat.error)),
            joiner.strobe.eq(takes_beat),
            joiner.data.eq(beat.data),
            joiner.count.eq(beat.count),
            joiner.last.eq(beat.last),
            joiner.placement.eq(piece.placement),
            joiner.ends.eq(beat.last & piece.last),
            joiner.failed.eq(failure),
        ]
        m.d.comb += [getattr(joiner.job, name).eq(getattr(job, name)) for name in TxFrameJob(config).members]
        with m.If(piece_done):
            m.d.sync += failed.eq(failure & ~(piece.last & ~is_segment))
        if config.segmentation:
            # Since a beat came; its word's verdict is there when this is 0.
            since = Signal(range(JOIN_STAGES + EDIT_STAGES + 3))
            with m.If(takes_beat):
                m.d.sync += since.eq(JOIN_STAGES + EDIT_STAGES + 2)
            with m.Elif(since != 0):
                m.d.sync += since.eq(since - 1)
            m.d.comb += [
                awaits_verdict.eq(job.closing & (since != 0)),
                verdict.eq(job.closing & refused_headers),
            ]

        unread = job.error != CompletionError.NONE
        error = Signal(CompletionError)
        m.d.comb += error.eq(Mux(verdict, CompletionError.OFFLOAD, CompletionError.NONE))
        with m.If(unread):
            m.d.comb += error.eq(job.error)
        with m.Elif(failure):
            m.d.comb += error.eq(CompletionError.READ_FAULT)
        # The segmenter sets nothing aside for frames that are refused.
        refused = 0 if config.segmentation else job.error == CompletionError.OFFLOAD
        unsent = Signal()
        m.d.sync += [
            self.event.strobe.eq(job_done & job.end),
            self.event.queue.eq(job.queue),
            self.event.length.eq(job.length),
            self.event.error.eq(error),
            self.event.aborted.eq(job.aborted),
            unsent.eq(job_done & ((piece.read & failure) | refused)),
            self.returned.eq(Mux(unsent, reserved_words(self.event.length, config.beat_bytes), 0)),
        ]

        # Every piece waits for room here, so that no entry's `ready` decides in the cycle whether one is done.
        made, given = reports.input, reports.output
        m.d.comb += [
            made.valid.eq(piece_done & (piece.report | piece.last)),
            made.payload.queue.eq(job.queue),
            made.payload.entry.buffer_id.eq(piece.buffer_id),
            made.payload.entry.index.eq(piece.index),
            made.payload.entry.error.eq(error),
            made.payload.shown.eq(piece.report),
            made.payload.finishes.eq(piece.last & ~is_segment),
            self.entry.valid.eq(given.valid & given.payload.shown),
            self.entry.payload.queue.eq(given.payload.queue),
            self.entry.payload.entry.eq(given.payload.entry),
            given.ready.eq(self.entry.ready | ~given.payload.shown),
        ]
        m.d.sync += [
            self.finished.eq(given.valid & given.ready & given.payload.finishes),
            self.finished_queue.eq(given.payload.queue),
        ]
        if config.pools:
            m.d.sync += [
                self.recycled.strobe.eq(piece_done & piece.recycle),
                self.recycled.buffer.pool.eq(piece.pool),
                self.recycled.buffer.id.eq(piece.buffer_id),
            ]
        if config.serial_width:
            m.d.sync += [
                self.gathered.strobe.eq(piece_done & piece.read),
                self.gathered.serial.eq(job.serial),
                self.gathered.queue.eq(job.queue),
                self.gathered.detail.eq(piece.buffer_id),
            ]

    def _edit(self, m: Module, joiner: WordJoiner, edit: TxHeaderEdit):
        """Words pass it on their way to the packet buffer and the checksums."""
        connect(m, joiner.word, edit.word)
        m.d.comb += [
            edit.address.eq(joiner.address),
            edit.job.eq(joiner.word_job),
        ]
        return edit.edited, edit.edited_address, edit.edited_job
