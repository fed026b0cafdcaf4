# SPDX-License-Identifier: BSD-2-Clause
"""Mapping at the price of a hypercall, as under POWER's hypervisor (``arch/powerpc/platforms/pseries/iommu.c``)."""

from typing import TYPE_CHECKING

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    DmaDirection,
    DmaOps,
    arch_sync_dma_for_cpu,
    arch_sync_dma_for_device,
)
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from driver_model.memory.dma.api import Device

ENTRIES_PER_CALL = 512  #: of the translation table, in a list of one page (``H_PUT_TCE_INDIRECT``, ``H_STUFF_TCE``)


class HypercallDma(DmaOps):
    """The hypervisor keeps the device's translation table: each map and each unmap is a hypercall, one more for each
    further 512 pages (``dma.hypercall_map``, ``dma.hypercall_unmap``). Syncs need none.

    Device addresses are physical ones, or those of a window, handed out page by page from where the last came from on
    (``iommu_range_alloc``). Memory beside the buffer in its pages is reachable too.

    Parameters
    ----------
    window : device addresses to give out, whole pages; None for physical addresses

    Attributes
    ----------
    maps, unmaps, failures : calls, and maps that found no room in the window
    """

    def __init__(self, window: range | None = None) -> None:
        if window is not None and (
            window.step != 1 or not window or window.start % PAGE_SIZE or window.stop % PAGE_SIZE or window.start < 0
        ):
            raise ValueError(f"A window must be a range of whole pages of {PAGE_SIZE} bytes, not {window!r}")
        self.maps = 0
        self.unmaps = 0
        self.failures = 0
        self._window = window
        self._used = bytearray(0 if window is None else len(window) >> PAGE_SHIFT)
        self._hint = 0
        self._table: dict[int, int] = {}  # device page to physical page

    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        """``iommu_map_page``, ``tce_buildmulti_pSeriesLP``."""
        pages = _pages(address, size)
        dma_address = address
        if self._window is not None:
            entry = self._take(pages)
            if entry is None:
                self.failures += 1
                return DMA_MAPPING_ERROR
            first = (self._window.start >> PAGE_SHIFT) + entry
            for number in range(pages):
                self._table[first + number] = (address >> PAGE_SHIFT) + number
            dma_address = first << PAGE_SHIFT | address % PAGE_SIZE
        dev.core.spend(dev.core.op("dma.hypercall_map"), -(-pages // ENTRIES_PER_CALL))
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_device(dev, address, size, direction)
        self.maps += 1
        return dma_address

    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection, attrs: int = 0) -> None:
        """``iommu_unmap_page``, ``tce_freemulti_pSeriesLP``."""
        pages = _pages(dma_address, size)
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_cpu(dev, self.physical(dma_address), size, direction)
        dev.core.spend(dev.core.op("dma.hypercall_unmap"), -(-pages // ENTRIES_PER_CALL))
        if self._window is not None:
            first = dma_address >> PAGE_SHIFT
            for number in range(pages):
                del self._table[first + number]
            entry = first - (self._window.start >> PAGE_SHIFT)
            self._used[entry : entry + pages] = bytes(pages)
        self.unmaps += 1

    def physical(self, dma_address: int) -> int:
        """What the table says, or the address itself. Raises ``ValueError`` where the table says nothing."""
        if self._window is None:
            return dma_address
        page = self._table.get(dma_address >> PAGE_SHIFT)
        if page is None:
            raise ValueError(f"{dma_address:#x} is not mapped")
        return page << PAGE_SHIFT | dma_address % PAGE_SIZE

    def _take(self, pages: int) -> int | None:
        """The first free entries in a row, from the hint on, then from the beginning."""
        entry = self._used.find(bytes(pages), self._hint)
        if entry < 0:
            entry = self._used.find(bytes(pages))
        if entry < 0:
            return None
        self._used[entry : entry + pages] = b"\1" * pages
        self._hint = entry + pages
        return entry


def _pages(address: int, size: int) -> int:
    return (address % PAGE_SIZE + size + PAGE_SIZE - 1) >> PAGE_SHIFT
