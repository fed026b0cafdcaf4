# SPDX-License-Identifier: BSD-2-Clause
"""Holding a channel's requests, and asking the translator until each is known to hit or to have its walk."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AddressChannel, crosses_page
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    LOOKUP_CYCLES,
    Access,
    Outcome,
    TranslationAnswer,
    TranslationSignature,
    WalkResult,
)
from hw.iommu.refusal import Accepted


class _Kind(enum.Enum, shape=2):
    """Which lookup is in a stage of the translator's pipeline."""

    NONE = 0
    FIRST = 1
    AGAIN = 2
    VOID = 3  #: of a request that is asked about once more, as an older one was


class LookAhead(wiring.Component):
    """Between a channel and its translation port: answers are HIT or WALK only, and come once for each request.

    A request has a *place*, a number that the channel gives it until it has left; request and answer are kept there.
    It is looked up in the cycle in which it enters, and ``LOOKUP_CYCLES`` later it is known, unless no walk was free.
    Then it joins a list, whose oldest is asked about again and again; once that is known, the others follow one a
    cycle. Meanwhile new requests enter and hits become known, but a walk is given to nobody who is younger than a
    request on the list: so walks belong to the oldest requests, which never wait for a younger one to leave, and every
    request gets its walk in the end.

    Parameters
    ----------
    config : see :class:`hw.config.IommuConfig`
    places : requests that the channel holds
    access : what all of them want
    id_width : bits of an AXI ID

    Ports
    -----
    translation : to the translator
    enter, place, request : a new request; only with ``ready``
    prefetch : ``request`` is a prefetch, which is looked up and forgotten; only with ``ready``, instead of ``enter``
    known, known_place, answer : a request's answer, with outcome HIT or WALK
    chosen, chosen_request, chosen_answer : what is kept at a place, combinationally; the answer from the cycle after
        ``known`` on
    finished, look, result, release : as in :class:`TranslationSignature`
    """

    def __init__(self, config: IommuConfig, places: int, access: Access, *, id_width: int):
        if not isinstance(places, int) or places < 2:
            raise ValueError(f"places must be an integer from 2 up, not {places!r}")
        self.config = config
        self.places = places
        self.access = access
        self.id_width = id_width
        super().__init__(
            {
                "translation": Out(TranslationSignature(config)),
                "ready": Out(1),
                "enter": In(1),
                "prefetch": In(1),
                "place": In(range(places)),
                "request": In(Accepted(id_width)),
                "known": Out(1),
                "known_place": Out(range(places)),
                "answer": Out(TranslationAnswer(config)),
                "chosen": In(range(places)),
                "chosen_request": Out(Accepted(id_width)),
                "chosen_answer": Out(TranslationAnswer(config)),
                "finished": Out(config.walks),
                "look": In(range(config.walks)),
                "result": Out(WalkResult),
                "release": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        translation = self.translation
        m.submodules.requests = requests = Memory(shape=Accepted(self.id_width), depth=self.places, init=[])
        m.submodules.answers = answers = Memory(shape=TranslationAnswer(self.config), depth=self.places, init=[])
        request_write, answer_write = requests.write_port(), answers.write_port()
        request_read, answer_read = requests.read_port(domain="comb"), answers.read_port(domain="comb")
        m.d.comb += [
            request_write.addr.eq(self.place),
            request_write.data.eq(self.request),
            request_write.en.eq(self.enter),
            answer_write.addr.eq(self.known_place),
            answer_write.data.eq(self.answer),
            answer_write.en.eq(self.known),
            request_read.addr.eq(self.chosen),
            self.chosen_request.eq(request_read.data),
            answer_read.addr.eq(self.chosen),
            self.chosen_answer.eq(answer_read.data),
        ]

        address_bits = (self.places - 1).bit_length()
        m.submodules.waiting = waiting = Memory(shape=address_bits, depth=1 << address_bits, init=[])
        waiting_write, waiting_read = waiting.write_port(), waiting.read_port(domain="comb")
        oldest, asked, end = Signal(address_bits + 1), Signal(address_bits + 1), Signal(address_bits + 1)
        flowing = Signal()  # the last one asked about again became known
        asking = Signal()
        again = requests.read_port(domain="comb")
        burst = Signal(AddressChannel(64, self.id_width))
        m.d.comb += [
            asking.eq((asked != end) & (flowing | (asked == oldest))),
            waiting_read.addr.eq(asked),
            again.addr.eq(waiting_read.data),
            burst.eq(Mux(asking, again.data.burst, self.request.burst)),
            self.ready.eq(~asking),
            translation.request.eq(asking | self.enter | self.prefetch),
            translation.requester.eq(burst.user),
            translation.address.eq(burst.addr),
            translation.crosses.eq(crosses_page(burst)),
            translation.access.eq(self.access),
            translation.first.eq(~asking),
        ]

        stage = data.StructLayout({"kind": _Kind, "place": range(self.places)})
        asked_about = Signal(stage)
        pipeline = [Signal(stage, name=f"stage_{cycle}") for cycle in range(LOOKUP_CYCLES)]
        answered = pipeline[-1]
        go_back = Signal()
        m.d.comb += asked_about.place.eq(Mux(asking, again.addr, self.place))
        with m.If(asking):
            m.d.comb += asked_about.kind.eq(_Kind.AGAIN)
        with m.Elif(self.enter):
            m.d.comb += asked_about.kind.eq(_Kind.FIRST)
        for before, after in zip([asked_about, *pipeline], pipeline, strict=False):
            m.d.sync += after.eq(before)
            with m.If(go_back & (before.kind == _Kind.AGAIN)):
                m.d.sync += after.kind.eq(_Kind.VOID)

        join = Signal()
        again_known = Signal()
        retry = translation.answer.outcome == Outcome.RETRY
        first, once_more = answered.kind == _Kind.FIRST, answered.kind == _Kind.AGAIN
        m.d.comb += [
            translation.hold.eq((~once_more & (oldest != end)) | (answered.kind == _Kind.VOID)),
            join.eq(first & retry),
            again_known.eq(once_more & ~retry),
            go_back.eq(once_more & retry),
            self.known.eq((first & ~join) | again_known),
            self.known_place.eq(answered.place),
            self.answer.eq(translation.answer),
            waiting_write.addr.eq(end),
            waiting_write.data.eq(answered.place),
            waiting_write.en.eq(join),
        ]
        m.d.sync += [
            oldest.eq(oldest + again_known),
            asked.eq(Mux(go_back, oldest, asked + asking)),
            end.eq(end + join),
        ]
        with m.If(once_more):
            m.d.sync += flowing.eq(again_known)

        m.d.comb += [
            self.finished.eq(translation.finished),
            self.result.eq(translation.result),
            translation.look.eq(self.look),
            translation.release.eq(self.release),
        ]
        return m
