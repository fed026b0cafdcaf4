# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of order-3 pages: one allocation for sixteen packets, and one packet pins them all."""

from driver_model.drivers.strategies.base import NO_OPTIONS, SKB_TAILROOM, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import Device, DmaDirection, dma_map_single, dma_mapping_error, dma_unmap_single
from driver_model.memory.pages.page_frag import PageFrag, PageFragCache
from driver_model.net.napi import Napi

BUFFER_BYTES = 2048
HEADROOM = 192


class FragmentBuffer:
    """A fragment, and its device address while it has one."""

    __slots__ = ("address", "dma_address", "fragment")

    def __init__(self, fragment: PageFrag) -> None:
        self.fragment = fragment
        self.address = fragment.address
        self.dma_address = 0


class Fragments(PostedStrategy):
    """Buffers of 2 KiB from a ``page_frag_cache`` of 32 KiB pages (``netdev_alloc_frag``), each mapped for one packet.

    What packets lie in is read-only to the stack: unmapping or syncing one fragment may touch cache lines that its
    neighbour shares on machines that are not coherent, and a page of others is not the stack's to write.

    Charged are the fragments', the page allocator's and the DMA API's own.
    """

    name = "fragments"
    writable = False
    headroom = HEADROOM

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.cache = PageFragCache(dev.pages)
        self._in_flight = 0

    @classmethod
    def buffer_length_of(cls, page_size: int, pool: PoolOptions = NO_OPTIONS) -> int:
        """What of a fragment the device may fill."""
        return BUFFER_BYTES - HEADROOM - SKB_TAILROOM

    def allocate(self) -> tuple[int, FragmentBuffer] | None:
        """A fragment, mapped for receiving."""
        fragment = self.cache.page_frag_alloc(BUFFER_BYTES)
        if fragment is None:
            return None
        buffer = FragmentBuffer(fragment)
        dma_address = dma_map_single(self.dev, buffer.address + HEADROOM, self.buffer_length, DmaDirection.FROM_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            self.cache.page_frag_free(fragment)
            return None
        buffer.dma_address = dma_address
        self._in_flight += 1
        return dma_address, buffer

    def received(self, buffer: FragmentBuffer, length: int) -> FragmentBuffer:
        """Unmap the fragment."""
        dma_unmap_single(self.dev, buffer.dma_address, self.buffer_length, DmaDirection.FROM_DEVICE)
        return buffer

    def release(self, buffer: FragmentBuffer) -> None:
        """``page_frag_free``: the last fragment of a page frees it."""
        self._in_flight -= 1
        self.cache.page_frag_free(buffer.fragment)

    def transmit(self, buffer: FragmentBuffer, length: int) -> int | None:
        """Map the frame for sending."""
        dma_address = dma_map_single(self.dev, buffer.address + HEADROOM, length, DmaDirection.TO_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            return None
        buffer.dma_address = dma_address
        return dma_address

    def transmitted(self, buffer: FragmentBuffer, length: int) -> None:
        """Unmap the frame and free the fragment."""
        dma_unmap_single(self.dev, buffer.dma_address, length, DmaDirection.TO_DEVICE)
        self.release(buffer)

    def withdraw(self, buffer: FragmentBuffer) -> None:
        """Unmap and free."""
        self.release(self.received(buffer, 0))

    def close(self) -> None:
        """Give the page at hand back."""
        self.cache.drain()

    @property
    def in_flight(self) -> int:
        """Fragments allocated and not freed."""
        return self._in_flight

    @property
    def inflight_mem(self) -> int:
        """Bytes of the fragments; what they pin may be more."""
        return self._in_flight * BUFFER_BYTES
