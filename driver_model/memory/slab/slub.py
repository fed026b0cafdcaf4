# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's slow paths, as one core runs them.

Code between two waits is atomic here, so what the kernel protects by switching interrupts off needs it only where the
core may wait: at a lock, at a shared line, in the page allocator. After each of them the CPU's state is looked at
again.
"""

from typing import TYPE_CHECKING

from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_NORETRY, GFP_NOWARN
from driver_model.memory.slab.kmalloc import SlabCaches
from driver_model.memory.slab.kmem_cache import KmemCache, KmemCacheCpu, SlabError, SlabObject, SlabPage

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.ownership import OwnershipChecker
    from driver_model.memory.pages.allocator import PageAllocator

SHRINK_PROMOTE_MAX = 32  #: slabs with more free objects than this stay at the tail when a cache is shrunk


class Slub:
    """``mm/slub.c`` behind the per-CPU freelist, Linux 4.6 to 6.6, on a machine of one node; memory of the emergency
    reserve is not kept apart.

    Charges ``slab.alloc_slow`` for each allocation that gets here and ``slab.free_slow`` for each object or detached
    freelist that does, whatever becomes of its slab; beside them ``slab.new`` and ``slab.discard`` (and what the page
    allocator charges) for slabs made and given up, ``atomic`` for each slab that moves between a CPU and the node, the
    node's lock, with ``irq.save`` where a free takes it, and the way of a slab's line from another core.

    Parameters
    ----------
    core, pages : the core that runs the calls, and its page allocator
    caches : of the machine
    checker : told of slabs and objects, or None
    """

    def __init__(
        self, core: "Core", pages: "PageAllocator", caches: SlabCaches, checker: "OwnershipChecker | None"
    ) -> None:
        self.core = core
        self.pages = pages
        self.caches = caches
        self._checker = None if checker is None else checker.slabs
        self._spend = core.spend
        self._op_alloc_slow = core.op("slab.alloc_slow")
        self._op_free_slow = core.op("slab.free_slow")
        self._op_new = core.op("slab.new")
        self._op_discard = core.op("slab.discard")
        self._op_move = core.op("atomic")
        self._op_irq = core.op("irq.save")

    # Allocation

    def slab_alloc(self, cache: KmemCache, c: KmemCacheCpu) -> SlabObject | None:
        """``___slab_alloc``: an object when the CPU's freelist is empty, or None when memory is exhausted.

        In this order: what others freed into the CPU's slab, the CPU's partial slabs, the node's, a new slab.
        """
        c.statistics.alloc_slowpath += 1
        self._spend(self._op_alloc_slow)
        while not c.freelist:
            if c.slab is not None:
                self._get_freelist(c, c.slab)
            elif c.partial:
                c.slab = c.partial.pop()
                c.statistics.cpu_partial_alloc += 1
            else:
                self._get_partial_node(cache, c)
                if c.slab is None and not self._new_slab(cache, c):
                    c.statistics.failed += 1
                    return None
        return c.freelist.pop()

    def _get_freelist(self, c: KmemCacheCpu, slab: SlabPage) -> None:
        """The slab's freelist becomes the CPU's; a slab that has none is full, and the CPU's no more."""
        slab.line.write(self.core)
        if c.slab is not slab or c.freelist:
            return
        if slab.freelist:
            c.freelist, slab.freelist = slab.freelist, c.freelist
            c.statistics.alloc_refill += 1
        else:
            slab.frozen = False
            c.slab = None
            c.statistics.deactivate_bypass += 1

    def _get_partial_node(self, cache: KmemCache, c: KmemCacheCpu) -> None:
        """The first of the node's partial slabs becomes the CPU's slab, some more go to its partial list: up to half of
        what that may hold."""
        if not cache.partial:
            return
        objects = slabs = 0
        with self.core.irq_save(), cache.list_lock.held(self.core):
            while cache.partial and (slabs if cache.partial_slabs else objects) <= cache.cpu_partial // 2:
                slab, _ = cache.partial.popitem(last=False)
                self._spend(self._op_move)
                slab.frozen = True
                objects += len(slab.freelist)
                if c.slab is None:
                    c.slab = slab
                    c.freelist, slab.freelist = slab.freelist, c.freelist
                    c.statistics.alloc_from_partial += 1
                else:
                    slabs += 1
                    self._push_cpu_partial(c, slab)
                    c.statistics.cpu_partial_node += 1

    def _new_slab(self, cache: KmemCache, c: KmemCacheCpu) -> bool:
        """A new slab becomes the CPU's; False when there is no memory. It is asked for without effort first, then, of
        the least order, as the kernel's GFP_ATOMIC. Whatever an interrupt made the CPU's slab meanwhile is flushed."""
        if cache.destroyed:
            raise SlabError(f"Allocation from {cache} on core {self.core.index}, which is destroyed")
        page = self.pages.alloc_pages(cache.order, GFP_ATOMIC | GFP_NOWARN | GFP_NORETRY)
        if page is None:
            page = self.pages.alloc_pages(cache.min_order)
            if page is None:
                return False
            c.statistics.order_fallback += 1
        self._spend(self._op_new)
        slab = SlabPage(page, cache)
        cache.slabs[slab] = None
        self.caches.caches[cache] = None
        if self._checker is not None:
            self._checker.slab_created(slab)
        while c.slab is not None:
            self._flush_slab(cache, c)
        c.statistics.alloc_slab += 1
        c.slab = slab
        c.freelist, slab.freelist = slab.freelist, c.freelist
        return True

    # Free

    def slab_free(self, slab: SlabPage, objects: list[SlabObject]) -> None:
        """``__slab_free``: objects of a slab that is not this CPU's go to the slab's own freelist, the last of them on
        top.

        A slab that was full until now goes to the CPU's partial list. One in the node's partial list that becomes empty
        is given back to the page allocator, if the node has others enough.
        """
        cache = slab.cache
        c = cache.cpu_slab[self.core.index]
        c.statistics.free_slowpath += 1
        slab.line.write(self.core)
        self._spend(self._op_free_slow)
        while self._last_in_use(slab, len(objects)):
            if self._free_last(cache, c, slab, objects):
                return
        self._free_some(cache, c, slab, objects)

    @staticmethod
    def _last_in_use(slab: SlabPage, count: int) -> bool:
        """Whether a slab in the node's partial list becomes empty by freeing so many objects."""
        return not slab.frozen and bool(slab.freelist) and slab.inuse == count

    def _free_some(self, cache: KmemCache, c: KmemCacheCpu, slab: SlabPage, objects: list[SlabObject]) -> None:
        was_full = not slab.freelist
        slab.freelist += objects
        if slab.frozen:
            c.statistics.free_frozen += 1
        elif was_full:
            slab.frozen = True
            c.statistics.cpu_partial_free += 1
            self._put_cpu_partial(cache, c, slab)

    def _free_last(self, cache: KmemCache, c: KmemCacheCpu, slab: SlabPage, objects: list[SlabObject]) -> bool:
        """Free into a slab that becomes empty by it; False, and nothing happened, when it does so no more once the lock
        is held."""
        discard = False
        self._spend(self._op_irq)
        with self.core.irq_save(), cache.list_lock.held(self.core):
            if not self._last_in_use(slab, len(objects)):
                return False
            slab.freelist += objects
            if len(cache.partial) >= cache.min_partial:
                discard = True
                del cache.partial[slab]
                c.statistics.free_remove_partial += 1
        if discard:
            self._discard_slab(cache, c, slab)
        return True

    def _discard_slab(self, cache: KmemCache, c: KmemCacheCpu, slab: SlabPage) -> None:
        c.statistics.free_slab += 1
        self._release_slab(cache, slab)

    def _release_slab(self, cache: KmemCache, slab: SlabPage) -> None:
        self._spend(self._op_discard)
        del cache.slabs[slab]
        if self._checker is not None:
            self._checker.slab_discarded(slab)
        self.pages.put_page(slab.page)

    # Partial slabs

    def _put_cpu_partial(self, cache: KmemCache, c: KmemCacheCpu, slab: SlabPage) -> None:
        """A slab that a free has frozen goes to the CPU's partial list; what was there goes to the node, if it was
        full."""
        drained: list[SlabPage] = []
        if c.partial:
            if cache.partial_slabs:
                full = len(c.partial) >= cache.cpu_partial
            else:
                full = c.partial[-1].pobjects > cache.cpu_partial
            if full:
                drained, c.partial = c.partial, drained
                c.statistics.cpu_partial_drain += 1
        self._push_cpu_partial(c, slab)
        if drained:
            self._unfreeze_partials(cache, c, drained)

    def _push_cpu_partial(self, c: KmemCacheCpu, slab: SlabPage) -> None:
        slab.pobjects = len(slab.freelist) + (c.partial[-1].pobjects if c.partial else 0)
        c.partial.append(slab)

    def _unfreeze_partials(self, cache: KmemCache, c: KmemCacheCpu, slabs: list[SlabPage]) -> None:
        """Slabs of a CPU's partial list go to the node's; empty ones are given back, if the node has others enough."""
        empty: list[SlabPage] = []
        self._spend(self._op_irq)
        with self.core.irq_save(), cache.list_lock.held(self.core):
            for slab in reversed(slabs):
                slab.line.write(self.core)
                self._spend(self._op_move)
                slab.frozen = False
                if not slab.inuse and len(cache.partial) >= cache.min_partial:
                    empty.append(slab)
                else:
                    cache.partial[slab] = None
                    c.statistics.free_add_partial += 1
        for slab in empty:
            c.statistics.deactivate_empty += 1
            self._discard_slab(cache, c, slab)

    def _flush_slab(self, cache: KmemCache, c: KmemCacheCpu) -> None:
        """``flush_slab`` and ``deactivate_slab``: the CPU's slab, with what is left of its freelist, goes to the node.

        It goes to the tail of the partial list if others freed objects of it meanwhile, else to the head.
        """
        slab, freelist = c.slab, c.freelist
        if slab is None:
            return
        c.slab, c.freelist = None, []
        c.statistics.cpuslab_flush += 1
        with self.core.irq_save(), cache.list_lock.held(self.core):
            slab.line.write(self.core)
            self._spend(self._op_move)
            remote_frees = bool(slab.freelist)
            slab.freelist += freelist
            slab.frozen = False
            discard = not slab.inuse and len(cache.partial) >= cache.min_partial
            if slab.freelist and not discard:
                cache.partial[slab] = None
                if not remote_frees:
                    cache.partial.move_to_end(slab, last=False)
        c.statistics.deactivate_remote_frees += remote_frees
        if discard:
            c.statistics.deactivate_empty += 1
            self._discard_slab(cache, c, slab)
        elif not slab.freelist:
            c.statistics.deactivate_full += 1
        elif remote_frees:
            c.statistics.deactivate_to_tail += 1
        else:
            c.statistics.deactivate_to_head += 1

    # Shrinking

    def flush_all(self, cache: KmemCache) -> None:
        """Every core gives its slabs to the node. The kernel asks each by an interrupt and waits; here the calling core
        does it for them."""
        for c in list(cache.cpu_slab.values()):
            self._flush_slab(cache, c)
            if c.partial:
                slabs, c.partial = c.partial, []
                self._unfreeze_partials(cache, c, slabs)

    def shrink(self, cache: KmemCache) -> int:
        """``__kmem_cache_shrink``: give back every empty slab, and sort the others, the fullest first. How many were
        given back, which no counter tells."""
        self.flush_all(cache)
        with self.core.irq_save(), cache.list_lock.held(self.core):
            empty = [slab for slab in cache.partial if not slab.inuse]
            partial = [slab for slab in cache.partial if slab.inuse]
            partial.sort(key=lambda slab: min(len(slab.freelist), SHRINK_PROMOTE_MAX + 1))
            cache.partial.clear()
            cache.partial.update(dict.fromkeys(partial))
        for slab in empty:
            self._release_slab(cache, slab)
        return len(empty)
