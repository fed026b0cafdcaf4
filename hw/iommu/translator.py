# SPDX-License-Identifier: BSD-2-Clause
"""Caches and walks, joined: where channels and debug registers have addresses translated."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.bus.axi4 import AXI4Signature
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.context_cache import ContextCache
from hw.iommu.fill_queue import FillQueue
from hw.iommu.fork import Fork
from hw.iommu.interfaces import (
    INVALIDATIONS,
    ClaimSignature,
    Directory,
    EventsSignature,
    FenceSignature,
    Invalidation,
    TranslationSignature,
    WalkSignature,
)
from hw.iommu.lookup import Lookup
from hw.iommu.tlb import Iotlb
from hw.iommu.walk_cache import WalkCaches
from hw.iommu.walk_port import WIDTH
from hw.iommu.walk_table import WalkTable
from hw.iommu.walker import Walker


class Translator(wiring.Component):
    """Answers both channels' requests, one a cycle each, from the caches, or with the walk that will.

    An invalidation is taken once every cache has taken it. A request presented later finds nothing that it covers, and
    shares no walk that was under way meanwhile. Nor does one presented after a change of ``directory`` share a walk
    from before it; what the caches hold stays, as software has to invalidate that.

    Parameters
    ----------
    config : shape of caches, number of walks

    Ports
    -----
    write, read : In, :class:`hw.iommu.interfaces.TranslationSignature`
    debug_walk, debug_claim : In, :class:`hw.iommu.interfaces.WalkSignature`, ``ClaimSignature``
        Walks for the debug translation registers, which do not look in the caches of leaves.
    directory : In, :class:`hw.iommu.interfaces.Directory`
    invalidation : In, :data:`hw.iommu.interfaces.INVALIDATIONS`
    events : Out
        ``lookups``, ``walk`` and ``invalidated`` of :class:`hw.iommu.interfaces.EventsSignature`.
    fence : In, :class:`hw.iommu.interfaces.FenceSignature`
        Of the walks that prefetches begin.
    axi : Out, :class:`hw.bus.axi4.AXI4Signature`
        The walker's; see :class:`hw.iommu.walker.Walker`.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        events = EventsSignature().members
        super().__init__(
            {
                "write": In(TranslationSignature(config)),
                "read": In(TranslationSignature(config)),
                "debug_walk": In(WalkSignature(config)),
                "debug_claim": In(ClaimSignature(config)),
                "directory": In(Directory),
                "invalidation": In(INVALIDATIONS),
                "events": Out(wiring.Signature({name: events[name] for name in ("lookups", "walk", "invalidated")})),
                "fence": In(FenceSignature()),
                "axi": Out(AXI4Signature(WIDTH)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.tlb = tlb = Iotlb(config, lookups=2)
        m.submodules.contexts = contexts = ContextCache(config, lookups=3)
        m.submodules.walk_caches = walk_caches = WalkCaches(config)
        m.submodules.walk_table = walk_table = WalkTable(config, askers=3)
        m.submodules.walker = walker = Walker(config)
        m.submodules.fork = fork = Fork(Invalidation, 3)

        for index, name in enumerate(("write", "read")):
            m.submodules[name] = lookup = Lookup(config)
            join(m, flipped(getattr(self, name)), lookup.channel)
            join(m, lookup.context, contexts.lookups[index])
            join(m, lookup.tlb, tlb.lookups[index])
            join(m, lookup.walk, walk_table.askers[index])
            join(m, lookup.claim, walk_table.claims[index])
            m.d.comb += [lookup.directory.eq(self.directory), self.events.lookups[index].eq(lookup.event)]
        join(m, flipped(self.debug_walk), walk_table.askers[2])
        join(m, flipped(self.debug_claim), walk_table.claims[2])

        join(m, flipped(self.fence), walk_table.fence)
        join(m, walk_table.start, walker.start)
        join(m, walker.finish, walk_table.finish)
        join(m, walker.contexts, contexts.lookups[2])
        join(m, walker.context_fill, contexts.fill)
        join(m, walker.walk_cache, walk_caches.lookup)
        for name, source, sink in (
            ("walk_cache_fills", walker.walk_cache_fill, walk_caches.fill),
            ("tlb_fills", walker.tlb_fill, tlb.fill),
        ):
            m.submodules[name] = queue = FillQueue(source.signature, depth=config.walks)
            join(m, source, queue.input)
            join(m, queue.output, sink)
            m.d.comb += queue.invalidating.eq(self.invalidation.valid)
        join(m, walker.axi, flipped(self.axi))

        join(m, flipped(self.invalidation), fork.source)
        for branch, cache in zip(fork.branches, (tlb, walk_caches, contexts)):
            join(m, branch, cache.invalidation)
        before = Signal(Directory)
        redirected = Signal()
        m.d.sync += before.eq(self.directory)
        m.d.comb += [
            redirected.eq(before.as_value() != self.directory.as_value()),
            walk_table.invalidating.eq(self.invalidation.valid | redirected),
            walker.invalidating.eq(self.invalidation.valid | redirected),
            walker.directory.eq(self.directory),
            self.events.walk.eq(walker.event),
            self.events.invalidated.eq(tlb.invalidated),
        ]
        return m
