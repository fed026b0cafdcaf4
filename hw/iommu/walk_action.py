# SPDX-License-Identifier: BSD-2-Clause
"""What a walk's next move means for memory, the caches and the walk table."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import ALWAYS_REPORTED, PAGE_SHIFT, PPN_BITS, Cause, FirstMode, SecondMode
from hw.abi.rings import AddressType
from hw.config import IommuConfig
from hw.iommu.interfaces import PAGE_BITS, Access, PageSize, Space, TlbFill, WalkResult, size_mask
from hw.iommu.walk_decision import first_top, second_top
from hw.iommu.walk_faults import ACCESS_FAULT, GUEST_PAGE_FAULT, PAGE_FAULT, assign_cause
from hw.iommu.walk_state import Awaited, Move, Purpose, WalkState


class WalkAction(wiring.Component):
    """Carries out a move, combinationally: whether a request may be translated at all, whether an address is one of its
    stage's and of memory, and where the awaited entry lies.

    A first stage takes canonical addresses, a second stage those of 41 or 50 bits; memory has ``physical_bits``. No
    stage takes a burst that goes beyond its page (an access fault): it would reach the physical page behind. A
    translation request needs EN_ATS and is a read; a prefetch comes here as the access that it stands for.

    Ports
    -----
    move, cause, ppn, draft : see :class:`hw.iommu.walk_decision.WalkDecision`
    after : the state from now on
    look, look_space, look_page : ask the walk caches; ``after.awaited`` says for which stage
    read : read at ``address``: ``after.awaited`` says how much, ``after.exclusive`` how
    write : write ``after.entry`` exclusively to ``address``
    done, result : the walk is over
    leaf_fill : for the IOTLB; identity is not cached
    first, second : a walk of a first-stage table begins; of a second-stage table
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "move": In(Move),
                "cause": In(Cause),
                "ppn": In(PAGE_BITS),
                "draft": In(WalkState),
                "after": Out(WalkState),
                "look": Out(1),
                "look_space": Out(Space),
                "look_page": Out(PAGE_BITS),
                "read": Out(1),
                "write": Out(1),
                "address": Out(PPN_BITS + 12),
                "done": Out(1),
                "result": Out(WalkResult),
                "leaf_fill": Out(TlbFill()),
                "first": Out(1),
                "second": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        draft, context, request = self.draft, self.draft.context, self.draft.request

        # Later parts read these signals and never ``after``, so that nothing loops.
        awaited, level, table = Signal(Awaited), Signal(2), Signal(PPN_BITS)
        guest, purpose = Signal(PAGE_BITS), Signal(Purpose)
        look_first, translate, fetch, finish = Signal(), Signal(), Signal(), Signal()
        ppn = Signal(PAGE_BITS)
        refuse, cause = Signal(), Signal(Cause)
        m.d.comb += [
            awaited.eq(draft.awaited),
            level.eq(draft.level),
            table.eq(draft.table),
            guest.eq(draft.guest),
            purpose.eq(draft.purpose),
            ppn.eq(self.ppn),
            cause.eq(self.cause),
            self.after.eq(draft),
        ]
        with m.Switch(self.move):
            with m.Case(Move.REFUSE):
                m.d.comb += refuse.eq(1)
            with m.Case(Move.ENTER):
                kind = request.requester.address_type
                with m.If(
                    request.requester.process_id_valid
                    | (kind == AddressType.PREFETCH)
                    | ((kind == AddressType.TRANSLATION_REQUEST) & (request.access == Access.WRITE))
                    | ((kind != AddressType.UNTRANSLATED) & ~context.enable_ats)
                ):
                    m.d.comb += [refuse.eq(1), cause.eq(Cause.TYPE_DISALLOWED)]
                with m.Elif((kind == AddressType.TRANSLATED) | ~(context.space.first | context.space.second)):
                    m.d.comb += [
                        finish.eq(1),
                        ppn.eq(request.page),
                        self.after.leaf.size.eq(PageSize.SIZE_1G),
                        self.after.leaf.readable.eq(1),
                        self.after.leaf.writable.eq(1),
                    ]
                with m.Elif(request.crosses):
                    m.d.comb += refuse.eq(1)
                    assign_cause(m, cause, request.access, ACCESS_FAULT)
                with m.Elif(context.space.first):
                    with m.If(self._canonical(m)):
                        m.d.comb += [awaited.eq(Awaited.FIRST), look_first.eq(1)]
                    with m.Else():
                        m.d.comb += refuse.eq(1)
                        assign_cause(m, cause, request.access, PAGE_FAULT)
                with m.Else():
                    m.d.comb += [
                        translate.eq(1),
                        guest.eq(request.page),
                        purpose.eq(Purpose.ACCESS),
                        self.after.leaf.size.eq(PageSize.SIZE_1G),
                        self.after.leaf.readable.eq(1),
                        self.after.leaf.writable.eq(1),
                    ]
            with m.Case(Move.ROOT):
                m.d.comb += [
                    awaited.eq(Awaited.FIRST),
                    level.eq(first_top(context)),
                    table.eq(context.first_ppn),
                    guest.eq(context.first_ppn),
                    purpose.eq(Purpose.ENTRY_READ),
                    translate.eq(context.space.second),
                    fetch.eq(~context.space.second),
                    self.after.guest_known.eq(1),
                ]
            with m.Case(Move.TRANSLATE):
                m.d.comb += translate.eq(1)
            with m.Case(Move.READ, Move.WRITE):
                m.d.comb += fetch.eq(1)
            with m.Case(Move.FINISH):
                m.d.comb += finish.eq(1)

        wide, beyond, absent = Signal(), Signal(), Signal()
        frames = self._config.physical_bits - PAGE_SHIFT
        m.d.comb += [
            wide.eq(Mux(context.second_mode == SecondMode.SV48X4, guest[38:].any(), guest[29:].any())),
            beyond.eq(table[frames:].any()),
            absent.eq(ppn[frames:].any()),
        ]
        with m.If(translate & wide):
            m.d.comb += refuse.eq(1)
            assign_cause(m, cause, request.access, GUEST_PAGE_FAULT)
        with m.Elif(fetch & beyond & ((awaited == Awaited.DIRECTORY) | (awaited == Awaited.CONTEXT))):
            m.d.comb += [refuse.eq(1), cause.eq(Cause.DIRECTORY_ACCESS)]
        with m.Elif((fetch & beyond) | (finish & absent)):
            m.d.comb += refuse.eq(1)
            assign_cause(m, cause, request.access, ACCESS_FAULT)
        with m.If(translate):
            m.d.comb += self.after.awaited.eq(Awaited.SECOND)
        with m.Else():
            m.d.comb += self.after.awaited.eq(awaited)
        m.d.comb += [
            self.after.level.eq(level),
            self.after.table.eq(table),
            self.after.guest.eq(guest),
            self.after.purpose.eq(purpose),
            self.first.eq(look_first),
            self.second.eq(translate & ~wide),
            self.look.eq(self.first | self.second),
            self.look_page.eq(Mux(translate, guest, request.page)),
            self.look_space.gscid.eq(context.space.gscid),
            self.look_space.second.eq(context.space.second),
            self.read.eq(fetch & ~beyond & (self.move != Move.WRITE)),
            self.write.eq(fetch & ~beyond & (self.move == Move.WRITE)),
        ]
        with m.If(~translate):
            m.d.comb += [self.look_space.first.eq(1), self.look_space.pscid.eq(context.space.pscid)]

        self._locate(m, awaited, level, table, guest)
        self._finish(m, refuse, cause, finish & ~absent, ppn, self._guest_address(m, level, guest, purpose))
        return m

    def _canonical(self, m: Module) -> Signal:
        """Address bits above those that the first stage takes are all like its highest."""
        page = self.draft.request.page
        canonical = Signal()
        with m.If(self.draft.context.first_mode == FirstMode.SV48):
            m.d.comb += canonical.eq(page[35:].all() | ~page[35:].any())
        with m.Else():
            m.d.comb += canonical.eq(page[26:].all() | ~page[26:].any())
        return canonical

    def _locate(self, m: Module, awaited: Signal, level: Signal, table: Signal, guest: Signal) -> None:
        """The address of the awaited entry."""
        draft = self.draft
        device = draft.request.requester.device_id
        root_bits, offset = Signal(2), Signal(PAGE_SHIFT)
        with m.Switch(awaited):
            with m.Case(Awaited.DIRECTORY):
                m.d.comb += offset[3:].eq(Mux(level == 2, device[16:], device[7:16]))
            with m.Case(Awaited.CONTEXT):
                m.d.comb += offset[5:].eq(device[:7])
            with m.Case(Awaited.FIRST):
                m.d.comb += offset[3:].eq(_index(draft.request.page, level))
            with m.Case(Awaited.SECOND):
                m.d.comb += offset[3:].eq(_index(guest, draft.second_level))
                # The root is four tables side by side.
                with m.If(draft.second_level == second_top(draft.context)):
                    m.d.comb += root_bits.eq(Mux(draft.second_level == 3, guest[36:38], guest[27:29]))
        m.d.comb += self.address.eq(Cat(offset, table[:2] | root_bits, table[2:]))

    def _guest_address(self, m: Module, level: Signal, guest: Signal, purpose: Signal) -> Signal:
        """iotval2 of a guest-page fault."""
        value = Signal(64)
        with m.If(purpose == Purpose.ACCESS):
            m.d.comb += value.eq(Cat(Const(0, PAGE_SHIFT), guest))
        with m.Else():
            written = purpose == Purpose.ENTRY_UPDATE
            m.d.comb += value.eq(Cat(Const(1, 1), written, Const(0, 1), _index(self.draft.request.page, level), guest))
        return value

    def _finish(self, m: Module, refuse: Signal, cause: Signal, fine: Any, ppn: Signal, guest_address: Signal) -> None:
        context, leaf, result, fill = self.draft.context, self.after.leaf, self.result, self.leaf_fill
        m.d.comb += [
            self.done.eq(refuse | fine),
            result.ppn.eq(ppn),
            result.size.eq(leaf.size),
            result.readable.eq(leaf.readable),
            result.writable.eq(leaf.writable),
            fill.strobe.eq(fine & (self.move == Move.FINISH) & (context.space.first | context.space.second)),
            fill.space.eq(context.space),
            fill.everywhere.eq(leaf.everywhere),
            fill.fragment.eq(leaf.fragment),
            fill.page.eq(self.draft.request.page),
            fill.size.eq(leaf.size),
            fill.translation.ppn.eq(ppn[:PPN_BITS] & ~size_mask(leaf.size, PPN_BITS)),
            fill.translation.readable.eq(leaf.readable),
            fill.translation.writable.eq(leaf.writable),
        ]
        with m.If(refuse):
            m.d.comb += [result.cause.eq(cause), result.quiet.eq(context.quiet)]
            with m.Switch(cause):
                with m.Case(*ALWAYS_REPORTED):
                    m.d.comb += result.quiet.eq(0)
                with m.Case(*dict.fromkeys(GUEST_PAGE_FAULT.values())):
                    m.d.comb += result.iotval2.eq(guest_address)


def _index(page: Any, level: Signal) -> Any:
    """The page's index into a table of this level."""
    return page[:36].word_select(level, 9)
