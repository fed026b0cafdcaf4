# SPDX-License-Identifier: BSD-2-Clause
"""The IOTLB: translations of pages, found in a fixed number of cycles."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import PPN_BITS
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.cache import Cache, CacheRules
from hw.iommu.fork import Fork
from hw.iommu.interfaces import (
    INVALIDATIONS,
    PAGE_BITS,
    SIZE_BITS,
    Invalidation,
    InvalidationKind,
    PageSize,
    Space,
    TlbFill,
    Translation,
)

_COUNT_BITS = 8


class TlbKey(data.Struct):
    """What is looked up."""

    space: Space
    page: PAGE_BITS


class LeafRules(CacheRules):
    """Entries for leaves of one size: a tag keeps the page's number among pages of that size."""

    def __init__(self, config: IommuConfig, size: PageSize):
        self.size = size
        self.bits = SIZE_BITS[size]
        self.index_bits = (getattr(config, f"tlb_{size.name[5:].lower()}").sets - 1).bit_length()
        self.hashed = config.tlb_index == "hashed"
        self.key = TlbKey
        self.tag = data.StructLayout({"space": Space, "everywhere": 1, "fragment": 1, "number": PAGE_BITS - self.bits})
        self.content = data.StructLayout({"number": PPN_BITS - self.bits, "readable": 1, "writable": 1})

    def index(self, page: Value) -> Value:
        """The set of a page. The space must not enter: an entry may be of every PSCID."""
        return self._set(page[self.bits :])

    def _set(self, number: Value) -> Value:
        bits = self.index_bits
        if not self.hashed or not bits:
            return number[:bits]
        return reduce(xor, (number[low : low + bits] for low in range(0, len(number), bits)))

    def set_of(self, tag: Any) -> Value:
        return self._set(tag.number)

    def matches(self, tag: Any, key: Any) -> Value:
        return (
            (tag.number == key.page[self.bits :])
            & _same_but_process(tag.space, key.space)
            & (tag.everywhere | (tag.space.pscid == key.space.pscid))
        )

    def overlaps(self, tag: Any, new: Any) -> Value:
        return (
            (tag.number == new.number)
            & _same_but_process(tag.space, new.space)
            & (tag.everywhere | new.everywhere | (tag.space.pscid == new.space.pscid))
        )

    def concerns(self, invalidation: Any) -> Value:
        return invalidation.kind != InvalidationKind.CONTEXT

    def sets(self, invalidation: Any) -> tuple[Value, Value]:
        # A guest page says nothing about where entries of both stages lie, and a page of a leaf nothing about where its
        # other fragments do. There are some under a second stage, and of leaves of 512 GiB.
        known = invalidation.page_valid & (invalidation.kind == InvalidationKind.VMA) & ~invalidation.gscid_valid
        if self.size == PageSize.SIZE_1G:
            known = Const(0)
        index = self.index(invalidation.page)
        mask = invalidation.mask[self.bits :]
        # A range is a run of sets if the index is the page number's low bits.
        every = Const((1 << self.index_bits) - 1, self.index_bits)
        unknown = Mux(known, Mux(mask.any(), every, 0) if self.hashed else mask[: self.index_bits], every)
        return index & ~unknown, index | unknown

    def covers(self, tag: Any, invalidation: Any) -> Value:
        difference = ((tag.number << self.bits) ^ invalidation.page) & ~invalidation.mask
        # Below 1 GiB a second stage makes the fragments: the others' sets are not all swept.
        fragment = tag.fragment if self.size == PageSize.SIZE_1G else tag.fragment & tag.space.second
        within = ~invalidation.page_valid | fragment | (difference[self.bits :] == 0)
        same_guest = tag.space.gscid == invalidation.gscid
        same_process = (tag.space.pscid == invalidation.pscid) & ~tag.everywhere
        first = (
            tag.space.first
            & (tag.space.second == invalidation.gscid_valid)
            & (~invalidation.gscid_valid | same_guest)
            & (~invalidation.pscid_valid | same_process)
            & within
        )
        second = tag.space.second & (~invalidation.gscid_valid | same_guest) & (tag.space.first | within)
        return Mux(invalidation.kind == InvalidationKind.VMA, first, second)


def _same_but_process(left: Any, right: Any) -> Value:
    return (left.first == right.first) & (left.second == right.second) & (left.gscid == right.gscid)


