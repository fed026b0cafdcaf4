# SPDX-License-Identifier: BSD-2-Clause
"""Which frame is gathered next."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import QueueError
from hw.config import NicConfig
from hw.nic.interfaces import CompletionSlots, DescriptorPort, queue_fault_stream
from hw.nic.tx.emitter import TxEmitter
from hw.nic.tx.frame_room import FrameRoom
from hw.nic.tx.framer import FrameRecord, TxFramer
from hw.nic.tx.layouts import TxJob, TxPiece
from hw.nic.tx.slot_gate import SlotGate
from hw.nic.tx.turns import FrameTurns


class TxScheduler(wiring.Component):
    """Take whole frames from the TX rings, one queue after the other.

    ::

        descriptors.arrived ─► framer ─► slot gate ─► turns ─► room ─► emitter ─► jobs, pieces
                                            │                           │ ▲
                                          slots              descriptors.read │ entry

    A frame is told of when its last descriptor arrives (:class:`hw.nic.tx.framer.TxFramer`) and has its turn when there
    are slots for its completions (:class:`hw.nic.tx.slot_gate.SlotGate`, :class:`hw.nic.tx.turns.FrameTurns`); a queue
    without either holds up no other. Then room in the packet buffer is waited for, which comes as the wire takes frames
    (:class:`hw.nic.tx.frame_room.FrameRoom`). So what is taken can always be finished, whatever becomes of its queue.

    A frame is taken in the cycle in which its first descriptor is asked for, where nothing else waits 19 after its last
    one arrived, and its job is there 6 cycles later. The others follow, one a cycle; each leaves the cache in the next
    cycle. So frames of one descriptor are taken one a cycle, of one queue or of many.

    The pieces of a frame of more than ``max_descriptors`` descriptors, contexts included, up to its end, are taken and
    completed with FRAME_LENGTH unread, as are frames shorter than 14 bytes or longer than ``config.max_frame``. If the
    queue stops before such a frame's end, an aborted job is emitted; the queue is ``busy`` until then.

    A descriptor of a type that does not exist faults the queue with DESCRIPTOR_TYPE, data of length 0 with
    DESCRIPTOR_LENGTH, when its frame has its turn; nothing of its frame is taken, and the queue is left alone until it
    is started again.

    With ``config.tx_offload`` a frame's last context and what its last descriptor asks for go with the job, unchecked;
    without, contexts are skipped. With ``config.segmentation`` a frame may be a request of up to 65,535 bytes, and room
    in the packet buffer is :class:`hw.nic.tx.segmenter.TxSegmenter`'s affair: frames are taken without regard to it.

    Members
    -------
    enable, clear, busy : as in :class:`hw.nic.interfaces.QueueControl`; a queue is ``busy`` from the cycle in which a
        frame of it could be taken through the one with ``emits``, and while the end of one that was cut is to come
    tx_enable : frames may be taken, from the next cycle on; while it is low, up to seven have had their turn already
    descriptors, slots : the rings' cache and the completion rings' free slots
    released : a word of the packet buffer that was reserved for a frame is free again
    returned : that many words of the packet buffer were reserved for a frame that is not sent
    jobs, pieces : what was taken; a job's pieces are there when the job is
    emits, emits_queue : a job of the queue was taken in the cycle before
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
                "pieces": Out(stream.Signature(TxPiece(config))),
                "emits": Out(1),
                "emits_queue": Out(range(config.queues)),
                "fault": Out(queue_fault_stream(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.framer = framer = TxFramer(self._config)
        m.submodules.gate = gate = SlotGate(self._config)
        m.submodules.turns = turns = FrameTurns(self._config)
        for block in (framer, gate, turns):
            m.d.comb += [block.enable.eq(self.enable), block.clear.eq(self.clear)]
        connect(m, framer.arrived, flipped(self.descriptors.arrived))
        connect(m, framer.framed, gate.framed)
        connect(m, framer.framed, turns.framed)
        connect(m, gate.slots, flipped(self.slots))
        connect(m, gate.admitted, turns.admitted)
        m.submodules.room = room = FrameRoom(self._config)
        connect(m, turns.next, room.frames)
        m.submodules.emitter = emitter = TxEmitter(self._config)
        connect(m, flipped(self.jobs), emitter.jobs)
        connect(m, flipped(self.pieces), emitter.pieces)
        m.d.comb += [
            turns.open.eq(self.tx_enable),
            room.enable.eq(self.enable),
            room.released.eq(self.released),
            room.returned.eq(self.returned),
            emitter.entry.eq(self.descriptors.entry),
            self.descriptors.read_enable.eq(emitter.read_enable),
        ]
        self._take(m, room, emitter.taken)
        return m

    def _take(self, m: Module, room: FrameRoom, taken: Any) -> None:
        """Take the frame that has room, descriptor by descriptor."""
        config, following = self._config, room.output
        queues = range(config.queues)
        queue, record = Signal(queues), Signal(FrameRecord(config))
        valid, sound, broken, live, begun, last = (
            Signal(name=n) for n in ("valid", "sound", "broken", "live", "begun", "last")
        )
        discarding = Signal(config.queues)
        abort, abort_next, abort_queue, held = Signal(), Signal(), Signal(queues), Signal()
        aborts, goes, steps, fails, dropped = (Signal(name=n) for n in ("aborts", "goes", "steps", "fails", "dropped"))
        m.d.comb += [
            goes.eq(taken.ready & (begun | (live & ~held))),
            steps.eq(goes & sound),
            fails.eq(broken & live & ~held & ~self.fault.valid),
            dropped.eq(valid & ~begun & ~live),
            aborts.eq(taken.ready & abort & ~begun),
            following.ready.eq(~valid | (goes & last)),
            taken.valid.eq(aborts | steps),
            taken.payload.queue.eq(Mux(aborts, abort_queue, queue)),
            taken.payload.index.eq(record.first),
            taken.payload.last.eq(aborts | last),
            taken.payload.length.eq(record.length),
            taken.payload.unsent.eq(record.unsent & ~aborts),
            taken.payload.end.eq(record.end | aborts),
            taken.payload.aborted.eq(aborts),
            self.descriptors.read_queue.eq(queue),
            self.descriptors.read_index.eq(record.first),
            self.descriptors.take.count.eq(1),
        ]
        m.d.sync += [
            held.eq(abort_next | ~self.tx_enable),
            self.descriptors.take.strobe.eq(steps),
            self.descriptors.take.queue.eq(queue),
            self.emits.eq(aborts | (steps & ~begun)),
            self.emits_queue.eq(taken.payload.queue),
        ]
        new = following.payload
        with m.If(following.ready):
            m.d.sync += [
                valid.eq(following.valid),
                sound.eq(following.valid & (new.record.error == QueueError.NONE)),
                broken.eq(following.valid & (new.record.error != QueueError.NONE)),
                live.eq(~new.stopped & self.enable.bit_select(new.queue, 1)),
                queue.eq(new.queue),
                record.eq(new.record),
                begun.eq(0),
                last.eq(following.valid & (new.record.error == QueueError.NONE) & (new.record.extra == 0)),
            ]
        with m.Else():
            m.d.sync += live.eq(live & self.enable.bit_select(queue, 1))
            with m.If(steps):
                m.d.sync += [
                    begun.eq(1),
                    record.first.eq(record.first + 1),
                    record.extra.eq(record.extra - 1),
                    last.eq(record.extra == 1),
                ]
            with m.If(dropped | fails):
                m.d.sync += [valid.eq(0), sound.eq(0), broken.eq(0)]

        with m.If(fails):
            m.d.sync += [
                self.fault.valid.eq(1),
                self.fault.payload.queue.eq(queue),
                self.fault.payload.error.eq(record.error),
            ]
        with m.Elif(self.fault.ready):
            m.d.sync += self.fault.valid.eq(0)

        # A frame that was cut and whose end will not come. The piece that is taken as its queue stops may be the last.
        lost, enabled = Signal(config.queues), Signal(config.queues)
        m.d.comb += [
            lost.eq(discarding & ~enabled),
            abort_next.eq(~aborts & (abort | lost.any())),
        ]
        m.d.sync += [enabled.eq(self.enable), abort.eq(abort_next)]
        with m.If(~abort):
            for q in queues:
                with m.If(lost[q]):
                    m.d.sync += abort_queue.eq(q)
        with m.If(aborts):
            m.d.sync += discarding.bit_select(abort_queue, 1).eq(0)
        with m.If(steps & ~begun):
            m.d.sync += discarding.bit_select(queue, 1).eq(~record.end)
        m.d.comb += self.busy.eq(
            discarding | Mux(sound & live, 1 << queue, 0) | Mux(self.emits, 1 << self.emits_queue, 0)
        )
        if not config.segmentation:
            m.d.comb += room.unused.eq(Mux(dropped, record.words, 0))
