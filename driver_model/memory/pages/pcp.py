# SPDX-License-Identifier: BSD-2-Clause
"""A core's own lists of free pages in front of the zone (``struct per_cpu_pages``)."""

from typing import TYPE_CHECKING

from driver_model.memory.pages.page import Page
from driver_model.memory.pages.zone import PAGE_ALLOC_COSTLY_ORDER, Zone

if TYPE_CHECKING:
    from driver_model.cpu.core import Core


class PerCpuPages:
    """Free blocks by order, the one used last at the end; those of single pages are :attr:`single`.

    It refills an empty list by a batch, and gives a batch back when all lists together have come to the zone's
    ``pcp_high``: ``page.rmqueue`` or ``page.free_one`` for each block, under the zone's lock. Orders above the zone's
    ``pcp_order`` have no list: such a block goes from and to the zone under its lock, for ``page.alloc.orderN`` or
    ``page.free.orderN`` (those of order 3 for larger ones).

    A batch moves with interrupts off. Between that, what interrupts and other processes see is whole.

    Parameters
    ----------
    core : whose lists they are
    zone : where blocks come from and go to
    """

    def __init__(self, core: "Core", zone: Zone) -> None:
        self.core = core
        self.zone = zone
        self.lists: list[list[Page]] = [[] for _ in range(zone.pcp_order + 1)]
        self.single = self.lists[0]
        self.local: list[Page] = []  #: of the allocator without NUMA placement; it counts by itself
        self.larger = 0  #: pages on the lists of orders above 0
        orders = range(1, PAGE_ALLOC_COSTLY_ORDER + 1)
        self._op_alloc = [core.op("page.alloc"), *(core.op(f"page.alloc.order{order}") for order in orders)]
        self._op_free = [core.op("page.free"), *(core.op(f"page.free.order{order}") for order in orders)]
        self._op_rmqueue = core.op("page.rmqueue")
        self._op_free_one = core.op("page.free_one")

    @property
    def count(self) -> int:
        """Pages on all lists."""
        return len(self.single) + self.larger + len(self.local)

    def charge_alloc(self, order: int) -> None:
        """What an allocation of an order costs, beside batches and the lock."""
        self.core.spend(self._op_alloc[0 if order < len(self.lists) else min(order, PAGE_ALLOC_COSTLY_ORDER)])

    def rmqueue(self, order: int) -> Page | None:
        """A block from its list, refilled if it is empty, or from the zone; None where the zone has none."""
        if order < len(self.lists):
            blocks = self.lists[order]
            page = blocks.pop() if blocks else self.rmqueue_bulk(blocks, order)
            if order and page is not None:
                self.larger -= 1 << order
        else:
            with self.core.irq_save():
                self.zone.acquire(self.core, order)
                page = self.zone.take(order)
                self.zone.lock.release(self.core)
        if page is not None:
            page.pfmemalloc = False
        return page

    def rmqueue_bulk(self, blocks: list[Page], order: int) -> Page | None:
        """Refill an empty list with a batch of blocks, in the zone's order, and take the first."""
        zone, core = self.zone, self.core
        with core.irq_save():
            if not blocks:  # an interrupt may have freed some as the region began
                zone.acquire(core, order)
                batch = max(zone.pcp_batch >> order, min(zone.pcp_batch, 2))
                while len(blocks) < batch and (page := zone.take(order)) is not None:
                    blocks.append(page)
                core.spend(self._op_rmqueue, len(blocks))
                zone.lock.release(core)
                blocks.reverse()
                if order:
                    self.larger += len(blocks) << order
            return blocks.pop() if blocks else None

    def free_block(self, page: Page) -> None:
        """Give a block of order 1 or more back."""
        core, order = self.core, page.order
        if order < len(self.lists):
            core.spend(self._op_free[0])
            self.lists[order].append(page)
            self.larger += 1 << order
            if len(self.single) + self.larger >= self.zone.pcp_high:
                self.free_bulk(order)
        else:
            core.spend(self._op_free[min(order, PAGE_ALLOC_COSTLY_ORDER)])
            with core.irq_save():
                self.zone.acquire(core, order)
                self.zone.give(page, order)
                self.zone.lock.release(core)

    def free_bulk(self, order: int) -> None:
        """Give a batch of pages back, those used longest ago, beginning with the list of an order
        (``free_pcppages_bulk``)."""
        left = self.zone.pcp_batch
        for each in [order, *(other for other in range(len(self.lists)) if other != order)]:
            count = min(len(self.lists[each]), -(-left // (1 << each)))
            if count:
                left -= count << each
                self._give(self, self.lists[each], count, each)
            if left <= 0:
                return

    def free_bulk_local(self) -> None:
        """Give a batch of the allocator without NUMA placement back."""
        self._give(self, self.local, self.zone.pcp_batch, 0)

    def drain(self, by: "PerCpuPages") -> None:
        """Give everything back, at the cost of another core, or of this one."""
        for order, blocks in [*enumerate(self.lists), (0, self.local)]:
            if blocks:
                self._give(by, blocks, len(blocks), order)

    def _give(self, by: "PerCpuPages", blocks: list[Page], count: int, order: int) -> None:
        """Give the first blocks of a list to the zone. They leave the list at once: on the way nobody finds them."""
        zone, core = self.zone, by.core
        cold = blocks[:count]
        del blocks[:count]
        if order:
            self.larger -= count << order
        with core.irq_save():
            zone.acquire(core, order)
            for page in cold:
                zone.give(page, order)
            core.spend(by._op_free_one, count)
            zone.lock.release(core)
        if zone.free_pages > zone.high:
            zone.kswapd.failures = 0
