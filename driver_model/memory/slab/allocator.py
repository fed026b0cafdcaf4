# SPDX-License-Identifier: BSD-2-Clause
"""The slab allocator: ``kmem_cache_alloc``, ``kmalloc`` and their bulk forms, as SLUB implements them.

The functions carry the kernel's names and are methods of one core's view, because in C "this CPU" is implicit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from driver_model.memory.slab.kmalloc import SlabCaches
from driver_model.memory.slab.kmem_cache import KmemCache, SlabError, SlabObject, SlabPage
from driver_model.memory.slab.layout import get_order
from driver_model.memory.slab.slub import Slub

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.ownership import OwnershipChecker
    from driver_model.memory.pages.allocator import PageAllocator

LOOKAHEAD = 3  #: objects of other slabs at which the search for a detached freelist ends
REPORTED = 8  #: objects that a report of what remains in a cache names


class Slab:
    """The slab allocator as one core sees it.

    An allocation takes the core's freelist's top object, a free puts it back there if it is of the core's slab; all
    else goes the slow way of :class:`driver_model.memory.slab.slub.Slub`. Memory exhausted gives None, or 0 from bulk.

    Charges ``slab.alloc`` and ``slab.free`` for each object; in bulk ``slab.alloc_bulk`` and ``slab.free_bulk`` for
    each, and ``slab.alloc_bulk_call`` and ``slab.free_bulk_call`` once a call, the latter once for each detached
    freelist where there are such; ``slab.kmalloc`` beside for each object of kmalloc and kfree. What the slow way
    charges comes on top.

    Raises :class:`SlabError` for an object that is free already, of another cache than ``cache`` says, or of no slab.

    Parameters
    ----------
    core, pages : the core that runs the calls, and its page allocator
    caches : of the machine
    checker : told of each allocation and free, or None

    Attributes
    ----------
    detached_freelists : bulk free collects objects of one slab and frees them at once, as from Linux 4.4 on (commit
        d0ecd894e3d5); otherwise it takes the slow way object by object, as its first version did (fbd02630c6e3)
    """

    def __init__(
        self, core: "Core", pages: "PageAllocator", caches: SlabCaches, checker: "OwnershipChecker | None" = None
    ) -> None:
        self.core = core
        self.pages = pages
        self.caches = caches
        self.detached_freelists = True
        self._checker = None if checker is None else checker.slabs
        self._slub = Slub(core, pages, caches, checker)
        self._large = caches.large
        self._index = core.index
        self._spend = core.spend
        self._op_alloc = core.op("slab.alloc")
        self._op_free = core.op("slab.free")
        self._op_alloc_bulk = core.op("slab.alloc_bulk")
        self._op_alloc_bulk_call = core.op("slab.alloc_bulk_call")
        self._op_free_bulk = core.op("slab.free_bulk")
        self._op_free_bulk_call = core.op("slab.free_bulk_call")
        self._op_kmalloc = core.op("slab.kmalloc")

    # Objects of a cache

    def kmem_cache_alloc(self, cache: KmemCache) -> SlabObject | None:
        """An object of the cache, or None when memory is exhausted. Its bytes are what its last user left."""
        self._spend(self._op_alloc)
        c = cache.cpu_slab[self._index]
        if c.freelist:
            obj = c.freelist.pop()
            c.statistics.alloc_fastpath += 1
        else:
            slow = self._slub.slab_alloc(cache, c)
            if slow is None:
                return None
            obj = slow
        obj.in_use = True
        if self._checker is not None:
            self._checker.object_allocated(self.core, obj)
        return obj

    def kmem_cache_free(self, obj: SlabObject, cache: KmemCache | None = None) -> None:
        """Give an object back; where ``cache`` is given, it must be its."""
        self._release(obj, cache)
        self._spend(self._op_free)
        slab = obj.slab
        c = slab.cache.cpu_slab[self._index]
        if c.slab is slab:
            c.freelist.append(obj)
            c.statistics.free_fastpath += 1
        else:
            self._slub.slab_free(slab, [obj])

    def kmem_cache_alloc_bulk(self, cache: KmemCache, count: int, objects: list[SlabObject]) -> int:
        """Append ``count`` objects to ``objects`` and return it; or none of them and 0, when memory is exhausted."""
        if count < 0:
            raise ValueError(f"Count must be 0 or more, not {count!r}")
        self._spend(self._op_alloc_bulk_call)
        c = cache.cpu_slab[self._index]
        got: list[SlabObject] = []
        while (missing := count - len(got)) > 0:
            freelist = c.freelist
            if freelist:
                fast = freelist[: -missing - 1 : -1]
                del freelist[-missing:]
                self._spend(self._op_alloc_bulk, len(fast))
                got += fast
                continue
            self._spend(self._op_alloc_bulk)
            slow = self._slub.slab_alloc(cache, c)
            if slow is None:
                self._account_alloc(got)
                self.kmem_cache_free_bulk(got)
                return 0
            got.append(slow)
        self._account_alloc(got)
        objects += got
        return count

    def kmem_cache_free_bulk(self, objects: Sequence[SlabObject], cache: KmemCache | None = None) -> None:
        """Give objects back, of any caches; where ``cache`` is given, it must be theirs. The sequence stays as it
        is; where one is refused, all stay in use."""
        released = 0
        try:
            for obj in objects:
                self._release(obj, cache)
                released += 1
        except RuntimeError:
            for obj in objects[:released]:
                obj.in_use = True
            raise
        if self.detached_freelists:
            self._free_detached(objects)
        elif objects:
            self._spend(self._op_free_bulk_call)
            for obj in objects:
                self._spend(self._op_free_bulk)
                self._do_slab_free(obj.slab, [obj])

    def _free_detached(self, objects: Sequence[SlabObject]) -> None:
        left: list[SlabObject | None] = list(objects)
        size = len(left)
        while size:
            size, detached = self._build_detached_freelist(left, size)
            if detached:
                self._spend(self._op_free_bulk, len(detached))
                self._spend(self._op_free_bulk_call)
                self._do_slab_free(detached[0].slab, detached)

    @staticmethod
    def _build_detached_freelist(left: list[SlabObject | None], size: int) -> tuple[int, list[SlabObject]]:
        """Objects of one slab out of ``left[:size]``, the last one's, from its end; and how much of it may hold others.

        Taken ones become None. The search ends at the third object of another slab.
        """
        detached: list[SlabObject] = []
        slab: SlabPage | None = None
        lookahead = LOOKAHEAD
        first_skipped = 0
        while size:
            size -= 1
            obj = left[size]
            if obj is None:
                continue
            if slab is None:
                slab = obj.slab
            if obj.slab is slab:
                detached.append(obj)
                left[size] = None
                continue
            lookahead -= 1
            if not lookahead:
                break
            if not first_skipped:
                first_skipped = size + 1
        return first_skipped, detached

    # Memory of any size

    def kmalloc(self, size: int) -> SlabObject | None:
        """Memory of at least ``size`` bytes, from a cache of the next size or, beyond two pages, from the page
        allocator; or None when memory is exhausted. The object's ``size`` is what may be used (``ksize``). Raises
        ``ValueError`` for less than a byte, or more than the page allocator's largest block."""
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Size must be an integer, not {size!r}")
        if size < 1:
            raise ValueError(f"Size must be 1 or more, not {size!r}")
        self._spend(self._op_kmalloc)
        if size <= self.caches.kmalloc_max:
            return self.kmem_cache_alloc(self.caches.kmalloc_slab(size))
        page = self.pages.alloc_pages(get_order(size, self.caches.page_size))
        if page is None:
            return None
        obj = SlabPage(page, self._large, large=True).objects[0]
        obj.in_use = True
        return obj

    def kfree(self, obj: SlabObject) -> None:
        """Give back what kmalloc, or any cache, gave."""
        self._spend(self._op_kmalloc)
        if obj.cache is self._large:
            self._free_large(obj)
        else:
            self.kmem_cache_free(obj)

    def kfree_bulk(self, objects: Sequence[SlabObject]) -> None:
        """:meth:`kfree` of each, those of caches as :meth:`kmem_cache_free_bulk`."""
        self._spend(self._op_kmalloc, len(objects))
        for obj in objects:
            if obj.cache is self._large:
                self._free_large(obj)
        self.kmem_cache_free_bulk([obj for obj in objects if obj.cache is not self._large])

    def _free_large(self, obj: SlabObject) -> None:
        if not obj.in_use:
            self._refuse(obj, None)
        obj.in_use = False
        self.pages.put_page(obj.slab.page)

    # Caches

    def kmem_cache_shrink(self, cache: KmemCache) -> int:
        """Give back every slab of the cache without objects in use, those of all cores included; how many."""
        return self._slub.shrink(cache)

    def kmem_cache_destroy(self, cache: KmemCache) -> None:
        """Give back all of the cache. Raises :class:`SlabError` where objects are in use: they stay, and so does the
        cache."""
        self._slub.shrink(cache)
        objects = cache.objects_in_use
        if objects:
            named = [self._history(obj) for obj in objects[:REPORTED]]
            more = [f"{len(objects) - REPORTED} more"] if len(objects) > REPORTED else []
            raise SlabError(f"Objects remaining in {cache.name} on __kmem_cache_shutdown(): {'; '.join(named + more)}")
        cache.destroyed = True
        self.caches.caches.pop(cache, None)

    def drain(self) -> None:
        """Shrink every cache of the machine: what then is left of them has objects in use."""
        for cache in list(self.caches.caches):
            self._slub.shrink(cache)

    # Both

    def _do_slab_free(self, slab: SlabPage, objects: list[SlabObject]) -> None:
        """``do_slab_free``: objects of one slab go to this CPU's freelist, if it is its slab."""
        c = slab.cache.cpu_slab[self._index]
        if c.slab is slab:
            c.freelist += objects
            c.statistics.free_fastpath += 1
        else:
            self._slub.slab_free(slab, objects)

    def _account_alloc(self, objects: Sequence[SlabObject]) -> None:
        for obj in objects:
            obj.in_use = True
            if self._checker is not None:
                self._checker.object_allocated(self.core, obj)

    def _release(self, obj: SlabObject, cache: KmemCache | None) -> None:
        owner = obj.cache
        if not obj.in_use or owner is self._large or (cache is not None and owner is not cache):
            self._refuse(obj, cache)
        if self._checker is not None:
            self._checker.object_freed(self.core, obj)
        obj.in_use = False

    def _refuse(self, obj: SlabObject, cache: KmemCache | None) -> NoReturn:
        where = f"{obj} on core {self._index}"
        if not obj.in_use:
            if self._checker is not None:
                self._checker.double_free(self.core, obj)
            raise SlabError(f"Object already free: {where}")
        if obj.cache is self._large:
            raise SlabError(f"Object is not a Slab page: {where}")
        raise SlabError(f"Wrong slab cache: {where}, freed to {cache}")

    def _history(self, obj: SlabObject) -> str:
        return f"{obj.address:#x}" if self._checker is None else self._checker.history(obj)
