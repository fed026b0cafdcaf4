# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's data: objects, slabs, and the caches that all cores share."""

from collections import OrderedDict
from dataclasses import dataclass, fields

from driver_model.cpu.lines import CacheLine
from driver_model.cpu.locks import SpinLock
from driver_model.memory.pages.page import PAGE_SIZE, Page
from driver_model.memory.slab import layout as slab_layout

CPUS = 8  #: CPUs of the machine, where nobody says otherwise; an order depends on them, not on the cores simulated


class SlabError(RuntimeError):
    """An object was given back that its caller does not hold, or a cache destroyed whose objects are in use."""


class SlabObject:
    """Memory for one object, made with its slab and gone with it.

    Attributes
    ----------
    address, size : physical address and bytes that may be used
    slab : the pages that it is cut from
    cache : whose object it is; ``kmalloc-large`` for what kmalloc took from the page allocator
    in_use : allocated
    """

    __slots__ = ("address", "cache", "in_use", "size", "slab")

    def __init__(self, address: int, size: int, slab: "SlabPage", cache: "KmemCache") -> None:
        self.address = address
        self.size = size
        self.slab = slab
        self.cache = cache
        self.in_use = False

    def __repr__(self) -> str:
        return f"object {self.address:#x} of {self.cache.name}"


class SlabPage:
    """``struct slab``: pages that are cut into objects (until Linux 5.16 it lay over ``struct page``).

    A slab is *frozen* while a CPU has it, as its own slab or in its partial list; otherwise it is in the node's partial
    list, or in none when it is full. Objects that the owning CPU may take without synchronisation are not in
    ``freelist``. The kernel links free objects through their own memory; here lists hold them, the next one last, and
    memory keeps its bytes.

    Parameters
    ----------
    page, cache : its memory, its cache
    large : it is no slab, but a large kmalloc: one object, all of the page

    Attributes
    ----------
    objects : all of them, ascending
    freelist : free objects that any CPU may take or add to, by a compare-and-exchange on :attr:`line`
    frozen : a CPU has it
    pobjects : free objects in the CPU's partial list from this slab to its end, as counted when it was put there
    line : the line of its freelist and counters
    """

    __slots__ = ("cache", "freelist", "frozen", "line", "objects", "page", "pobjects")

    def __init__(self, page: Page, cache: "KmemCache", *, large: bool = False) -> None:
        self.page = page
        self.cache = cache
        step = page.size if large else cache.size
        size = page.size if large else cache.object_size
        start = page.address
        self.objects = tuple(
            SlabObject(address, size, self, cache) for address in range(start, start + page.size - step + 1, step)
        )
        self.freelist = list(reversed(self.objects))
        self.frozen = True
        self.pobjects = 0
        self.line = CacheLine("slab")

    @property
    def inuse(self) -> int:
        """Objects that are not in the slab's own freelist."""
        return len(self.objects) - len(self.freelist)


@dataclass(slots=True)
class SlabStatistics:
    """``CONFIG_SLUB_STATS``, one CPU's, under the kernel's names.

    As in Linux 4.6 to 6.6, objects that bulk allocation takes from the CPU's freelist are not counted, and a detached
    freelist counts as one free.
    """

    alloc_fastpath: int = 0  #: from the CPU's freelist
    alloc_slowpath: int = 0  #: the CPU's freelist was empty
    free_fastpath: int = 0  #: to the CPU's freelist
    free_slowpath: int = 0  #: to the freelist of a slab that is not the CPU's
    free_frozen: int = 0  #: of those, to a slab that a CPU has
    free_add_partial: int = 0  #: slabs that went to the node's partial list
    free_remove_partial: int = 0  #: slabs that left it because they were empty
    alloc_from_partial: int = 0  #: slabs that became the CPU's from the node's partial list
    alloc_slab: int = 0  #: new slabs
    alloc_refill: int = 0  #: the slab's freelist became the CPU's
    free_slab: int = 0  #: slabs given back to the page allocator, but for those that a shrink finds empty
    cpuslab_flush: int = 0  #: the CPU's slab was taken from it
    deactivate_full: int = 0  #: of those, no object was free
    deactivate_empty: int = 0  #: slabs that a CPU gave up and no object was in use
    deactivate_to_head: int = 0  #: to the head of the node's partial list
    deactivate_to_tail: int = 0  #: to its tail
    deactivate_remote_frees: int = 0  #: of those, others had freed objects meanwhile
    deactivate_bypass: int = 0  #: the CPU's slab was used up, so nothing had to be moved
    order_fallback: int = 0  #: slabs of the least order, because there was no larger block
    cpu_partial_alloc: int = 0  #: slabs that became the CPU's from its partial list
    cpu_partial_free: int = 0  #: slabs that went to the CPU's partial list by a free
    cpu_partial_node: int = 0  #: slabs that went there from the node's partial list
    cpu_partial_drain: int = 0  #: the CPU's partial list was full, and went to the node
    failed: int = 0  #: allocations refused because memory was exhausted; not of the kernel's names


