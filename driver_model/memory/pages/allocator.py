# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator as one core sees it: its lists of free pages in front of the buddy system (``mm/page_alloc.c``).

The functions carry the kernel's names and are methods of one core's view, because in C "this CPU" is implicit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_DIRECT_RECLAIM, GFP_NOWARN, GFP_ZERO
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.pcp import PerCpuPages
from driver_model.memory.pages.slowpath import alloc_pages_slowpath
from driver_model.memory.pages.zone import MAX_PAGE_ORDER, Zone

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.ownership import OwnershipChecker

__all__ = ["MAX_PAGE_ORDER", "PageAllocator", "PageError", "PageStatistics", "Zone"]


class PageError(RuntimeError):
    """A page was used that its caller does not hold, or memory was asked for where its caller may not wait for it."""


@dataclass(slots=True)
class PageStatistics:
    """What one core asked of the page allocator."""

    allocated: int = 0  #: allocations, of any order
    freed: int = 0  #: allocations given back
    bulk: int = 0  #: calls of alloc_pages_bulk
    bulk_partial: int = 0  #: of those, answered with fewer pages than asked for
    failed: int = 0  #: allocations refused because memory was exhausted
    warned: int = 0  #: of those, logged by the kernel ("page allocation failure"): without GFP_NOWARN