class TlbLookup(wiring.Signature):
    """A lookup, seen from who looks: one a cycle. ``page`` is presented with ``strobe`` in cycle *c*, ``space`` in
    cycle *c* + 1 (it comes from the context that is looked up meanwhile), and the answer stands in cycle *c* + 3.
    ``translation.ppn`` is that of the first 4 KiB of a page of ``size``."""

    def __init__(self) -> None:
        super().__init__(
            {
                "strobe": Out(1),
                "page": Out(PAGE_BITS),
                "space": Out(Space),
                "hit": In(1),
                "size": In(PageSize),
                "translation": In(Translation),
            }
        )


class Iotlb(wiring.Component):
    """Cached leaves: a :class:`hw.iommu.cache.Cache` for each size of page, all looked up at once.

    Where entries of several sizes translate a page (software changed tables and has not invalidated yet), the smallest
    answers. An invalidation of guest pages drops all entries of both stages of its GSCID, because they are known by
    their first-stage page alone. One of any page drops all fragments of its space (a leaf under smaller ones of the
    second stage, or of 512 GiB, is cached in pieces), because it is about a leaf as a whole.

    Parameters
    ----------
    config : sizes, index and replacement
    lookups : lookup ports

    Ports
    -----
    lookups : In, array of :class:`TlbLookup`
    fill : In, :class:`hw.iommu.interfaces.TlbFill`; see :class:`hw.iommu.cache.Cache` for when it is dropped
    invalidation : In, :data:`hw.iommu.interfaces.INVALIDATIONS`
    invalidated : Out
        Entries dropped in this cycle; 255 stands for more as well.
    """

    def __init__(self, config: IommuConfig, *, lookups: int = 2):
        self._config = config
        self._lookups = lookups
        super().__init__(
            {
                "lookups": In(TlbLookup()).array(lookups),
                "fill": In(TlbFill()),
                "invalidation": In(INVALIDATIONS),
                "invalidated": Out(_COUNT_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.fork = fork = Fork(Invalidation, len(PageSize))
        join(m, wiring.flipped(self.invalidation), fork.source)
        caches = []
        for size, branch in zip(PageSize, fork.branches):
            rules = LeafRules(self._config, size)
            shape = getattr(self._config, f"tlb_{size.name[5:].lower()}")
            cache = Cache(rules, shape, replacement=self._config.replacement, lookups=self._lookups)
            m.submodules[size.name.lower()] = cache
            join(m, branch, cache.invalidation)
            m.d.comb += [
                # Those that have taken an invalidation wait for the others.
                cache.fill.strobe.eq(self.fill.strobe & (self.fill.size == size) & ~self.invalidation.valid),
                cache.fill.tag.space.eq(self.fill.space),
                cache.fill.tag.everywhere.eq(self.fill.everywhere),
                cache.fill.tag.fragment.eq(self.fill.fragment),
                cache.fill.tag.number.eq(self.fill.page[rules.bits :]),
                cache.fill.content.number.eq(self.fill.translation.ppn[rules.bits :]),
                cache.fill.content.readable.eq(self.fill.translation.readable),
                cache.fill.content.writable.eq(self.fill.translation.writable),
            ]
            caches.append((size, rules, cache))

        total = sum((cache.dropped for _, _, cache in caches), Const(0, 1))
        m.d.comb += self.invalidated.eq(Mux(total[_COUNT_BITS:].any(), ~0, total))
        for index, port in enumerate(self.lookups):
            self._answer(m, port, [(size, rules, cache.lookups[index]) for size, rules, cache in caches])
        return m

    def _answer(self, m: Module, port: Any, parts: list[tuple[PageSize, LeafRules, Any]]) -> None:
        for size, rules, part in reversed(parts):
            m.d.comb += [
                part.strobe.eq(port.strobe),
                part.set.eq(rules.index(port.page)),
                part.key.space.eq(port.space),
            ]
            with m.If(part.hit):
                m.d.comb += [
                    port.hit.eq(1),
                    port.size.eq(size),
                    port.translation.ppn.eq(part.content.number << rules.bits),
                    port.translation.readable.eq(part.content.readable),
                    port.translation.writable.eq(part.content.writable),
                ]
        page = Signal(PAGE_BITS)
        m.d.sync += page.eq(port.page)
        for _, _, part in parts:
            m.d.comb += part.key.page.eq(page)
