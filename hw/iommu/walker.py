# SPDX-License-Identifier: BSD-2-Clause
"""Walks of the device directory and of both stages' tables, many at once."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, flipped

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.directory import DirectoryCheck, DirectoryWord
from hw.iommu.interfaces import (
    WALK_CACHE_CYCLES,
    Access,
    ContextFill,
    ContextLookup,
    Directory,
    TlbFill,
    WalkCacheFill,
    WalkCacheLookup,
    WalkEvent,
    WalkRequest,
)
from hw.iommu.table_entry import TableEntry
from hw.iommu.walk_action import WalkAction
from hw.iommu.walk_decision import WalkDecision
from hw.iommu.walk_requests import WalkRequests
from hw.iommu.walk_state import Answer, Awaited, FinishSignature, Happening, Purpose, WalkState, walk_starts

STEP_CYCLES = 3  #: from taking an answer to what follows from it


class _Taken(data.StructLayout):
    """An answer as it came, and whose it is."""

    def __init__(self, config: IommuConfig):
        super().__init__({"walk": range(config.walks), "happening": Happening, "word": 64, "response": Response})


class Walker(wiring.Component):
    """Does the walks that the walk table starts: "Process to translate an IOVA" of the specification (3.3).

    One pipeline serves all walks. A walk is a row of a memory, of which each answer of memory makes the next row::

        c      an answer is taken; the row is read
        c + 1  row and answer meet
        c + 2  the answer is judged: TableEntry, DirectoryCheck
        c + 3  WalkDecision, WalkAction: the row is written; a request of memory goes to its queue
        c + 4  that request is offered; or the walk is over; or the walk caches are asked and the row is read again, so
               that the next step is in c + 7, when they answer

    So an entry that names the next one costs 4 cycles between its data and the next address, 8 where the walk caches
    are asked in between (a first-stage walk begins, or a second-stage one), and every cycle may take up another walk.
    The four words of a context, which are of one walk, come 4 cycles apart. Walk-cache answers go first, then reads,
    then writes, then new walks; each walk has one thing under way, so none waits forever.

    A walk under way while an invalidation is offered fills no cache. A walk ends: each entry leads at least one level
    down, the first stage is walked at most twice, and an A or D bit is tried to be set at most ``MAX_TRIES`` times.

    Ports
    -----
    start : walks to be done, at most ``config.walks`` at a time
    finish : the end of each
    directory : register ddtp
    contexts, context_fill : the cache of device contexts
    walk_cache, walk_cache_fill : the caches of non-leaf entries
    tlb_fill : the IOTLB; in the cycle of ``finish``, as are all fills of a last step
    invalidating : an invalidation is offered to the caches in this cycle
    event : for the performance counters
    axi : reads of 8 bytes, and of 32 for a context; exclusive reads and writes to set A and D; ID is the walk's number
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "start": In(walk_starts(config)),
                "finish": Out(FinishSignature(config)),
                "directory": In(Directory),
                "contexts": Out(ContextLookup()),
                "context_fill": Out(ContextFill()),
                "walk_cache": Out(WalkCacheLookup()),
                "walk_cache_fill": Out(WalkCacheFill()),
                "tlb_fill": Out(TlbFill()),
                "invalidating": In(1),
                "event": Out(WalkEvent),
                "axi": Out(AXI4Signature(64)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        # Taken up in the cycle in which the caches are asked, a walk is at its step when they answer.
        assert WALK_CACHE_CYCLES == STEP_CYCLES
        m.submodules.rows = rows = Memory(shape=WalkState, depth=config.walks, init=[])
        row_read, row_write = rows.read_port(), rows.write_port()
        walk = range(config.walks)
        looks, looking_walk = Signal(), Signal(walk)

        taken, met, judged = (Signal(_Taken(config), name=name) for name in ("taken", "met", "judged"))
        taken_valid, met_valid, judged_valid, step_valid = Signal(), Signal(), Signal(), Signal()
        request, state, known = Signal(WalkRequest), Signal(WalkState), Signal()
        step_walk, step_state, step_answer = Signal(walk), Signal(WalkState), Signal(Answer)
        under_way = [(met_valid, met.walk), (judged_valid, judged.walk), (step_valid, step_walk)]
        self._take(m, taken, taken_valid, looks, looking_walk, under_way)
        m.d.comb += [
            row_read.addr.eq(taken.walk),
            self.contexts.device_id.eq(self.start.payload.request.requester.device_id),
        ]

        # Wide registers move only with an answer: most cycles have none.
        m.d.sync += [met_valid.eq(taken_valid), judged_valid.eq(met_valid), step_valid.eq(judged_valid)]
        with m.If(taken_valid):
            m.d.sync += [met.eq(taken), request.eq(self.start.payload.request)]
        with m.If(met_valid):
            m.d.sync += [judged.eq(met), state.eq(row_read.data), known.eq(self.contexts.hit)]
            with m.If(met.happening == Happening.START):
                m.d.sync += [state.eq(0), state.request.eq(request), state.context.eq(self.contexts.context)]
        answer = Signal(Answer)
        self._judge(m, judged, state, answer)

        with m.If(judged_valid):
            m.d.sync += [
                step_walk.eq(judged.walk),
                step_state.eq(state),
                step_answer.eq(answer),
                step_answer.known.eq(known),
            ]
        m.submodules.decision = decision = WalkDecision()
        m.submodules.action = action = WalkAction(config)
        m.submodules.requests = requests = WalkRequests(config)
        m.d.comb += [
            decision.state.eq(step_state),
            decision.answer.eq(step_answer),
            decision.answer.found.eq(self.walk_cache.found),
            decision.answer.found_level.eq(self.walk_cache.level),
            decision.answer.found_ppn.eq(self.walk_cache.ppn),
            decision.directory.eq(self.directory),
            action.move.eq(decision.move),
            action.cause.eq(decision.cause),
            action.ppn.eq(decision.ppn),
            action.draft.eq(decision.draft),
            row_write.addr.eq(step_walk),
            row_write.data.eq(action.after),
            row_write.en.eq(step_valid),
            requests.read.eq(step_valid & action.read),
            requests.write.eq(step_valid & action.write),
            requests.walk.eq(step_walk),
            requests.address.eq(action.address),
            requests.context.eq(action.after.awaited == Awaited.CONTEXT),
            requests.exclusive.eq(action.after.exclusive),
            requests.entry.eq(action.after.entry),
        ]
        m.d.comb += self.walk_cache.strobe.eq(looks)
        m.d.sync += [looks.eq(step_valid & action.look), self.finish.strobe.eq(step_valid & action.done)]
        with m.If(step_valid):
            m.d.sync += [
                looking_walk.eq(step_walk),
                self.walk_cache.space.eq(action.look_space),
                self.walk_cache.page.eq(action.look_page),
                self.finish.walk.eq(step_walk),
                self.finish.result.eq(action.result),
            ]
        for name in ("ar", "aw", "w"):
            join(m, getattr(requests.axi, name), flipped(getattr(self.axi, name)))
        self._fill(m, step_valid, step_walk, decision, action)
        self._count(m, step_valid, decision, action)
        return m

    def _take(self, m: Module, taken: Any, valid: Signal, looks: Signal, looking_walk: Signal, under_way: Any) -> None:
        """Choose an answer. One of a walk that is still in the pipeline, with an earlier word of its context, waits."""
        r, b, start = self.axi.r, self.axi.b, self.start
        r_waits: Any = looks
        b_waits: Any = looks | r.valid
        for busy, walk in under_way:
            r_waits |= busy & (walk == r.payload.id[: len(walk)])
            b_waits |= busy & (walk == b.payload.id[: len(walk)])
        m.d.comb += [
            r.ready.eq(~r_waits),
            b.ready.eq(~b_waits),
            start.ready.eq(~(looks | r.valid | b.valid)),
            valid.eq(looks | (r.valid & r.ready) | (b.valid & b.ready) | (start.valid & start.ready)),
            taken.word.eq(r.payload.data),
        ]
        with m.If(looks):
            m.d.comb += [taken.happening.eq(Happening.LOOKED), taken.walk.eq(looking_walk)]
        with m.Elif(r.valid):
            m.d.comb += [
                taken.happening.eq(Happening.READ),
                taken.walk.eq(r.payload.id),
                taken.response.eq(r.payload.resp),
            ]
        with m.Elif(b.valid):
            m.d.comb += [
                taken.happening.eq(Happening.WRITTEN),
                taken.walk.eq(b.payload.id),
                taken.response.eq(b.payload.resp),
            ]
        with m.Else():
            m.d.comb += [taken.happening.eq(Happening.START), taken.walk.eq(start.payload.walk)]

    def _judge(self, m: Module, judged: Any, state: Any, answer: Any) -> None:
        """What an answer is worth to a walk in this state."""
        m.submodules.entry = entry = TableEntry()
        m.submodules.check = check = DirectoryCheck(self._config)
        written = judged.happening == Happening.WRITTEN
        bad = (judged.response == Response.SLVERR) | (judged.response == Response.DECERR)
        m.d.comb += [
            # Once written, the entry is what was written.
            entry.entry.eq(Mux(written, state.entry, judged.word)),
            check.word.eq(judged.word),
            check.kind.eq(Mux(state.awaited == Awaited.DIRECTORY, DirectoryWord.ENTRY, state.beat)),
            answer.happening.eq(judged.happening),
            answer.word.eq(judged.word),
            # Memory that does not know exclusive reads would do exclusive writes in any case.
            answer.failed.eq(bad | (~written & state.exclusive & (judged.response != Response.EXOKAY))),
            answer.lost.eq(written & (judged.response == Response.OKAY)),
            answer.invalid.eq(check.invalid),
            answer.misconfigured.eq(check.misconfigured),
            answer.verdict.eq(entry.verdict),
        ]
        with m.If(state.awaited == Awaited.SECOND):
            m.d.comb += [
                entry.level.eq(state.second_level),
                entry.page.eq(state.guest),
                entry.updates.eq(state.context.gade),
            ]
        with m.Else():
            m.d.comb += [
                entry.level.eq(state.level),
                entry.page.eq(state.request.page),
                entry.updates.eq(state.context.sade),
            ]
        with m.If((state.awaited == Awaited.FIRST) | (state.purpose == Purpose.ACCESS)):
            m.d.comb += entry.access.eq(state.request.access)
            # Where the first stage allows no writes, none come to the second.
            translates = state.request.access == Access.TRANSLATE
            with m.If(translates & (state.awaited == Awaited.SECOND) & ~state.leaf.writable):
                m.d.comb += entry.access.eq(Access.READ)
        with m.Else():
            update = state.purpose == Purpose.ENTRY_UPDATE
            m.d.comb += entry.access.eq(Mux(update, Access.WRITE, Access.READ))

    def _fill(self, m: Module, valid: Signal, walk: Signal, decision: Any, action: Any) -> None:
        """Tell the caches, in the cycle after the step, what was found since the last invalidation."""
        poisoned = Signal(self._config.walks)
        filling = Signal(self._config.walks)
        with m.If(self.start.valid & self.start.ready):
            m.d.sync += poisoned.eq(poisoned & ~(1 << self.start.payload.walk))
        with m.If(self.invalidating):
            m.d.sync += poisoned.eq(~0)
        m.d.sync += filling.eq(1 << walk)
        for found, fill in (
            (decision.context_fill, self.context_fill),
            (decision.pointer_fill, self.walk_cache_fill),
            (action.leaf_fill, self.tlb_fill),
        ):
            strobe = Signal(name="filled")
            m.d.sync += strobe.eq(valid & found.strobe)
            m.d.comb += fill.strobe.eq(strobe & ~(poisoned & filling).any())
            with m.If(valid):
                for name in fill.signature.members:
                    if name != "strobe":
                        m.d.sync += Value.cast(getattr(fill, name)).eq(Value.cast(getattr(found, name)))

    def _count(self, m: Module, valid: Signal, decision: Any, action: Any) -> None:
        event = self.event
        m.d.sync += [
            event.directory.eq(valid & decision.searches),
            event.first.eq(valid & action.first),
            event.second.eq(valid & action.second),
            event.read.eq(valid & action.read),
            event.cache_hit.eq(valid & decision.cached),
        ]
        with m.If(valid):
            m.d.sync += [
                event.requester.eq(action.after.request.requester),
                event.space.eq(action.after.context.space),
            ]
