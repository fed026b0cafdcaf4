# SPDX-License-Identifier: BSD-2-Clause
"""How the driver of the published XDP_REDIRECT figures received (mlx5 of Linux 4.18): pages of a page_pool, which did
not map yet."""

from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import (
    Device,
    DmaDirection,
    dma_map_page,
    dma_sync_single_for_cpu,
    dma_unmap_page,
)
from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create, page_pool_put_full_page
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.state import page_pool_inflight
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi


class MappingPool(PostedStrategy):
    """The driver maps each page that it posts, and unmaps it when the frame is redirected, as all are here. Nobody but
    the driver knows the pool's consumer, so a redirected frame's page comes back through the ring."""

    name = "mapping_pool"

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.pool = page_pool_create(PagePoolParams(dev, pool_size=ring_entries))

    def allocate(self) -> tuple[int, Page] | None:
        """A page of the pool, mapped."""
        page = page_pool_alloc_pages(self.pool)
        if page is None:
            return None
        page.dma_addr = dma_map_page(self.dev, page, self.headroom, self.buffer_length, DmaDirection.FROM_DEVICE)
        return page.dma_addr, page

    def received(self, buffer: Page, length: int) -> Page:
        """Sync what was written, for the program, and unmap."""
        dma_sync_single_for_cpu(self.dev, buffer.dma_addr, length, DmaDirection.FROM_DEVICE)
        dma_unmap_page(self.dev, buffer.dma_addr, self.buffer_length, DmaDirection.FROM_DEVICE)
        return buffer

    def release(self, buffer: Page) -> None:
        """``xdp_return_frame``: into the ring."""
        page_pool_put_full_page(self.pool, buffer, False)

    def transmit(self, buffer: Page, length: int) -> int | None:
        """Nothing is sent by XDP_TX."""
        return None

    def transmitted(self, buffer: Page, length: int) -> None:
        """Nothing was."""

    def withdraw(self, buffer: Page) -> None:
        """Unmap, and back to the pool."""
        self.release(self.received(buffer, 0))

    def close(self) -> None:
        """Destroy the pool."""
        page_pool_destroy(self.pool)

    @property
    def in_flight(self) -> int:
        """Pages of the pool."""
        return page_pool_inflight(self.pool)
