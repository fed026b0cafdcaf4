# SPDX-License-Identifier: BSD-2-Clause
"""Caches for non-leaf entries: where a walk may begin below the root."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.abi.iommu import PPN_BITS
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.cache import Cache, CacheRules
from hw.iommu.fork import Fork
from hw.iommu.interfaces import (
    INVALIDATIONS,
    PAGE_BITS,
    Invalidation,
    InvalidationKind,
    Space,
    WalkCacheFill,
    WalkCacheLookup,
)

_LEVEL_BITS = 9


class PointerRules(CacheRules):
    """Entries that point to tables of one level, of both stages: a tag keeps the page bits that lead there."""

    def __init__(self, config: IommuConfig, level: int):
        self.bits = _LEVEL_BITS * (level + 1)
        self.index_bits = (getattr(config, f"walk_cache_{level + 1}").sets - 1).bit_length()
        self.tag = self.key = data.StructLayout({"space": Space, "path": PAGE_BITS - self.bits})
        self.content = data.StructLayout({"ppn": PPN_BITS})

    def index(self, page: Value) -> Value:
        """The set of a page."""
        return page[self.bits :][: self.index_bits]

    def set_of(self, tag: Any) -> Value:
        return tag.path[: self.index_bits]

    def matches(self, tag: Any, key: Any) -> Value:
        return (tag.path == key.path) & (tag.space.as_value() == key.space.as_value())

    def overlaps(self, tag: Any, new: Any) -> Value:
        return self.matches(tag, new)

    def concerns(self, invalidation: Any) -> Value:
        leaves_only = invalidation.page_valid & ~invalidation.nonleaf
        first = (invalidation.kind == InvalidationKind.VMA) & ~leaves_only
        return first | (invalidation.kind == InvalidationKind.GVMA)

    def sets(self, invalidation: Any) -> tuple[Value, Value]:
        # A guest page says nothing about where pointers of the first stage lie.
        known = invalidation.page_valid & (invalidation.kind == InvalidationKind.VMA)
        index = self.index(invalidation.page)
        unknown = Mux(known, self.index(invalidation.mask), (1 << self.index_bits) - 1)
        return index & ~unknown, index | unknown

    def covers(self, tag: Any, invalidation: Any) -> Value:
        within = ~invalidation.page_valid | (
            ((tag.path ^ invalidation.page[self.bits :]) & ~invalidation.mask[self.bits :]) == 0
        )
        same_guest = tag.space.gscid == invalidation.gscid
        first = (
            tag.space.first
            & (tag.space.second == invalidation.gscid_valid)
            & (~invalidation.gscid_valid | same_guest)
            & (~invalidation.pscid_valid | (tag.space.pscid == invalidation.pscid))
            & within
        )
        kept = invalidation.page_valid & ~(invalidation.nonleaf & within)
        second = tag.space.second & (~invalidation.gscid_valid | same_guest) & (tag.space.first | ~kept)
        return Mux(invalidation.kind == InvalidationKind.VMA, first, second)


class WalkCaches(wiring.Component):
    """A :class:`hw.iommu.cache.Cache` for each level of tables below the root, all looked up at once; the lowest level
    answers.

    With ``first_levels`` and ``second_levels`` of 3 there is no cache for tables of level 2, which are roots. An
    invalidation of one page keeps all pointers unless it asks for them (``nonleaf``); but an invalidation of guest
    pages always drops the first-stage pointers of its GSCID, whose addresses went through the second stage.

    Ports
    -----
    lookup : In, :class:`hw.iommu.interfaces.WalkCacheLookup`
    fill : In, :class:`hw.iommu.interfaces.WalkCacheFill`; see :class:`hw.iommu.cache.Cache` for when it is dropped
    invalidation : In, :data:`hw.iommu.interfaces.INVALIDATIONS`
    """

    lookup: In(WalkCacheLookup())
    fill: In(WalkCacheFill())
    invalidation: In(INVALIDATIONS)

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        levels = max(self._config.first_levels, self._config.second_levels) - 1
        m.submodules.fork = fork = Fork(Invalidation, levels)
        join(m, wiring.flipped(self.invalidation), fork.source)
        space, page = Signal(Space), Signal(PAGE_BITS)
        m.d.sync += [space.eq(self.lookup.space), page.eq(self.lookup.page)]
        for level in reversed(range(levels)):
            rules = PointerRules(self._config, level)
            shape = getattr(self._config, f"walk_cache_{level + 1}")
            cache = Cache(rules, shape, replacement=self._config.replacement, lookups=1)
            m.submodules[f"level_{level}"] = cache
            join(m, fork.branches[level], cache.invalidation)
            part = cache.lookups[0]
            m.d.comb += [
                # Those that have taken an invalidation wait for the others.
                cache.fill.strobe.eq(self.fill.strobe & (self.fill.level == level) & ~self.invalidation.valid),
                cache.fill.tag.space.eq(self.fill.space),
                cache.fill.tag.path.eq(self.fill.page[rules.bits :]),
                cache.fill.content.ppn.eq(self.fill.ppn),
                part.strobe.eq(self.lookup.strobe),
                part.set.eq(rules.index(self.lookup.page)),
                part.key.space.eq(space),
                part.key.path.eq(page[rules.bits :]),
            ]
            with m.If(part.hit):
                m.d.comb += [
                    self.lookup.found.eq(1),
                    self.lookup.level.eq(level),
                    self.lookup.ppn.eq(part.content.ppn),
                ]
        return m
