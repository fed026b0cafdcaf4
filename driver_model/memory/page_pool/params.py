# SPDX-License-Identifier: BSD-2-Clause
"""What a page_pool may be asked to be (``include/net/page_pool/types.h``), and what is refused."""

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driver_model.memory.dma.api import Device, DmaDirection
from driver_model.memory.pages.allocator import MAX_PAGE_ORDER

if TYPE_CHECKING:
    from driver_model.memory.page_pool.provider import MemoryProvider

PP_FLAG_DMA_MAP = 1 << 0
PP_FLAG_DMA_SYNC_DEV = 1 << 1
PP_FLAG_SYSTEM_POOL = 1 << 2
PP_FLAG_ALLOW_UNREADABLE_NETMEM = 1 << 3
PP_FLAG_ALL = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV | PP_FLAG_SYSTEM_POOL | PP_FLAG_ALLOW_UNREADABLE_NETMEM

PP_ALLOC_CACHE_SIZE = 128
PP_ALLOC_CACHE_REFILL = 64
PP_RING_DEFAULT = 1024
PP_RING_MAX = 16384
NUMA_NO_NODE = -1

_RECEIVING = (DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


@dataclass(frozen=True, slots=True)
class PagePoolParams:
    """``struct page_pool_params``, and what the kernel never merged.

    Attributes
    ----------
    dev : the device, as the consumer's core uses it
    flags : ``PP_FLAG_*``
    order : pages are ``page_size << order`` bytes, of the kernel's page size
    pool_size : entries of the ring, of which there are at most :data:`PP_RING_MAX`; 0 for the default
    nid : NUMA node that pages from the ring must lie on, or :data:`NUMA_NO_NODE` for the consumer's
    napi : the NAPI instance that consumes, or None; has ``list_owner``, the index of the core that polls it now
    dma_dir, max_len, offset : direction of the mapping, and the bytes that the device may have written
    netdev : the interface that it serves, or None; has ``ifindex``
    provider : where its memory comes from instead of the page allocator (the RX queue's ``mp_params``), or None
    put_page_recycles : a page whose last reference :meth:`PageAllocator.put_page` drops returns to the pool
    inflight_limit : pages that it may have in flight, 0 without bound: see :mod:`page_pool_breaker`
    inflight_resume : pages in use at which it allocates again after it has met that limit; None for three quarters
    shrinker : pages of its ring are given back under memory pressure
    bulk_refill : what the ring does not have comes from the page allocator in bulk, as from Linux 5.13 on (commit
        be5dba25b4b2); otherwise a page at a time
    """

    dev: Device
    flags: int = 0
    order: int = 0
    pool_size: int = 0
    nid: int = NUMA_NO_NODE
    napi: Any = None
    dma_dir: DmaDirection = DmaDirection.FROM_DEVICE
    max_len: int = 0
    offset: int = 0
    netdev: Any = None
    provider: "MemoryProvider | None" = None
    put_page_recycles: bool = False
    inflight_limit: int = 0
    inflight_resume: int | None = None
    shrinker: bool = False
    bulk_refill: bool = True

    def check(self) -> None:
        """Raise ``OSError`` with the kernel's error code for what ``page_pool_init`` refuses, and EINVAL for what
        cannot be meant."""
        size = self.dev.pages.page_size << self.order if 0 <= self.order <= MAX_PAGE_ORDER else 0
        if self.flags & ~PP_FLAG_ALL:
            raise _error(errno.EINVAL, f"flags must be within {PP_FLAG_ALL:#x}, not {self.flags!r}")
        if self.pool_size < 0:
            raise _error(errno.EINVAL, f"pool_size must be 0 or more, not {self.pool_size!r}")
        if self.flags & PP_FLAG_DMA_MAP and self.dma_dir not in _RECEIVING:
            raise _error(errno.EINVAL, f"dma_dir must be FROM_DEVICE or BIDIRECTIONAL, not {self.dma_dir!r}")
        if self.flags & PP_FLAG_DMA_SYNC_DEV:
            if not self.flags & PP_FLAG_DMA_MAP:
                raise _error(errno.EINVAL, "flag DMA_SYNC_DEV needs DMA_MAP")
            if not self.max_len:
                raise _error(errno.EINVAL, "flag DMA_SYNC_DEV needs max_len, not 0")
        if self.provider is None:
            if not size:
                raise _error(errno.EINVAL, f"order must be in 0..{MAX_PAGE_ORDER}, not {self.order!r}")
        else:
            self._check_provider()
        if self.max_len < 0 or self.offset < 0 or (size and self.offset + self.max_len > size):
            raise _error(
                errno.EINVAL,
                f"offset and max_len must lie within {size} bytes, not {self.offset!r} and {self.max_len!r}",
            )
        self._check_limit()

    def _check_provider(self) -> None:
        for flag, name in (
            (PP_FLAG_ALLOW_UNREADABLE_NETMEM, "ALLOW_UNREADABLE_NETMEM"),
            (PP_FLAG_DMA_MAP, "DMA_MAP"),
            (PP_FLAG_DMA_SYNC_DEV, "DMA_SYNC_DEV"),
        ):
            if not self.flags & flag:
                raise _error(errno.EOPNOTSUPP, f"with a memory provider needs flag {name}, not {self.flags:#x}")

    def _check_limit(self) -> None:
        limit, resume = self.inflight_limit, self.inflight_resume
        if limit < 0:
            raise _error(errno.EINVAL, f"inflight_limit must be 0 or more, not {limit!r}")
        if resume is not None and not 0 <= resume < limit:
            raise _error(errno.EINVAL, f"inflight_resume must be below the limit of {limit}, not {resume!r}")


def _error(code: int, message: str) -> OSError:
    return OSError(code, f"page_pool {message}")
