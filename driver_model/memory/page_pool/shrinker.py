# SPDX-License-Identifier: BSD-2-Clause
"""A page_pool that gives pages back under memory pressure, which the kernel never merged (its shrinkers:
``mm/shrinker.c``)."""

from typing import TYPE_CHECKING

from driver_model.memory.page_pool.slow import page_pool_discard
from driver_model.memory.page_pool.state import PagePool, page_pool_napi_local
from driver_model.memory.pages.page import Page

if TYPE_CHECKING:
    from driver_model.cpu.core import Core


class PagePoolShrinker:
    """Gives back pages of a pool's ring, the oldest first, and in its consumer's context also of its cache.

    Only the pool's consumer takes pages from its ring, without a lock. So the shrinker gives nothing on another core
    than the pool's, or in a hardirq; in a process it disables softirqs meanwhile. Each page costs
    ``page_pool.alloc_ring`` beside its unmapping and its way into the page allocator; it counts ``shrunk``.

    Parameters
    ----------
    pool : whose pages
    """

    def __init__(self, pool: PagePool) -> None:
        self.name = f"page_pool-{pool.id}"
        self._pool = pool

    def count_objects(self) -> int:
        """Pages in the ring."""
        return len(self._pool.ring) << self._pool.p.order

    def scan_objects(self, core: "Core", count: int) -> int:
        """Give back blocks that hold up to ``count`` pages; how many pages those were."""
        pool = self._pool
        if core is not pool.core or core.in_hardirq:
            return 0
        blocks = count >> pool.p.order
        taken: list[Page] = []
        core.softirq.disable()
        while pool.ring and len(taken) < blocks:
            taken.append(pool.ring.popleft())
        if page_pool_napi_local(pool):
            oldest = blocks - len(taken)
            taken += pool.alloc_cache[:oldest]
            del pool.alloc_cache[:oldest]
        pool.spend(pool.op_refill, len(taken))
        for page in taken:
            page_pool_discard(pool, page)
        core.softirq.enable()
        pool.alloc_stats.shrunk += len(taken)
        return len(taken) << pool.p.order


def page_pool_register_shrinker(pool: PagePool) -> None:
    """Let reclaim ask the pool for pages."""
    pool.shrinker = PagePoolShrinker(pool)
    pool.pages.zone.register_shrinker(pool.shrinker)


def page_pool_unregister_shrinker(pool: PagePool) -> None:
    """End of :func:`page_pool_register_shrinker`."""
    if pool.shrinker is not None:
        pool.pages.zone.unregister_shrinker(pool.shrinker)
        pool.shrinker = None
