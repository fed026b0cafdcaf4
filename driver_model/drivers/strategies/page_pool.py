# SPDX-License-Identifier: BSD-2-Clause
"""Pages from a page_pool: mapped once, recycled, only synced for each packet."""

from collections.abc import Sequence
from typing import Any

from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import (
    Device,
    DmaDirection,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
)
from driver_model.memory.page_pool.params import PP_FLAG_DMA_MAP, PP_FLAG_DMA_SYNC_DEV, PP_RING_MAX, PagePoolParams
from driver_model.memory.page_pool.pool import (
    page_pool_alloc_pages,
    page_pool_create,
    page_pool_put_full_page,
    page_pool_put_page,
    page_pool_put_page_bulk,
)
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.slow import page_pool_release_page
from driver_model.memory.page_pool.state import page_pool_inflight
from driver_model.net.napi import Napi
from driver_model.net.skb.memory import ReceivedBuffer


class PagePoolStrategy(PostedStrategy):
    """One pool for each queue, as large as its ring, mapped in both directions so that a frame can leave from where it
    arrived. What it does otherwise is a matter of :class:`PoolOptions`."""

    name = "page_pool"
    recycles = True

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self._direction = DmaDirection.FROM_DEVICE if pool.from_device else DmaDirection.BIDIRECTIONAL
        offset, max_len = self._device_writes()
        self.pool = page_pool_create(
            PagePoolParams(
                dev=dev,
                flags=PP_FLAG_DMA_MAP | (PP_FLAG_DMA_SYNC_DEV if pool.sync_device else 0),
                pool_size=min(ring_entries, PP_RING_MAX),
                napi=napi,
                dma_dir=self._direction,
                max_len=max_len,
                offset=offset,
                inflight_limit=pool.inflight_limit,
                inflight_resume=pool.inflight_resume,
                shrinker=pool.shrinker,
                put_page_recycles=pool.put_page_recycles,
                bulk_refill=pool.bulk_refill,
            )
        )
        self._skb_recycles = pool.skb_recycles
        self._filled: dict[Any, int] | None = {} if pool.sync_received else None  # bytes of pages that are lent

    def _device_writes(self) -> tuple[int, int]:
        """Where in a page the device may write, and how many bytes."""
        return self.headroom, self.buffer_length

    def allocate(self) -> tuple[int, Any] | None:
        """A page of the pool; it is mapped and the device's already."""
        page = page_pool_alloc_pages(self.pool)
        return None if page is None else (page.dma_addr + self.headroom, page)

    def received(self, buffer: Any, length: int) -> Any:
        """Sync what was written."""
        dma_sync_single_for_cpu(self.dev, buffer.dma_addr + self.headroom, length, self._direction)
        if self._filled is not None:
            self._filled[buffer] = length
        return buffer

    def memory(self, owner: Any, buffer: Any) -> ReceivedBuffer:
        """The page, which leaves the pool with an SKB where SKBs do not give pages back."""
        memory = super().memory(owner, buffer)
        if not self._skb_recycles:
            memory.recycles = False
            memory.leave = self._leave
        return memory

    def release(self, buffer: Any) -> None:
        """Back to the pool: into its cache where the caller runs in the queue's NAPI, else into its ring. A page that
        has left it is freed."""
        if buffer.pp is None:
            self.dev.pages.put_page(buffer)
        elif self._filled is None:
            page_pool_put_full_page(self.pool, buffer, False)
        else:
            page_pool_put_page(self.pool, buffer, self._filled.pop(buffer, -1), False)

    def release_bulk(self, buffers: Sequence[Any]) -> None:
        """Frames that were sent by others: up to 16 under one lock of the ring."""
        if self._filled is not None:
            for buffer in buffers:
                self._filled.pop(buffer, None)
        page_pool_put_page_bulk(buffers)

    def _leave(self, buffer: Any) -> None:
        """An SKB has the page."""
        if self._filled is not None:
            self._filled.pop(buffer)
        page_pool_release_page(self.pool, buffer)

    def transmit(self, buffer: Any, length: int) -> int | None:
        """Sync what is to be sent."""
        dma_address = buffer.dma_addr + self.headroom
        dma_sync_single_for_device(self.dev, dma_address, length, self._direction)
        return dma_address

    def transmitted(self, buffer: Any, length: int) -> None:
        """Back to the pool. The CPU had no part in it since :meth:`transmit`, so there is nothing to sync."""
        if self._filled is not None:
            self._filled.pop(buffer, None)
        page_pool_put_page(self.pool, buffer, 0, False)

    def withdraw(self, buffer: Any) -> None:
        """Back to the pool."""
        page_pool_put_full_page(self.pool, buffer, False)

    def close(self) -> None:
        """Destroy the pool."""
        page_pool_destroy(self.pool)

    def statistics(self) -> dict[str, int]:
        """The pool's counters, and those that the kernel does not have."""
        counts = self.pool.statistics
        extra = {"rx_pp_alloc_limited": counts.alloc_limited, "rx_pp_shrunk": counts.shrunk}
        return counts.ethtool() | extra

    @property
    def in_flight(self) -> int:
        """Pages of the pool, those in its cache and ring included."""
        return page_pool_inflight(self.pool)
