# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of large pages (``struct page_frag_cache``; ``mm/page_alloc.c`` until Linux 6.12, then
``mm/page_frag_cache.c``).

One allocation of 32 KiB serves many small buffers, and is free again when the last of them is: a single buffer that
somebody keeps pins all of it.
"""

from driver_model.memory.pages.allocator import PageAllocator, PageError
from driver_model.memory.pages.gfp import (
    GFP_ATOMIC,
    GFP_COMP,
    GFP_DIRECT_RECLAIM,
    GFP_NOMEMALLOC,
    GFP_NORETRY,
    GFP_NOWARN,
)
from driver_model.memory.pages.page import Page

PAGE_FRAG_CACHE_MAX_SIZE = 32 << 10  #: bytes of an allocation; a whole page where that is larger


class PageFrag:
    """A fragment: ``size`` bytes at a physical ``address``, in ``page``. It holds one reference of the page, which
    :meth:`PageFragCache.page_frag_free` gives back, or a ``put_page`` of whoever took it over."""

    __slots__ = ("address", "freed", "page", "size")

    def __init__(self, page: Page, address: int, size: int) -> None:
        self.page = page
        self.address = address
        self.size = size
        self.freed = False  #: it was given back

    def __repr__(self) -> str:
        return f"fragment of {self.size} bytes at {self.address:#x} in {self.page}"


class PageFragCache:
    """Cuts fragments from the end of a page to its start, on one core.

    A page comes as a block of 32 KiB (order 3 with pages of 4 KiB, a single page of 64 KiB), or as a single page where
    there is no such block. All its references are taken at once, one for each byte that a whole block has; those that
    were not handed out (the bias) are given back when it is used up. If every fragment came back by then the same page
    is used again, unless it came from the emergency reserve.

    Costs: ``page_frag.alloc`` for each fragment; ``page_frag.refill`` for each page that is used up or new, beside its
    allocation; ``page_frag.free`` and ``atomic`` for each fragment given back, and the page's own free with the last.

    Parameters
    ----------
    pages : the core's page allocator
    """

    def __init__(self, pages: PageAllocator) -> None:
        self.pages = pages
        self.pfmemalloc = False  #: the page at hand comes from the emergency reserve
        self.refilled = 0  #: pages that were used up and started again because all fragments had come back
        self._core = pages.core
        self._most = max(PAGE_FRAG_CACHE_MAX_SIZE, pages.page_size)
        self._order = pages.get_order(self._most)
        self._page: Page | None = None
        self._offset = 0
        self._bias = 0
        self._owned: dict[Page, None] = {}
        self._op_alloc = pages.core.op("page_frag.alloc")
        self._op_free = pages.core.op("page_frag.free")
        self._op_refill = pages.core.op("page_frag.refill")
        self._op_atomic = pages.core.op("atomic")

    def page_frag_alloc(self, size: int, align: int = 1, gfp: int = GFP_ATOMIC) -> PageFrag | None:
        """A fragment that begins at a multiple of ``align``, or None: there is no memory, or only a single page that is
        too small for it. Raises ``ValueError`` for more than a cache's page holds (``page_frag_alloc_align``)."""
        if not 0 < size <= self._most:
            raise ValueError(f"A fragment must have 1..{self._most} bytes, not {size!r}")
        if align < 1 or align & (align - 1):
            raise ValueError(f"align must be a power of two, not {align!r}")
        self._core.spend(self._op_alloc)
        page = self._page
        offset = self._offset - size
        if page is None or offset < 0:
            page = self._refill(gfp) if page is None else self._used_up(page, gfp)
            if page is None:
                return None
            offset = page.size - size
            if offset < 0:
                return None
        offset &= -align
        self._bias -= 1
        self._offset = offset
        return PageFrag(page, page.address + offset, size)

    def page_frag_free(self, fragment: PageFrag) -> None:
        """Give a fragment back, on this core, whichever cache it is of. Raises :class:`PageError` the second time."""
        if fragment.freed:
            raise PageError(f"Double free of {fragment}")
        fragment.freed = True
        if self.pages.checker is not None:
            self.pages.checker.part_freed(self._core, fragment, fragment.address, fragment.size)
        page = fragment.page
        self._core.spend(self._op_free)
        if page.refcount == 1:
            self._core.spend(self._op_atomic)
        self.pages.put_page(page)

    def drain(self) -> None:
        """Give the page at hand up (``__page_frag_cache_drain``): it is free once its last fragment is."""
        page, self._page = self._page, None
        self._offset = 0
        if page is not None:
            self._put_bias(page)

    @property
    def pinned_bytes(self) -> int:
        """Bytes of all pages that fragments of this cache, or itself, keep from being free."""
        return sum(page.size for page in self._owned)

    def page_freed(self, page: Page) -> None:
        """The last fragment of a page is back, and the page is free."""
        del self._owned[page]

    def _used_up(self, page: Page, gfp: int) -> Page | None:
        """The page at hand once more, if nobody else uses it, or a new one."""
        if page.refcount == self._bias and not self.pfmemalloc:
            self._core.spend(self._op_refill)
            self.refilled += 1
            self._start(page)
            return page
        self.drain()
        return self._refill(gfp)

    def _refill(self, gfp: int) -> Page | None:
        page = None
        if self._order:
            high = gfp & ~GFP_DIRECT_RECLAIM | GFP_COMP | GFP_NOWARN | GFP_NORETRY | GFP_NOMEMALLOC
            page = self.pages.alloc_pages(self._order, high)
        if page is None:
            page = self.pages.alloc_pages(0, gfp)
        if page is None:
            return None
        self._core.spend(self._op_refill)
        page.owner = self
        self._owned[page] = None
        self.pfmemalloc = page.pfmemalloc
        self._page = page
        self._start(page)
        return page

    def _start(self, page: Page) -> None:
        page.refcount = self._bias = self._most + 1
        self._offset = page.size

    def _put_bias(self, page: Page) -> None:
        """Give the references back that were not handed out."""
        page.refcount -= self._bias - 1
        self._bias = 0
        self.pages.put_page(page)
