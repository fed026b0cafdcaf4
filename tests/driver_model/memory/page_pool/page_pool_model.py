# SPDX-License-Identifier: BSD-2-Clause
"""page_pool told in lists: what a test compares the real one with."""

from collections import Counter

from driver_model.memory.pages.page import Page

CACHE, REFILL = 128, 64


class Model:
    """A pool of order 0 and node 0.

    It knows which page comes next, except for fresh ones, of which it knows how many.

    Parameters
    ----------
    ring_size : entries of the ring
    limit, resume : of the circuit breaker; limit 0 for none
    """

    def __init__(self, ring_size: int, limit: int, resume: int) -> None:
        self.ring_size, self.limit, self.resume = ring_size, limit, resume
        self.cache: list[Page] = []
        self.ring: list[Page] = []
        self.users: dict[Page, int] = {}  #: pages in use, with how many users; 0 if only being cut
        self.referenced: set[Page] = set()  #: pages that somebody has a plain reference to, beside the pool
        self.cut: Page | None = None
        self.cut_to = 0
        self.tripped = False
        self.destroyed = False
        self.counts: Counter[str] = Counter()

    @property
    def inflight(self) -> int:
        return len(self.cache) + len(self.ring) + len(self.users)

    def alloc(self, free: int) -> Page | int | None:
        """The page that comes, or how many fresh ones, of so many free; not in use yet."""
        if self.tripped:
            if len(self.users) > self.resume:
                self.counts["alloc_limited"] += 1
                return None
            self.tripped = False
        if self.cache:
            self.counts["alloc_fast"] += 1
            return self.cache.pop()
        if not self.ring:
            self.counts["alloc_empty"] += 1
            return self._fresh(free)
        while self.ring and len(self.cache) < REFILL:
            page = self.ring.pop(0)
            if page.nid:
                self.counts["alloc_waive"] += 1
                free += 1
                break
            self.cache.append(page)
        if not self.cache:
            return self._fresh(free)
        self.counts["alloc_refill"] += 1
        return self.cache.pop()

    def _fresh(self, free: int) -> int | None:
        room = self.limit - self.inflight if self.limit else REFILL
        if room <= 0:
            self.tripped = True
            self.counts["alloc_limited"] += 1
            return None
        if not free:
            return None
        self.counts["alloc_slow"] += 1
        return min(room, free, REFILL)

    def put(self, page: Page, direct: bool) -> bool:
        """One user less; whether the page is still the pool's."""
        self.users[page] -= 1
        if self.users[page] or page is self.cut:
            return True
        return self.recycle(page, direct)

    def recycle(self, page: Page, direct: bool) -> bool:
        del self.users[page]
        if page in self.referenced or page.pfmemalloc:
            self.counts["recycle_released_refcnt"] += 1
            return False
        if direct and len(self.cache) < CACHE:
            self.counts["recycle_cached"] += 1
            self.cache.append(page)
            return True
        self.counts["recycle_cache_full"] += direct
        if len(self.ring) < self.ring_size:
            self.counts["recycle_ring"] += 1
            if not self.destroyed:
                self.ring.append(page)
            return not self.destroyed
        self.counts["recycle_ring_full"] += 1
        return False

    def put_bulk(self, pages: list[Page]) -> None:
        """Several at once, outside of the consumer's context: a full ring counts once."""
        full = self.counts["recycle_ring_full"]
        for page in pages:
            self.put(page, False)
        self.counts["recycle_ring_full"] = min(self.counts["recycle_ring_full"], full + 1)

    def cut_fits(self, size: int) -> bool:
        return self.cut is not None and self.cut_to + size <= 4096

    def drain(self) -> Page | None:
        """The page at hand is used up; it, if it may be cut anew."""
        page, self.cut = self.cut, None
        if page is None or self.users[page]:
            return None
        if page in self.referenced or page.pfmemalloc:
            del self.users[page]
            return None
        self.counts["recycle_cached"] += 1
        self.counts["alloc_fast"] += 1
        return page

    def shrink(self, count: int) -> int:
        given = min(count, len(self.ring))
        del self.ring[:given]
        self.counts["shrunk"] += given
        return given

    def destroy(self) -> None:
        if self.cut is not None and not self.users[self.cut]:
            del self.users[self.cut]
        self.cut = None
        self.destroyed = True
        self.cache.clear()
        self.ring.clear()
