# SPDX-License-Identifier: BSD-2-Clause
"""What a page_pool must keep to, checked with each call."""

from typing import TYPE_CHECKING, NamedTuple

from driver_model.memory.page_pool.params import PP_ALLOC_CACHE_SIZE
from driver_model.memory.pages.page import Page
from driver_model.memory.site import Site, caller, told

if TYPE_CHECKING:
    from driver_model.memory.dma.ownership import OwnershipChecker
    from driver_model.memory.page_pool.state import PagePool


class Taking(NamedTuple):
    """A page was taken out of its pool."""

    time: int
    site: Site

    def __str__(self) -> str:
        return f"taken at {told(self.site)}, {self.time} ps"


class PagePoolChecker:
    """Checks one pool, and reports to the ownership checker; the pool tells it what it does.

    Rules: ``double put``, ``put while mapped``, ``wrong pool`` (all the ownership checker's own), ``more puts than
    users``, ``put in a hardirq``, ``cache outside its consumer``, ``cached page in use``, ``taken twice``, ``cache
    overfull``, ``ring overfull``, ``not synced before it is published``, ``synced twice``, ``negative in flight``,
    ``released with pages``, ``use of a destroyed pool``, ``fragments overlap``, ``truesize below backing``.

    The consumer's context is a softirq, or a process with softirqs disabled, on the pool's core, while no other core
    polls its NAPI instance; and any but a hardirq while that is disabled, or if there is none and no ``cpuid``.

    A page of the emergency reserve may come from the page allocator, and then be in the cache, but never come back.

    Truesize is known to be too small only where all fragments of a page had one size: then each time.

    Parameters
    ----------
    pool : whose
    ownership : takes the reports, and knows what all pools hold
    """

    def __init__(self, pool: "PagePool", ownership: "OwnershipChecker") -> None:
        self._pool = pool
        self._core = pool.core
        self._ring_size = pool.ring_size
        self._maps = pool.dma_map and pool.provider is None
        self._ownership = ownership
        self._softirq = pool.core.softirq
        self._members: dict[Page, tuple[int, Site] | None] = {}
        self._synced: set[Page] = set()
        self._cut: Page | None = None
        self._cut_sizes: set[int] = set()
        self._cut_end = self._cut_sum = 0

    @property
    def members(self) -> dict[Page, Taking | None]:
        """Pages in flight, and who took each last."""
        return {page: taking and Taking(*taking) for page, taking in self._members.items()}

    def out(self) -> dict[Page, Taking]:
        """Pages in flight that are not in the pool, and who has each."""
        pooled = self._ownership.pooled
        return {page: taking for page, taking in self.members.items() if taking and pooled(page) is None}

    # Pages join and leave

    def joined(self, page: Page) -> None:
        """A page was mapped, and is the pool's."""
        self._synced.discard(page)
        self._members[page] = None
        self._ownership.pool_put(self._core, self._pool, page)

    def left(self, page: Page) -> None:
        """A page is no longer the pool's."""
        if self._members.pop(page, self) is self:
            self._report("negative in flight", f"{self._story(page)}, which had left before")

    def released(self) -> None:
        """The pool is gone."""
        for page, taking in self.members.items():
            self._report("released with pages", f"{self._story(page)}, {taking}")
            return

    # Pages are taken and put

    def taken(self, page: Page) -> None:
        """A page is handed out."""
        pool = self._pool
        self._consumer("allocation")
        if (
            page.refcount != 1
            or page.pp_ref_count != 1
            or page.pp is not pool
            or page.pfmemalloc
            or (self._maps and page not in pool.mapped)
        ):
            self._in_use(page)
        if self._ownership.pool_taken(page) is None:
            self._report("taken twice", f"{self._story(page)}, {self._taking(page)}")
        self._members[page] = self._core.time, caller(3)

    def put(self, page: Page) -> None:
        """The last user of a page puts it."""
        if self._core.in_hardirq:
            self._report("put in a hardirq", self._story(page))
        self._ownership.pool_put(self._core, self._pool, page)
        if page.refcount == 1 and page.pp is self._pool:
            own = page in self._pool.mapped or self._pool.provider is not None
            self._ownership.shared(page, int(own))

    def belongs(self, page: Page) -> None:
        """Somebody puts a page that has other users, or none."""
        if page.pp is not self._pool:
            self._report("wrong pool", f"{self._story(page)} belongs to {page.pp!r}")

    def overdrawn(self, page: Page) -> None:
        """A page has been put more often than it had users."""
        self._report("more puts than users", f"{self._story(page)}: {page.pp_ref_count} users, {self._taking(page)}")

    def synced(self, page: Page) -> None:
        """Sync for the device."""
        if page in self._synced:
            self._report("synced twice", f"{self._story(page)}, put at {self._put_at(page)}")
        elif page.pp_ref_count > 1:
            self._report("synced twice", f"{self._story(page)}: the last of {page.pp_ref_count} users syncs")
        self._synced.add(page)

    def cached(self, page: Page) -> None:
        """A page went into the cache."""
        self._consumer("direct put")
        if len(self._pool.alloc_cache) > PP_ALLOC_CACHE_SIZE:
            self._report("cache overfull", f"{self._story(page)}: {len(self._pool.alloc_cache)} pages")
        self._published(page)

    def published(self, page: Page) -> None:
        """A page went into the ring."""
        if len(self._pool.ring) > self._ring_size:
            self._report("ring overfull", f"{self._story(page)}: {len(self._pool.ring)} of {self._ring_size} pages")
        self._published(page)

    def discarded(self, page: Page) -> None:
        """A page that nobody has will leave."""
        self._synced.discard(page)
        self._ownership.pool_taken(page)

    # Fragments

    def fragment(self, page: Page, offset: int, truesize: int) -> None:
        """A fragment was cut."""
        if page is not self._cut:
            self._cut, self._cut_end, self._cut_sum = page, 0, 0
            self._cut_sizes.clear()
            self._synced.discard(page)
        if offset < self._cut_end:
            self._report(
                "fragments overlap",
                f"{self._story(page)}: {truesize} bytes at {offset}, but those before reach to {self._cut_end}",
            )
        self._cut_end = offset + truesize
        self._cut_sum += truesize
        self._cut_sizes.add(truesize)

    def drained(self, page: Page) -> None:
        """No more fragments are cut from a page."""
        if page is self._cut and len(self._cut_sizes) == 1 and self._cut_sum < page.size:
            self._report(
                "truesize below backing",
                f"{self._story(page)}: fragments of {min(self._cut_sizes)} bytes count {self._cut_sum} of {page.size}",
            )
        self._cut = None

    # Reports

    def _consumer(self, what: str) -> None:
        pool, core = self._pool, self._core
        napi = pool.napi
        if pool.destroyed:
            self._report("use of a destroyed pool", f"{what} from {pool!r} at {told(caller())}, {core.time} ps")
        if core.in_hardirq:
            where = "in a hardirq"
        elif napi is not None and napi.list_owner not in (core.index, -1):
            where = f"while core {napi.list_owner} polls"
        elif self._softirq.active or self._softirq.bh_count or (pool.cpuid < 0 if napi is None else napi.disabled):
            return
        else:
            where = "with softirqs on"
        self._report(
            "cache outside its consumer",
            f"{what} of {pool!r} at {told(caller())} on core {core.index} in {core.context}, {core.time} ps, {where}",
        )

    def _published(self, page: Page) -> None:
        if self._pool.dma_sync:
            if page not in self._synced:
                self._report("not synced before it is published", self._story(page))
            self._synced.discard(page)

    def _in_use(self, page: Page) -> None:
        pool = self._pool
        faults = [f"refcount {page.refcount}"] if page.refcount != 1 else []
        if page.pp_ref_count != 1:
            faults.append(f"pp_ref_count {page.pp_ref_count}")
        if page.pfmemalloc and self._members.get(page) is not None:
            faults.append("pfmemalloc")
        if page.pp is not pool:
            faults.append(f"of {page.pp!r}")
        if self._maps and page not in pool.mapped:
            faults.append("not mapped")
        if not faults:
            return
        self._report("cached page in use", f"{self._story(page)}, put at {self._put_at(page)}: {', '.join(faults)}")

    def _put_at(self, page: Page) -> str:
        site = self._ownership.pooled(page)
        return "no known place" if site is None else told(site)

    def _taking(self, page: Page) -> str:
        taking = self.members.get(page)
        return "taken by nobody" if taking is None else str(taking)

    def _story(self, page: Page) -> str:
        core = self._core
        return (
            f"{page} at {page.address:#x} of {self._pool!r} at {told(caller())} on core {core.index} in "
            f"{core.context}, {core.time} ps"
        )

    def _report(self, rule: str, message: str) -> None:
        self._ownership.report(rule, message)
