# SPDX-License-Identifier: BSD-2-Clause
"""Where the frames of a TX ring end, and what they ask for."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import INDEX_BITS, QueueError, TxDescriptor, TxDescriptorType
from hw.config import NicConfig
from hw.nic.interfaces import DescriptorArrival
from hw.nic.queue_memory import QueueMemory
from hw.nic.tx.layouts import MIN_FRAME, reserved_words

MAX_COUNTED_LENGTH = (1 << 16) - 1


def max_descriptors(config: NicConfig) -> int:
    """Descriptors that a frame may have: half the cache, so that fetches in whole lines always bring them in."""
    return config.fetch_depth // 2


class FrameRecord(data.StructLayout):
    """A frame of a ring, or a piece of one that has too many descriptors, or what a queue's last frame breaks off with.

    Members
    -------
    first : free-running ring index of its first descriptor
    extra : descriptors behind the first
    length : bytes of all descriptors, at most 65,535
    unsent : it is only to be completed, with FRAME_LENGTH
    words : of the packet buffer that are to be set aside for it; only without ``config.segmentation``
    end : the frame ends here
    error : why the queue is to stop; nothing else counts then, and no words are set aside
    """

    def __init__(self, config: NicConfig):
        words = range(config.tx_buffer_bytes // config.beat_bytes + 1)
        super().__init__(
            {
                "first": INDEX_BITS,
                "extra": range(max_descriptors(config)),
                "length": 16,
                "unsent": 1,
                **({} if config.segmentation else {"words": words}),
                "end": 1,
                "error": QueueError,
            }
        )


class FramedFrame(wiring.Signature):
    """A frame is whole: ``strobe`` for one cycle with its ``queue`` and ``record``; ``frames`` and ``reports`` count
    the queue's frames and the completions that they ask for, this one's included, modulo twice the cache's depth, and
    ``place`` the frames before it, modulo that depth."""

    def __init__(self, config: NicConfig):
        counter = range(2 * config.fetch_depth)
        super().__init__(
            {
                "strobe": Out(1),
                "queue": Out(range(config.queues)),
                "record": Out(FrameRecord(config)),
                "place": Out(range(config.fetch_depth)),
                "frames": Out(counter),
                "reports": Out(counter),
            }
        )


class TxFramer(wiring.Component):
    """Watch descriptors arrive, and tell of each frame when its last one has.

    A frame ends with the data descriptor that says so. After ``max_descriptors`` without an end it is cut: this piece
    and each further one up to the frame's end is told of as a frame of its own that is ``unsent``. So is a frame
    shorter than 14 bytes or longer than ``config.max_frame``; with ``config.segmentation`` a request may have 65,535.

    A descriptor of a type that does not exist, or data of length 0, ends all: in place of its frame the error is told
    of, and nothing more of the queue until it is started again.

    A frame is told of four cycles after its last descriptor arrived; one descriptor a cycle, of any queues. Nothing is
    told of a queue that is not enabled.

    Members
    -------
    enable, clear : as in :class:`hw.nic.interfaces.QueueControl`
    arrived : descriptors
    framed : frames
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "enable": In(config.queues),
                "clear": In(config.queues),
                "arrived": In(DescriptorArrival(config)),
                "framed": Out(FramedFrame(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        queue = range(config.queues)
        counter = range(2 * config.fetch_depth)
        state = data.StructLayout(  # of a queue, after what has arrived
            {
                "index": INDEX_BITS,
                "extra": range(max_descriptors(config)),  # descriptors of the frame so far
                "length": 16,  # of those
                "uncounted": 1,  # it is more
                "full": 1,  # the frame is cut behind the next
                "discarding": 1,  # the frame was cut
                "broken": 1,
            }
        )
        m.submodules.states = states = QueueMemory(state, config.queues)
        totals = data.StructLayout({"frames": counter, "reports": counter})
        m.submodules.totals = told_of = QueueMemory(totals, config.queues)

        # What arrives, and its queue's state: `last`, if the descriptor before it is of the same queue.
        entry = Signal(TxDescriptor)
        is_data, is_context = Signal(), Signal()
        new, again, stored = Signal(), Signal(), Signal()
        new_queue, stored_queue = Signal(queue), Signal(queue)
        looked_up, last = Signal(state), Signal(state)
        length, report, ends, segment = Signal(16), Signal(), Signal(), Signal()
        error = Signal(QueueError)
        bad, tells = Signal(), Signal()  # there is an error; that or the frame's end is to be told of
        empty, unknown = Signal(), Signal()
        m.d.comb += [
            entry.eq(self.arrived.entry),
            is_data.eq(entry.type == TxDescriptorType.DATA),
            is_context.eq(entry.type == TxDescriptorType.CONTEXT),
            empty.eq(is_data & (entry.length == 0)),
            unknown.eq(~is_data & ~is_context),
            states.clear.eq(self.clear),
            states.read_queue.eq(self.arrived.queue),
        ]
        m.d.sync += [
            new.eq(self.arrived.strobe & self.enable.bit_select(self.arrived.queue, 1)),
            new_queue.eq(self.arrived.queue),
            again.eq(new & (new_queue == self.arrived.queue)),
            looked_up.eq(Mux(stored & (stored_queue == self.arrived.queue), last, states.value)),
            length.eq(Mux(is_data, entry.length, 0)),
            report.eq(is_data & entry.flags.report),
            ends.eq(is_data & entry.flags.end_of_packet),
            segment.eq(entry.flags.segment),
            bad.eq(empty | unknown),
            tells.eq(empty | unknown | (is_data & entry.flags.end_of_packet)),
            error.eq(QueueError.NONE),
        ]
        with m.If(empty):
            m.d.sync += error.eq(QueueError.DESCRIPTOR_LENGTH)
        with m.If(unknown):
            m.d.sync += error.eq(QueueError.DESCRIPTOR_TYPE)

        # The queue's state with it.
        before, after = Signal(state), Signal(state)
        total = Signal(17)
        told = Signal()
        m.d.comb += [
            before.eq(Mux(again, last, looked_up)),
            total.eq(before.length + length),
            told.eq(~before.broken & (tells | before.full)),
            after.index.eq(before.index + 1),
            after.extra.eq(before.extra + 1),
            after.full.eq(before.extra == max_descriptors(config) - 2),
            after.length.eq(total),
            after.uncounted.eq(before.uncounted | total[16]),
            after.discarding.eq(before.discarding),
            after.broken.eq(before.broken | bad),
            states.write_enable.eq(stored),
            states.write_queue.eq(stored_queue),
            states.write_value.eq(last),
        ]
        with m.If(told):
            m.d.comb += [
                after.extra.eq(0),
                after.full.eq(0),
                after.length.eq(0),
                after.uncounted.eq(0),
                after.discarding.eq(~ends),
            ]
        counts = new & self.enable.bit_select(new_queue, 1)
        m.d.sync += [stored.eq(counts), stored_queue.eq(new_queue)]
        with m.If(new):
            m.d.sync += last.eq(after)

        # What is told of it.
        whole = Signal()
        framed = Signal(
            data.StructLayout(
                {
                    "queue": queue,
                    "index": INDEX_BITS,
                    "extra": state["extra"].shape,
                    "length": 16,
                    "uncounted": 1,
                    "unsent": 1,
                    "end": 1,
                    "segment": 1,
                    "error": QueueError,
                    "report": 1,
                }
            )
        )
        m.d.sync += [
            whole.eq(counts & told),
            framed.queue.eq(new_queue),
            framed.index.eq(before.index),
            framed.extra.eq(before.extra),
            framed.length.eq(total),
            framed.uncounted.eq(before.uncounted | total[16]),
            framed.unsent.eq(~ends | before.discarding | bad),
            framed.end.eq(ends),
            framed.segment.eq(segment),
            framed.error.eq(error),
            framed.report.eq(report),
        ]
        counted = Signal(totals)
        m.d.comb += [
            told_of.clear.eq(self.clear),
            told_of.read_queue.eq(framed.queue),
            counted.frames.eq(told_of.value.frames + whole),
            counted.reports.eq(told_of.value.reports + framed.report),
            told_of.write_enable.eq(stored),
            told_of.write_queue.eq(framed.queue),
            told_of.write_value.eq(counted),
        ]
        self._judge(m, whole, framed, counted)
        return m

    def _judge(self, m: Module, whole: Signal, framed: data.View, counted: data.View) -> None:
        """A frame's length, and what follows from it."""
        config = self._config
        record = self.framed.record
        judged, too_short, too_long = Signal(), Signal(), Signal()
        known, totals = Signal.like(framed), Signal.like(counted)
        unsent, words = Signal(), Signal(range(config.tx_buffer_bytes // config.beat_bytes + 1))
        m.d.sync += [
            judged.eq(whole & self.enable.bit_select(framed.queue, 1)),
            known.eq(framed),
            totals.eq(counted),
            known.index.eq(framed.index - framed.extra),
            known.length.eq(Mux(framed.uncounted, MAX_COUNTED_LENGTH, framed.length)),
            too_short.eq(~framed.uncounted & (framed.length < MIN_FRAME)),
            too_long.eq(framed.uncounted | (framed.length > config.max_frame)),
            words.eq(reserved_words(framed.length, config.beat_bytes)),
        ]
        if config.segmentation:
            m.d.comb += unsent.eq(known.unsent | too_short | Mux(known.segment, known.uncounted, too_long))
        else:
            m.d.comb += unsent.eq(known.unsent | too_short | too_long)
            m.d.sync += record.words.eq(Mux(unsent, 0, words))
        m.d.sync += [
            self.framed.strobe.eq(judged & self.enable.bit_select(known.queue, 1)),
            self.framed.queue.eq(known.queue),
            self.framed.place.eq(totals.frames - 1),
            self.framed.frames.eq(totals.frames),
            self.framed.reports.eq(totals.reports),
            record.first.eq(known.index),
            record.extra.eq(known.extra),
            record.length.eq(known.length),
            record.unsent.eq(unsent),
            record.end.eq(known.end),
            record.error.eq(known.error),
        ]
