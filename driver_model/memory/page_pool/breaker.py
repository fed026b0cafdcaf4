# SPDX-License-Identifier: BSD-2-Clause
"""A page_pool's circuit breaker, which the kernel never merged (proposed in "Memory vs. Networking", NetConf 2016).

A pool with an ``inflight_limit`` never has more pages in flight than that, those in its cache and ring included. When
they are all in use, and another is wanted, the breaker trips: allocations are refused, those from cache and ring as
well, until no more than ``inflight_resume`` pages are in use. Without that distance, an overloaded receiver would take
each page that comes back at once, to drop the frame a moment later.

A refused allocation counts ``alloc_limited``. It costs what an attempt costs.
"""

from driver_model.memory.page_pool.state import PagePool, page_pool_inflight


def page_pool_room(pool: PagePool, wanted: int) -> int:
    """How many of ``wanted`` pages may join; with none left, the breaker trips."""
    limit = pool.p.inflight_limit
    if not limit:
        return wanted
    room = limit - page_pool_inflight(pool)
    if room <= 0:
        pool.tripped = True
        pool.alloc_stats.limited += 1
        return 0
    return min(room, wanted)


def page_pool_refuses(pool: PagePool) -> bool:
    """The breaker has tripped: whether it still refuses. Otherwise it is closed again."""
    resume = pool.p.inflight_resume
    if resume is None:
        resume = pool.p.inflight_limit * 3 // 4
    if page_pool_inflight(pool) - len(pool.alloc_cache) - len(pool.ring) > resume:
        pool.alloc_stats.limited += 1
        return True
    pool.tripped = False
    return False