class PageAllocator:
    """The page allocator as one core sees it.

    Blocks up to the zone's ``pcp_order`` come from and go to the core's own lists (last in, first out;
    :class:`driver_model.memory.pages.pcp.PerCpuPages`), larger ones go to the zone one by one. A page taken while
    memory is at its low watermark is a matter for :func:`driver_model.memory.pages.slowpath.alloc_pages_slowpath`.

    Costs: ``page.alloc`` and ``page.free`` for what the lists hold, beside the batches that the lists trade. In bulk
    ``page.alloc_bulk_call`` and ``page.alloc_bulk`` for each of two pages or more. ``page.alloc_local`` and
    ``page.free_local`` for the allocator without NUMA placement. References cost ``atomic``, but for the first and the
    last, which are part of allocation and free. Cleared memory costs ``page.clear_line`` for each 64 bytes.

    Calls may be made in any context; what other contexts of the core, or other cores, see between is whole.

    Parameters
    ----------
    core : the core that runs the calls
    zone : the memory that all cores share
    checker : told of each allocation and release, or None
    """

    def __init__(self, core: "Core", zone: Zone, checker: "OwnershipChecker | None" = None) -> None:
        self.core = core
        self.zone = zone
        self.checker = checker
        self.page_size = zone.page_size
        self.statistics = PageStatistics()
        self._pcp = PerCpuPages(core, zone)
        self._list = self._pcp.single
        self._spend = core.spend
        self._op_alloc = core.op("page.alloc")
        self._op_bulk = core.op("page.alloc_bulk")
        self._op_bulk_call = core.op("page.alloc_bulk_call")
        self._op_free = core.op("page.free")
        self._op_alloc_local = core.op("page.alloc_local")
        self._op_free_local = core.op("page.free_local")
        self._op_clear = core.op("page.clear_line")
        self._op_atomic = core.op("atomic")
        self.op_reclaim = core.op("page.reclaim")
        self.op_compact = core.op("page.compact")
        self.op_wake_kswapd = core.op("page.wake_kswapd")
        zone.allocators.append(self)

    def get_order(self, size: int) -> int:
        """Order of the smallest block that holds ``size`` bytes; it may be more than there is."""
        return max(0, (size - 1).bit_length() - self.zone.page_shift)

    def alloc_pages(self, order: int = 0, gfp: int = GFP_ATOMIC) -> Page | None:
        """A block of ``page_size << order`` bytes with one reference, or None when there is none (``alloc_pages``).

        ``gfp`` says what may be done to get it: see :mod:`driver_model.memory.pages.gfp`. Raises :class:`PageError`
        where it may wait but its caller may not.
        """
        pages = self._list
        zone = self.zone
        if not order and pages and gfp == GFP_ATOMIC and zone.free_pages > zone.low:
            self._spend(self._op_alloc)
            page = pages.pop()
            page.pfmemalloc = False
        else:
            found = self._get_page(order, gfp)
            if found is None:
                return None
            page = found
        page.order = order
        page.refcount = 1
        self.statistics.allocated += 1
        if self.checker is not None:
            self.checker.page_allocated(self.core, page)
        if gfp & GFP_ZERO:
            self._clear(page)
        return page

    def alloc_pages_bulk(self, count: int, pages: list[Page], gfp: int = GFP_ATOMIC) -> int:
        """Append up to ``count`` single pages to ``pages``; returns how many there were (``alloc_pages_bulk_array``).

        A single one is asked for as by :meth:`alloc_pages`, at its cost alone. So is one where so many pages cannot be
        taken without coming down to the low watermark, or none is to be had: fewer than asked for is no sign that
        memory is exhausted. Raises :class:`PageError` as :meth:`alloc_pages` does.
        """
        if count < 0:
            raise ValueError(f"Count must be 0 or more, not {count!r}")
        self._might_alloc(gfp)
        zone, single, statistics, checker = self.zone, self._list, self.statistics, self.checker
        statistics.bulk += 1
        got = 0
        if count != 1:
            self._spend(self._op_bulk_call)
        if count != 1 and (zone.low < 0 or zone.free_pages > zone.low + count):
            while got < count:
                page = single.pop() if single else self._pcp.rmqueue(0)
                if page is None:
                    break
                page.pfmemalloc = False
                page.order = 0
                page.refcount = 1
                if checker is not None:
                    checker.page_allocated(self.core, page)
                if gfp & GFP_ZERO:
                    self._clear(page)
                pages.append(page)
                got += 1
            self._spend(self._op_bulk, got)
            statistics.allocated += got
        if not got and count:
            page = self.alloc_pages(0, gfp)
            if page is not None:
                pages.append(page)
                got = 1
        if got < count:
            statistics.bulk_partial += 1
        return got

    def get_page(self, page: Page) -> None:
        """Take another reference to a page in use."""
        if page.refcount <= 0:
            raise PageError(f"get_page of {page}, which is free")
        self._spend(self._op_atomic)
        page.refcount += 1

    def put_page(self, page: Page) -> None:
        """Drop a reference; the last one frees the page, or gives it back to its pool where that wants it so.

        Raises :class:`PageError` for a page that is free already.
        """
        if page.refcount != 1:
            self._put_shared(page)
            return
        pool = page.pp
        if pool is not None and pool.put_page_recycles:
            pool.recycle_put_page(page)
            return
        page.refcount = 0
        if page.owner is not None:
            self._leave_owner(page)
        if self.checker is not None:
            self.checker.page_freed(self.core, page)
        self.statistics.freed += 1
        if page.order:
            self._pcp.free_block(page)
            return
        self._spend(self._op_free)
        pages = self._list
        pages.append(page)
        if len(pages) + self._pcp.larger >= self.zone.pcp_high:
            self._pcp.free_bulk(0)

    def alloc_page_local(self) -> Page | None:
        """A single page for a caller that does not care for NUMA placement, at half the cost: the allocator proposed at
        LSFMM 2016 ("Bulk memory-allocation APIs", LWN). It has a list of its own, no watermark below low, and never
        waits: None where memory is low. Free it by :meth:`free_page_local`, or as any page."""
        self._spend(self._op_alloc_local)
        zone, pages = self.zone, self._pcp.local
        page = None
        if zone.free_pages > zone.low:
            page = pages.pop() if pages else self._pcp.rmqueue_bulk(pages, 0)
        if page is None:
            zone.kswapd.wake(self)
            self.statistics.failed += 1
            return None
        page.pfmemalloc = False
        page.order = 0
        page.refcount = 1
        self.statistics.allocated += 1
        if self.checker is not None:
            self.checker.page_allocated(self.core, page)
        return page

    def free_page_local(self, page: Page) -> None:
        """Give back a single page that has no other user. Raises :class:`PageError` for any other."""
        if page.refcount <= 0:
            self._put_shared(page)
        if page.refcount != 1 or page.order or page.pp is not None or page.owner is not None:
            raise PageError(f"free_page_local of {page}, which is not a single page of one user")
        page.refcount = 0
        if self.checker is not None:
            self.checker.page_freed(self.core, page)
        self.statistics.freed += 1
        self._spend(self._op_free_local)
        self._pcp.local.append(page)
        if len(self._pcp.local) >= self.zone.pcp_high:
            self._pcp.free_bulk_local()

    def drain(self, by: "PageAllocator | None" = None) -> None:
        """Give the core's lists back to the zone (``drain_local_pages``); another core may do it, at its cost."""
        self._pcp.drain((by or self)._pcp)

    @property
    def listed(self) -> int:
        """Free pages on the core's lists."""
        return self._pcp.count

    @property
    def in_use(self) -> int:
        """Allocations of this core's calls that have not been given back through it."""
        return self.statistics.allocated - self.statistics.freed

    @property
    def listed_pages(self) -> int:
        """Free pages on the core's lists."""
        return self._pcp.count

    def get_page_from_freelist(self, order: int, mark: int) -> Page | None:
        """For the slow path: a block that is nobody's yet, if more than ``mark`` pages stay free then; below 0 always.

        As in the kernel it is the zone that must have a block of the order, whatever the core's lists hold.
        """
        return self._pcp.rmqueue(order) if mark < 0 or self.zone.watermark_ok(order, mark) else None

    def get_page_from_reserve(self, order: int) -> Page | None:
        """A block that is nobody's yet, from the last that there is."""
        page = self._pcp.rmqueue(order)
        if page is not None:
            page.pfmemalloc = True
        return page

    def _get_page(self, order: int, gfp: int) -> Page | None:
        """``__alloc_pages`` but for the hot path."""
        if not 0 <= order <= MAX_PAGE_ORDER:
            raise ValueError(f"Order must be in 0..{MAX_PAGE_ORDER}, not {order!r}")
        self._might_alloc(gfp)
        self._pcp.charge_alloc(order)
        page = self.get_page_from_freelist(order, self.zone.low)
        if page is None:
            page = alloc_pages_slowpath(self, order, gfp)
        if page is None:
            self.statistics.failed += 1
            self.statistics.warned += not gfp & GFP_NOWARN
        return page

    def _might_alloc(self, gfp: int) -> None:
        if gfp & GFP_DIRECT_RECLAIM and not self.core.preemptible:
            raise PageError(
                f"Sleeping function called from invalid context: an allocation that may wait, in {self.core.context}"
            )

    def _clear(self, page: Page) -> None:
        self.core.store_owned(page.address, bytes(page.size), self._op_clear)

    def _put_shared(self, page: Page) -> None:
        if page.refcount <= 0:
            if self.checker is not None:
                self.checker.double_free(self.core, page)
            raise PageError(f"Double free of {page}")
        self._spend(self._op_atomic)
        page.refcount -= 1

    def _leave_owner(self, page: Page) -> None:
        owner, page.owner = page.owner, None
        if owner is not None:
            owner.page_freed(page)
