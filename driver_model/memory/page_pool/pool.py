# SPDX-License-Identifier: BSD-2-Clause
"""page_pool: pages that stay mapped and are recycled instead of freed (``net/core/page_pool.c``).

A pool has one consumer, the NAPI context of one core. A page is taken from the consumer's cache (last in, first out),
else from a ring that any context may return pages to, else from the page allocator in bulk. Pages in cache and ring
count as in flight, like those in use.

Costs: each allocation ``page_pool.alloc_fast``; each page put into the cache ``page_pool.put_direct``, into the ring
``page_pool.put_ring`` and, once for those of a bulk, its producer lock; a put that is not the last user's
``page_pool.frag_put`` and an ``atomic``. What happens beyond is :mod:`driver_model.memory.page_pool.slow`'s.
"""

from collections.abc import Sequence
from typing import Any

from driver_model.memory.page_pool.breaker import page_pool_refuses
from driver_model.memory.page_pool.params import PP_ALLOC_CACHE_SIZE, PagePoolParams
from driver_model.memory.page_pool.shrinker import page_pool_register_shrinker
from driver_model.memory.page_pool.slow import (
    page_pool_alloc_netmems_slow,
    page_pool_discard,
    page_pool_dma_sync_for_device,
    page_pool_refill_alloc_cache,
)
from driver_model.memory.page_pool.state import PagePool, page_pool_napi_local
from driver_model.memory.page_pool.users import page_pool_unref_page
from driver_model.memory.pages.page import Page

XDP_BULK_QUEUE_SIZE = 16  #: pages that a bulk put returns under one lock, at most


def page_pool_create_percpu(params: PagePoolParams, cpuid: int) -> PagePool:
    """Make a pool whose consumer is whatever runs in the softirqs of one core (-1: that of ``params.napi`` only).

    Raises ``OSError`` with the kernel's error code.
    """
    pool = PagePool(params, cpuid, _recycle_put_page)
    if pool.provider is not None:
        pool.provider.init(pool)
    pool.id = params.dev.page_pools.add(pool)
    if params.shrinker:
        page_pool_register_shrinker(pool)
    return pool


def page_pool_create(params: PagePoolParams) -> PagePool:
    """Make a pool. Raises ``OSError`` with the kernel's error code."""
    return page_pool_create_percpu(params, -1)


def page_pool_alloc_pages(pool: PagePool) -> Page | None:
    """A page, mapped where the pool maps, or None: memory is exhausted, or the circuit breaker refuses. Only the
    consumer may call."""
    pool.spend(pool.op_alloc)
    cache = pool.alloc_cache
    if cache and not pool.tripped:
        pool.alloc_stats.fast += 1
        page = cache.pop()
    else:
        filled = _alloc_uncached(pool)
        if filled is None:
            return None
        page = filled
    if pool.checker is not None:
        pool.checker.taken(page)
    return page


page_pool_dev_alloc_pages = page_pool_alloc_pages


def page_pool_put_page(pool: PagePool, page: Page, dma_sync_size: int, allow_direct: bool) -> None:
    """Drop one use of a page; the last one gives it back to its pool.

    ``dma_sync_size`` is how much the device may have to see again (-1: all of ``max_len``). ``allow_direct`` promises
    that the caller is the pool's consumer; without the promise the pool finds out itself. Not for hardirqs.
    """
    if page.pp_ref_count != 1 and _others_use(pool, page):
        return
    page_pool_put_unrefed_page(pool, page, dma_sync_size, allow_direct)


def page_pool_put_full_page(pool: PagePool, page: Page, allow_direct: bool) -> None:
    """:func:`page_pool_put_page` that syncs all of ``max_len``."""
    if page.pp_ref_count != 1 and _others_use(pool, page):
        return
    page_pool_put_unrefed_page(pool, page, -1, allow_direct)


def page_pool_recycle_direct(pool: PagePool, page: Page) -> None:
    """:func:`page_pool_put_full_page` by the consumer."""
    page_pool_put_full_page(pool, page, True)


def page_pool_put_unrefed_page(pool: PagePool, page: Page, dma_sync_size: int, allow_direct: bool) -> None:
    """Give back a page that has no user any more (:func:`page_pool_unref_page` said so)."""
    if not _put_page(pool, page, dma_sync_size, allow_direct or page_pool_napi_local(pool)):
        return
    in_softirq = _producer_lock(pool)
    room = len(pool.ring) < pool.ring_size
    if room:
        _produce(pool, page)
    _producer_unlock(pool, in_softirq)
    if not room:
        pool.recycle_stats.ring_full += 1
        page_pool_discard(pool, page)
    elif pool.try_release is not None:
        pool.try_release()


