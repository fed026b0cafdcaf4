# SPDX-License-Identifier: BSD-2-Clause
"""``struct page``: what the kernel knows about one page frame."""

from typing import Any

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


class Page:
    """The head page of an allocation of ``PAGE_SIZE << order`` bytes.

    Attributes
    ----------
    pfn, address : page frame number and physical address, for life
    order : size of the allocation; set by the allocator
    refcount : users; 0 while the page is free
    pfmemalloc : comes from the emergency reserve, so it must not stay in a pool
    nid : NUMA node
    pp : the page_pool that the page belongs to, or None (the kernel's ``pp_magic`` and ``pp`` together)
    pp_ref_count : users of the pool's page: 1, or one for each fragment handed out
    dma_addr : where the device finds the page, while a page_pool keeps it mapped
    """

    __slots__ = ("address", "dma_addr", "nid", "order", "pfmemalloc", "pfn", "pp", "pp_ref_count", "refcount")

    def __init__(self, pfn: int, nid: int = 0) -> None:
        self.pfn = pfn
        self.address = pfn << PAGE_SHIFT
        self.order = 0
        self.refcount = 0
        self.pfmemalloc = False
        self.nid = nid
        self.pp: Any = None
        self.pp_ref_count = 0
        self.dma_addr = 0

    @property
    def size(self) -> int:
        """Bytes of the allocation."""
        return PAGE_SIZE << self.order

    def __repr__(self) -> str:
        return f"page {self.pfn:#x} (order {self.order}, refcount {self.refcount})"
