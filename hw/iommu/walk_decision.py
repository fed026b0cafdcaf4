# SPDX-License-Identifier: BSD-2-Clause
"""What an answer means for the walk that waited for it."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import CONTEXT_BYTES, Cause, DirectoryEntry, DirectoryMode, FirstMode, SecondMode
from hw.abi.rings import AddressType
from hw.iommu.directory import learn
from hw.iommu.interfaces import PAGE_BITS, Context, ContextFill, Directory, PageSize, WalkCacheFill
from hw.iommu.walk_faults import ACCESS_FAULT, GUEST_PAGE_FAULT, PAGE_FAULT, assign_cause
from hw.iommu.walk_state import MAX_TRIES, Answer, Awaited, Happening, Move, Purpose, WalkState

CONTEXT_BEATS = CONTEXT_BYTES // 8


def first_top(context: Any) -> Value:
    """Level of the first stage's root table."""
    return Mux(context.first_mode == FirstMode.SV48, 3, 2)


def second_top(context: Any) -> Value:
    """Level of the second stage's root table."""
    return Mux(context.second_mode == SecondMode.SV48X4, 3, 2)


class WalkDecision(wiring.Component):
    """Takes one answer into a walk's state, combinationally: what the walk found out, and its next move. "Process to
    locate the Device-context" of the specification (3.3.1) and, entry by entry, the translation process of the
    privileged one.

    A first-stage entry that lies in guest memory was translated for reading; to set its A or D bit, its page is
    translated once more, for writing. Where a walk cache gave the entry's place, its guest address is not known, and
    the first stage is walked again from its root.

    Ports
    -----
    state, answer : a walk, and what came for it
    directory : register ddtp
    move : what to do next, see :class:`hw.iommu.walk_state.Move`
    cause : of REFUSE
    ppn : of FINISH: the physical page of the requested 4 KiB page, which may be one that does not exist
    draft : the state that ``move`` starts from: ENTER needs ``context``; TRANSLATE ``guest`` and ``purpose``; READ and
        WRITE what names the entry
    context_fill, pointer_fill : for the caches
    searches, cached : a search of the directory begins; a walk cache was of use
    """

    state: In(WalkState)
    answer: In(Answer)
    directory: In(Directory)
    move: Out(Move)
    cause: Out(Cause)
    ppn: Out(PAGE_BITS)
    draft: Out(WalkState)
    context_fill: Out(ContextFill())
    pointer_fill: Out(WalkCacheFill())
    searches: Out(1)
    cached: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # An exclusive read is for the next step only; everything else stays unless that step changes it.
        m.d.comb += [self.draft.eq(self.state), self.draft.exclusive.eq(0)]
        with m.Switch(self.answer.happening):
            with m.Case(Happening.START):
                self._start(m)
            with m.Case(Happening.LOOKED):
                self._looked(m)
            with m.Default():
                with m.Switch(self.state.awaited):
                    with m.Case(Awaited.DIRECTORY):
                        self._directory_entry(m)
                    with m.Case(Awaited.CONTEXT):
                        self._context_word(m)
                    with m.Case(Awaited.FIRST):
                        self._first_entry(m)
                    with m.Case(Awaited.SECOND):
                        self._second_entry(m)
        return m

    def _refuse(self, m: Module, cause: Cause) -> None:
        m.d.comb += [self.move.eq(Move.REFUSE), self.cause.eq(cause)]

    def _fault(self, m: Module, causes: Any) -> None:
        m.d.comb += self.move.eq(Move.REFUSE)
        assign_cause(m, self.cause, self.state.request.access, causes)

    def _start(self, m: Module) -> None:
        requester = self.state.request.requester
        mode = self.directory.mode
        wide = Signal()
        with m.Switch(mode):
            with m.Case(DirectoryMode.LVL1):
                m.d.comb += wide.eq(requester.device_id[7:].any())
            with m.Case(DirectoryMode.LVL2):
                m.d.comb += wide.eq(requester.device_id[16:].any())

        # Only where the directory says so has the device a context, whatever is still cached.
        m.d.comb += self.draft.context.eq(0)
        with m.If(mode == DirectoryMode.OFF):
            self._refuse(m, Cause.ALL_DISALLOWED)
        with m.Elif(mode == DirectoryMode.BARE):
            with m.If(requester.address_type == AddressType.UNTRANSLATED):
                m.d.comb += [
                    self.move.eq(Move.FINISH),
                    self.ppn.eq(self.state.request.page),
                    self.draft.leaf.size.eq(PageSize.SIZE_1G),
                ]
            with m.Else():
                self._refuse(m, Cause.TYPE_DISALLOWED)
        with m.Elif(wide):
            self._refuse(m, Cause.TYPE_DISALLOWED)
        with m.Elif(self.answer.known):
            m.d.comb += [self.move.eq(Move.ENTER), self.draft.context.eq(self.state.context)]
        with m.Else():
            m.d.comb += [
                self.searches.eq(1),
                self.move.eq(Move.READ),
                self.draft.awaited.eq(Mux(mode == DirectoryMode.LVL1, Awaited.CONTEXT, Awaited.DIRECTORY)),
                self.draft.level.eq(mode.as_value() - DirectoryMode.LVL1.value),
                self.draft.table.eq(self.directory.ppn),
            ]

    def _directory_entry(self, m: Module) -> None:
        state, answer = self.state, self.answer
        with m.If(answer.failed):
            self._refuse(m, Cause.DIRECTORY_ACCESS)
        with m.Elif(answer.invalid):
            self._refuse(m, Cause.DIRECTORY_INVALID)
        with m.Elif(answer.misconfigured):
            self._refuse(m, Cause.DIRECTORY_MISCONFIGURED)
        with m.Else():
            m.d.comb += [
                self.move.eq(Move.READ),
                self.draft.awaited.eq(Mux(state.level == 1, Awaited.CONTEXT, Awaited.DIRECTORY)),
                self.draft.level.eq(state.level - 1),
                self.draft.table.eq(View(DirectoryEntry, answer.word).ppn),
            ]

    def _context_word(self, m: Module) -> None:
        state, answer = self.state, self.answer
        unreadable, invalid, misconfigured = Signal(), Signal(), Signal()
        m.d.comb += [
            unreadable.eq(state.unreadable | answer.failed),
            invalid.eq(state.invalid | answer.invalid),
            misconfigured.eq(state.misconfigured | answer.misconfigured),
            self.draft.unreadable.eq(unreadable),
            self.draft.invalid.eq(invalid),
            self.draft.misconfigured.eq(misconfigured),
            self.draft.beat.eq(state.beat + 1),
        ]
        context = Signal(Context)
        m.d.comb += context.eq(state.context)
        learn(m, context, answer.word, state.beat)
        m.d.comb += [
            self.context_fill.device_id.eq(state.request.requester.device_id),
            self.context_fill.context.eq(context),
        ]
        with m.If(state.beat != CONTEXT_BEATS - 1):
            m.d.comb += [self.move.eq(Move.WAIT), self.draft.context.eq(context)]
        with m.Else():
            # A context that is no good is nobody's: its DTF must not silence the fault's record.
            m.d.comb += self.draft.context.eq(0)
            with m.If(unreadable):
                self._refuse(m, Cause.DIRECTORY_ACCESS)
            with m.Elif(invalid):
                self._refuse(m, Cause.DIRECTORY_INVALID)
            with m.Elif(misconfigured):
                self._refuse(m, Cause.DIRECTORY_MISCONFIGURED)
            with m.Else():
                m.d.comb += [
                    self.move.eq(Move.ENTER),
                    self.draft.context.eq(context),
                    self.context_fill.strobe.eq(1),
                ]

    def _looked(self, m: Module) -> None:
        state, answer = self.state, self.answer
        m.d.comb += self.cached.eq(answer.found)
        with m.If(answer.found):
            m.d.comb += [self.move.eq(Move.READ), self.draft.table.eq(answer.found_ppn)]
            with m.If(state.awaited == Awaited.FIRST):
                m.d.comb += [self.draft.level.eq(answer.found_level), self.draft.guest_known.eq(0)]
            with m.Else():
                m.d.comb += self.draft.second_level.eq(answer.found_level)
        with m.Elif(state.awaited == Awaited.FIRST):
            m.d.comb += self.move.eq(Move.ROOT)
        with m.Else():
            m.d.comb += [
                self.move.eq(Move.READ),
                self.draft.second_level.eq(second_top(state.context)),
                self.draft.table.eq(state.context.second_ppn),
            ]

    def _first_entry(self, m: Module) -> None:
        state, verdict = self.state, self.answer.verdict
        nested = state.context.space.second
        m.d.comb += [
            self.pointer_fill.space.eq(state.context.space),
            self.pointer_fill.page.eq(state.request.page),
            self.pointer_fill.level.eq(state.level - 1),
            self.pointer_fill.ppn.eq(verdict.ppn),
        ]
        with m.If(self._settled(m, PAGE_FAULT)):
            with m.If(verdict.pointer):
                m.d.comb += self.draft.level.eq(state.level - 1)
                with m.If(nested):
                    self._translate(m, verdict.ppn, Purpose.ENTRY_READ)
                with m.Else():
                    m.d.comb += [
                        self.move.eq(Move.READ),
                        self.draft.table.eq(verdict.ppn),
                        self.pointer_fill.strobe.eq(1),
                    ]
            with m.Elif(verdict.update & nested & ~state.exclusive):
                with m.If(state.guest_known):
                    self._translate(m, state.guest, Purpose.ENTRY_UPDATE)
                with m.Else():
                    m.d.comb += self.move.eq(Move.ROOT)
            with m.Elif(verdict.update):
                self._update(m)
            with m.Else():
                m.d.comb += [
                    self.draft.leaf.size.eq(verdict.size),
                    self.draft.leaf.readable.eq(verdict.readable),
                    self.draft.leaf.writable.eq(verdict.writable),
                    self.draft.leaf.everywhere.eq(verdict.everywhere),
                    self.draft.leaf.fragment.eq(state.level == 3),
                    self.ppn.eq(verdict.ppn),
                ]
                with m.If(nested):
                    self._translate(m, verdict.ppn, Purpose.ACCESS)
                with m.Else():
                    m.d.comb += self.move.eq(Move.FINISH)

    def _second_entry(self, m: Module) -> None:
        state, verdict = self.state, self.answer.verdict
        context = state.context
        with m.If(self._settled(m, GUEST_PAGE_FAULT)):
            with m.If(verdict.pointer):
                m.d.comb += [
                    self.move.eq(Move.READ),
                    self.draft.second_level.eq(state.second_level - 1),
                    self.draft.table.eq(verdict.ppn),
                    self.pointer_fill.strobe.eq(1),
                    self.pointer_fill.space.second.eq(1),
                    self.pointer_fill.space.gscid.eq(context.space.gscid),
                    self.pointer_fill.page.eq(state.guest),
                    self.pointer_fill.level.eq(state.second_level - 1),
                    self.pointer_fill.ppn.eq(verdict.ppn),
                ]
            with m.Elif(verdict.update):
                self._update(m)
            with m.Elif(state.purpose == Purpose.ACCESS):
                # A page is as large as the smaller of the two leaves, and allows what both do.
                smaller = verdict.size.as_value() < state.leaf.size.as_value()
                larger_leaf = (smaller & context.space.first) | (state.second_level == 3)
                with m.If(smaller):
                    m.d.comb += self.draft.leaf.size.eq(verdict.size)
                m.d.comb += [
                    self.move.eq(Move.FINISH),
                    self.draft.leaf.readable.eq(state.leaf.readable & verdict.readable),
                    self.draft.leaf.writable.eq(state.leaf.writable & verdict.writable),
                    self.draft.leaf.fragment.eq(state.leaf.fragment | larger_leaf),
                    self.ppn.eq(verdict.ppn),
                ]
            with m.Else():
                # The guest's first-stage table is now found in memory, and the cache keeps it so; but not the root.
                m.d.comb += [
                    self.move.eq(Move.READ),
                    self.draft.awaited.eq(Awaited.FIRST),
                    self.draft.table.eq(verdict.ppn),
                    self.draft.exclusive.eq(state.purpose == Purpose.ENTRY_UPDATE),
                    self.pointer_fill.strobe.eq(state.level != first_top(context)),
                    self.pointer_fill.space.eq(context.space),
                    self.pointer_fill.page.eq(state.request.page),
                    self.pointer_fill.level.eq(state.level),
                    self.pointer_fill.ppn.eq(verdict.ppn),
                ]

    def _settled(self, m: Module, faults: Any) -> Signal:
        """The entry is there and allows to go on; all else is dealt with."""
        state, answer = self.state, self.answer
        settled = Signal()
        with m.If(answer.failed):
            self._fault(m, ACCESS_FAULT)
        with m.Elif(answer.lost & (state.tries == MAX_TRIES - 1)):
            self._fault(m, ACCESS_FAULT)
        with m.Elif(answer.lost):
            # Somebody else wrote: the entry may be another one by now.
            m.d.comb += [
                self.move.eq(Move.READ),
                self.draft.exclusive.eq(1),
                self.draft.tries.eq(state.tries + 1),
            ]
        with m.Elif(answer.verdict.fault):
            self._fault(m, faults)
        with m.Else():
            m.d.comb += settled.eq(1)
        return settled

    def _translate(self, m: Module, guest: Any, purpose: Purpose) -> None:
        m.d.comb += [
            self.move.eq(Move.TRANSLATE),
            self.draft.guest.eq(guest),
            self.draft.guest_known.eq(1),
            self.draft.purpose.eq(purpose),
        ]

    def _update(self, m: Module) -> None:
        """Set A or D of the entry, which an exclusive read must have delivered."""
        m.d.comb += [
            self.move.eq(Mux(self.state.exclusive, Move.WRITE, Move.READ)),
            self.draft.exclusive.eq(1),
            self.draft.entry.eq(self.answer.verdict.updated),
        ]
