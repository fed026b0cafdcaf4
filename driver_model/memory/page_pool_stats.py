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
class PagePoolStatistics:
    """Counters of one pool, as in ``struct page_pool_stats``."""

    alloc_fast: int = 0  #: allocations from the cache
    alloc_slow: int = 0  #: order-0 allocations that went to the page allocator; one for each batch
    alloc_slow_high_order: int = 0  #: the same, of higher order
    alloc_empty: int = 0  #: the ring was empty, so the slow path was taken
    alloc_refill: int = 0  #: allocations that filled the cache from the ring
    alloc_waive: int = 0  #: pages from the ring that were given up because they lie on another node
    recycle_cached: int = 0  #: pages put into the cache
    recycle_cache_full: int = 0  #: the cache was full, so the ring was tried
    recycle_ring: int = 0  #: pages put into the ring
    recycle_ring_full: int = 0  #: pages freed because the ring was full
    recycle_released_refcnt: int = 0  #: pages freed because somebody else still used them

    def ethtool(self) -> dict[str, int]:
        """Names as ``ethtool -S`` shows them."""
        return {shown: getattr(self, name) for name, shown in _ETHTOOL.items()}

    def netlink(self) -> dict[str, int]:
        """Names of ``page-pool-stats-get`` (``Documentation/netlink/specs/netdev.yaml``)."""
        return {name.replace("_", "-"): getattr(self, name) for name in _ETHTOOL}
