# SPDX-License-Identifier: BSD-2-Clause
"""Short packets are copied and their pages stay; longer ones take theirs along (mvneta before page_pool)."""

from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions
from driver_model.drivers.strategies.page_per_packet import PagePerPacket
from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    Device,
    DmaDirection,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page_attrs,
)
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi

RX_COPYBREAK = 256  #: bytes of the longest packet whose page stays (``rx_copybreak``)


class Copybreak(PagePerPacket):
    """A page for each packet, mapped whole, as mvneta had it from Linux 4.19 to 5.4 (``mvneta_rx_swbm``).

    Of a packet of up to 256 bytes only those are synced; when its user is done with it the page, which was never
    unmapped, is posted again. A longer packet's page is unmapped, all of it, and freed after use. Pages are read-only
    to the stack, which copies the first 256 bytes of every packet into a head of its own (``netdev_alloc_skb`` and
    memcpy), so it is done with a short packet's page at once, and has the rest of a longer one as a fragment.

    The driver differed in two ways. It copied before it synced, which shows stale bytes where the caches are not
    coherent. And it posted a short packet's page again without a sync for the device, which the DMA API allows where
    the CPU has only read; here XDP programs may have written, and those bytes are cleaned.

    Charged are the page allocator's and the DMA API's own.

    Attributes
    ----------
    kept : pages of short packets that were posted again, or will be
    """

    name = "copybreak"
    writable = False

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.kept = 0
        self._lead = self.headroom
        self._mapped = dev.pages.page_size
        self._free: list[Page] = []
        self._short: dict[Page, int] = {}  # mapped pages that are lent, and the length of the packet

    def allocate(self) -> tuple[int, Page] | None:
        """A page that was kept, or a fresh one."""
        if self._free:
            page = self._free.pop()
            return page.dma_addr + self._lead, page
        return super().allocate()

    def received(self, buffer: Page, length: int) -> Page:
        """Sync a short packet, or unmap the page."""
        if length > RX_COPYBREAK:
            return super().received(buffer, length)
        dma_sync_single_for_cpu(self.dev, buffer.dma_addr + self._lead, length, DmaDirection.FROM_DEVICE)
        self._short[buffer] = length
        return buffer

    def release(self, buffer: Page) -> None:
        """Keep the page if it is mapped, or free it."""
        length = self._short.pop(buffer, None)
        if length is None:
            super().release(buffer)
            return
        dma_sync_single_for_device(self.dev, buffer.dma_addr + self._lead, length, DmaDirection.FROM_DEVICE)
        self.kept += 1
        self._free.append(buffer)

    def transmit(self, buffer: Page, length: int) -> int | None:
        """Map the frame for sending; it takes its page along, be it short or not."""
        if self._short.pop(buffer, None) is not None:
            self._let_go(buffer)
        return super().transmit(buffer, length)

    def close(self) -> None:
        """Free the pages that were kept; those that are lent have left the device and are freed when they come back."""
        for page in self._free:
            self.withdraw(page)
        self._free.clear()
        for page in self._short:
            self._let_go(page)
        self._short.clear()

    def withdraw(self, buffer: Page) -> None:
        """Unmap and free."""
        super().release(super().received(buffer, 0))

    def statistics(self) -> dict[str, int]:
        """How many were kept."""
        return {"rx_copybreak": self.kept}

    def _let_go(self, page: Page) -> None:
        """Unmap a page whose packet is the CPU's already."""
        dma_unmap_page_attrs(self.dev, page.dma_addr, self._mapped, DmaDirection.FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC)
