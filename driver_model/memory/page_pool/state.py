# SPDX-License-Identifier: BSD-2-Clause
"""``struct page_pool``: what its functions share."""

from collections import deque
from collections.abc import Callable
from typing import Any

from driver_model.cpu.locks import SpinLock
from driver_model.memory.page_pool.checker import PagePoolChecker
from driver_model.memory.page_pool.params import (
    PP_FLAG_DMA_MAP,
    PP_FLAG_DMA_SYNC_DEV,
    PP_FLAG_SYSTEM_POOL,
    PP_RING_DEFAULT,
    PP_RING_MAX,
    PagePoolParams,
)
from driver_model.memory.page_pool.stats import AllocStatistics, PagePoolStatistics, RecycleStatistics
from driver_model.memory.pages.page import Page

_U32 = (1 << 32) - 1


class PagePool:
    """``struct page_pool``; made by :func:`driver_model.memory.page_pool.pool.page_pool_create`. Only the functions of
    this package change it.

    All calls are made by the core of ``p.dev``.

    Attributes
    ----------
    p : its parameters; ``nid`` and ``napi`` are as they are now
    id : its number among the kernel's pools
    cpuid : the core whose softirqs are its consumer, whatever NAPI they poll; -1 for none
    page_size : bytes of a page of its order
    alloc_cache, ring : pages that nobody uses: the consumer's, last in first out; and everybody's, first in first out
    mapped : pages that the device may reach, beside those of a provider
    frag_page, frag_offset, frag_users : the page that fragments are cut from, where the next begins, and how many it
        has given
    hold_cnt, release_cnt : pages that joined and that left, modulo 2**32
    tripped : the circuit breaker refuses allocations
    warnings : what a kernel would have written to its log about this pool
    destroyed : nobody has it any more
    detach_time : picoseconds; when it was destroyed with pages in flight; None otherwise
    outstanding : pages of a pool that maps, and that were in use when it was destroyed
    released : it is empty and gone
    """

    __slots__ = (
        "alloc_cache",
        "alloc_stats",
        "checker",
        "core",
        "cpuid",
        "defer_warn",
        "destroyed",
        "detach_time",
        "disconnect",
        "dma_map",
        "dma_sync",
        "frag_offset",
        "frag_page",
        "frag_users",
        "hold_cnt",
        "id",
        "mapped",
        "napi",
        "nid",
        "op_alloc",
        "op_atomic",
        "op_frag_alloc",
        "op_frag_put",
        "op_put_direct",
        "op_put_page",
        "op_put_ring",
        "op_refill",
        "op_slow",
        "outstanding",
        "p",
        "page_size",
        "pages",
        "provider",
        "put_page_recycles",
        "recycle_put_page",
        "recycle_stats",
        "release_cnt",
        "released",
        "ring",
        "ring_lock",
        "ring_size",
        "shrinker",
        "spend",
        "tripped",
        "try_release",
        "user_cnt",
        "warnings",
        "xdp_mem_id",
    )

    def __init__(self, params: PagePoolParams, cpuid: int, put_page: Callable[["PagePool", Page], None]) -> None:
        params.check()
        self.p = params
        self.core = core = params.dev.core
        self.pages = params.dev.pages
        self.cpuid = cpuid
        self.nid = params.nid
        self.napi: Any = params.napi
        self.page_size = self.pages.page_size << params.order
        self.dma_map = bool(params.flags & PP_FLAG_DMA_MAP)
        self.dma_sync = bool(params.flags & PP_FLAG_DMA_SYNC_DEV)
        self.provider = params.provider
        self.alloc_cache: list[Page] = []
        self.ring: deque[Page] = deque()
        self.ring_size = min(params.pool_size, PP_RING_MAX) or PP_RING_DEFAULT
        self.ring_lock = SpinLock("page_pool ring")
        self.mapped: dict[Page, None] = {}
        self.frag_page: Page | None = None
        self.frag_offset = 0
        self.frag_users = 0
        self.hold_cnt = 0
        self.release_cnt = 0
        self.tripped = False
        self.shrinker: Any = None
        self.put_page_recycles = params.put_page_recycles
        #: where ``PageAllocator.put_page`` sends a page of this pool, if ``put_page_recycles``
        self.recycle_put_page: Callable[[Page], None] = lambda page: put_page(self, page)
        self.alloc_stats = AllocStatistics()
        self.recycle_stats = RecycleStatistics()
        if params.flags & PP_FLAG_SYSTEM_POOL:
            self.recycle_stats = params.dev.page_pools.system_recycle_stats
        self.warnings: list[str] = []
        self.user_cnt = 1
        self.disconnect: Callable[[PagePool], None] | None = None
        self.xdp_mem_id = 0
        self.destroyed = False
        self.detach_time: int | None = None
        self.defer_warn = 0
        self.outstanding: dict[Page, None] = {}
        self.try_release: Callable[[], object] | None = None
        self.released = False
        self.spend: Callable[..., None] = core.spend
        self.op_alloc = core.op("page_pool.alloc_fast")
        self.op_refill = core.op("page_pool.alloc_ring")
        self.op_slow = core.op("page_pool.slow")
        self.op_put_direct = core.op("page_pool.put_direct")
        self.op_put_ring = core.op("page_pool.put_ring")
        self.op_frag_alloc = core.op("page_pool.frag_alloc")
        self.op_frag_put = core.op("page_pool.frag_put")
        self.op_put_page = core.op("page_pool.put_page")
        self.op_atomic = core.op("atomic")
        self.checker = None if params.dev.checker is None else PagePoolChecker(self, params.dev.checker)
        self.id = 0

    @property
    def statistics(self) -> PagePoolStatistics:
        """Its counters now."""
        return PagePoolStatistics.of(self.alloc_stats, self.recycle_stats)

    def __repr__(self) -> str:
        return f"page_pool {self.id}"


def page_pool_inflight(pool: PagePool) -> int:
    """Pages that the pool has taken and not given back: a signed difference of two 32-bit counters."""
    difference = (pool.hold_cnt - pool.release_cnt) & _U32
    return difference - (1 << 32) if difference >> 31 else difference


def page_pool_set_pp_info(pool: PagePool, page: Page) -> None:
    """A page joins the pool: it has one user, and is in flight."""
    page.pp = pool
    page.pp_ref_count = 1
    pool.hold_cnt = (pool.hold_cnt + 1) & _U32
    if pool.checker is not None:
        pool.checker.joined(page)


def page_pool_clear_pp_info(page: Page) -> None:
    """A page is no pool's any more."""
    page.pp = None
    page.pp_ref_count = 0


def page_pool_napi_local(pool: PagePool) -> bool:
    """This is the context in which the pool's consumer runs, so that it cannot come in between: a softirq, or a process
    with softirqs disabled, on the core that polls the pool's NAPI instance now, or that is the pool's."""
    core = pool.core
    if core.in_hardirq or not core.softirq.disabled:
        return False
    if pool.cpuid == core.index:
        return True
    napi = pool.napi
    return napi is not None and napi.list_owner == core.index
