# SPDX-License-Identifier: BSD-2-Clause
"""``struct page``: what the kernel knows about one of its pages."""

from typing import Any, Protocol

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  #: the smallest page, in which the IOMMU and the checker count; the kernel's is the zone's


class PageOwner(Protocol):
    """Who keeps books on its pages and is told when one is freed (the kernel's ``page->mapping``)."""

    def page_freed(self, page: "Page") -> None:
        """The last reference is gone."""


class Page:
    """The head page of an allocation of ``PAGE_SIZE << order`` bytes, or 64 KiB where that is the kernel's page size.

    Attributes
    ----------
    pfn, address : number of its first 4 KiB frame and physical address, for life
    shift : the kernel's page size is ``1 << shift`` bytes
    order : size of the allocation; set by the allocator
    refcount : users; 0 while the page is free
    pfmemalloc : comes from the emergency reserve, so it must not stay in a pool
    nid : NUMA node
    owner : the page cache or fragment cache that the page belongs to, or None
    pp : the page_pool that the page belongs to, or None (the kernel's ``pp_magic`` and ``pp`` together)
    pp_ref_count : users of the pool's page: 1, or one for each fragment handed out
    dma_addr : where the device finds the page, while a page_pool keeps it mapped
    """

    __slots__ = (
        "address",
        "dma_addr",
        "nid",
        "order",
        "owner",
        "pfmemalloc",
        "pfn",
        "pp",
        "pp_ref_count",
        "refcount",
        "shift",
    )

    def __init__(self, pfn: int, nid: int = 0, shift: int = PAGE_SHIFT) -> None:
        self.pfn = pfn
        self.address = pfn << PAGE_SHIFT
        self.shift = shift
        self.order = 0
        self.refcount = 0
        self.pfmemalloc = False
        self.nid = nid
        self.owner: PageOwner | None = None
        self.pp: Any = None
        self.pp_ref_count = 0
        self.dma_addr = 0

    @property
    def size(self) -> int:
        """Bytes of the allocation."""
        return 1 << self.shift + self.order

    @property
    def frames(self) -> range:
        """Numbers of the 4 KiB frames of the allocation."""
        return range(self.pfn, self.pfn + (1 << self.shift + self.order - PAGE_SHIFT))

    def __repr__(self) -> str:
        return f"page {self.pfn:#x} (order {self.order}, refcount {self.refcount})"
