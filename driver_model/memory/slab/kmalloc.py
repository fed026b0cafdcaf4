# SPDX-License-Identifier: BSD-2-Clause
"""The caches of a machine: those of kmalloc, and those that somebody made for objects of one kind."""

from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.memory.slab.kmem_cache import CPUS, KmemCache

_ODD_SIZES = (96, 192)  #: beside the powers of two; above them rounding up costs less than another cache


class SlabCaches:
    """``slab_caches`` and ``kmalloc_caches``, shared by all cores of a host.

    kmalloc has a cache for each power of two from 8 bytes to two pages, and for 96 and 192 bytes
    (``kmalloc_info``, ``KMALLOC_MAX_CACHE_SIZE``).

    Parameters
    ----------
    page_size, cpus, partial_slabs : of every cache: see :class:`driver_model.memory.slab.kmem_cache.KmemCache`
    """

    def __init__(self, page_size: int = PAGE_SIZE, *, cpus: int = CPUS, partial_slabs: bool = False) -> None:
        self.page_size = page_size
        self.cpus = cpus
        self.partial_slabs = partial_slabs
        self.caches: dict[KmemCache, None] = {}  #: every cache that has had a slab and is not destroyed
        self.kmalloc_max = 2 * page_size  #: a larger kmalloc goes to the page allocator
        self.large = self._kmalloc_cache("large", page_size)  #: the mark of such objects; it never has a slab
        self._odd = {size: self._kmalloc_cache(str(size), size) for size in _ODD_SIZES}
        self._powers = [
            self._kmalloc_cache(str(1 << shift), 1 << shift) for shift in range(3, self.kmalloc_max.bit_length())
        ]
        self._small = [self._smallest(size) for size in range(8, _ODD_SIZES[-1] + 1, 8)]

    def kmem_cache_create(self, name: str, object_size: int, align: int = 8) -> KmemCache:
        """A cache for objects of one kind; never merged with another (``slab_nomerge``)."""
        return KmemCache(
            name, object_size, align, page_size=self.page_size, cpus=self.cpus, partial_slabs=self.partial_slabs
        )

    def kmalloc_slab(self, size: int) -> KmemCache:
        """The cache for a kmalloc of ``size`` bytes, 1 up to :attr:`kmalloc_max`."""
        if size <= _ODD_SIZES[-1]:
            return self._small[(size - 1) >> 3]
        return self._powers[(size - 1).bit_length() - 3]

    def _kmalloc_cache(self, name: str, size: int) -> KmemCache:
        return self.kmem_cache_create(f"kmalloc-{name}", size)

    def _smallest(self, size: int) -> KmemCache:
        caches = [*self._odd.values(), *self._powers]
        return min((cache for cache in caches if cache.size >= size), key=lambda cache: cache.size)
