# SPDX-License-Identifier: BSD-2-Clause
"""What user space sees of page_pools: netlink's ``page-pool-get`` and ``page-pool-stats-get``
(``net/core/page_pool_user.c``, ``Documentation/netlink/specs/netdev.yaml``).

The kernel shows those that serve an interface; here all are shown, and one without lacks ``ifindex``.
"""

from typing import Any

from driver_model.memory.page_pool.list import PagePools
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight


def page_pool_info(pool: PagePool) -> dict[str, int]:
    """One entry of ``page-pool-get``: ``id``, ``ifindex`` and ``napi-id`` if there are any now, pages and bytes in
    flight and, once it is destroyed and waits for pages, ``detach-time``: when that was, in seconds since start."""
    info = _identity(pool)
    if pool.napi is not None:
        info["napi-id"] = pool.napi.napi_id
    inflight = max(0, page_pool_inflight(pool))
    info |= {"inflight": inflight, "inflight-mem": inflight * pool.page_size}
    if pool.detach_time is not None:
        info["detach-time"] = pool.detach_time // 10**12
    return info


def page_pool_get(pools: PagePools) -> list[dict[str, int]]:
    """``page-pool-get``, dumped: all pools of a kernel by id, also those that wait for their pages."""
    return [page_pool_info(pool) for pool in pools]


def page_pool_stats_get(pools: PagePools) -> list[dict[str, Any]]:
    """``page-pool-stats-get``, dumped."""
    return [{"info": _identity(pool)} | pool.statistics.netlink() for pool in pools]


def _identity(pool: PagePool) -> dict[str, int]:
    identity = {"id": pool.id}
    if pool.p.netdev is not None:
        identity["ifindex"] = pool.p.netdev.ifindex
    return identity
