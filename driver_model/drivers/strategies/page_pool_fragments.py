# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that are fragments of a page_pool's pages: several packets a page."""

from collections.abc import Sequence
from typing import Any

from driver_model.drivers.strategies.base import NO_OPTIONS, SKB_TAILROOM, PoolOptions
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.api import (
    Device,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
)
from driver_model.memory.page_pool.frag import page_pool_alloc_frag
from driver_model.memory.page_pool.pool import page_pool_put_full_page, page_pool_put_page_bulk
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi


class PoolFragment:
    """A fragment of a page: ``address`` is its first byte's, ``dma_address`` that byte's for the device."""

    __slots__ = ("address", "dma_address", "page")

    def __init__(self, page: Page, offset: int) -> None:
        self.page = page
        self.address = page.address + offset
        self.dma_address = page.dma_addr + offset


class PagePoolFragments(PagePoolStrategy):
    """``page_pool`` whose pages are cut by ``page_pool_alloc_frag`` (as hns3 does): a page goes back to the pool with
    the last of its fragments, so one that is held keeps the page.

    Charged is ``page_pool.frag_alloc`` for each buffer, and what the pool's fragments and pages cost by themselves. The
    limit of the circuit breaker is in pages.

    Parameters
    ----------
    pool : its ``fragment_bytes`` are those of a buffer, headroom and tailroom included
    """

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        if not 0 < pool.fragment_bytes <= dev.pages.page_size:
            raise ValueError(
                f"fragment_bytes must be in 1..{dev.pages.page_size}, the bytes of a page, not {pool.fragment_bytes!r}"
            )
        if pool.sync_received or not pool.skb_recycles:
            raise ValueError(f"Pages cut into fragments are synced whole, and SKBs give them back, not {pool!r}")
        self._bytes = pool.fragment_bytes
        super().__init__(dev, ring_entries, napi, pool)

    @classmethod
    def buffer_length_of(cls, page_size: int, pool: PoolOptions = NO_OPTIONS) -> int:
        """What of a fragment the device may fill."""
        return pool.fragment_bytes - cls.headroom - SKB_TAILROOM

    def _device_writes(self) -> tuple[int, int]:
        return 0, self.dev.pages.page_size

    def allocate(self) -> tuple[int, PoolFragment] | None:
        """A fragment; its page is mapped and the device's already."""
        found = page_pool_alloc_frag(self.pool, self._bytes)
        if found is None:
            return None
        fragment = PoolFragment(*found)
        return fragment.dma_address + self.headroom, fragment

    def received(self, buffer: Any, length: int) -> Any:
        """Sync what was written."""
        dma_sync_single_for_cpu(self.dev, buffer.dma_address + self.headroom, length, self._direction)
        return buffer

    def release(self, buffer: Any) -> None:
        """One user of the page less; the last one puts it back into the pool."""
        page_pool_put_full_page(self.pool, buffer.page, False)

    def release_bulk(self, buffers: Sequence[Any]) -> None:
        """As :meth:`release`; the pages whose last users these are go back up to 16 under one lock of the ring."""
        page_pool_put_page_bulk([buffer.page for buffer in buffers])

    def transmit(self, buffer: Any, length: int) -> int | None:
        """Sync what is to be sent."""
        dma_address: int = buffer.dma_address + self.headroom
        dma_sync_single_for_device(self.dev, dma_address, length, self._direction)
        return dma_address

    def transmitted(self, buffer: Any, length: int) -> None:
        """As :meth:`release`: others may have written to the page since."""
        self.release(buffer)

    def withdraw(self, buffer: Any) -> None:
        """As :meth:`release`."""
        self.release(buffer)
