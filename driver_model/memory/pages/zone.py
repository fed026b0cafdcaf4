# SPDX-License-Identifier: BSD-2-Clause
"""The machine's memory: a buddy system of free blocks, behind one lock, with watermarks."""

from collections.abc import Iterable
from math import isqrt
from typing import TYPE_CHECKING

from driver_model.cpu.lines import CacheLine
from driver_model.cpu.locks import SpinLock
from driver_model.memory.pages.compaction import Compaction
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE, Page
from driver_model.memory.pages.reclaim import Kswapd, Shrinker, Shrinkers
from driver_model.memory.pages.vmstat import VmStat

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.cpu.scheduler import Task
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.page_cache import PageCache

MAX_PAGE_ORDER = 10
PAGE_ALLOC_COSTLY_ORDER = 3  #: larger blocks are not worth much reclaim
KERNEL_PAGE_SIZES = (4 << 10, 64 << 10)
MIN_FREE_KBYTES = 128, 262_144  #: bounds of what is derived from the size of memory


class Zone:
    """All pages of the machine (``struct zone``), as a buddy system.

    A free block of order *n* is aligned to its size; freeing it joins it with its buddy for as long as that is free as
    well. The page at address 0 is never handed out, so that address 0 stays invalid. Blocks are taken in a fixed order:
    the same calls give the same addresses.

    :meth:`take`, :meth:`give` and :meth:`isolate_free_pages` cost nothing; who calls them holds :attr:`lock` by
    :meth:`acquire`, which pays for it. Beside the lock's line, the list of free blocks of an order and the ``struct
    page`` of the block at its head come from the core that used them last.

    Watermarks, in pages, follow ``calculate_min_free_kbytes`` and ``__setup_per_zone_wmarks``: min is
    ``4 * sqrt(KiB of memory)`` KiB within 128 KiB..256 MiB; low and high lie another quarter of it each, or a
    thousandth of memory, above.

    Lists of cores (:class:`driver_model.memory.pages.allocator.PageAllocator`) hold blocks up to ``pcp_order``, trade
    ``pcp_batch`` pages at once, and give them back from ``pcp_high`` on. The batch is that of ``zone_batchsize`` since
    Linux 4.20 for a machine of 1 GiB or more, which the simulated memory stands for: 63 pages of 4 KiB, 3 of 64 KiB
    (31 of 4 KiB before). High is six batches where only single pages have lists (until Linux 5.12), four batches since
    (the least that ``zone_highsize`` gives).

    Parameters
    ----------
    size : bytes of memory from physical address 0, a multiple of the page size
    page_size : of the kernel, 4096 or 65536
    pcp_order : highest order of blocks that cores keep lists of: 0 as until Linux 5.12, 3 as since
    pcp_batch : pages traded at once, or None for the kernel's rule
    min_free_kbytes : ``vm.min_free_kbytes``, or None for the kernel's rule; 0: no watermarks, all memory may be used
    """

    def __init__(
        self,
        size: int,
        page_size: int = PAGE_SIZE,
        *,
        pcp_order: int = PAGE_ALLOC_COSTLY_ORDER,
        pcp_batch: int | None = None,
        min_free_kbytes: int | None = None,
    ) -> None:
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Memory size must be an integer, not {size!r}")
        if page_size not in KERNEL_PAGE_SIZES:
            raise ValueError(f"Page size must be one of {', '.join(map(str, KERNEL_PAGE_SIZES))}, not {page_size!r}")
        if size < 2 * page_size or size % page_size:
            raise ValueError(f"Memory size must be a multiple of {page_size}, two pages or more, not {size!r}")
        if not 0 <= pcp_order <= PAGE_ALLOC_COSTLY_ORDER:
            raise ValueError(f"pcp_order must be in 0..{PAGE_ALLOC_COSTLY_ORDER}, not {pcp_order!r}")
        if pcp_batch is not None and pcp_batch < 1:
            raise ValueError(f"pcp_batch must be 1 or more, not {pcp_batch!r}")
        self.page_size = page_size
        self.page_shift = page_size.bit_length() - 1
        self.spanned = size >> self.page_shift
        self.present = self.spanned - 1
        self.free_pages = 0  #: those on the cores' lists not included
        self.pcp_order = pcp_order
        self.pcp_batch = zone_batchsize(page_size) if pcp_batch is None else pcp_batch
        self.pcp_high = self.pcp_batch * (4 if pcp_order else 6)
        self.lock = SpinLock("zone")
        self.allocators: list[PageAllocator] = []  #: each core's view
        self.vmstat = VmStat()
        self.kswapd = Kswapd(self)
        self.compaction = Compaction(self)
        self.page_cache: PageCache | None = None
        self.memalloc: set[Task] = set()  #: processes that reclaim now (``PF_MEMALLOC``)
        self._shrinkers = Shrinkers(self.vmstat)
        self._lines = [
            (CacheLine(f"free_area {order}"), CacheLine(f"struct page at the head of free_area {order}"))
            for order in range(MAX_PAGE_ORDER + 1)
        ]
        self._mem_map: list[Page | None] = [None] * self.spanned
        self._free: list[dict[int, None]] = [{} for _ in range(MAX_PAGE_ORDER + 1)]
        self._give_range(1, self.spanned)
        self.min, self.low, self.high = self._watermarks(min_free_kbytes)

    @property
    def used_pages(self) -> int:
        """Pages that are neither free nor on a core's lists."""
        return self.present - self.free_pages - sum(each.listed_pages for each in self.allocators)

    def page(self, number: int) -> Page:
        """``pfn_to_page``, counted in the kernel's pages: always the same object for one."""
        page = self._mem_map[number]
        if page is None:
            shift = self.page_shift
            page = self._mem_map[number] = Page(number << shift - PAGE_SHIFT, shift=shift)
        return page

    def page_if_used(self, number: int) -> Page | None:
        """As :meth:`page`, or None if it was never handed out."""
        return self._mem_map[number]

    def acquire(self, core: "Core", order: int) -> None:
        """Take the lock, with interrupts off, to change the list of an order."""
        self.lock.acquire(core)
        for line in self._lines[order]:
            line.write(core)

    def take(self, order: int) -> Page | None:
        """Take a block out of the buddy system; None when no block is large enough (``__rmqueue_smallest``)."""
        free = self._free
        for size in range(order, MAX_PAGE_ORDER + 1):
            if free[size]:
                number, _ = free[size].popitem()
                for half in range(size - 1, order - 1, -1):
                    free[half][number + (1 << half)] = None
                self.free_pages -= 1 << order
                return self.page(number)
        return None

    def give(self, page: Page, order: int) -> None:
        """Return a block and join it with its free buddies (``__free_one_page``)."""
        number = page.address >> self.page_shift
        self.free_pages += 1 << order
        free = self._free
        while order < MAX_PAGE_ORDER and (buddy := number ^ (1 << order)) in free[order]:
            del free[order][buddy]
            number &= ~(1 << order)
            order += 1
        free[order][number] = None

    def isolate_free_pages(self, count: int, above: int) -> list[Page]:
        """Take up to so many single free pages from the end of memory, of those with a number of ``above`` or more."""
        pages: list[Page] = []
        blocks = ((number, order) for order, free in enumerate(self._free) for number in free)
        for number, order in sorted(blocks, reverse=True):
            stop = number + (1 << order)
            if stop <= above or len(pages) == count:
                break
            start = max(number, above, stop - (count - len(pages)))
            del self._free[order][number]
            self.free_pages -= 1 << order
            self._give_range(number, start)
            pages += [self.page(each) for each in reversed(range(start, stop))]
        return pages

    def free_block(self, order: int) -> bool:
        """Whether there is a free block of an order or more."""
        return any(self._free[order:])

    def watermark_ok(self, order: int, mark: int) -> bool:
        """Whether a block may be taken so that more than ``mark`` pages stay free (``__zone_watermark_ok``)."""
        return self.free_pages - (1 << order) + 1 > mark and (not order or self.free_block(order))

    def register_shrinker(self, shrinker: Shrinker) -> None:
        """Reclaim asks it from now on. Raises ``ValueError`` if it does so already."""
        self._shrinkers.register(shrinker)
        self.kswapd.failures = 0

    def unregister_shrinker(self, shrinker: Shrinker) -> None:
        """Reclaim asks it no more. Raises ``ValueError`` for one that is not registered."""
        self._shrinkers.unregister(shrinker)

    @property
    def shrinkers(self) -> Shrinkers:
        """Who gives memory back when asked."""
        return self._shrinkers

    def drain_all_pages(self, by: "PageAllocator") -> None:
        """Give every core's lists back to the buddy system, at the cost of one."""
        for allocator in self.allocators:
            allocator.drain(by)

    def free_blocks(self) -> Iterable[tuple[int, int]]:
        """Number of the first page, and order, of each free block (``/proc/buddyinfo``, in detail)."""
        return [(number, order) for order, free in enumerate(self._free) for number in free]

    def _give_range(self, start: int, stop: int) -> None:
        """Add pages ``start..stop-1`` in the largest aligned blocks, from the end; no buddy of theirs is free."""
        self.free_pages += stop - start
        while stop > start:
            order = min(MAX_PAGE_ORDER, (stop & -stop).bit_length() - 1, (stop - start).bit_length() - 1)
            stop -= 1 << order
            self._free[order][stop] = None

    def _watermarks(self, min_free_kbytes: int | None) -> tuple[int, int, int]:
        kbytes = self.page_size >> 10
        if min_free_kbytes is None:
            least, most = MIN_FREE_KBYTES
            min_free_kbytes = min(max(isqrt(self.present * kbytes * 16), least), most)
        if not isinstance(min_free_kbytes, int) or not 0 <= min_free_kbytes <= self.present * kbytes:
            raise ValueError(f"min_free_kbytes must be in 0..{self.present * kbytes}, not {min_free_kbytes!r}")
        if not min_free_kbytes:
            return -1, -1, -1
        mark = min_free_kbytes // kbytes
        gap = max(mark // 4, self.present * 10 // 10_000)
        return mark, mark + gap, mark + 2 * gap


def zone_batchsize(page_size: int) -> int:
    """Pages that move at once between a core's list and the zone: a quarter of 1 MiB, and half as much again, down to
    a power of two, less one."""
    quarter = (1 << 20) // page_size // 4
    return (1 << (quarter + quarter // 2).bit_length() - 1) - 1
