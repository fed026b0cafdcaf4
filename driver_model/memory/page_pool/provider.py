# SPDX-License-Identifier: BSD-2-Clause
"""Memory providers: page_pools whose memory is not the page allocator's (``include/net/page_pool/memory_provider.h``,
``net/core/devmem.c``)."""

import errno
from typing import Protocol

from driver_model.memory.dma.api import Device, DmaDirection, dma_map_page, dma_mapping_error, dma_unmap_page
from driver_model.memory.page_pool.state import PagePool, page_pool_clear_pp_info, page_pool_set_pp_info
from driver_model.memory.pages.page import Page


class MemoryProvider(Protocol):
    """``struct memory_provider_ops``, and the ``mp_priv`` that goes with it.

    Pools with a provider need flags ALLOW_UNREADABLE_NETMEM, DMA_MAP and DMA_SYNC_DEV (EOPNOTSUPP otherwise); the
    provider maps its memory itself.
    """

    def init(self, pool: PagePool) -> None:
        """A pool is made. Raises ``OSError`` if it cannot be this provider's."""

    def alloc_netmems(self, pool: PagePool) -> Page | None:
        """A page for the pool, after ``page_pool_set_pp_info``; more may go into its ``alloc_cache``."""

    def release_netmem(self, pool: PagePool, page: Page) -> bool:
        """A page leaves the pool, after ``page_pool_clear_pp_info``; True if it is the page allocator's now."""

    def destroy(self, pool: PagePool) -> None:
        """The pool is released."""


class DmaBufProvider:
    """Memory of another device, such as an accelerator, that was bound to receive queues (``struct
    net_devmem_dmabuf_binding``): the NIC writes it, the CPU never reads it.

    It is mapped for the NIC as a whole when it is bound, and until :meth:`unbind`. A checker reports each access of a
    CPU to it as ``cpu access of unreadable memory``. As in the kernel, its pools have order 0 (E2BIG), never sync, and
    get one page at a time; the page costs its ``page_pool.slow``.

    Parameters
    ----------
    dev : the NIC
    count : its size, in kernel pages. Raises ``MemoryError`` if there are not so many, or they cannot be mapped
    """

    def __init__(self, dev: Device, count: int) -> None:
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"count must be an integer, not {count!r}")
        if count < 1:
            raise ValueError(f"count must be 1 or more pages, not {count!r}")
        self._dev = dev
        self._pools = 0
        self._free: list[Page] = []
        for bound in range(count):
            page = dev.pages.alloc_pages()
            if page is None or not self._map(page):
                self.unbind()
                raise MemoryError(f"No memory to bind {count} pages, only {bound}")
        self._free.reverse()

    @property
    def free(self) -> int:
        """Pages that no pool has."""
        return len(self._free)

    def init(self, pool: PagePool) -> None:
        """Only pages of order 0, for the device that it is bound to."""
        if pool.p.order:
            raise OSError(errno.E2BIG, f"page_pool order must be 0 with a dma-buf, not {pool.p.order!r}")
        if pool.p.dev.ops is not self._dev.ops:
            raise OSError(errno.EINVAL, "page_pool dev must be the one that the dma-buf is bound to")
        pool.dma_sync = False
        self._pools += 1

    def alloc_netmems(self, pool: PagePool) -> Page | None:
        """A page, or None if pools have them all."""
        if not self._free:
            return None
        page = self._free.pop()
        pool.spend(pool.op_slow)
        page_pool_set_pp_info(pool, page)
        return page

    def release_netmem(self, pool: PagePool, page: Page) -> bool:
        """The page is free again; it is never the page allocator's."""
        page_pool_clear_pp_info(page)
        self._free.append(page)
        return False

    def destroy(self, pool: PagePool) -> None:
        """One pool less."""
        self._pools -= 1

    def unbind(self) -> None:
        """Unmap the memory and give it up. Raises ``OSError`` with EBUSY while a pool has it."""
        if self._pools:
            raise OSError(errno.EBUSY, f"{self._pools} page_pools have memory of the dma-buf")
        dev = self._dev
        for page in self._free:
            dma_unmap_page(dev, page.dma_addr, page.size, DmaDirection.FROM_DEVICE)
            page.dma_addr = 0
            if dev.checker is not None:
                dev.checker.readable(page)
            dev.pages.put_page(page)
        self._free.clear()

    def _map(self, page: Page) -> bool:
        dev = self._dev
        dma_address = dma_map_page(dev, page, 0, page.size, DmaDirection.FROM_DEVICE)
        if dma_mapping_error(dev, dma_address):
            dev.pages.put_page(page)
            return False
        page.dma_addr = dma_address
        if dev.checker is not None:
            dev.checker.unreadable(page, "a dma-buf")
        self._free.append(page)
        return True
