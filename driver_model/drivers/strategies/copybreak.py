# SPDX-License-Identifier: BSD-2-Clause
"""Short packets are copied and their buffers stay; longer ones take theirs along (mvneta before page_pool)."""

from typing import Any

from driver_model.drivers.strategies.base import NO_OPTIONS, SKB_TAILROOM, PoolOptions
from driver_model.drivers.strategies.page_per_packet import PagePerPacket
from driver_model.memory.dma import (
    Device,
    DmaDirection,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_single,
)
from driver_model.memory.page import Page
from driver_model.memory.slab import SlabObject
from driver_model.net.napi import Napi
from driver_model.net.skb_memory import ReceivedBuffer

RX_COPYBREAK = 256  #: bytes of the longest packet that is copied (``rx_copybreak``)
LINE = 64


class Copy:
    """Memory of kmalloc with a packet in it, at the place where it would be in a page."""

    __slots__ = ("address", "dma_address", "object")

    def __init__(self, object_: SlabObject) -> None:
        self.object = object_
        self.address = object_.address
        self.dma_address = 0


class Copybreak(PagePerPacket):
    """A page for each packet, as ``page_per_packet``; but of a packet of 256 bytes or less only those bytes are synced
    and copied into memory of kmalloc, which is what the stack gets and may write to. The page stays mapped, and is
    posted again.

    What lies in a page is read-only to the stack. Charged are, beside ``page_per_packet``'s, kmalloc, and the copy.

    Attributes
    ----------
    copied : packets
    """

    name = "copybreak"
    writable = False

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.copied = 0
        self._slab = napi.softnet.slab
        self._kept: list[Page] = []
        self._copies = 0

    def allocate(self) -> tuple[int, Page] | None:
        """A page that was kept, or a fresh one."""
        if self._kept:
            page = self._kept.pop()
            return page.dma_addr, page
        return super().allocate()

    def received(self, buffer: Page, length: int) -> Any:
        """Copy a short packet, or unmap the page; None without memory for the copy: the page stays, too."""
        if length > RX_COPYBREAK:
            return super().received(buffer, length)
        dev, headroom, core = self.dev, self.headroom, self.dev.core
        dma_sync_single_for_cpu(dev, buffer.dma_addr, length, DmaDirection.FROM_DEVICE)
        object_ = self._slab.kmalloc(headroom + length + SKB_TAILROOM)
        if object_ is not None:
            core.spend(core.device_line, -(-length // LINE))
            core.copy_owned(object_.address + headroom, buffer.address + headroom, length)
        dma_sync_single_for_device(dev, buffer.dma_addr, length, DmaDirection.FROM_DEVICE)
        self._kept.append(buffer)
        if object_ is None:
            return None
        self.copied += 1
        self._copies += 1
        return Copy(object_)

    def memory(self, owner: Any, buffer: Any) -> ReceivedBuffer:
        """A copy may be written to."""
        if isinstance(buffer, Copy):
            return ReceivedBuffer(owner, buffer, buffer.object.size, writable=True, recycles=False)
        return super().memory(owner, buffer)

    def release(self, buffer: Any) -> None:
        """Free the copy, or the page."""
        if isinstance(buffer, Copy):
            self._copies -= 1
            self._slab.kfree(buffer.object)
        else:
            super().release(buffer)

    def transmit(self, buffer: Any, length: int) -> int | None:
        """Map the frame for sending."""
        if not isinstance(buffer, Copy):
            return super().transmit(buffer, length)
        dma_address = dma_map_single(self.dev, buffer.address + self.headroom, length, DmaDirection.TO_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            return None
        buffer.dma_address = dma_address
        return dma_address

    def transmitted(self, buffer: Any, length: int) -> None:
        """Unmap the frame and free what it lay in."""
        if isinstance(buffer, Copy):
            dma_unmap_single(self.dev, buffer.dma_address, length, DmaDirection.TO_DEVICE)
            self.release(buffer)
        else:
            super().transmitted(buffer, length)

    def close(self) -> None:
        """Free the pages that were kept."""
        for page in self._kept:
            self.withdraw(page)
        self._kept.clear()

    def statistics(self) -> dict[str, int]:
        """How many were copied."""
        return {"rx_copybreak": self.copied}

    @property
    def in_flight(self) -> int:
        """Pages and copies allocated and not freed."""
        return super().in_flight + self._copies

    def withdraw(self, buffer: Page) -> None:
        """Unmap and free."""
        super().release(super().received(buffer, 0))
