# SPDX-License-Identifier: BSD-2-Clause
"""Memory that CPU and device share all the time (``dma_alloc_coherent``)."""

from dataclasses import dataclass

from driver_model.memory.dma.api import DMA_ATTR_SKIP_CPU_SYNC, DMA_MAPPING_ERROR, Device, DmaDirection
from driver_model.memory.pages.allocator import MAX_PAGE_ORDER
from driver_model.memory.pages.page import Page


@dataclass(frozen=True, slots=True)
class Coherent:
    """Memory that CPU and device may both touch at any time, such as a ring."""

    address: int  #: where the CPU finds it
    dma_address: int  #: where the device finds it
    size: int
    page: Page


def dma_alloc_coherent(dev: Device, size: int) -> Coherent | None:
    """Zeroed, page-aligned memory shared with the device, or None when there is none.

    On a machine that is not coherent the CPU caches are flushed of it and it is mapped uncached: loads from it wait for
    memory. It is never bounced.
    """
    order = dev.pages.get_order(size)
    if size <= 0 or order > MAX_PAGE_ORDER:
        raise ValueError(f"Coherent memory must be 1..{dev.pages.page_size << MAX_PAGE_ORDER} bytes, not {size!r}")
    page = dev.pages.alloc_pages(order)
    if page is None:
        return None
    if dev.core.cache is not None:
        dev.core.cache.make_uncached(page.address, page.size)
    dev.core.store(page.address, bytes(page.size))
    dma_address = dev.ops.map_coherent(dev, page.address, page.size)
    if dma_address == DMA_MAPPING_ERROR:
        dev.map_errors += 1
        _free(dev, page)
        return None
    if dev.checker is not None:
        dev.checker.coherent_allocated(dev.core, dma_address, page)
    return Coherent(page.address, dma_address, size, page)


def dma_free_coherent(dev: Device, memory: Coherent) -> None:
    """Give coherent memory back. The device must have stopped using it."""
    if dev.checker is not None:
        dev.checker.coherent_freed(dev.core, memory.dma_address, memory.address, memory.page.size)
    direction = DmaDirection.BIDIRECTIONAL
    dev.ops.unmap(dev, memory.dma_address, memory.page.size, direction, DMA_ATTR_SKIP_CPU_SYNC)
    _free(dev, memory.page)


def _free(dev: Device, page: Page) -> None:
    if dev.core.cache is not None:
        dev.core.cache.make_cached(page.address, page.size)
    dev.pages.put_page(page)
