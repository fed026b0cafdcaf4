# SPDX-License-Identifier: BSD-2-Clause
"""Reclaim: pages of the page cache, and what shrinkers give back, when free memory runs low (``mm/vmscan.c``)."""

from functools import partial
from typing import TYPE_CHECKING, Protocol

from driver_model.memory.pages.vmstat import VmStat

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.cpu.scheduler import Task
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.zone import Zone

DEF_PRIORITY = 12  #: reclaim looks at ``size >> priority`` pages, and comes down from here
SWAP_CLUSTER_MAX = 32  #: pages that an allocation reclaims before it tries again
SHRINK_BATCH = 128  #: pages that a shrinker is asked for at once
DEFAULT_SEEKS = 2  #: what it costs to make an object again, against a page of the page cache
MAX_RECLAIM_RETRIES = 16  #: rounds without progress after which reclaim is given up


class Shrinker(Protocol):
    """Who holds pages that it can do without (``struct shrinker``). It counts in pages; it must not allocate."""

    name: str

    def count_objects(self) -> int:
        """Pages that it could give back now."""

    def scan_objects(self, core: "Core", count: int) -> int:
        """Give back up to so many pages, on this core; how many were."""


class Shrinkers:
    """The registered shrinkers of a zone, and what each was not asked for yet because it was too little."""

    def __init__(self, vmstat: VmStat) -> None:
        self._vmstat = vmstat
        self._deferred: dict[Shrinker, int] = {}

    def register(self, shrinker: Shrinker) -> None:
        """Ask it from now on."""
        if shrinker in self._deferred:
            raise ValueError(f"Shrinker {shrinker.name!r} is registered already")
        self._deferred[shrinker] = 0

    def unregister(self, shrinker: Shrinker) -> None:
        """Ask it no more."""
        if shrinker not in self._deferred:
            raise ValueError(f"Shrinker {shrinker.name!r} is not registered")
        del self._deferred[shrinker]

    def shrink(self, core: "Core", priority: int) -> int:
        """``shrink_slab``: ask each for ``4 >> priority`` of its pages by its seeks, in batches; pages given back.

        What does not fill a batch, unless it is all that there is, waits for the next time.
        """
        freed = 0
        for shrinker in list(self._deferred):
            if shrinker not in self._deferred:
                continue  # it left while another one was asked
            freeable = shrinker.count_objects()
            if not freeable:
                continue
            waiting, self._deferred[shrinker] = self._deferred[shrinker], 0
            share = (freeable >> priority) * 4 // DEFAULT_SEEKS
            left = min((waiting >> priority) + share, 2 * freeable)
            asked = 0
            while left and (left >= SHRINK_BATCH or left >= freeable):
                count = min(SHRINK_BATCH, left)
                freed += shrinker.scan_objects(core, count)
                asked += count
                left -= count
            self._vmstat.slabs_scanned += asked
            if shrinker in self._deferred:
                self._deferred[shrinker] = min(max(waiting + share - asked, 0), 2 * freeable)
        self._vmstat.slabs_reclaimed += freed
        return freed


def shrink_node(pages: "PageAllocator", priority: int, target: int, *, kswapd: bool) -> int:
    """Reclaim at a priority, on one core: up to ``target`` pages of the page cache, and what shrinkers give; how many.

    Each page that comes back costs ``page.reclaim``, beside what its owner pays to free it.
    """
    zone, vmstat = pages.zone, pages.zone.vmstat
    scanned = stolen = 0
    if zone.page_cache is not None:
        count = min(len(zone.page_cache) >> priority, target)
        scanned, stolen = zone.page_cache.shrink_list(pages, count)
    if kswapd:
        vmstat.pgscan_kswapd += scanned
        vmstat.pgsteal_kswapd += stolen
    else:
        vmstat.pgscan_direct += scanned
        vmstat.pgsteal_direct += stolen
    freed = stolen + zone.shrinkers.shrink(pages.core, priority)
    pages.core.spend(pages.op_reclaim, freed)
    return freed


def try_to_free_pages(pages: "PageAllocator") -> int:
    """Direct reclaim, in the process that wants memory: pages given back, 32 or more unless there are not so many."""
    zone, core = pages.zone, pages.core
    zone.vmstat.allocstall += 1
    task = core.scheduler.current
    zone.memalloc.add(task)
    freed = 0
    for priority in range(DEF_PRIORITY, -1, -1):
        freed += shrink_node(pages, priority, SWAP_CLUSTER_MAX - freed, kswapd=False)
        core.cond_resched()
        if freed >= SWAP_CLUSTER_MAX:
            break
    zone.memalloc.discard(task)
    return freed


class Kswapd:
    """The process that reclaims in the background, from when free memory falls to the low watermark until it is above
    high again.

    It runs on the first core that has an allocator, from the first :meth:`wake` on. A round comes down from priority 12
    to 1, and ends with that core's lists drained (which the kernel leaves: they are large against the simulated
    memory). After 16 rounds in which free memory did not grow it is not woken any more until an allocation reclaims by
    itself with success, a shrinker joins, the page cache grows, or free memory is above high.
    """

    def __init__(self, zone: "Zone") -> None:
        self._zone = zone
        self._task: Task | None = None
        self._awake = False
        self.failures = 0  #: rounds in a row that won nothing (``kswapd_failures``)

    @property
    def awake(self) -> bool:
        """It reclaims, or is about to."""
        return self._awake

    def wake(self, by: "PageAllocator") -> None:
        """``wakeup_kswapd``: charges ``page.wake_kswapd`` where it is asleep, has a chance, and memory is low."""
        zone = self._zone
        if self._awake or self.failures >= MAX_RECLAIM_RETRIES or zone.free_pages > zone.high:
            return
        self._awake = True
        zone.vmstat.kswapd_wake += 1
        by.core.spend(by.op_wake_kswapd)
        pages = zone.allocators[0]
        if pages is by:
            self._start(pages)
        else:
            by.core.sync()
            pages.core.interrupt(partial(self._start, pages))

    def _start(self, pages: "PageAllocator") -> None:
        if self._task is None:
            self._task = pages.core.spawn("kswapd0", partial(self._daemon, pages))
        else:
            pages.core.scheduler.wake(self._task)

    def _daemon(self, pages: "PageAllocator") -> None:
        core = pages.core
        while True:
            core.cond_resched()
            while self.failures < MAX_RECLAIM_RETRIES and self._zone.free_pages <= self._zone.high:
                self._balance(pages)
            self._awake = False
            core.scheduler.sleep()

    def _balance(self, pages: "PageAllocator") -> None:
        """``balance_pgdat``: one round."""
        zone = self._zone
        zone.vmstat.pageoutrun += 1
        task = pages.core.scheduler.current
        zone.memalloc.add(task)
        before = zone.free_pages
        for priority in range(DEF_PRIORITY, 0, -1):
            shrink_node(pages, priority, max(zone.high, SWAP_CLUSTER_MAX), kswapd=True)
            pages.core.cond_resched()
            if zone.free_pages > zone.high:
                break
        else:
            pages.drain()
        zone.memalloc.discard(task)
        self.failures = 0 if zone.free_pages > before else self.failures + 1
