# SPDX-License-Identifier: BSD-2-Clause
"""Which frame is gathered next."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import INDEX_BITS, CompletionError, QueueError, TxContext, TxDescriptor, TxDescriptorType
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import CompletionSlots, DescriptorPort, queue_fault_stream
from hw.nic.tx.layouts import MIN_FRAME, TxJob, TxPiece, reserved_words
from hw.nic.tx.turns import TurnOrder

MAX_COUNTED_LENGTH = (1 << 16) - 1


class TxScheduler(wiring.Component):
    """Take whole frames from the TX rings, one queue after the other.

    The descriptors of a queue are looked at, one a cycle, until the frame's end. A frame is taken, in one cycle, when
    its end is in the cache, its completion slots are free and the packet buffer has room for it. A queue whose frame's
    end is not there, or without slots for the completions that the frame asks for, is passed over and tried again in
    its next turn; it never holds up another. (A frame that asks for more completions than its ring has entries waits
    until the queue is stopped.) Room in the packet buffer is waited for: it comes as the wire takes frames. So what is
    taken can always be finished, whatever becomes of its queue.

    A frame may have ``max_descriptors`` descriptors, contexts included: half the cache, so that fetches in whole lines
    always bring them in. The pieces of a longer one, up to its end, are taken and completed with FRAME_LENGTH unread,
    as are frames shorter than 14 bytes or longer than ``config.max_frame``. If the queue stops before such a frame's
    end, an aborted job is emitted; the queue is ``busy`` until then.

    A descriptor of a type that does not exist faults the queue with DESCRIPTOR_TYPE, data of length 0 with
    DESCRIPTOR_LENGTH; nothing of its frame is taken, and the queue is left alone until it is started again.

    With ``config.tx_offload`` a frame's last context and what its last descriptor asks for go with the job, unchecked;
    without, contexts are skipped. With ``config.segmentation`` a frame may be a request of up to 65,535 bytes, and room
    in the packet buffer is :class:`hw.nic.tx.segmenter.TxSegmenter`'s affair: frames are taken without regard to it.

    Turns go round at frame granularity, see :class:`hw.nic.tx.turns.TurnOrder`. A queue with nothing to do takes one
    cycle of its turn.

    Members
    -------
    enable, clear, busy : as in :class:`hw.nic.interfaces.QueueControl`; what was emitted is not busy here
    tx_enable : frames may be taken
    descriptors, slots : the rings' cache and the completion rings' free slots
    released : a word of the packet buffer that was reserved for a frame is free again
    returned : that many words of the packet buffer were reserved for a frame that is not sent
    jobs, pieces : what was taken; a job's pieces are there when the job is
    emits : a job of the queue at ``descriptors.queue`` is emitted in this cycle
    fault : queues to stop
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        super().__init__(
            {
                "enable": In(config.queues),
                "clear": In(config.queues),
                "busy": Out(config.queues),
                "tx_enable": In(1),
                "descriptors": Out(DescriptorPort(config)),
                "slots": Out(CompletionSlots(config)),
                "released": In(1),
                "returned": In(range(self._words + 1)),
                "jobs": Out(stream.Signature(TxJob(config))),
                "pieces": Out(stream.Signature(TxPiece())),
                "emits": Out(1),
                "fault": Out(queue_fault_stream(config)),
            }
        )

    @property
    def max_descriptors(self) -> int:
        """Descriptors that a frame may have."""
        return self._config.fetch_depth // 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.jobs = jobs = CommitFifo(TxJob(config), 2 * config.fetch_depth)
        m.submodules.pieces = pieces = CommitFifo(TxPiece(), 2 * config.fetch_depth)
        connect(m, flipped(self.jobs), jobs.output)
        connect(m, flipped(self.pieces), pieces.output)

        m.submodules.turns = turns = TurnOrder(config)
        queue = turns.queue
        looked = Signal(range(self.max_descriptors))  # descriptors before the one at which we look
        length, total = Signal(16), Signal(16)  # of those, and with this one
        reports, total_reports = Signal(range(self.max_descriptors + 1)), Signal(range(self.max_descriptors + 1))
        indices = Array(Signal(INDEX_BITS, name=f"index_{q}") for q in range(config.queues))
        faulted, discarding = Signal(config.queues), Signal(config.queues)

        entry = Signal(TxDescriptor)
        is_data, ends, cut = Signal(), Signal(), Signal()
        sum_ = Signal(17)
        m.d.comb += [
            entry.eq(self.descriptors.entry),
            self.descriptors.queue.eq(queue),
            self.descriptors.offset.eq(looked),
            self.descriptors.take_count.eq(looked + 1),
            self.slots.queue.eq(queue),
            self.slots.reserve_count.eq(total_reports),
            is_data.eq(entry.type == TxDescriptorType.DATA),
            ends.eq(is_data & entry.flags.end_of_packet),
            cut.eq(looked == self.max_descriptors - 1),
            sum_.eq(length + Mux(is_data, entry.length, 0)),
            total.eq(Mux(sum_[16], MAX_COUNTED_LENGTH, sum_)),
            total_reports.eq(reports + (is_data & entry.flags.report)),
        ]

        free_words = Signal(range(self._words + 1), init=self._words)
        words = Signal(range(self._words + 1))
        unsent, fits, take, abort, advance, pass_over = (
            Signal(name=n) for n in ("unsent", "fits", "take", "abort", "advance", "pass_over")
        )
        next_turn = Signal()
        is_discarding = discarding.bit_select(queue, 1)
        too_long = total > config.max_frame
        if config.segmentation:
            uncounted = Signal()  # the descriptors before hold more than can be counted
            with m.If(advance):
                m.d.sync += uncounted.eq(uncounted | sum_[16])
            with m.If(next_turn):
                m.d.sync += uncounted.eq(0)
            too_long = Mux(entry.flags.segment, uncounted | sum_[16], too_long)
        m.d.comb += [
            unsent.eq(~ends | is_discarding | (total < MIN_FRAME) | too_long),
            words.eq(0 if config.segmentation else Mux(unsent, 0, reserved_words(total, config.beat_bytes))),
            fits.eq(words <= free_words),
        ]

        room = jobs.room & pieces.room
        with m.If(~(self.enable & ~faulted).bit_select(queue, 1)):
            with m.If(~is_discarding):
                m.d.comb += pass_over.eq(1)
            with m.Elif(room):
                m.d.comb += abort.eq(1)
        with m.Elif(~self.tx_enable | (self.descriptors.available <= looked)):
            m.d.comb += pass_over.eq(1)
        with m.Elif((~is_data & (entry.type != TxDescriptorType.CONTEXT)) | (is_data & (entry.length == 0))):
            with m.If(~self.fault.valid):
                m.d.comb += pass_over.eq(1)
                m.d.sync += [
                    self.fault.valid.eq(1),
                    self.fault.payload.queue.eq(queue),
                    self.fault.payload.error.eq(Mux(is_data, QueueError.DESCRIPTOR_LENGTH, QueueError.DESCRIPTOR_TYPE)),
                    faulted.bit_select(queue, 1).eq(1),
                ]
        with m.Elif(room):
            with m.If(~ends & ~cut):
                m.d.comb += advance.eq(1)
            with m.Elif(total_reports > self.slots.free):
                m.d.comb += pass_over.eq(1)
            with m.Elif(fits):
                m.d.comb += take.eq(1)

        m.d.comb += [
            self.emits.eq(take | abort),
            next_turn.eq(self.emits | pass_over),
            turns.next.eq(next_turn),
            turns.passed.eq(pass_over & self.tx_enable),
            self.descriptors.take.eq(take),
            self.slots.reserve.eq(take),
            pieces.push.eq(advance | self.emits),
            pieces.commit.eq(self.emits),
            pieces.rewind.eq((looked == 0) | abort),
            pieces.payload.address.eq(entry.address),
            pieces.payload.length.eq(entry.length),
            pieces.payload.buffer_id.eq(entry.buffer_id),
            pieces.payload.index.eq(indices[queue] + looked + 1),
            pieces.payload.read.eq(is_data & ~abort),
            pieces.payload.report.eq(is_data & entry.flags.report & ~abort),
            pieces.payload.last.eq(self.emits),
            jobs.push.eq(self.emits),
            jobs.commit.eq(self.emits),
            jobs.payload.queue.eq(queue),
            jobs.payload.length.eq(total),
            jobs.payload.error.eq(Mux(unsent & ~abort, CompletionError.FRAME_LENGTH, CompletionError.NONE)),
            jobs.payload.aborted.eq(abort),
            jobs.payload.end.eq(ends | abort),
        ]
        with m.If(advance):
            m.d.sync += [looked.eq(looked + 1), length.eq(total), reports.eq(total_reports)]
        with m.If(next_turn):
            m.d.sync += [looked.eq(0), length.eq(0), reports.eq(0)]
        with m.If(take):
            m.d.sync += [
                indices[queue].eq(indices[queue] + looked + 1),
                discarding.bit_select(queue, 1).eq(~ends),
            ]
        with m.If(abort):
            m.d.sync += discarding.bit_select(queue, 1).eq(0)
        m.d.sync += free_words.eq(free_words - Mux(take, words, 0) + self.released + self.returned)
        with m.If(self.fault.valid & self.fault.ready):
            m.d.sync += self.fault.valid.eq(0)
        for q in range(config.queues):
            with m.If(self.clear[q]):
                m.d.sync += [faulted[q].eq(0), indices[q].eq(0)]
        m.d.comb += self.busy.eq(discarding)

        if config.tx_offload:
            context, seen, here = Signal(TxContext), Signal(), Signal(TxContext)
            m.d.comb += here.eq(self.descriptors.entry)
            with m.If(advance & (entry.type == TxDescriptorType.CONTEXT)):
                m.d.sync += [context.eq(here), seen.eq(1)]
            with m.If(next_turn):
                m.d.sync += seen.eq(0)
            offload = jobs.payload.offload
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
            if config.segmentation:
                m.d.comb += [
                    offload.segment.eq(entry.flags.segment),
                    offload.mss.eq(context.mss),
                    offload.l4_length.eq(context.l4_length),
                    offload.early_report.eq(reports != 0),
                ]
        if config.serial_width:
            serial = Signal(config.serial_width)
            m.d.comb += jobs.payload.serial.eq(serial)
            with m.If(self.emits):
                m.d.sync += serial.eq(serial + 1)
        return m
