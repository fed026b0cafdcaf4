# SPDX-License-Identifier: BSD-2-Clause
"""Writes: translations look ahead, data waits, commits stay in the order of arrival."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import Cause
from hw.bus.axi4 import AXI4Signature
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    Access,
    FaultReport,
    FenceSignature,
    Outcome,
    TranslationAnswer,
    TranslationSignature,
)
from hw.iommu.look_ahead import LookAhead
from hw.iommu.outstanding import Outstanding
from hw.iommu.refusal import Refusal


class WriteChannel(wiring.Component):
    """AW, W and B from a device's addresses to physical ones.

    **Order.** Bursts leave in the order in which their addresses came, whatever their IDs, so a burst that hits never
    passes one that waits for a walk; responses come as memory gives them. Translations are asked for as addresses
    come, up to ``config.writes`` ahead (miss under miss).

    **Timing.** A hit adds 4 cycles to AW and none to B; W waits for its AW, at least 2 cycles. One burst a cycle.

    **Backpressure.** AW waits while ``writes`` addresses are held, and for the one cycle of another lookup of an older
    address. W is taken, before its address too, while there is room for ``write_beats`` beats; AW never waits for W. At
    most ``outstanding`` bursts are without response from memory.

    **Faults.** Nothing of the burst reaches memory: its data is dropped; then, after the responses to all earlier
    writes of its ID, it is reported and answered SLVERR (:class:`hw.iommu.refusal.Refusal`). One is held at a time:
    until it is answered, later bursts of its ID, and bursts behind another one that faulted, wait.

    Exclusive writes pass like others.

    Parameters
    ----------
    config : see :class:`hw.config.IommuConfig`
    id_width : bits of AXI IDs

    Ports
    -----
    device : aw, w and b from the device; memory : to memory
    translation : to the translator
    fence : see :class:`hw.iommu.interfaces.FenceSignature`
    fault : stream of fault reports
    faulted : a write is answered with an error because of its translation; one cycle for each
    """

    def __init__(self, config: IommuConfig, *, id_width: int = 8):
        if not isinstance(config, IommuConfig):
            raise TypeError(f"config must be an IommuConfig, not {config!r}")
        self.config = config
        self.id_width = id_width
        axi = AXI4Signature(config.data_width, id_width=id_width).channels("aw", "w", "b")
        super().__init__(
            {
                "device": In(axi),
                "memory": Out(axi),
                "translation": Out(TranslationSignature(config)),
                "fence": In(FenceSignature()),
                "fault": Out(stream.Signature(FaultReport)),
                "faulted": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slots = self.config.writes
        m.submodules.look_ahead = look_ahead = LookAhead(self.config, slots, Access.WRITE, id_width=self.id_width)
        # Held are the slots' writes, and the one that is refused.
        m.submodules.outstanding = outstanding = Outstanding(
            self.id_width, limit=self.config.outstanding, held=slots + 1
        )
        response = self.memory.b.payload.shape()
        m.submodules.refusal = refusal = Refusal(response, Access.WRITE, id_width=self.id_width)
        join(m, look_ahead.translation, flipped(self.translation))
        join(m, flipped(self.fence), outstanding.fence)
        join(m, refusal.report, flipped(self.fault))
        join(m, flipped(self.memory.b), refusal.memory)
        join(m, refusal.device, flipped(self.device.b))

        # Slots in the order of arrival, from ``oldest`` on.
        oldest, newest = Signal(range(slots)), Signal(range(slots))
        held = Signal(range(slots + 1))
        known = Signal(slots)
        enter, leave = Signal(), Signal()

        aw = self.device.aw
        m.d.comb += [
            aw.ready.eq((held != slots) & look_ahead.ready),
            enter.eq(aw.valid & aw.ready),
            outstanding.accept.eq(enter),
            look_ahead.enter.eq(enter),
            look_ahead.place.eq(newest),
            look_ahead.request.burst.eq(aw.payload),
            look_ahead.request.color.eq(self.fence.color),
        ]
        m.d.sync += [
            held.eq(held + enter - leave),
            known.eq((known | (look_ahead.known << look_ahead.known_place)) & ~(leave << oldest)),
        ]
        for move, pointer in ((enter, newest), (leave, oldest)):
            with m.If(move):
                m.d.sync += pointer.eq(Mux(pointer == slots - 1, 0, pointer + 1))

        # The oldest, as soon as its answer comes.
        request = look_ahead.chosen_request
        answer = Signal(TranslationAnswer(self.config))
        is_known, walked, resolved, faulty = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            look_ahead.chosen.eq(oldest),
            answer.eq(Mux(known.bit_select(oldest, 1), look_ahead.chosen_answer, look_ahead.answer)),
            is_known.eq(known.bit_select(oldest, 1) | (look_ahead.known & (look_ahead.known_place == oldest))),
            walked.eq(answer.outcome == Outcome.WALK),
            look_ahead.look.eq(answer.walk),
            look_ahead.release.eq(leave & walked),
            resolved.eq(is_known & (~walked | look_ahead.finished.bit_select(answer.walk, 1))),
            faulty.eq(walked & (look_ahead.result.cause != Cause.NONE)),
        ]

        m.submodules.decisions = decisions = SyncFIFO(width=1, depth=self.config.outstanding)
        out = self.memory.aw
        send = Signal()
        m.d.comb += [
            send.eq(
                resolved
                & ~faulty
                & (~out.valid | out.ready)
                & outstanding.room
                & decisions.w_rdy
                & ~(refusal.busy & (refusal.id == request.burst.id))
            ),
            refusal.take.eq(resolved & faulty & ~refusal.busy & decisions.w_rdy),
            leave.eq(send | refusal.take),
            decisions.w_en.eq(leave),
            decisions.w_data.eq(send),
            outstanding.send.eq(send),
            outstanding.send_id.eq(request.burst.id),
            outstanding.send_color.eq(request.color),
            refusal.accepted.eq(request),
            refusal.result.eq(look_ahead.result),
        ]
        with m.If(send):
            ppn = Mux(walked, look_ahead.result.ppn, answer.ppn)
            m.d.sync += [
                out.valid.eq(1),
                out.payload.eq(request.burst),
                out.payload.addr.eq(Cat(request.burst.addr[:12], ppn)),
            ]
        with m.Elif(out.ready):
            m.d.sync += out.valid.eq(0)

        self._data(m, decisions, refusal, outstanding)
        m.d.comb += [
            outstanding.answer.eq(self.memory.b.valid & self.memory.b.ready),
            outstanding.answer_id.eq(self.memory.b.payload.id),
            outstanding.refuse.eq(refusal.finish),
            outstanding.refuse_color.eq(refusal.color),
            outstanding.look_id.eq(refusal.id),
            self.faulted.eq(refusal.finish),
        ]
        return m

    def _data(self, m: Module, decisions: Any, refusal: Any, outstanding: Any) -> None:
        """Beats follow their address, or are dropped with it."""
        layout = self.memory.w.payload.shape()
        m.submodules.beats = beats = SyncFIFOBuffered(width=layout.size, depth=self.config.write_beats)
        source, sink = self.device.w, self.memory.w
        beat = data.View(layout, beats.r_data)
        passes = decisions.r_data[0]
        drained = Signal()
        m.d.comb += [
            beats.w_data.eq(source.payload.as_value()),
            beats.w_en.eq(source.valid),
            source.ready.eq(beats.w_rdy),
            sink.payload.eq(beat),
            sink.valid.eq(beats.r_rdy & decisions.r_rdy & passes),
            beats.r_en.eq(decisions.r_rdy & (sink.ready | ~passes)),
            decisions.r_en.eq(beats.r_rdy & beats.r_en & beat.last),
            refusal.clear.eq(drained & outstanding.idle),
        ]
        with m.If(refusal.take):
            m.d.sync += drained.eq(0)
        with m.Elif(decisions.r_en & ~passes):
            m.d.sync += drained.eq(1)
