# SPDX-License-Identifier: BSD-2-Clause
"""What an allocation does when memory is low or in pieces (``__alloc_pages_slowpath``)."""

from typing import TYPE_CHECKING

from driver_model.memory.pages.compaction import CompactResult
from driver_model.memory.pages.gfp import (
    GFP_DIRECT_RECLAIM,
    GFP_HIGH,
    GFP_KSWAPD_RECLAIM,
    GFP_MEMALLOC,
    GFP_NOMEMALLOC,
    GFP_NORETRY,
)
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.reclaim import MAX_RECLAIM_RETRIES, try_to_free_pages

if TYPE_CHECKING:
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.zone import Zone

COSTLY_ORDER = 3  #: larger blocks get one round of reclaim and compaction, as with GFP_NORETRY


def alloc_pages_slowpath(pages: "PageAllocator", order: int, gfp: int) -> Page | None:
    """A block when the low watermark or the free lists stood against it, or None. In this order:

    - kswapd is woken;
    - the block is taken if memory stays above the min watermark; with GFP_HIGH half of that, and where the caller
      cannot wait another quarter less;
    - with GFP_MEMALLOC, or for a process that reclaims at the moment, it is taken from the last that there is, and
      marked ``pfmemalloc``;
    - a caller that can wait compacts (for a block of order 1 or more), reclaims, tries again with the lists of all
      cores drained, and compacts once more. For a single page it goes on until free memory did not grow in 16 rounds,
      for a block it does so 16 times; with GFP_NORETRY and for orders above 3 there is one round.

    Beyond the kernel, the lists are drained also where reclaim gave nothing back: they are large against the simulated
    memory. Where the kernel would start the OOM killer, the allocation fails.
    """
    zone = pages.zone
    if gfp & GFP_KSWAPD_RECLAIM:
        zone.kswapd.wake(pages)
    mark = _mark(zone, gfp)
    page = pages.get_page_from_freelist(order, mark)
    if page is not None:
        return page
    reclaims = pages.core.context_is_process and pages.core.scheduler.current in zone.memalloc
    if (gfp & GFP_MEMALLOC or reclaims) and not gfp & GFP_NOMEMALLOC:
        return pages.get_page_from_reserve(order)
    if not gfp & GFP_DIRECT_RECLAIM or reclaims:
        return None
    page = _direct_compact(pages, order, mark)
    rounds = 0
    while page is None:
        free = zone.free_pages
        try_to_free_pages(pages)
        page = pages.get_page_from_freelist(order, mark)
        if page is None:
            zone.drain_all_pages(pages)
            page = pages.get_page_from_freelist(order, mark)
        if page is None:
            page = _direct_compact(pages, order, mark)
        rounds = 0 if not order and zone.free_pages > free else rounds + 1
        if page is not None:
            zone.kswapd.failures = 0
        if gfp & GFP_NORETRY or order > COSTLY_ORDER or rounds > MAX_RECLAIM_RETRIES:
            break
    return page


def _mark(zone: "Zone", gfp: int) -> int:
    mark = zone.min
    if gfp & GFP_HIGH and mark > 0:
        mark -= mark // 2
        if not gfp & (GFP_DIRECT_RECLAIM | GFP_NOMEMALLOC):
            mark -= mark // 4
    return mark


def _direct_compact(pages: "PageAllocator", order: int, mark: int) -> Page | None:
    """``__alloc_pages_direct_compact``."""
    zone = pages.zone
    if not order:
        return None
    result = zone.compaction.try_to_compact_pages(pages, order)
    if result is CompactResult.SKIPPED:
        return None
    zone.vmstat.compact_stall += 1
    page = pages.get_page_from_freelist(order, mark)
    if page is None:
        zone.vmstat.compact_fail += 1
        return None
    zone.compaction.defer_reset(order)
    zone.vmstat.compact_success += 1
    return page
