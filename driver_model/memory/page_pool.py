# SPDX-License-Identifier: BSD-2-Clause
"""page_pool: pages that stay mapped and are recycled instead of freed (``net/core/page_pool.c``).

A pool has one consumer, the NAPI context of one core. A page is taken from the consumer's cache (last in, first out),
else from a ring that any context may return pages to, else from the page allocator in bulk. Pages in cache and ring
count as in flight, like those in use.

Costs: each allocation ``page_pool.alloc_fast``; each page that the refill pulls out of the ring
``page_pool.alloc_ring``; each new page ``page_pool.slow`` beside the page allocator's and the DMA API's own; each page
put into the cache ``page_pool.put_direct``, into the ring ``page_pool.put_ring`` and its producer lock.
"""

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from driver_model.cpu.locks import SpinLock
from driver_model.memory.dma import (
    Device,
    DmaDirection,
    dma_map_page,
    dma_mapping_error,
    dma_sync_single_for_device,
    dma_unmap_page,
)
from driver_model.memory.page import Page
from driver_model.memory.page_pool_stats import PagePoolStatistics

PP_FLAG_DMA_MAP = 1 << 0
PP_FLAG_DMA_SYNC_DEV = 1 << 1
PP_FLAG_ALL = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV

PP_ALLOC_CACHE_SIZE = 128
PP_ALLOC_CACHE_REFILL = 64
PP_RING_DEFAULT = 1024
PP_RING_MAX = 16384
DEFER_TIME = 10**12  #: picoseconds between two tries to release a destroyed pool
DEFER_WARN_INTERVAL = 60 * 10**12  #: picoseconds between two warnings about a pool that cannot be released

