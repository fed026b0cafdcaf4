# SPDX-License-Identifier: BSD-2-Clause
"""An address space that an IOMMU gives to devices (``struct iommu_domain``)."""

from typing import TYPE_CHECKING, Protocol

from driver_model.memory.dma.page_table import DEFAULT_PAGE_SIZES, Leaf, PageTable

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device


class Invalidator(Protocol):
    """Who makes hardware forget translations. Both return when no access can use an old one any more."""

    def invalidate_range(self, core: "Core", pscid: int, iova: int, size: int) -> None:
        """Forget the leaves of a range of an address space."""

    def invalidate_space(self, core: "Core", pscid: int) -> None:
        """Forget all that is known of an address space, tables included."""


class IommuDomain:
    """A first-stage page table with the number (PSCID) that tags what hardware caches of it.

    Parameters
    ----------
    dev : the device as the core sees it that makes the domain
    pscid : its number, unique among live domains
    iommu : who invalidates
    levels, page_sizes : see :class:`driver_model.memory.dma.page_table.PageTable`
    """

    def __init__(
        self,
        dev: "Device",
        pscid: int,
        iommu: Invalidator,
        levels: int = 3,
        page_sizes: tuple[int, ...] = DEFAULT_PAGE_SIZES,
    ) -> None:
        self.pscid = pscid
        self.iommu = iommu
        self.table = PageTable(dev, levels, page_sizes)

    def map(self, dev: "Device", iova: int, physical: int, size: int, *, writable: bool) -> bool:
        """Map whole pages (``iommu_map``). Returns False, with nothing mapped, when there is no memory for tables."""
        dev.core.spend(dev.core.op("iommu.map"))
        replaced = self.table.map(dev, iova, physical, size, writable=writable)
        if replaced is None:
            self._unwind(dev, iova, size)
            return False
        if replaced:
            self.flush_all(dev)
            for page in replaced:
                self.table.release(dev, page)
        return True

    def unmap(self, dev: "Device", iova: int, size: int) -> None:
        """Take whole pages away from tables (``iommu_unmap_fast``): what is cached of them still works until one of the
        flushes below."""
        dev.core.spend(dev.core.op("iommu.unmap"))
        self.table.unmap(dev, iova, size)

    def flush_range(self, dev: "Device", iova: int, size: int) -> None:
        """Wait until no access can use what a range was mapped to (``iommu_iotlb_sync``)."""
        self.iommu.invalidate_range(dev.core, self.pscid, iova, size)

    def flush_all(self, dev: "Device") -> None:
        """Wait until no access can use what anything was mapped to (``iommu_flush_iotlb_all``)."""
        self.iommu.invalidate_space(dev.core, self.pscid)

    def lookup(self, iova: int) -> Leaf | None:
        """What the tables say of an address."""
        return self.table.lookup(iova)

    def free(self, dev: "Device") -> None:
        """Give the tables back; no device may be attached."""
        self.flush_all(dev)
        self.table.free(dev)

    def _unwind(self, dev: "Device", iova: int, size: int) -> None:
        """Unmap the part of a range that was mapped before memory ran out."""
        stop = iova + size
        while iova < stop and (leaf := self.table.lookup(iova)) is not None:
            self.table.unmap(dev, iova, leaf.size)
            iova += leaf.size
        self.flush_all(dev)  # also what leads to a table in whose place a larger page was for a while
