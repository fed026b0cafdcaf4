# SPDX-License-Identifier: BSD-2-Clause
"""The I/O virtual address space of a device: who has which range of it (``drivers/iommu/iova.c``).

All sizes and addresses here are page frame numbers. Ranges are handed out from the top down; in front of the tree that
knows them all, each core keeps recently freed ranges of 1 to 32 pages (:mod:`driver_model.memory.dma.iova_cache`).
"""

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from driver_model.cpu.locks import SpinLock
from driver_model.memory.dma.iova_cache import CACHED_ORDERS, RangeCache
from driver_model.memory.dma.iova_chunk import Chunks

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

MODES = ("top_down", "contiguous")
START_PFN = 1  #: so that address 0 stays invalid


class IovaError(RuntimeError):
    """A range was given back that is not taken."""


class IovaDomain:
    """``struct iova_domain``: a range of 2**n pages, n above 0, is aligned to its size; other sizes to the next one.

    A range comes from the calling core's cache, else from the tree: there it takes the highest gap below the limit
    that is large enough, as seen from where the last search ended (``cached_node``), and searches all gaps only when
    none is left below it. If the tree is exhausted too, all caches are emptied into it, once.

    In mode ``contiguous``, small ranges are cut one after the other from a chunk of each core (see
    :class:`driver_model.memory.dma.iova_chunk.Chunks`), so that what is mapped in a batch are neighbours.

    Costs: ``iova.alloc`` and ``iova.free`` each time; where the tree is needed, ``iova.tree_insert`` or
    ``iova.tree_erase``, ``iova.tree_step`` for each range passed on the way, and the tree's lock.

    Parameters
    ----------
    limit : highest page frame that may be handed out
    mode : ``top_down`` or ``contiguous``

    Attributes
    ----------
    cache_hits, tree_allocs, tree_frees, tree_steps, flushes, failures : what happened; ``flushes`` counts emptyings of
        the caches for want of space
    """

    def __init__(self, limit: int, mode: str = "top_down") -> None:
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise TypeError(f"limit must be an integer, not {limit!r}")
        if not START_PFN < limit < 1 << 52:
            raise ValueError(f"limit must be in {START_PFN + 1}..{(1 << 52) - 1}, not {limit!r}")
        if mode not in MODES:
            raise ValueError(f"IOVA mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.limit = limit
        self.mode = mode
        self.lock = SpinLock("iova tree")
        self.cache_hits = 0
        self.tree_allocs = 0
        self.tree_frees = 0
        self.tree_steps = 0
        self.flushes = 0
        self.failures = 0
        self._starts: list[int] = []  # of taken ranges, ascending
        self._sizes: dict[int, int] = {}
        self._cached = limit + 1  # start of the range that the next search begins below; the end if it is not taken
        self._caches = [RangeCache(order) for order in range(CACHED_ORDERS)]
        self._chunks = Chunks(self)

    @property
    def taken(self) -> int:
        """Ranges taken from the tree, those in caches and chunks included."""
        return len(self._starts)

    def alloc(self, core: "Core", pages: int) -> int | None:
        """Take ``pages`` pages: the first page frame, or None when there is no room (``alloc_iova_fast``)."""
        core.spend(core.op("iova.alloc"))
        if self.mode == "contiguous" and pages <= self._chunks.pages:
            return self._chunks.alloc(core, pages)
        order = (pages - 1).bit_length()
        if order < CACHED_ORDERS:
            pfn = self._caches[order].get(core)
            if pfn is not None:
                self.cache_hits += 1
                return pfn
            pages = 1 << order  # what goes into a cache must be of one size
        return self.tree_alloc(core, pages)

    def free(self, core: "Core", pfn: int, pages: int) -> None:
        """Give a range back, with the size that it was taken with (``free_iova_fast``)."""
        core.spend(core.op("iova.free"))
        if self.mode == "contiguous" and pages <= self._chunks.pages:
            self._chunks.free(core, pfn, pages)
            return
        order = (pages - 1).bit_length()
        if order < CACHED_ORDERS:
            self.tree_free(core, self._caches[order].put(core, pfn))
        else:
            self.tree_free(core, [pfn])

    def flush(self, core: "Core") -> None:
        """Empty all caches into the tree (``free_iova_rcaches``)."""
        self.flushes += 1
        for cache in self._caches:
            self.tree_free(core, cache.drain())

    # The tree

    def tree_alloc(self, core: "Core", pages: int) -> int | None:
        """Take a range from the tree, once all caches were emptied into it if there is no other way."""
        pfn = self._locked_alloc(core, pages)
        if pfn is None:
            self.flush(core)
            pfn = self._locked_alloc(core, pages)
        if pfn is None:
            self.failures += 1
        else:
            self.tree_allocs += 1
        return pfn

    def tree_free(self, core: "Core", pfns: list[int]) -> None:
        """Give ranges back to the tree."""
        if not pfns:
            return
        with core.irq_save(), self.lock.held(core):
            for pfn in pfns:
                core.spend(core.op("iova.tree_erase"))
                self._erase(pfn)
        self.tree_frees += len(pfns)

    def _locked_alloc(self, core: "Core", pages: int) -> int | None:
        with core.irq_save(), self.lock.held(core):
            pfn = self._search(core, pages, self._cached, START_PFN)
            if pfn is None and self._cached <= self.limit:
                pfn = self._search(core, pages, self.limit + 1, self._cached)
            if pfn is None:
                return None
            core.spend(core.op("iova.tree_insert"))
            insort(self._starts, pfn)
            self._sizes[pfn] = pages
            self._cached = pfn
            return pfn

    def _search(self, core: "Core", pages: int, stop: int, low: int) -> int | None:
        """The highest aligned gap within ``low..stop-1``: walk down the taken ranges."""
        aligned = -1 << (pages - 1).bit_length()
        starts, sizes = self._starts, self._sizes
        at = bisect_left(starts, stop) - 1
        steps = 0
        while True:
            pfn = (stop - pages) & aligned
            below = starts[at] + sizes[starts[at]] if at >= 0 else START_PFN
            if pfn >= below or pfn < low:
                break
            stop = starts[at]
            at -= 1
            steps += 1
        core.spend(core.op("iova.tree_step"), steps)
        self.tree_steps += steps
        return pfn if pfn >= low else None

    def _erase(self, pfn: int) -> None:
        if self._sizes.pop(pfn, None) is None:
            raise IovaError(f"IOVA range at page {pfn:#x} is given back, but not taken")
        at = bisect_left(self._starts, pfn)
        del self._starts[at]
        if pfn >= self._cached:  # the space above is the best to search first
            self._cached = self._starts[at] if at < len(self._starts) else self.limit + 1
