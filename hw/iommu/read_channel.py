# SPDX-License-Identifier: BSD-2-Clause
"""Reads: hits pass at once, misses are set aside, each ID keeps its order."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import Cause, TranslationCompletion
from hw.abi.rings import AddressType
from hw.bus.axi4 import AXI4Signature
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    LOOKUP_CYCLES,
    Access,
    FaultReport,
    FenceSignature,
    Outcome,
    PageSize,
    TranslationAnswer,
    TranslationSignature,
    sized_page,
)
from hw.iommu.look_ahead import LookAhead
from hw.iommu.outstanding import Outstanding
from hw.iommu.prefetch_answers import PrefetchAnswers
from hw.iommu.read_places import ReadPlaces
from hw.iommu.refusal import Refusal
from hw.iommu.walk_faults import GUEST_PAGE_FAULT, PAGE_FAULT


class ReadChannel(wiring.Component):
    """AR and R from a device's addresses to physical ones.

    **Order.** Reads of one ID leave in the order in which they came; those of other IDs pass whatever waits for a walk.
    R comes as memory gives it.

    **Timing.** A hit with nothing of its ID before it adds 4 cycles to AR, and none to R; what waited leaves two cycles
    after it may, and waits for at most one other read for each place. One read a cycle.

    **Backpressure.** A read has a place from its acceptance until it leaves: ``config.reads`` for those that wait, and
    as many as a lookup takes cycles for those that pass. AR waits while all are in use, and for the one cycle of
    another lookup of an older read. At most ``outstanding`` reads are without their last response from memory.

    **Faults.** Nothing of the read reaches memory; after the responses to all earlier reads of its ID, it is reported
    and answered with SLVERR and data 0 in each beat, between the beats of others (:class:`hw.iommu.refusal.Refusal`).
    One is held at a time: until it is answered, later reads of its ID, and others that faulted, wait.

    **Translation requests** (address type, with :data:`hw.abi.iommu.NO_WRITE`) are answered with
    :class:`hw.abi.iommu.TranslationCompletion` instead of data, after the responses to all earlier reads of their ID,
    and like a fault one at a time: 4 cycles after AR on a hit, at most 3 for each more. A page fault gives a completion
    without permissions and no record; everything else that is wrong is a fault.

    **Prefetches** are answered at once, data 0 (:class:`hw.iommu.prefetch_answers.PrefetchAnswers`), and looked up with
    the others; they take no place, hold up nothing that comes later, and are seen by no fence: walks that they begin
    are. AR takes one in its second cycle at the earliest, and only when all earlier reads of its ID are answered, so a
    device gives prefetches an ID of their own.

    Exclusive reads pass like others.

    Parameters
    ----------
    config : see :class:`hw.config.IommuConfig`
    id_width : bits of AXI IDs

    Ports
    -----
    device : ar and r from the device; memory : to memory
    translation : to the translator
    fence : see :class:`hw.iommu.interfaces.FenceSignature`
    fault : stream of fault reports
    faulted : a read is answered with an error because of its translation; one cycle for each
    """

    def __init__(self, config: IommuConfig, *, id_width: int = 8):
        if not isinstance(config, IommuConfig):
            raise TypeError(f"config must be an IommuConfig, not {config!r}")
        self.config = config
        self.id_width = id_width
        axi = AXI4Signature(config.data_width, id_width=id_width).channels("ar", "r")
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
        count = self.config.reads + LOOKUP_CYCLES + 1
        m.submodules.look_ahead = look_ahead = LookAhead(self.config, count, Access.READ, id_width=self.id_width)
        m.submodules.places = places = ReadPlaces(self.config, count, id_width=self.id_width)
        m.submodules.outstanding = outstanding = Outstanding(self.id_width, limit=self.config.outstanding, held=count)
        response = self.memory.r.payload.shape()
        m.submodules.refusal = refusal = Refusal(response, Access.READ, id_width=self.id_width)
        join(m, look_ahead.translation, flipped(self.translation))
        join(m, flipped(self.fence), outstanding.fence)
        join(m, refusal.report, flipped(self.fault))
        join(m, flipped(self.memory.r), refusal.memory)
        m.submodules.prefetches = prefetches = PrefetchAnswers(response)
        join(m, refusal.device, prefetches.source)
        join(m, prefetches.device, flipped(self.device.r))

        ar = self.device.ar
        enter = Signal()
        prefetch = Signal()
        first_of_id = Signal()  # the prefetch at AR has no earlier read of its ID to wait for
        m.d.comb += [
            prefetch.eq(ar.payload.user.address_type == AddressType.PREFETCH),
            ar.ready.eq(look_ahead.ready & Mux(prefetch, first_of_id & prefetches.room, places.room)),
            enter.eq(ar.valid & ar.ready & ~prefetch),
            look_ahead.prefetch.eq(ar.valid & ar.ready & prefetch),
            prefetches.take.eq(look_ahead.prefetch),
            prefetches.id.eq(ar.payload.id),
            prefetches.length.eq(ar.payload.len),
            outstanding.other_id.eq(ar.payload.id),
        ]
        m.d.sync += first_of_id.eq(ar.valid & prefetch & ~ar.ready & ~places.pending & outstanding.other_idle)
        m.d.comb += [
            outstanding.accept.eq(enter),
            places.enter.eq(enter),
            places.id.eq(ar.payload.id),
            look_ahead.enter.eq(enter),
            look_ahead.place.eq(places.place),
            look_ahead.request.burst.eq(ar.payload),
            look_ahead.request.color.eq(self.fence.color),
            places.known.eq(look_ahead.known),
            places.known_place.eq(look_ahead.known_place),
            places.answer.eq(look_ahead.answer),
            places.finished.eq(look_ahead.finished),
        ]

        # The one that may leave: it has waited, or its answer comes in this cycle.
        request = look_ahead.chosen_request
        answer = Signal(TranslationAnswer(self.config))
        walked, faulty = Signal(), Signal()
        translates, own = Signal(), Signal()  # it is a translation request; it is answered here
        m.d.comb += [
            look_ahead.chosen.eq(places.chosen),
            answer.eq(Mux(places.waited, look_ahead.chosen_answer, look_ahead.answer)),
            walked.eq(answer.outcome == Outcome.WALK),
            look_ahead.look.eq(answer.walk),
            faulty.eq(walked & (look_ahead.result.cause != Cause.NONE)),
            translates.eq(request.burst.user.address_type == AddressType.TRANSLATION_REQUEST),
            own.eq(faulty | translates),
        ]
        self._complete(m, refusal, translates, walked, answer, look_ahead.result)

        out = self.memory.ar
        send = Signal()
        m.d.comb += [
            send.eq(places.valid & ~own & (~out.valid | out.ready) & outstanding.room),
            refusal.take.eq(places.valid & own & ~refusal.busy),
            places.leave.eq(send),
            places.hold.eq(refusal.take),
            places.put_back.eq(places.valid & own & refusal.busy),
            places.leave_held.eq(refusal.finish),
            look_ahead.release.eq(walked & (send | refusal.take)),
            outstanding.send.eq(send),
            outstanding.send_id.eq(request.burst.id),
            outstanding.send_color.eq(request.color),
            outstanding.answer.eq(self.memory.r.valid & self.memory.r.ready & self.memory.r.payload.last),
            outstanding.answer_id.eq(self.memory.r.payload.id),
            outstanding.refuse.eq(refusal.finish),
            outstanding.refuse_color.eq(refusal.color),
            outstanding.look_id.eq(refusal.id),
            refusal.accepted.eq(request),
            refusal.result.eq(look_ahead.result),
            refusal.clear.eq(outstanding.idle),
            self.faulted.eq(refusal.finish & refusal.refused),
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
        return m

    def _complete(self, m: Module, refusal: Any, translates: Signal, walked: Signal, answer: Any, result: Any) -> None:
        """What a translation request is answered with."""
        completion = Signal(TranslationCompletion)
        with m.If(~walked):
            m.d.comb += [
                refusal.okay.eq(translates),
                completion.r.eq(1),
                completion.w.eq(answer.writable),
                completion.s.eq(answer.size != PageSize.SIZE_4K),
                completion.page.eq(sized_page(answer.ppn, answer.size)),
            ]
        with m.Elif(result.cause == Cause.NONE):
            m.d.comb += [
                refusal.okay.eq(translates),
                completion.r.eq(result.readable),
                completion.w.eq(result.writable),
                completion.s.eq(result.size != PageSize.SIZE_4K),
                completion.page.eq(sized_page(result.ppn, result.size)),
            ]
        with m.Else():
            with m.Switch(result.cause):
                with m.Case(PAGE_FAULT[Access.READ], GUEST_PAGE_FAULT[Access.READ]):
                    m.d.comb += refusal.okay.eq(translates)
        m.d.comb += refusal.word.eq(completion)
