# SPDX-License-Identifier: BSD-2-Clause
"""What an entry of a page table means for an access: Sv39, Sv48 and their x4 forms, with Svnapot."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import NAPOT_PPN, PPN_BITS, PageTableEntry
from hw.iommu.interfaces import PAGE_BITS, Access, PageSize


class EntryVerdict(data.Struct):
    """At most one of ``fault``, ``pointer`` and ``update`` is on; with none of them the entry is a leaf that allows the
    access as it stands.

    ``ppn`` is the next table's page, or the physical (or guest) page of the 4 KiB page asked for. ``updated`` is the
    entry with A, and for a write D, set.
    """

    fault: 1
    pointer: 1
    update: 1
    ppn: PPN_BITS
    size: PageSize
    readable: 1
    writable: 1  #: and D is set
    everywhere: 1
    updated: 64


class TableEntry(wiring.Component):
    """Evaluates one entry, combinationally: steps 3 to 7 of the translation process of the privileged specification.

    Every access is one of a user (a request without process_id is, and so are all of the second stage), so leaves
    without U fault. To execute is to read in order to execute, and needs both. To translate is to read; D is set too
    where the leaf and ``updates`` allow to write. Svpbmt is not there, so its bits are
    reserved. Of a leaf of 512 GiB the 1 GiB piece asked for counts.

    Ports
    -----
    entry : as memory holds it
    level : of its table, 0 for 4 KiB leaves
    page : the page to translate
    access : what is to be done
    updates : hardware may set A and D (tc.SADE, tc.GADE)
    verdict : see :class:`EntryVerdict`
    """

    entry: In(PageTableEntry)
    level: In(2)
    page: In(PAGE_BITS)
    access: In(Access)
    updates: In(1)
    verdict: Out(EntryVerdict)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entry, verdict = self.entry, self.verdict
        writes = (self.access == Access.WRITE) | ((self.access == Access.TRANSLATE) & entry.w & self.updates)

        leaf, reserved, misplaced = Signal(), Signal(), Signal()
        denied, stale = Signal(), Signal()
        m.d.comb += [
            leaf.eq(entry.r | entry.x),
            reserved.eq(~entry.v | (entry.w & ~entry.r) | (entry.reserved != 0) | (entry.pbmt != 0)),
            stale.eq(~entry.a | (writes & ~entry.d)),
        ]
        with m.Switch(self.access):
            with m.Case(Access.READ, Access.TRANSLATE):
                m.d.comb += denied.eq(~entry.r | ~entry.u)
            with m.Case(Access.WRITE):
                m.d.comb += denied.eq(~entry.w | ~entry.u)
            with m.Default():
                m.d.comb += denied.eq(~entry.x | ~entry.r | ~entry.u)

        # Below the size of the leaf, the page's own bits count.
        with m.Switch(self.level):
            for level, size in enumerate((PageSize.SIZE_4K, PageSize.SIZE_2M, PageSize.SIZE_1G, PageSize.SIZE_1G)):
                low = 9 * level
                with m.Case(level):
                    m.d.comb += [
                        misplaced.eq(entry.ppn[:low].any() | entry.n),
                        verdict.ppn.eq(Cat(self.page[:low], entry.ppn[low:])),
                        verdict.size.eq(size),
                    ]
        with m.If((self.level == 0) & entry.n):
            m.d.comb += [
                misplaced.eq(entry.ppn[:4] != NAPOT_PPN),
                verdict.ppn.eq(Cat(self.page[:4], entry.ppn[4:])),
                verdict.size.eq(PageSize.SIZE_64K),
            ]

        with m.If(~leaf):
            bad = (self.level == 0) | entry.a | entry.d | entry.u | entry.n
            m.d.comb += [
                verdict.fault.eq(reserved | bad),
                verdict.pointer.eq(~reserved & ~bad),
                verdict.ppn.eq(entry.ppn),
            ]
        with m.Else():
            bad = reserved | denied | misplaced
            m.d.comb += [
                verdict.fault.eq(bad | (stale & ~self.updates)),
                verdict.update.eq(~bad & stale & self.updates),
            ]
        m.d.comb += [
            verdict.readable.eq(entry.r),
            verdict.writable.eq(entry.w & entry.d),
            verdict.everywhere.eq(entry.g),
            verdict.updated.eq(entry.as_value() | Mux(writes, 0b11 << 6, 0b01 << 6)),
        ]
        return m