class KmemCacheCpu:
    """``struct kmem_cache_cpu``: what one CPU has of a cache.

    Attributes
    ----------
    slab, freelist : its slab, or None, and the objects that it may take from it without synchronisation
    partial : further slabs that it has, the next one last
    """

    __slots__ = ("freelist", "partial", "slab", "statistics")

    def __init__(self) -> None:
        self.slab: SlabPage | None = None
        self.freelist: list[SlabObject] = []
        self.partial: list[SlabPage] = []
        self.statistics = SlabStatistics()


class _PerCpu(dict[int, KmemCacheCpu]):
    def __missing__(self, index: int) -> KmemCacheCpu:
        c = self[index] = KmemCacheCpu()
        return c


class KmemCache:
    """``struct kmem_cache``: objects of one size, for all cores of a machine.

    Parameters
    ----------
    name : for messages
    object_size : bytes that a user needs
    align : power of two, 8 or more, that addresses are multiples of; 64 for the kernel's ``SLAB_HWCACHE_ALIGN``
    page_size : bytes of the kernel's page
    cpus : of the machine (``nr_cpu_ids``)
    partial_slabs : the limit of a CPU's partial list counts slabs, as from Linux 5.16 on, instead of free objects

    Attributes
    ----------
    size : bytes from one object to the next
    order, min_order : of a slab, and of one when memory is short: a single object fits
    min_partial : slabs in the node's partial list above which empty ones are given back
    cpu_partial : limit of a CPU's partial list, in free objects or in slabs
    cpu_slab : what each core has, by its index
    partial, list_lock : the node's partial list, head first, and its lock
    slabs : all of them
    """

    def __init__(
        self,
        name: str,
        object_size: int,
        align: int = slab_layout.WORD,
        *,
        page_size: int = PAGE_SIZE,
        cpus: int = CPUS,
        partial_slabs: bool = False,
    ) -> None:
        for what, value in (("Object size", object_size), ("Alignment", align), ("CPUs", cpus)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{what} of {name} must be an integer, not {value!r}")
        if not 0 < object_size <= page_size << slab_layout.MAX_ORDER:
            raise ValueError(
                f"Object size of {name} must be in 1..{page_size << slab_layout.MAX_ORDER}, not {object_size!r}"
            )
        if not slab_layout.WORD <= align <= page_size or align & (align - 1):
            raise ValueError(f"Alignment of {name} must be a power of two in 8..{page_size}, not {align!r}")
        if cpus < 1:
            raise ValueError(f"CPUs of {name} must be 1 or more, not {cpus!r}")
        self.name = name
        self.object_size = object_size
        self.size = size = -(-object_size // align) * align
        self.order = slab_layout.calculate_order(size, page_size, cpus)
        self.min_order = slab_layout.get_order(size, page_size)
        self.min_partial = slab_layout.min_partial(size)
        self.partial_slabs = partial_slabs
        if partial_slabs:
            self.cpu_partial = slab_layout.cpu_partial_slabs(size, page_size, (page_size << self.order) // size)
        else:
            self.cpu_partial = slab_layout.cpu_partial_objects(size, page_size)
        self.cpu_slab = _PerCpu()
        self.partial: OrderedDict[SlabPage, None] = OrderedDict()
        self.list_lock = SpinLock(f"{name} list_lock")
        self.slabs: dict[SlabPage, None] = {}
        self.destroyed = False

    @property
    def objects_in_use(self) -> list[SlabObject]:
        """Objects that are allocated now, by slab."""
        return [obj for slab in self.slabs for obj in slab.objects if obj.in_use]

    @property
    def statistics(self) -> dict[str, int]:
        """Each counter, summed over the cores."""
        all_cores = [c.statistics for c in self.cpu_slab.values()]
        names = [field.name for field in fields(SlabStatistics)]
        return {name: sum(getattr(statistics, name) for statistics in all_cores) for name in names}

    def __repr__(self) -> str:
        return f"cache {self.name} of {self.object_size} bytes"
