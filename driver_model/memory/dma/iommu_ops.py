# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API through an IOMMU (``drivers/iommu/dma-iommu.c``), in the modes ``strict`` and ``lazy``.

Mode ``passthrough`` needs no operations of its own: the device is attached without translation, and its addresses are
those of :class:`driver_model.memory.dma.api.DirectDma`.
"""

from typing import TYPE_CHECKING

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    DmaDirection,
    DmaOps,
    arch_sync_dma_for_cpu,
    arch_sync_dma_for_device,
)
from driver_model.memory.dma.domain import IommuDomain
from driver_model.memory.dma.flush_queue import FlushQueue
from driver_model.memory.dma.iova import IovaDomain
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from driver_model.memory.dma.api import Device


class IommuDma(DmaOps):
    """A mapping is a range of I/O virtual addresses whose page table entries point to the buffer's pages.

    Unmapping clears the entries first. Without a flush queue (``strict``) it then waits until the IOMMU has forgotten
    the range and every access by way of it is done, and frees the range: nothing is reachable after unmap returns. With
    one (``lazy``) the range is queued: until the next flush the device may still reach the old page, and the range is
    not handed out again before.

    What is mapped for the device to write, it may read as well (see
    :class:`driver_model.memory.dma.page_table.PageTable`). As in the kernel, memory beside the buffer in its pages is
    reachable too. On a coherent machine sync functions have nothing to do.

    Parameters
    ----------
    domain : the address space that the device is attached to
    iova : allocator of its addresses
    flush_queue : of mode ``lazy``; None for ``strict``

    Attributes
    ----------
    maps, unmaps, failures : calls, and maps that found no room or no memory
    """

    def __init__(self, domain: IommuDomain, iova: IovaDomain, flush_queue: FlushQueue | None = None) -> None:
        if iova.limit << PAGE_SHIFT >= domain.table.limit:
            raise ValueError(
                f"The highest IOVA must be below {domain.table.limit:#x}, where the table ends, "
                f"not {(iova.limit << PAGE_SHIFT) + PAGE_SIZE - 1:#x}"
            )
        self.domain = domain
        self.iova = iova
        self.flush_queue = flush_queue
        self.maps = 0
        self.unmaps = 0
        self.failures = 0

    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        """``iommu_dma_map_page``."""
        offset = address % PAGE_SIZE
        pages = _pages(offset + size)
        pfn = self.iova.alloc(dev.core, pages)
        if pfn is None:
            self.failures += 1
            return DMA_MAPPING_ERROR
        writable = direction is not DmaDirection.TO_DEVICE
        iova = pfn << PAGE_SHIFT
        if not self.domain.map(dev, iova, address - offset, pages << PAGE_SHIFT, writable=writable):
            self.iova.free(dev.core, pfn, pages)
            self.failures += 1
            return DMA_MAPPING_ERROR
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_device(dev, address, size, direction)
        self.maps += 1
        return iova + offset

    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection, attrs: int = 0) -> None:
        """``iommu_dma_unmap_page``."""
        if dev.core.cache is not None and not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_cpu(dev, self.physical(dma_address), size, direction)
        offset = dma_address % PAGE_SIZE
        pages = _pages(offset + size)
        iova = dma_address - offset
        self.unmaps += 1
        if self.flush_queue is not None and dev.checker is not None:
            dev.checker.flush_deferred(dma_address)  # first: accesses may be judged while the tables change
        self.domain.unmap(dev, iova, pages << PAGE_SHIFT)
        if self.flush_queue is None:
            self.domain.flush_range(dev, iova, pages << PAGE_SHIFT)
            self.iova.free(dev.core, iova >> PAGE_SHIFT, pages)
        else:
            self.flush_queue.add(dev, dma_address, pages)

    def physical(self, dma_address: int) -> int:
        """Where the tables say that a device address is."""
        leaf = self.domain.lookup(dma_address)
        if leaf is None:
            raise ValueError(f"{dma_address:#x} is not mapped")
        return leaf.physical

    def drain(self, dev: "Device") -> None:
        """Free what waits for a flush."""
        if self.flush_queue is not None:
            self.flush_queue.drain(dev)

    def statistics(self) -> dict[str, int]:
        """What the software did, under names for results."""
        queue = self.flush_queue
        return {
            "iommu_maps": self.maps,
            "iommu_unmaps": self.unmaps,
            "iommu_map_failures": self.failures,
            "iommu_table_writes": self.domain.table.statistics.writes,
            "iommu_table_pages": self.domain.table.statistics.tables,
            "iova_cache_hits": self.iova.cache_hits,
            "iova_tree_allocs": self.iova.tree_allocs,
            "iova_tree_frees": self.iova.tree_frees,
            "iova_tree_steps": self.iova.tree_steps,
            "iova_cache_flushes": self.iova.flushes,
            "iommu_queued": 0 if queue is None else queue.queued,
            "iommu_queue_flushes": 0 if queue is None else queue.flushes,
            "iommu_queue_timeouts": 0 if queue is None else queue.timeouts,
        }


def _pages(size: int) -> int:
    return -(-size // PAGE_SIZE)
