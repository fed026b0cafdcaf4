# SPDX-License-Identifier: BSD-2-Clause
"""Half pages, used in turn for as long as nobody holds the other one (the receive path of ixgbe)."""

from driver_model.drivers.strategies.base import NO_OPTIONS, SKB_TAILROOM, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    Device,
    DmaDirection,
    dma_map_page_attrs,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page_attrs,
    dma_unmap_single,
)
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi

BIAS_MAX = (1 << 16) - 1  #: ``USHRT_MAX``: references taken at once
BUFFER_BYTES = 2048  #: ``IXGBE_RXBUFFER_2K``: what of a page one packet takes
HEADROOM = 192
_FROM_DEVICE = DmaDirection.FROM_DEVICE


class FlipPage:
    """A page of the strategy, and how far it has been used.

    Its references are taken in advance, and handed out with each part that a packet lies in: the page's count less the
    bias is the number of parts in use, without an atomic operation for each packet.

    Attributes
    ----------
    bias : references that the driver has (``pagecnt_bias``); 0: it has given the page up
    offset : of the part that is or will be posted
    """

    __slots__ = ("bias", "dma_address", "offset", "page")

    def __init__(self, page: Page, dma_address: int) -> None:
        self.page = page
        self.dma_address = dma_address
        self.offset = 0
        page.refcount = self.bias = BIAS_MAX

    @property
    def lent(self) -> int:
        """References that somebody else has."""
        return self.page.refcount - self.bias


class FlipBuffer:
    """A part of a page: posted, or with a packet in it."""

    __slots__ = ("address", "dma_address", "home", "released", "sent")

    def __init__(self, home: FlipPage) -> None:
        self.home = home
        self.address = home.page.address + home.offset
        self.dma_address = home.dma_address + home.offset
        self.sent = 0  # device address of the mapping for sending
        self.released = False


class PageFlip(PostedStrategy):
    """A page is mapped once. Of a packet that arrives, its half is synced; the driver keeps the page, posts the other
    half and syncs it for the device, if the page's reference count says that nobody has that one. If a packet is still
    there, the page is unmapped and its last user frees it. A half whose packet is gone at once (dropped by XDP) is
    posted again itself. Of a page larger than 4 KiB one part after the other is used, and then the page is given up.

    What packets lie in is read-only to the stack: the other half may be with the device.

    Charged are the page allocator, whose references cost an ``atomic`` for each part that a packet gives back later
    and for each page that is given up, and the DMA API.

    Attributes
    ----------
    reused, given_up : parts posted of a page that was kept, and pages that were not
    """

    name = "page_flip"
    writable = False
    headroom = HEADROOM

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.reused = 0
        self.given_up = 0
        self._pages = dev.pages
        self._page_size = dev.pages.page_size
        self._kept: list[FlipPage] = []
        self._last: FlipBuffer | None = None
        self._live: dict[Page, None] = {}

    @classmethod
    def buffer_length_of(cls, page_size: int, pool: PoolOptions = NO_OPTIONS) -> int:
        """What of a half the device may fill."""
        return BUFFER_BYTES - HEADROOM - SKB_TAILROOM

    def allocate(self) -> tuple[int, FlipBuffer] | None:
        """A part of a page that was kept, or of a new one."""
        self._settle()
        if self._kept:
            home = self._kept.pop()
            self.reused += 1
            dma_sync_single_for_device(
                self.dev, home.dma_address + home.offset + HEADROOM, self.buffer_length, _FROM_DEVICE
            )
        else:
            page = self._pages.alloc_pages(0)
            if page is None:
                return None
            dma_address = dma_map_page_attrs(self.dev, page, 0, page.size, _FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC)
            if dma_mapping_error(self.dev, dma_address):
                self._pages.put_page(page)
                return None
            dma_sync_single_for_device(self.dev, dma_address + HEADROOM, self.buffer_length, _FROM_DEVICE)
            page.owner = self
            self._live[page] = None
            home = FlipPage(page, dma_address)
        buffer = FlipBuffer(home)
        return buffer.dma_address + HEADROOM, buffer

    def received(self, buffer: FlipBuffer, length: int) -> FlipBuffer:
        """Sync what was written. What becomes of the page is decided when its packet's verdict is known: at the next
        packet, or when buffers are posted."""
        self._settle()
        dma_sync_single_for_cpu(self.dev, buffer.dma_address + HEADROOM, length, _FROM_DEVICE)
        buffer.home.bias -= 1
        self._last = buffer
        return buffer

    def release(self, buffer: FlipBuffer) -> None:
        """The packet is gone: ``put_page``, or, for the last packet, the driver's own count."""
        if buffer is self._last:
            buffer.home.bias += 1
            buffer.released = True
        else:
            self._pages.put_page(buffer.home.page)

    def page_freed(self, page: Page) -> None:
        """The last reference to a page is gone."""
        del self._live[page]

    def transmit(self, buffer: FlipBuffer, length: int) -> int | None:
        """Map the frame for sending."""
        dma_address = dma_map_single(self.dev, buffer.address + HEADROOM, length, DmaDirection.TO_DEVICE)
        if dma_mapping_error(self.dev, dma_address):
            return None
        buffer.sent = dma_address
        return dma_address

    def transmitted(self, buffer: FlipBuffer, length: int) -> None:
        """Unmap the frame and give it back."""
        dma_unmap_single(self.dev, buffer.sent, length, DmaDirection.TO_DEVICE)
        self.release(buffer)

    def withdraw(self, buffer: FlipBuffer) -> None:
        """Unmap and free."""
        self._give_up(buffer.home)

    def close(self) -> None:
        """Give up every page that was kept."""
        self._settle()
        for home in self._kept:
            self._give_up(home)
        self._kept.clear()

    def statistics(self) -> dict[str, int]:
        """How often a page was kept."""
        return {"rx_page_reuse": self.reused, "rx_page_given_up": self.given_up}

    @property
    def in_flight(self) -> int:
        """Pages that the driver or a packet holds."""
        return len(self._live)

    def _settle(self) -> None:
        """``ixgbe_put_rx_buffer``: what becomes of the page of the last packet."""
        buffer, self._last = self._last, None
        if buffer is None:
            return
        home = buffer.home
        if self._reusable(home, buffer):
            if home.bias == 1:
                home.page.refcount += BIAS_MAX - 1
                home.bias = BIAS_MAX
            self._kept.append(home)
        else:
            self._give_up(home)

    def _reusable(self, home: FlipPage, buffer: FlipBuffer) -> bool:
        """``ixgbe_can_reuse_rx_page``: turn to a part that nobody has."""
        if home.page.pfmemalloc:
            return False
        if self._page_size == 2 * BUFFER_BYTES:
            if home.lent > 1:
                return False
            if not buffer.released:
                home.offset ^= BUFFER_BYTES
            return True
        if not buffer.released:
            home.offset += BUFFER_BYTES
        return home.offset + BUFFER_BYTES <= self._page_size

    def _give_up(self, home: FlipPage) -> None:
        """Unmap the page; packets that lie in it keep it until they are gone (``__page_frag_cache_drain``)."""
        dma_unmap_page_attrs(self.dev, home.dma_address, home.page.size, _FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC)
        self.given_up += 1
        home.page.refcount -= home.bias - 1
        home.bias = 0
        self._pages.put_page(home.page)
