# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API: how memory is handed to a device and back.

Names, arguments and rules are the kernel's (``Documentation/core-api/dma-api.rst``). How an address is made is the
business of a :class:`DmaOps`: :class:`DirectDma` here, where the device sees physical addresses; IOMMU modes add
others.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from driver_model.memory.page import Page
from driver_model.memory.pages import MAX_PAGE_ORDER, PageAllocator

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.ownership import OwnershipChecker

DMA_MAPPING_ERROR = (1 << 64) - 1


class DmaDirection(IntEnum):
    """Which way the bytes go, with the kernel's values."""

    BIDIRECTIONAL = 0
    TO_DEVICE = 1
    FROM_DEVICE = 2
    NONE = 3


class DmaOps(ABC):
    """How a device's addresses come about. Costs that every mode has are charged by the DMA API itself; those of a mode
    go to the core whose ``dev`` is given."""

    @abstractmethod
    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection) -> int:
        """Device address for a physical range, or :data:`DMA_MAPPING_ERROR`."""

    @abstractmethod
    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Take it back."""

    @abstractmethod
    def physical(self, dma_address: int) -> int:
        """Physical address behind a device address."""


class DirectDma(DmaOps):
    """No IOMMU: the device address is the physical one. A range beyond the device's address mask cannot be mapped.

    Parameters
    ----------
    mask : highest address that the device can drive (``dma_set_mask``)
    """

    def __init__(self, mask: int = (1 << 64) - 1) -> None:
        if not isinstance(mask, int) or isinstance(mask, bool):
            raise TypeError(f"DMA mask must be an integer, not {mask!r}")
        if mask <= 0 or mask & (mask + 1):
            raise ValueError(f"DMA mask must be a power of two less one, not {mask!r}")
        self.mask = mask

    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection) -> int:
        """The address itself, if the device reaches the whole range."""
        return address if address + size - 1 <= self.mask else DMA_MAPPING_ERROR

    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Nothing to take back."""

    def physical(self, dma_address: int) -> int:
        """The address itself."""
        return dma_address


class Device:
    """``struct device``: the device as code on one core uses it.

    Each core that handles one of its queues has a ``Device`` of its own, all with the same ``ops`` and ``checker``.

    Parameters
    ----------
    core : the core whose time the calls take
    pages : the core's page allocator, for coherent memory
    ops : how addresses are made
    checker : the ownership checker, or None to run without
    """

    __slots__ = ("checker", "core", "map_errors", "op_map", "op_sync_cpu", "op_sync_device", "op_unmap", "ops", "pages")

    def __init__(
        self, core: "Core", pages: PageAllocator, ops: DmaOps | None = None, checker: "OwnershipChecker | None" = None
    ) -> None:
        self.core = core
        self.pages = pages
        self.ops = DirectDma() if ops is None else ops
        self.checker = checker
        self.map_errors = 0
        self.op_map = core.op("dma.map")
        self.op_unmap = core.op("dma.unmap")
        self.op_sync_cpu = core.op("dma.sync_for_cpu")
        self.op_sync_device = core.op("dma.sync_for_device")


def dma_map_single(dev: Device, address: int, size: int, direction: DmaDirection) -> int:
    """Give ``size`` bytes at a physical address to the device. Returns the device's address for them, or
    :data:`DMA_MAPPING_ERROR`, which the caller must test with :func:`dma_mapping_error`."""
    if size <= 0 or direction is DmaDirection.NONE:
        raise ValueError(f"A mapping needs a positive size and a direction, not {size!r} and {direction!r}")
    dev.core.spend(dev.op_map)
    dma_address = dev.ops.map(dev, address, size, direction)
    if dma_address == DMA_MAPPING_ERROR:
        dev.map_errors += 1
    elif dev.checker is not None:
        dev.checker.mapped(dev.core, dma_address, address, size, direction)
    return dma_address


def dma_map_page(dev: Device, page: Page, offset: int, size: int, direction: DmaDirection) -> int:
    """As :func:`dma_map_single`, for a part of a page."""
    return dma_map_single(dev, page.address + offset, size, direction)


def dma_mapping_error(dev: Device, dma_address: int) -> bool:
    """Whether a map call failed. Must be asked before the address is used."""
    if dma_address == DMA_MAPPING_ERROR:
        return True
    if dev.checker is not None:
        dev.checker.mapping_tested(dma_address)
    return False


def dma_unmap_single(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """Take a whole mapping back from the device; size and direction as they were given to map."""
    dev.core.spend(dev.op_unmap)
    if dev.checker is not None:
        dev.checker.unmapped(dev.core, dma_address, size, direction)
    dev.ops.unmap(dev, dma_address, size, direction)


dma_unmap_page = dma_unmap_single


def dma_sync_single_for_cpu(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """Hand ``size`` bytes of a live mapping to the CPU; the mapping stays."""
    dev.core.spend(dev.op_sync_cpu)
    if dev.checker is not None:
        dev.checker.synced_for_cpu(dev.core, dma_address, size, direction)


def dma_sync_single_for_device(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """Hand ``size`` bytes of a live mapping to the device again."""
    dev.core.spend(dev.op_sync_device)
    if dev.checker is not None:
        dev.checker.synced_for_device(dev.core, dma_address, size, direction)


@dataclass(frozen=True, slots=True)
class Coherent:
    """Memory that CPU and device may both touch at any time, such as a ring."""

    address: int  #: where the CPU finds it
    dma_address: int  #: where the device finds it
    size: int
    page: Page


def dma_alloc_coherent(dev: Device, size: int) -> Coherent | None:
    """Zeroed, page-aligned memory shared with the device, or None when there is none."""
    order = dev.pages.get_order(size)
    if size <= 0 or order > MAX_PAGE_ORDER:
        raise ValueError(f"Coherent memory must be 1..{dev.pages.page_size << MAX_PAGE_ORDER} bytes, not {size!r}")
    page = dev.pages.alloc_pages(order)
    if page is None:
        return None
    dev.core.store(page.address, bytes(page.size))
    dma_address = dev.ops.map(dev, page.address, page.size, DmaDirection.BIDIRECTIONAL)
    if dma_address == DMA_MAPPING_ERROR:
        dev.map_errors += 1
        dev.pages.put_page(page)
        return None
    if dev.checker is not None:
        dev.checker.coherent_allocated(dev.core, dma_address, page)
    return Coherent(page.address, dma_address, size, page)


def dma_free_coherent(dev: Device, memory: Coherent) -> None:
    """Give coherent memory back. The device must have stopped using it."""
    if dev.checker is not None:
        dev.checker.coherent_freed(dev.core, memory.dma_address)
    dev.ops.unmap(dev, memory.dma_address, memory.page.size, DmaDirection.BIDIRECTIONAL)
    dev.pages.put_page(memory.page)
