# SPDX-License-Identifier: BSD-2-Clause
"""Counters of a zone under the names of ``/proc/vmstat``."""

from dataclasses import dataclass


@dataclass(slots=True)
class VmStat:
    """What reclaim and compaction did."""

    allocstall: int = 0  #: allocations that reclaimed by themselves
    pageoutrun: int = 0  #: rounds of kswapd
    kswapd_wake: int = 0  #: how often kswapd was woken (a tracepoint in the kernel, ``mm_vmscan_wakeup_kswapd``)
    pgscan_kswapd: int = 0  #: pages of the page cache that kswapd looked at
    pgscan_direct: int = 0  #: that allocations looked at
    pgsteal_kswapd: int = 0  #: pages of the page cache that kswapd gave back
    pgsteal_direct: int = 0  #: that allocations gave back
    slabs_scanned: int = 0  #: pages that shrinkers were asked for
    slabs_reclaimed: int = 0  #: pages that shrinkers gave back
    compact_stall: int = 0  #: allocations that compacted by themselves, or would have if that had not been deferred
    compact_success: int = 0  #: of those, got their block
    compact_fail: int = 0  #: of those, did not
    compact_deferred: int = 0  #: allocations that left it, because it had failed before
    compact_migrate_scanned: int = 0  #: pages that the migration scanner looked at
    compact_free_scanned: int = 0  #: free pages that were taken as targets
    compact_isolated: int = 0  #: pages taken off the page cache's list to be moved
    pgmigrate_success: int = 0  #: pages moved
