# SPDX-License-Identifier: BSD-2-Clause
"""page_pool's statistics, under the names of ethtool and of the netdev netlink family."""

from dataclasses import dataclass

_ETHTOOL = {
    "alloc_fast": "rx_pp_alloc_fast",
    "alloc_slow": "rx_pp_alloc_slow",
    "alloc_slow_high_order": "rx_pp_alloc_slow_ho",
    "alloc_empty": "rx_pp_alloc_empty",
    "alloc_refill": "rx_pp_alloc_refill",
    "alloc_waive": "rx_pp_alloc_waive",
    "recycle_cached": "rx_pp_recycle_cached",
    "recycle_cache_full": "rx_pp_recycle_cache_full",
    "recycle_ring": "rx_pp_recycle_ring",
    "recycle_ring_full": "rx_pp_recycle_ring_full",
    "recycle_released_refcnt": "rx_pp_recycle_released_ref",
}


@dataclass(slots=True)
class AllocStatistics:
    """``struct page_pool_alloc_stats``, and what the kernel does not have."""

    fast: int = 0  #: allocations from the cache
    slow: int = 0  #: order-0 allocations that went to the page allocator; one for each batch
    slow_high_order: int = 0  #: the same, of higher order
    empty: int = 0  #: the ring was empty, so the slow path was taken
    refill: int = 0  #: allocations that filled the cache from the ring
    waive: int = 0  #: pages from the ring that were given up because they lie on another node
    limited: int = 0  #: allocations that the circuit breaker refused
    shrunk: int = 0  #: pages that the shrinker gave back


@dataclass(slots=True)
class RecycleStatistics:
    """``struct page_pool_recycle_stats``. The system pools of a kernel share one."""

    cached: int = 0  #: pages put into the cache
    cache_full: int = 0  #: the cache was full, so the ring was tried
    ring: int = 0  #: pages put into the ring
    ring_full: int = 0  #: pages freed because the ring was full; in a bulk put, once for all of them
    released_refcnt: int = 0  #: pages freed because somebody else still used them, or of the emergency reserve


@dataclass(frozen=True, slots=True)
class PagePoolStatistics:
    """Counters of one pool at one time (``page_pool_get_stats``); what each counts, the two classes above say.

    The last two are not the kernel's, and appear under none of its names.
    """

    alloc_fast: int
    alloc_slow: int
    alloc_slow_high_order: int
    alloc_empty: int
    alloc_refill: int
    alloc_waive: int
    recycle_cached: int
    recycle_cache_full: int
    recycle_ring: int
    recycle_ring_full: int
    recycle_released_refcnt: int
    alloc_limited: int
    shrunk: int

    @classmethod
    def of(cls, alloc: AllocStatistics, recycle: RecycleStatistics) -> "PagePoolStatistics":
        """What both halves say now."""
        return cls(
            alloc.fast,
            alloc.slow,
            alloc.slow_high_order,
            alloc.empty,
            alloc.refill,
            alloc.waive,
            recycle.cached,
            recycle.cache_full,
            recycle.ring,
            recycle.ring_full,
            recycle.released_refcnt,
            alloc.limited,
            alloc.shrunk,
        )

    def ethtool(self) -> dict[str, int]:
        """Names as ``ethtool -S`` shows them."""
        return {shown: getattr(self, name) for name, shown in _ETHTOOL.items()}

    def netlink(self) -> dict[str, int]:
        """Names of ``page-pool-stats-get`` (``Documentation/netlink/specs/netdev.yaml``)."""
        return {name.replace("_", "-"): getattr(self, name) for name in _ETHTOOL}
