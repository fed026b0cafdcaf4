# SPDX-License-Identifier: BSD-2-Clause
"""The list of a kernel's page_pools (the xarray ``page_pools`` of ``net/core/page_pool_user.c``)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from driver_model.memory.page_pool.stats import RecycleStatistics

if TYPE_CHECKING:
    from driver_model.memory.page_pool.state import PagePool


class PagePools:
    """All pools of one kernel that are not released yet, by id, and what its system pools have recycled together.

    Ids count up from 1 and are never used twice.
    """

    def __init__(self) -> None:
        self.system_recycle_stats = RecycleStatistics()
        self._pools: dict[int, PagePool] = {}
        self._last = 0

    def add(self, pool: "PagePool") -> int:
        """``page_pool_list``: the new pool's id."""
        self._last += 1
        self._pools[self._last] = pool
        return self._last

    def remove(self, pool: "PagePool") -> None:
        """``page_pool_unlist``."""
        del self._pools[pool.id]

    def __iter__(self) -> Iterator["PagePool"]:
        return iter(list(self._pools.values()))

    def __len__(self) -> int:
        return len(self._pools)