_U32 = (1 << 32) - 1
_RECEIVING = (DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


@dataclass(frozen=True, slots=True)
class PagePoolParams:
    """``struct page_pool_params``.

    Attributes
    ----------
    dev : the device, as the consumer's core uses it
    flags : ``PP_FLAG_*``
    order : pages are ``page_size << order`` bytes
    pool_size : entries of the ring; 0 for the default
    nid : NUMA node of the consumer
    napi : the NAPI instance that consumes, or None; has ``list_owner``, the index of the core that polls it now
    dma_dir, max_len, offset : direction of the mapping, and the bytes that the device may have written
    """

    dev: Device
    flags: int = 0
    order: int = 0
    pool_size: int = 0
    nid: int = 0
    napi: Any = None
    dma_dir: DmaDirection = DmaDirection.FROM_DEVICE
    max_len: int = 0
    offset: int = 0


class PagePool:
    """``struct page_pool``; made by :func:`page_pool_create`. Only the functions below change it.

    Attributes
    ----------
    p : its parameters
    statistics : its counters
    warnings : what a kernel would have written to its log about this pool
    put_page_recycles : the last ``put_page`` of a page gives it back to the pool instead of freeing it
    destroyed : :func:`page_pool_destroy` was called
    released : it is empty and gone
    """

    __slots__ = (
        "alloc_cache",
        "checker",
        "core",
        "destroyed",
        "destroyed_at",
        "dma_map",
        "dma_sync",
        "hold_cnt",
        "mapped",
        "op_alloc",
        "op_put_direct",
        "op_put_ring",
        "op_refill",
        "op_slow",
        "p",
        "pages",
        "release_cnt",
        "released",
        "ring",
        "ring_lock",
        "ring_size",
        "spend",
        "statistics",
        "warned_at",
        "warnings",
    )

    put_page_recycles = False

    def __init__(self, params: PagePoolParams, ring_size: int) -> None:
        self.p = params
        self.core = core = params.dev.core
        self.pages = params.dev.pages
        self.checker = params.dev.checker
        self.dma_map = bool(params.flags & PP_FLAG_DMA_MAP)
        self.dma_sync = bool(params.flags & PP_FLAG_DMA_SYNC_DEV)
        self.alloc_cache: list[Page] = []
        self.ring: deque[Page] = deque()
        self.ring_size = ring_size
        self.ring_lock = SpinLock("page_pool ring")
        self.mapped: dict[Page, None] = {}
        self.hold_cnt = 0
        self.release_cnt = 0
        self.statistics = PagePoolStatistics()
        self.warnings: list[str] = []
        self.warned_at = 0
        self.destroyed = False
        self.destroyed_at = 0
        self.released = False
        self.spend: Callable[..., None] = core.spend
        self.op_alloc = core.op("page_pool.alloc_fast")
        self.op_refill = core.op("page_pool.alloc_ring")
        self.op_slow = core.op("page_pool.slow")
        self.op_put_direct = core.op("page_pool.put_direct")
        self.op_put_ring = core.op("page_pool.put_ring")


def page_pool_create(params: PagePoolParams) -> PagePool:
    """Make a pool. Raises ``OSError`` with the kernel's error code."""
    if params.flags & ~PP_FLAG_ALL:
        raise OSError(errno.EINVAL, f"page_pool flags must be within {PP_FLAG_ALL:#x}, not {params.flags!r}")
    if not 0 <= params.order <= 10:
        raise OSError(errno.EINVAL, f"page_pool order must be in 0..10, not {params.order!r}")
    if params.pool_size < 0:
        raise OSError(errno.EINVAL, f"page_pool pool_size must be 0 or more, not {params.pool_size!r}")
    if params.flags & PP_FLAG_DMA_MAP and params.dma_dir not in _RECEIVING:
        raise OSError(errno.EINVAL, f"page_pool dma_dir must be FROM_DEVICE or BIDIRECTIONAL, not {params.dma_dir!r}")
    if params.flags & PP_FLAG_DMA_SYNC_DEV:
        if not params.flags & PP_FLAG_DMA_MAP:
            raise OSError(errno.EINVAL, "page_pool flag DMA_SYNC_DEV needs DMA_MAP")
        if not params.max_len:
            raise OSError(errno.EINVAL, "page_pool flag DMA_SYNC_DEV needs max_len, not 0")
        size = params.dev.pages.page_size << params.order
        if params.max_len < 0 or params.offset < 0 or params.offset + params.max_len > size:
            raise OSError(
                errno.EINVAL,
                f"page_pool offset and max_len must lie within {size} bytes, "
                f"not {params.offset!r} and {params.max_len!r}",
            )
    return PagePool(params, min(params.pool_size, PP_RING_MAX) or PP_RING_DEFAULT)


def page_pool_alloc_pages(pool: PagePool) -> Page | None:
    """A page, mapped where the pool maps, or None when memory is exhausted. Only the consumer may call."""
    pool.spend(pool.op_alloc)
    cache = pool.alloc_cache
    if cache:
        pool.statistics.alloc_fast += 1
        page = cache.pop()
    else:
        filled = _refill_alloc_cache(pool) or _alloc_pages_slow(pool)
        if filled is None:
            return None
        page = filled
    if pool.checker is not None:
        pool.checker.pool_taken(page)
    return page


def page_pool_put_page(pool: PagePool, page: Page, dma_sync_size: int, allow_direct: bool) -> None:
    """Drop one use of a page; the last one gives it back to its pool.

    ``dma_sync_size`` is how much the device may have to see again (-1: all of ``max_len``). ``allow_direct`` promises
    that the caller is the pool's consumer; without the promise the pool finds out itself.
    """
    page.pp_ref_count -= 1
    if page.pp_ref_count > 0:
        return
    page.pp_ref_count = 1
    if pool.checker is not None:
        pool.checker.pool_put(pool.core, pool, page)
    if page.refcount == 1 and not page.pfmemalloc:
        if pool.dma_sync:
            _dma_sync_for_device(pool, page, dma_sync_size)
        if not pool.destroyed:
            if (allow_direct or _napi_local(pool)) and _recycle_in_cache(pool, page):
                return
            if _recycle_in_ring(pool, page):
                return
            pool.statistics.recycle_ring_full += 1
    else:
        pool.statistics.recycle_released_refcnt += 1
    if pool.checker is not None:
        pool.checker.pool_taken(page)
    _return_page(pool, page)


def page_pool_put_full_page(pool: PagePool, page: Page, allow_direct: bool) -> None:
    """:func:`page_pool_put_page` that syncs all of ``max_len``."""
    page_pool_put_page(pool, page, -1, allow_direct)


def page_pool_recycle_direct(pool: PagePool, page: Page) -> None:
    """:func:`page_pool_put_full_page` by the consumer."""
    page_pool_put_page(pool, page, -1, True)


def page_pool_get_dma_addr(page: Page) -> int:
    """Where the device finds the page."""
    return page.dma_addr


def page_pool_inflight(pool: PagePool) -> int:
    """Pages that the pool has taken and not given back: a signed difference of two 32-bit counters."""
    difference = (pool.hold_cnt - pool.release_cnt) & _U32
    return difference - (1 << 32) if difference >> 31 else difference


def page_pool_info(pool: PagePool) -> dict[str, int]:
    """What netlink's ``page-pool-get`` tells about a pool: pages and bytes in flight and, once it is destroyed, when
    that was, in seconds since start."""
    inflight = page_pool_inflight(pool)
    info = {"inflight": inflight, "inflight-mem": inflight * (pool.pages.page_size << pool.p.order)}
    if pool.destroyed:
        info["detach-time"] = pool.destroyed_at // 10**12
    return info


def page_pool_destroy(pool: PagePool) -> None:
    """Give up the pool. Pages still in use are unmapped now and freed as they come back; the pool is released with the
    last of them (the kernel finds them in the ring at its next try, up to a second later)."""
    if pool.destroyed:
        raise RuntimeError(f"{pool!r} was destroyed before")
    pool.destroyed = True
    pool.destroyed_at = pool.core.time
    _scrub(pool)
    if not _release(pool):
        pool.warned_at = pool.core.time
        pool.core.platform.at(pool.core.time + DEFER_TIME, lambda: _release_retry(pool))


def _refill_alloc_cache(pool: PagePool) -> Page | None:
    ring = pool.ring
    if not ring:
        pool.statistics.alloc_empty += 1
        return None
    cache = pool.alloc_cache
    node = pool.p.nid
    pulled = 0
    while ring and len(cache) < PP_ALLOC_CACHE_REFILL:
        page = ring.popleft()
        pulled += 1
        if page.nid != node:
            if pool.checker is not None:
                pool.checker.pool_taken(page)
            _return_page(pool, page)
            pool.statistics.alloc_waive += 1
            break
        cache.append(page)
    pool.spend(pool.op_refill, pulled)
    if not cache:
        return None
    pool.statistics.alloc_refill += 1
    return cache.pop()


def _alloc_pages_slow(pool: PagePool) -> Page | None:
    statistics = pool.statistics
    fresh: list[Page] = []
    if pool.p.order:
        page = pool.pages.alloc_pages(pool.p.order)
        if page is not None:
            fresh.append(page)
    else:
        pool.pages.alloc_pages_bulk(PP_ALLOC_CACHE_REFILL, fresh)
    cache = pool.alloc_cache
    for page in fresh:
        if pool.dma_map and not _dma_map(pool, page):
            pool.pages.put_page(page)
            continue
        pool.spend(pool.op_slow)
        page.pp = pool
        page.pp_ref_count = 1
        pool.hold_cnt = (pool.hold_cnt + 1) & _U32
        if pool.checker is not None:
            pool.checker.pool_put(pool.core, pool, page)
        cache.append(page)
    if not cache:
        return None
    if pool.p.order:
        statistics.alloc_slow_high_order += 1
    else:
        statistics.alloc_slow += 1
    return cache.pop()


def _dma_map(pool: PagePool, page: Page) -> bool:
    params = pool.p
    dma_address = dma_map_page(params.dev, page, 0, page.size, params.dma_dir)
    if dma_mapping_error(params.dev, dma_address):
        return False
    page.dma_addr = dma_address
    pool.mapped[page] = None
    if pool.dma_sync:
        _dma_sync_for_device(pool, page, params.max_len)
    return True


def _dma_sync_for_device(pool: PagePool, page: Page, size: int) -> None:
    params = pool.p
    size = params.max_len if size < 0 or size > params.max_len else size
    dma_sync_single_for_device(params.dev, page.dma_addr + params.offset, size, params.dma_dir)


def _dma_unmap(pool: PagePool, page: Page) -> None:
    if pool.mapped.pop(page, page) is None:
        dma_unmap_page(pool.p.dev, page.dma_addr, page.size, pool.p.dma_dir)
        page.dma_addr = 0


def _napi_local(pool: PagePool) -> bool:
    core, napi = pool.core, pool.p.napi
    in_softirq = core.softirq.disabled and not core.in_hardirq  # a process with softirqs disabled is in it, too
    return napi is not None and in_softirq and napi.list_owner == core.index


def _recycle_in_cache(pool: PagePool, page: Page) -> bool:
    if len(pool.alloc_cache) == PP_ALLOC_CACHE_SIZE:
        pool.statistics.recycle_cache_full += 1
        return False
    pool.alloc_cache.append(page)
    pool.statistics.recycle_cached += 1
    pool.spend(pool.op_put_direct)
    return True


def _recycle_in_ring(pool: PagePool, page: Page) -> bool:
    pool.ring_lock.acquire(pool.core)
    room = len(pool.ring) < pool.ring_size
    if room:
        pool.ring.append(page)
        pool.statistics.recycle_ring += 1
        pool.spend(pool.op_put_ring)
    pool.ring_lock.release(pool.core)
    return room


def _return_page(pool: PagePool, page: Page) -> None:
    """Take a page out of the pool for good: unmap it and drop the pool's reference."""
    _dma_unmap(pool, page)
    page.pp = None
    page.pp_ref_count = 0
    pool.release_cnt = (pool.release_cnt + 1) & _U32
    pool.pages.put_page(page)
    if pool.destroyed:
        _release(pool)


def _scrub(pool: PagePool) -> None:
    """Empty cache and ring, and unmap what is still out there."""
    for held in (pool.alloc_cache, pool.ring):
        while held:
            page = held.pop()
            if pool.checker is not None:
                pool.checker.pool_taken(page)
            _return_page(pool, page)
    for page in list(pool.mapped):
        _dma_unmap(pool, page)
    pool.dma_sync = False


def _release(pool: PagePool) -> bool:
    inflight = page_pool_inflight(pool)
    if inflight < 0:
        pool.warnings.append(f"Negative({inflight}) inflight packet-pages")
    pool.released = inflight <= 0
    return pool.released


def _release_retry(pool: PagePool) -> None:
    if pool.released or _release(pool):
        return
    now = pool.core.platform.now
    if now - pool.warned_at >= DEFER_WARN_INTERVAL:
        pool.warned_at = now
        pool.warnings.append(f"stalled pool shutdown: {page_pool_inflight(pool)} inflight")
    pool.core.platform.at(now + DEFER_TIME, lambda: _release_retry(pool))
