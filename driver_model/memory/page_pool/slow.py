# SPDX-License-Identifier: BSD-2-Clause
"""page_pool's slow paths: the cache is refilled from the ring, or from the page allocator, and pages leave the pool
(``net/core/page_pool.c``).

Costs: each page that the refill pulls out of the ring ``page_pool.alloc_ring``; each new page ``page_pool.slow`` beside
the page allocator's and the DMA API's own.
"""

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    dma_map_page_attrs,
    dma_mapping_error,
    dma_sync_single_for_device,
    dma_unmap_page_attrs,
)
from driver_model.memory.page_pool.breaker import page_pool_room
from driver_model.memory.page_pool.params import NUMA_NO_NODE, PP_ALLOC_CACHE_REFILL
from driver_model.memory.page_pool.state import PagePool, page_pool_clear_pp_info, page_pool_set_pp_info
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_NOWARN
from driver_model.memory.pages.page import Page

_U32 = (1 << 32) - 1
_GFP = GFP_ATOMIC | GFP_NOWARN  #: that memory ran out is no news where packets are received, and is not logged


def page_pool_refill_alloc_cache(pool: PagePool) -> Page | None:
    """A page after up to 64 have come from the ring into the cache; None if none could.

    A page of another node leaves the pool, and ends the refill.
    """
    ring = pool.ring
    if not ring:
        pool.alloc_stats.empty += 1
        return None
    cache = pool.alloc_cache
    node = 0 if pool.nid == NUMA_NO_NODE else pool.nid  # every core is of node 0
    pulled = 0
    while ring and len(cache) < PP_ALLOC_CACHE_REFILL:
        page = ring.popleft()
        pulled += 1
        if page.nid != node:
            page_pool_discard(pool, page)
            pool.alloc_stats.waive += 1
            break
        cache.append(page)
    pool.spend(pool.op_refill, pulled)
    if not cache:
        return None
    pool.alloc_stats.refill += 1
    return cache.pop()


def page_pool_alloc_netmems_slow(pool: PagePool) -> Page | None:
    """A page of the provider's, or of the page allocator's: of order 0 with up to 63 others, which the cache gets,
    unless it is to come alone."""
    provider = pool.provider
    single = pool.p.order or not pool.p.bulk_refill
    room = page_pool_room(pool, 1 if single or provider is not None else PP_ALLOC_CACHE_REFILL)
    if not room:
        return None
    if provider is not None:
        return provider.alloc_netmems(pool)
    fresh: list[Page] = []
    if single:
        page = pool.pages.alloc_pages(pool.p.order, _GFP)
        if page is not None:
            fresh.append(page)
    else:
        pool.pages.alloc_pages_bulk(room, fresh, _GFP)
    cache = pool.alloc_cache
    for page in fresh:
        if pool.dma_map and not _dma_map(pool, page):
            pool.pages.put_page(page)
            continue
        pool.spend(pool.op_slow)
        page_pool_set_pp_info(pool, page)
        cache.append(page)
    if not cache:
        return None
    if pool.p.order:
        pool.alloc_stats.slow_high_order += 1
    else:
        pool.alloc_stats.slow += 1
    return cache.pop()


def page_pool_return_page(pool: PagePool, page: Page) -> None:
    """Take a page that somebody has out of the pool for good: unmap it and drop the pool's reference, or give it back
    to the provider. It may be the last one, which a pool that was destroyed waits for."""
    provider = pool.provider
    if provider is None:
        page_pool_release_page_dma(pool, page)
        page.dma_addr = 0
        put = True
    else:
        put = provider.release_netmem(pool, page)
    _leave(pool, page)
    if put:
        page_pool_clear_pp_info(page)
        pool.pages.put_page(page)
    if pool.try_release is not None:
        pool.try_release()


def page_pool_release_page(pool: PagePool, page: Page) -> None:
    """Take a page out of the pool for good, and leave it to whoever has it, with the pool's reference: unmap it. So
    drivers did before the stack knew how to give pages back (Linux 4.18 to 6.4); not with a memory provider.

    Raises ``ValueError`` for a page that has other users, or is a provider's.
    """
    if page.pp_ref_count != 1 or pool.provider is not None:
        raise ValueError(f"{page} cannot leave {pool!r}: it is a provider's, or has {page.pp_ref_count!r} users, not 1")
    page_pool_release_page_dma(pool, page)
    page.dma_addr = 0
    _leave(pool, page)
    page_pool_clear_pp_info(page)
    if pool.try_release is not None:
        pool.try_release()


def page_pool_discard(pool: PagePool, page: Page) -> None:
    """:func:`page_pool_return_page` of a page that nobody has: it comes from cache or ring, or did not fit in."""
    if pool.checker is not None:
        pool.checker.discarded(page)
    page_pool_return_page(pool, page)


def page_pool_dma_sync_for_device(pool: PagePool, page: Page, size: int) -> None:
    """Hand up to ``size`` bytes from the pool's offset on to the device (-1: all of ``max_len``), if the pool syncs."""
    params = pool.p
    size = params.max_len if size < 0 or size > params.max_len else size
    if pool.checker is not None:
        pool.checker.synced(page)
    dma_sync_single_for_device(params.dev, page.dma_addr + params.offset, size, params.dma_dir)


def page_pool_release_page_dma(pool: PagePool, page: Page) -> None:
    """Unmap a page, if the pool still has it mapped."""
    if page in pool.mapped:
        del pool.mapped[page]
        dma_unmap_page_attrs(pool.p.dev, page.dma_addr, page.size, pool.p.dma_dir, DMA_ATTR_SKIP_CPU_SYNC)


def _leave(pool: PagePool, page: Page) -> None:
    pool.release_cnt = (pool.release_cnt + 1) & _U32
    pool.outstanding.pop(page, None)
    if pool.checker is not None:
        pool.checker.left(page)


def _dma_map(pool: PagePool, page: Page) -> bool:
    params = pool.p
    dma_address = dma_map_page_attrs(params.dev, page, 0, page.size, params.dma_dir, DMA_ATTR_SKIP_CPU_SYNC)
    if dma_mapping_error(params.dev, dma_address):
        return False
    page.dma_addr = dma_address
    pool.mapped[page] = None
    if pool.dma_sync:
        page_pool_dma_sync_for_device(pool, page, -1)
    return True
