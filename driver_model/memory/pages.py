# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator: a buddy system for the machine's memory, with a list of single pages in front for each core.

The functions carry the kernel's names and are methods of one core's view, because in C "this CPU" is implicit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from driver_model.memory.page import PAGE_SHIFT, PAGE_SIZE, Page

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.ownership import OwnershipChecker

MAX_PAGE_ORDER = 10
PCP_BATCH = 63  #: pages moved at once between a core's list and the zone
PCP_HIGH = 4 * PCP_BATCH  #: a core's list longer than this gives a batch back


class PageError(RuntimeError):
    """A page was given back that its caller does not hold."""


class Zone:
    """All page frames of the machine, as a buddy system.

    A free block of order *n* is aligned to its size; freeing it joins it with its buddy for as long as that is free as
    well. Frame 0 is never handed out, so that address 0 stays invalid. Blocks are taken in a fixed order: the same
    calls give the same addresses.

    Parameters
    ----------
    size : bytes of memory from physical address 0, a multiple of the page size
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Memory size must be an integer, not {size!r}")
        if size < 2 * PAGE_SIZE or size % PAGE_SIZE:
            raise ValueError(f"Memory size must be a multiple of {PAGE_SIZE}, two pages or more, not {size!r}")
        self.frames = size >> PAGE_SHIFT
        self.present = self.frames - 1
        self._mem_map: list[Page | None] = [None] * self.frames
        self._free: list[dict[int, None]] = [{} for _ in range(MAX_PAGE_ORDER + 1)]
        stop = self.frames
        while stop > 1:
            order = min(MAX_PAGE_ORDER, (stop & -stop).bit_length() - 1)
            while stop - (1 << order) < 1:
                order -= 1
            stop -= 1 << order
            self._free[order][stop] = None

    @property
    def free_pages(self) -> int:
        """Free page frames, those on the cores' lists not included."""
        return sum(len(blocks) << order for order, blocks in enumerate(self._free))

    def page(self, pfn: int) -> Page:
        """``pfn_to_page``: always the same object for a frame."""
        page = self._mem_map[pfn]
        if page is None:
            page = self._mem_map[pfn] = Page(pfn)
        return page

    def take(self, order: int) -> Page | None:
        """Take a block out of the buddy system; None when no block is large enough."""
        for size in range(order, MAX_PAGE_ORDER + 1):
            if self._free[size]:
                pfn, _ = self._free[size].popitem()
                for half in range(size - 1, order - 1, -1):
                    self._free[half][pfn + (1 << half)] = None
                return self.page(pfn)
        return None

    def give(self, page: Page, order: int) -> None:
        """Return a block and join it with its free buddies."""
        pfn = page.pfn
        while order < MAX_PAGE_ORDER and (buddy := pfn ^ (1 << order)) in self._free[order]:
            del self._free[order][buddy]
            pfn &= ~(1 << order)
            order += 1
        self._free[order][pfn] = None


@dataclass(slots=True)
class PageStatistics:
    """What one core asked of the page allocator."""

    allocated: int = 0  #: allocations, of any order
    freed: int = 0  #: allocations given back
    bulk: int = 0  #: calls of alloc_pages_bulk
    bulk_partial: int = 0  #: of those, answered with fewer pages than asked for
    failed: int = 0  #: allocations refused because memory was exhausted


class PageAllocator:
    """The page allocator as one core sees it.

    Single pages come from and go to the core's own list (last in, first out), which trades batches with the zone;
    larger blocks go to the zone directly. Calls charge the core ``page.alloc`` or ``page.free``, whatever the order, or
    ``page.alloc_bulk_call`` and ``page.alloc_bulk`` for each page.

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
        self.statistics = PageStatistics()
        self._list: list[Page] = []
        self._spend = core.spend
        self._op_alloc = core.op("page.alloc")
        self._op_bulk = core.op("page.alloc_bulk")
        self._op_bulk_call = core.op("page.alloc_bulk_call")
        self._op_free = core.op("page.free")

    @property
    def page_size(self) -> int:
        """Bytes of a kernel page."""
        return PAGE_SIZE

    def alloc_pages(self, order: int = 0) -> Page | None:
        """A block of ``PAGE_SIZE << order`` bytes with one reference, or None when there is none."""
        if not 0 <= order <= MAX_PAGE_ORDER:
            raise ValueError(f"Order must be in 0..{MAX_PAGE_ORDER}, not {order!r}")
        self._spend(self._op_alloc)
        page = self._take_single() if order == 0 else self.zone.take(order)
        if page is None:
            self.statistics.failed += 1
            return None
        self._hand_out(page, order)
        return page

    def alloc_pages_bulk(self, count: int, pages: list[Page]) -> int:
        """Append up to ``count`` single pages to ``pages``; returns how many there were."""
        if count < 0:
            raise ValueError(f"Count must be 0 or more, not {count!r}")
        statistics = self.statistics
        statistics.bulk += 1
        for got in range(count):
            page = self._take_single()
            if page is None:
                statistics.bulk_partial += 1
                if not got:
                    statistics.failed += 1
                break
            self._hand_out(page, 0)
            pages.append(page)
        else:
            got = count
        self._spend(self._op_bulk_call)
        self._spend(self._op_bulk, got)
        return got

    def get_page(self, page: Page) -> None:
        """Take another reference to a page in use."""
        if page.refcount <= 0:
            raise PageError(f"get_page of {page}, which is free")
        page.refcount += 1

    def put_page(self, page: Page) -> None:
        """Drop a reference; the last one frees the page. Raises :class:`PageError` for a page that is free already."""
        if page.refcount <= 0:
            if self.checker is not None:
                self.checker.double_free(self.core, page)
            raise PageError(f"Double free of {page}")
        page.refcount -= 1
        if page.refcount:
            return
        if self.checker is not None:
            self.checker.page_freed(self.core, page)
        self._spend(self._op_free)
        self.statistics.freed += 1
        if page.order:
            self.zone.give(page, page.order)
            return
        pages = self._list
        pages.append(page)
        if len(pages) > PCP_HIGH:
            for cold in pages[:PCP_BATCH]:
                self.zone.give(cold, 0)
            del pages[:PCP_BATCH]

    def drain(self) -> None:
        """Give the core's list back to the zone (``drain_local_pages``)."""
        for page in self._list:
            self.zone.give(page, 0)
        self._list.clear()

    @property
    def in_use(self) -> int:
        """Allocations of this core's calls that have not been given back through it."""
        return self.statistics.allocated - self.statistics.freed

    def _take_single(self) -> Page | None:
        if not self._list:
            for _ in range(PCP_BATCH):
                page = self.zone.take(0)
                if page is None:
                    break
                self._list.append(page)
            self._list.reverse()
        return self._list.pop() if self._list else None

    def _hand_out(self, page: Page, order: int) -> None:
        page.order = order
        page.refcount = 1
        self.statistics.allocated += 1
        if self.checker is not None:
            self.checker.page_allocated(self.core, page)
