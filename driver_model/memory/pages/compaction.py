# SPDX-License-Identifier: BSD-2-Clause
"""Compaction: movable pages are moved to the end of memory, so that what is free joins to blocks (``mm/compaction.c``).

Two scanners: one comes up from the start of memory and collects movable pages, one comes down from the end and collects
free ones as their targets, until a block has formed or they meet.
"""

from enum import Enum
from typing import TYPE_CHECKING

from driver_model.memory.pages.page import Page

if TYPE_CHECKING:
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.zone import Zone

COMPACT_CLUSTER_MAX = 32  #: pages moved between two looks at what was won
COMPACT_MAX_DEFER_SHIFT = 6  #: after failures only one allocation in 64 tries again
COSTLY_ORDER = 3


class CompactResult(Enum):
    """``enum compact_result``."""

    SKIPPED = "skipped"  #: too little free memory: that is a matter for reclaim
    DEFERRED = "deferred"  #: it failed before, for this order or a smaller one
    COMPLETE = "complete"  #: the scanners met, and there is no block
    SUCCESS = "success"  #: there is a block


class Compaction:
    """Compacts a zone for the processes that need a block, one at a time and on their own time.

    Each page moved costs ``page.compact`` beside the copy of its bytes. Lists of the core that compacts are given back
    first: their pages can neither be moved nor join.
    """

    def __init__(self, zone: "Zone") -> None:
        self._zone = zone
        self._defer_shift = 0
        self._considered = 0
        self._order_failed = 0

    def try_to_compact_pages(self, pages: "PageAllocator", order: int) -> CompactResult:
        """Make a free block of an order."""
        zone = self._zone
        if self._deferred(order):
            zone.vmstat.compact_deferred += 1
            return CompactResult.DEFERRED
        mark = zone.low if order > COSTLY_ORDER else zone.min
        if not zone.watermark_ok(0, mark + (2 << order)):
            return CompactResult.SKIPPED
        pages.drain()
        result = self._compact_zone(pages, order)
        if result is CompactResult.COMPLETE:
            self._considered = 0
            self._defer_shift = min(self._defer_shift + 1, COMPACT_MAX_DEFER_SHIFT)
            self._order_failed = min(self._order_failed, order)
        return result

    def defer_reset(self, order: int) -> None:
        """An allocation got its block: do not hold the next ones back."""
        self._considered = self._defer_shift = 0
        self._order_failed = max(self._order_failed, order + 1)

    def _deferred(self, order: int) -> bool:
        """``compaction_deferred``: the allocation is one that should not try."""
        if order < self._order_failed or not self._defer_shift:
            return False
        self._considered += 1
        if self._considered >= 1 << self._defer_shift:
            self._considered = 1 << self._defer_shift
            return False
        return True

    def _compact_zone(self, pages: "PageAllocator", order: int) -> CompactResult:
        zone = self._zone
        position = 1
        while not zone.free_block(order):
            sources, position = self._isolate_migratepages(position)
            if not sources:
                return CompactResult.COMPLETE
            with pages.core.irq_save():
                zone.acquire(pages.core, 0)
                targets = zone.isolate_free_pages(len(sources), position)
                zone.lock.release(pages.core)
            zone.vmstat.compact_free_scanned += len(targets)
            for source in sources[len(targets) :]:
                self._putback(source)
            old = [self._migrate(pages, source, target) for source, target in zip(sources, targets)]
            with pages.core.irq_save():
                zone.acquire(pages.core, 0)
                for page in old:
                    zone.give(page, 0)
                zone.lock.release(pages.core)
            pages.core.cond_resched()
            if len(targets) < len(sources):
                return CompactResult.SUCCESS if zone.free_block(order) else CompactResult.COMPLETE
        return CompactResult.SUCCESS

    def _isolate_migratepages(self, position: int) -> tuple[list[Page], int]:
        """The next cluster of movable pages, and where to go on."""
        zone = self._zone
        sources: list[Page] = []
        began = position
        while position < zone.spanned and len(sources) < COMPACT_CLUSTER_MAX:
            page = zone.page_if_used(position)
            cache = zone.page_cache
            if page is not None and cache is not None and page in cache and page.refcount == 1:
                cache.isolate(page)
                sources.append(page)
            position += 1
        zone.vmstat.compact_migrate_scanned += position - began
        zone.vmstat.compact_isolated += len(sources)
        return sources, position

    def _putback(self, page: Page) -> None:
        assert self._zone.page_cache is not None
        self._zone.page_cache.putback(page)

    def _migrate(self, pages: "PageAllocator", source: Page, target: Page) -> Page:
        """``migrate_folio``: bytes, owner and reference go to the target; the source is free."""
        core, checker = pages.core, pages.checker
        target.order, target.refcount, target.owner = 0, 1, source.owner
        if checker is not None:
            checker.page_allocated(core, target)
        core.spend(pages.op_compact)
        core.copy(target.address, source.address, source.size)
        self._putback(target)
        source.refcount, source.owner = 0, None
        if checker is not None:
            checker.page_freed(core, source)
        self._zone.vmstat.pgmigrate_success += 1
        return source