def page_pool_put_page_bulk(pages: Sequence[Page]) -> None:
    """Drop one use of each page, of whatever pools: the last uses return up to :data:`XDP_BULK_QUEUE_SIZE` of them
    under one lock (``page_pool_put_netmem_bulk``; for ``xdp_return_frame_bulk`` and bulk free of SKBs)."""
    for start in range(0, len(pages), XDP_BULK_QUEUE_SIZE):
        unrefed = []
        for page in pages[start : start + XDP_BULK_QUEUE_SIZE]:
            pool = pool_of(page)
            if page.pp_ref_count == 1 or not _others_use(pool, page):
                unrefed.append(page)
        while unrefed:
            pool = pool_of(unrefed[0])
            foreign = [page for page in unrefed if page.pp is not pool]
            direct = page_pool_napi_local(pool)
            ring = [page for page in unrefed if page.pp is pool and _put_page(pool, page, -1, direct)]
            if ring:
                _recycle_ring_bulk(pool, ring)
            unrefed = foreign


def napi_pp_put_page(page: Page) -> bool:
    """Free of an SKB's page: back to its pool, which the page's signature names; False if it is of none
    (``page_pool_return_skb_page`` of older kernels)."""
    pool = page.pp
    if pool is None:
        return False
    page_pool_put_full_page(pool, page, False)
    return True


def page_pool_get_dma_addr(page: Page) -> int:
    """Where the device finds the page."""
    return page.dma_addr


def page_pool_enable_direct_recycling(pool: PagePool, napi: Any) -> None:
    """From now on the pool is that NAPI instance's."""
    if napi is None or (pool.napi is not None and pool.napi is not napi):
        raise ValueError(f"{pool!r} cannot be given to {napi!r}: it is {pool.napi!r}'s")
    pool.napi = napi


def page_pool_disable_direct_recycling(pool: PagePool) -> None:
    """From now on no context is known to be the pool's consumer. The NAPI instance must be idle."""
    pool.cpuid = -1
    if pool.napi is not None and pool.napi.list_owner != -1:
        pool.warnings.append(f"direct recycling disabled while core {pool.napi.list_owner} polls")
    pool.napi = None


def page_pool_update_nid(pool: PagePool, nid: int) -> None:
    """The consumer moves to another node: the cache, whose pages nobody would look at, is given up."""
    pool.nid = nid
    while pool.alloc_cache:
        page_pool_discard(pool, pool.alloc_cache.pop())


def pool_of(page: Page) -> PagePool:
    """The pool that a page's signature names. Raises ``ValueError`` for a page without one."""
    pool = page.pp
    if not isinstance(pool, PagePool):
        raise ValueError(f"{page} must be a page_pool's, not {pool!r}'s")
    return pool


def _alloc_uncached(pool: PagePool) -> Page | None:
    if pool.tripped:
        if page_pool_refuses(pool):
            return None
        if pool.alloc_cache:
            pool.alloc_stats.fast += 1
            return pool.alloc_cache.pop()
    return page_pool_refill_alloc_cache(pool) or page_pool_alloc_netmems_slow(pool)


def _others_use(pool: PagePool, page: Page) -> bool:
    if pool.checker is not None:
        pool.checker.belongs(page)
    return page_pool_unref_page(page, 1) != 0


def _put_page(pool: PagePool, page: Page, dma_sync_size: int, allow_direct: bool) -> bool:
    """Put a page into the cache, or out of the pool if it is not to be recycled; True if it is the ring's."""
    if pool.checker is not None:
        pool.checker.put(page)
    if page.refcount == 1 and not page.pfmemalloc:
        if pool.dma_sync:
            page_pool_dma_sync_for_device(pool, page, dma_sync_size)
        if allow_direct:
            cache = pool.alloc_cache
            if len(cache) < PP_ALLOC_CACHE_SIZE:
                cache.append(page)
                pool.recycle_stats.cached += 1
                pool.spend(pool.op_put_direct)
                if pool.checker is not None:
                    pool.checker.cached(page)
                return False
            pool.recycle_stats.cache_full += 1
        return True
    pool.recycle_stats.released_refcnt += 1
    page_pool_discard(pool, page)
    return False


def _recycle_ring_bulk(pool: PagePool, pages: list[Page]) -> None:
    in_softirq = _producer_lock(pool)
    room = pool.ring_size - len(pool.ring)
    for page in pages[:room]:
        _produce(pool, page)
    if len(pages) > room:
        pool.recycle_stats.ring_full += 1
    _producer_unlock(pool, in_softirq)
    for page in pages[room:]:
        page_pool_discard(pool, page)
    if pool.try_release is not None:
        pool.try_release()


def _produce(pool: PagePool, page: Page) -> None:
    pool.ring.append(page)
    pool.recycle_stats.ring += 1
    pool.spend(pool.op_put_ring)
    if pool.checker is not None:
        pool.checker.published(page)


def _producer_lock(pool: PagePool) -> bool:
    """``spin_lock_bh`` outside of softirqs: one that comes in between would spin for ever."""
    core = pool.core
    in_softirq = core.softirq.disabled
    if not in_softirq:
        core.softirq.disable()
    pool.ring_lock.acquire(core)
    return in_softirq


def _producer_unlock(pool: PagePool, in_softirq: bool) -> None:
    pool.ring_lock.release(pool.core)
    if not in_softirq:
        pool.core.softirq.enable()


def _recycle_put_page(pool: PagePool, page: Page) -> None:
    """``put_page`` would have freed a page of the pool, which keeps its reference: it comes back instead."""
    pool.spend(pool.op_put_page)
    page_pool_put_full_page(pool, page, False)
