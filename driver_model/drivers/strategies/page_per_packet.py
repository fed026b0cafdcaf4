# SPDX-License-Identifier: BSD-2-Clause
"""A new page for each packet: allocate and map, unmap and free."""

from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import (
    Device,
    DmaDirection,
    dma_map_page,
    dma_map_single,
    dma_mapping_error,
    dma_unmap_page,
    dma_unmap_single,
)
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi


class PagePerPacket(PostedStrategy):
    """What drivers did before they recycled. A page's life is one packet; sending it back maps it a second time."""

    name = "page_per_packet"

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self._pages = dev.pages
        self._in_flight = 0
        self._lead = 0  # bytes that are mapped before those that the device may fill
        self._mapped = self.buffer_length

    def allocate(self) -> tuple[int, Page] | None:
        """A fresh page, mapped for receiving."""
        page = self._pages.alloc_pages(0)
        if page is None:
            return None
        offset = self.headroom - self._lead
        dma_address = dma_map_page(self.dev, page, offset, self._mapped, DmaDirection.FROM_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            self._pages.put_page(page)
            return None
        page.dma_addr = dma_address
        self._in_flight += 1
        return dma_address + self._lead, page

    def received(self, buffer: Page, length: int) -> Page:
        """Unmap the whole buffer: the page will not be posted again."""
        dma_unmap_page(self.dev, buffer.dma_addr, self._mapped, DmaDirection.FROM_DEVICE)
        return buffer

    def release(self, buffer: Page) -> None:
        """Free the page."""
        self._in_flight -= 1
        self._pages.put_page(buffer)

    def transmit(self, buffer: Page, length: int) -> int | None:
        """Map the frame for sending."""
        dma_address = dma_map_single(self.dev, buffer.address + self.headroom, length, DmaDirection.TO_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            return None
        buffer.dma_addr = dma_address
        return dma_address

    def transmitted(self, buffer: Page, length: int) -> None:
        """Unmap the frame and free the page."""
        dma_unmap_single(self.dev, buffer.dma_addr, length, DmaDirection.TO_DEVICE)
        self.release(buffer)

    def withdraw(self, buffer: Page) -> None:
        """Unmap and free."""
        self.received(buffer, 0)
        self.release(buffer)

    def close(self) -> None:
        """Nothing is kept."""

    @property
    def in_flight(self) -> int:
        """Pages allocated and not freed."""
        return self._in_flight
