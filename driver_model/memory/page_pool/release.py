# SPDX-License-Identifier: BSD-2-Clause
"""The end of a page_pool, which waits for its pages (``page_pool_destroy`` of ``net/core/page_pool.c``)."""

from collections.abc import Callable
from typing import NamedTuple

from driver_model.memory.page_pool.frag import page_pool_free_frag
from driver_model.memory.page_pool.pool import page_pool_disable_direct_recycling
from driver_model.memory.page_pool.shrinker import page_pool_unregister_shrinker
from driver_model.memory.page_pool.slow import page_pool_discard, page_pool_release_page_dma
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.pages.page import Page
from driver_model.memory.site import Site, told

DEFER_TIME = 10**12  #: picoseconds between two tries to release a destroyed pool
DEFER_WARN_INTERVAL = 60 * 10**12  #: picoseconds between two warnings about a pool that cannot be released
HOLDERS_SHOWN = 8  #: pages that such a warning names


class PageHolder(NamedTuple):
    """Who has a page of a pool."""

    page: Page
    site: Site | None  #: the line that took it last; None without a checker
    since: int | None  #: picoseconds; when that was
    held: int | None  #: picoseconds from then until now

    def __str__(self) -> str:
        taken = "" if self.site is None or self.held is None else f", taken {self.held} ps ago at {told(self.site)}"
        return f"{self.page} at {self.page.address:#x}{taken}"


def page_pool_use_xdp_mem(pool: PagePool, disconnect: Callable[[PagePool], None], mem_id: int) -> None:
    """The pool is an XDP memory model's, too, which destroys it as well; the later of both calls counts.
    ``disconnect(pool)`` is called when it is released."""
    pool.user_cnt += 1
    pool.disconnect = disconnect
    pool.xdp_mem_id = mem_id


def page_pool_destroy(pool: PagePool) -> None:
    """Give up the pool. Pages still in use are unmapped now and freed as they come back; the pool is released with the
    last of them. (The kernel, where they pile up in the ring until its next try, up to a second later; what they count
    and cost is the same.) A second later, and each second from then on, it is looked after; each minute a warning says
    how many pages are missing, and who has them.

    Raises ``RuntimeError`` for a pool that was destroyed before.
    """
    if not pool.user_cnt:
        raise RuntimeError(f"{pool!r} was destroyed before")
    pool.user_cnt -= 1
    if pool.user_cnt:
        return
    page_pool_disable_direct_recycling(pool)
    page_pool_unregister_shrinker(pool)
    page_pool_free_frag(pool)
    pool.destroyed = True
    _empty_alloc_cache(pool)
    pool.dma_sync = False
    pool.outstanding = dict(pool.mapped)
    for page in pool.outstanding:
        page_pool_release_page_dma(pool, page)
    if _release(pool):
        now = pool.core.time
        pool.detach_time = now
        pool.defer_warn = now + DEFER_WARN_INTERVAL
        pool.core.platform.at(now + DEFER_TIME, lambda: _release_retry(pool))


def page_pool_holders(pool: PagePool) -> list[PageHolder]:
    """Who has the pages that are in flight and neither in cache nor ring, in the order of their addresses.

    All of them with a checker; without one, only those of a pool that was destroyed and had mapped them.
    """
    now = pool.core.platform.now
    checker = pool.checker
    if checker is None:
        return [PageHolder(page, None, None, None) for page in sorted(pool.outstanding, key=_address)]
    return [
        PageHolder(page, taking.site, taking.time, now - taking.time)
        for page, taking in sorted(checker.out().items(), key=lambda item: item[0].address)
    ]


def _release(pool: PagePool) -> int:
    """``page_pool_release``: empty the ring; how many pages are in flight then. Without any, the pool is gone."""
    pool.try_release = None
    while pool.ring:
        page = pool.ring.popleft()
        if page.refcount != 1:
            pool.warnings.append(f"page_pool refcnt {page.refcount} violation")
        page_pool_discard(pool, page)
    inflight = page_pool_inflight(pool)
    if inflight < 0:
        pool.warnings.append(f"Negative({inflight}) inflight packet-pages")
    if inflight:
        pool.try_release = lambda: _release(pool)
        return inflight
    if pool.disconnect is not None:
        pool.disconnect(pool)
    pool.p.dev.page_pools.remove(pool)
    if pool.provider is not None:
        pool.provider.destroy(pool)
    pool.released = True
    if pool.checker is not None:
        pool.checker.released()
    return 0


def _release_retry(pool: PagePool) -> None:
    """Beyond the kernel, the warning does not ask whether the interface is gone, and names the holders."""
    if pool.released:
        return
    inflight = page_pool_inflight(pool)
    if inflight <= 0:
        return
    now = pool.core.platform.now
    if now >= pool.defer_warn and pool.detach_time is not None:
        seconds = (now - pool.detach_time) // 10**12
        pool.warnings.append(f"stalled pool shutdown: id {pool.id}, {inflight} inflight {seconds} sec")
        holders = page_pool_holders(pool)
        pool.warnings += [str(holder) for holder in holders[:HOLDERS_SHOWN]]
        if len(holders) > HOLDERS_SHOWN:
            pool.warnings.append(f"and {len(holders) - HOLDERS_SHOWN} more")
        pool.defer_warn = now + DEFER_WARN_INTERVAL
    pool.core.platform.at(now + DEFER_TIME, lambda: _release_retry(pool))


def _empty_alloc_cache(pool: PagePool) -> None:
    while pool.alloc_cache:
        page_pool_discard(pool, pool.alloc_cache.pop())


def _address(page: Page) -> int:
    return page.address
