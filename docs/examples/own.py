# SPDX-License-Identifier: BSD-2-Clause
"""A buffer strategy and an XDP program of one's own:

pagewheel run strategies --set strategies=docs/examples/own.py:PageStack --set verdicts=docs/examples/own.py:odd
"""

from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import (
    Device,
    DmaDirection,
    dma_map_page,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
)
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi
from driver_model.net.xdp import XdpAction, XdpBuff

BOTH = DmaDirection.BIDIRECTIONAL
PUSH_OR_POP = "cpu.store"  #: what either is charged: allocator and DMA API charge theirs by themselves


class PageStack(PostedStrategy):
    """Pages that come back stay mapped, on a stack of the driver's own: what many drivers did before page_pool."""

    name = "page_stack"

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self._room = ring_entries
        self._stack: list[Page] = []
        self._in_flight = 0
        self._reused = 0

    def allocate(self) -> tuple[int, Page] | None:
        """The page that came back last, or a new one, mapped."""
        if self._stack:
            self.dev.core.spend(self.dev.core.op(PUSH_OR_POP))
            page = self._stack.pop()
            self._reused += 1
            address = page.dma_addr + self.headroom
            dma_sync_single_for_device(self.dev, address, self.buffer_length, BOTH)
            return address, page
        page_or_none = self.dev.pages.alloc_pages(0)
        if page_or_none is None:
            return None
        page = page_or_none
        page.dma_addr = dma_map_page(self.dev, page, 0, self.dev.pages.page_size, BOTH)
        if dma_mapping_error(self.dev, page.dma_addr):
            self.dev.pages.put_page(page)
            return None
        self._in_flight += 1
        return page.dma_addr + self.headroom, page

    def received(self, buffer: Page, length: int) -> Page:
        """Only what was written becomes the CPU's."""
        dma_sync_single_for_cpu(self.dev, buffer.dma_addr + self.headroom, length, BOTH)
        return buffer

    def release(self, buffer: Page) -> None:
        """Back to the stack, unless it is full, or somebody else holds the page, too."""
        if len(self._stack) < self._room and buffer.refcount == 1:
            self.dev.core.spend(self.dev.core.op(PUSH_OR_POP))
            self._stack.append(buffer)
        else:
            self._free(buffer)

    def transmit(self, buffer: Page, length: int) -> int | None:
        """It is mapped already."""
        address: int = buffer.dma_addr + self.headroom
        dma_sync_single_for_device(self.dev, address, length, BOTH)
        return address

    def transmitted(self, buffer: Page, length: int) -> None:
        self.release(buffer)

    def withdraw(self, buffer: Page) -> None:
        self.release(buffer)

    def close(self) -> None:
        while self._stack:
            self._free(self._stack.pop())

    def statistics(self) -> dict[str, int]:
        return {"rx_stack_reused": self._reused}

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def _free(self, page: Page) -> None:
        dma_unmap_page(self.dev, page.dma_addr, self.dev.pages.page_size, BOTH)
        self._in_flight -= 1
        self.dev.pages.put_page(page)


def odd(xdp: XdpBuff) -> XdpAction:
    """Sends back what comes from an odd UDP or TCP port, and drops the rest."""
    return XdpAction.TX if xdp.load(35, 1)[0] & 1 else XdpAction.DROP
