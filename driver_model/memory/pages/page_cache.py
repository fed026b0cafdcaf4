# SPDX-License-Identifier: BSD-2-Clause
"""The page cache: clean pages of files, which fill memory that nobody else wants and can be given up at any time."""

from typing import TYPE_CHECKING

from driver_model.memory.pages.gfp import GFP_KERNEL, GFP_NORETRY, GFP_NOWARN
from driver_model.memory.pages.page import Page

if TYPE_CHECKING:
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.zone import Zone

READAHEAD_GFP = GFP_KERNEL | GFP_NORETRY | GFP_NOWARN  #: readahead makes way rather than trouble


class PageCache:
    """A list of single pages in the order of their last use (one LRU list: all pages are clean and unmapped).

    It is what makes memory full, as it is on a machine that has run for a while, without being exhausted. Reclaim takes
    its oldest pages, compaction moves them (a page with more users than the cache itself stays where it is).

    Parameters
    ----------
    zone : whose memory it fills; it becomes its :attr:`driver_model.memory.pages.zone.Zone.page_cache`
    """

    def __init__(self, zone: "Zone") -> None:
        if zone.page_cache is not None:
            raise ValueError("The zone has a page cache already")
        zone.page_cache = self
        self._kswapd = zone.kswapd
        self._lru: dict[Page, None] = {}

    def __len__(self) -> int:
        return len(self._lru)

    def __contains__(self, page: object) -> bool:
        return page in self._lru

    def read(self, pages: "PageAllocator", count: int) -> list[Page]:
        """Bring up to ``count`` pages of a file in, in a process (``page_cache_ra_unbounded``): those for which there
        was memory, its own older pages included. What they hold is the caller's business."""
        if count < 0:
            raise ValueError(f"Count must be 0 or more, not {count!r}")
        new: list[Page] = []
        while len(new) < count and (page := pages.alloc_pages(0, READAHEAD_GFP)) is not None:
            page.owner = self
            self._lru[page] = None
            new.append(page)
        if new:
            self._kswapd.failures = 0
        return new

    def shrink_list(self, pages: "PageAllocator", count: int) -> tuple[int, int]:
        """Look at up to ``count`` of the oldest pages, and free those that nobody else uses: (looked at, freed)."""
        oldest = [page for page, _ in zip(self._lru, range(count))]
        freed = 0
        for page in oldest:
            if page not in self._lru:
                continue  # freed meanwhile by another process
            if page.refcount == 1:
                pages.put_page(page)
                freed += 1
            else:
                del self._lru[page]
                self._lru[page] = None
        return len(oldest), freed

    def drop(self, pages: "PageAllocator") -> int:
        """Give up every page that nobody else uses (``echo 1 > /proc/sys/vm/drop_caches``); how many."""
        return self.shrink_list(pages, len(self._lru))[1]

    def isolate(self, page: Page) -> None:
        """Take a page off the list, to be moved."""
        del self._lru[page]

    def putback(self, page: Page) -> None:
        """Put a page on the list, in which what an isolated one held is now."""
        self._lru[page] = None

    def page_freed(self, page: Page) -> None:
        """The last reference is gone."""
        del self._lru[page]
