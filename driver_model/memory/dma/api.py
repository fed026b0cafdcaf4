# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API: how memory is handed to a device and back.

Names, arguments and rules are the kernel's (``Documentation/core-api/dma-api.rst``). How an address is made is the
business of a :class:`DmaOps`: :class:`DirectDma` here, where the device sees physical addresses; IOMMU modes add
others.
"""

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar

from driver_model.memory.page_pool.list import PagePools
from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.page import Page

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.ownership import OwnershipChecker

DMA_MAPPING_ERROR = (1 << 64) - 1
DMA_ATTR_SKIP_CPU_SYNC = 1 << 5  #: leave the CPU caches and bounce buffers alone: a sync comes later, or came before
DEFAULT_MAX_SEG_SIZE = 64 << 10
DEFAULT_SEG_BOUNDARY = (1 << 32) - 1


class DmaDirection(IntEnum):
    """Which way the bytes go, with the kernel's values."""

    BIDIRECTIONAL = 0
    TO_DEVICE = 1
    FROM_DEVICE = 2
    NONE = 3


class DmaOps(ABC):
    """How a device's addresses come about. Costs that every mode has are charged by the DMA API itself; those of a mode
    go to the core whose ``dev`` is given.

    On a machine that is not coherent, mapping and unmapping also hand the bytes over between memory and the CPU caches,
    unless ``attrs`` has :data:`DMA_ATTR_SKIP_CPU_SYNC`; the sync functions do nothing else.
    """

    bounces: ClassVar[bool] = False  #: the device may be given other memory than the buffer's

    @abstractmethod
    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        """Device address for a physical range, or :data:`DMA_MAPPING_ERROR`."""

    @abstractmethod
    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection, attrs: int = 0) -> None:
        """Take it back."""

    @abstractmethod
    def physical(self, dma_address: int) -> int:
        """Physical address behind a device address."""

    def map_coherent(self, dev: "Device", address: int, size: int) -> int:
        """Device address for memory that both sides use at any time, or :data:`DMA_MAPPING_ERROR`."""
        return self.map(dev, address, size, DmaDirection.BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC)

    def sync_for_cpu(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Make the CPU see what the device wrote."""
        arch_sync_dma_for_cpu(dev, self.physical(dma_address), size, direction)

    def sync_for_device(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Make the device see what the CPU wrote."""
        arch_sync_dma_for_device(dev, self.physical(dma_address), size, direction)

    def need_sync(self, dma_address: int) -> bool:
        """Whether the mapping at an address is of other memory than the buffer's."""
        return False


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

    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        """The address itself, if the device reaches the whole range (``dma_direct_map_page``)."""
        if address + size - 1 > self.mask:
            return DMA_MAPPING_ERROR
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_device(dev, address, size, direction)
        return address

    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection, attrs: int = 0) -> None:
        """Nothing to take back but the bytes (``dma_direct_unmap_page``)."""
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_cpu(dev, dma_address, size, direction)

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
    page_pools : the kernel's page_pools, or None for a list of its own
    skip_sync : syncs that have nothing to do are found out inline and cost nothing (``dma_skip_sync``, Linux 6.10)

    Attributes
    ----------
    must_sync : syncs have something to do: the machine is not coherent, or buffers may be bounced
    max_seg_size, seg_boundary : see :func:`dma_set_max_seg_size`, :func:`dma_set_seg_boundary`
    map_errors : map calls that failed
    """

    __slots__ = (
        "_ops",
        "_skip_sync",
        "charge_sync",
        "checker",
        "core",
        "map_errors",
        "max_seg_size",
        "must_sync",
        "op_map",
        "op_sync_cpu",
        "op_sync_device",
        "op_unmap",
        "page_pools",
        "pages",
        "seg_boundary",
    )

    def __init__(
        self,
        core: "Core",
        pages: PageAllocator,
        ops: DmaOps | None = None,
        checker: "OwnershipChecker | None" = None,
        page_pools: PagePools | None = None,
        *,
        skip_sync: bool = False,
    ) -> None:
        self.core = core
        self.pages = pages
        self._skip_sync = skip_sync
        self.page_pools = PagePools() if page_pools is None else page_pools
        self.ops = DirectDma() if ops is None else ops
        self.checker = checker
        self.map_errors = 0
        self.max_seg_size = DEFAULT_MAX_SEG_SIZE
        self.seg_boundary = DEFAULT_SEG_BOUNDARY
        self.op_map = core.op("dma.map")
        self.op_unmap = core.op("dma.unmap")
        self.op_sync_cpu = core.op("dma.sync_for_cpu")
        self.op_sync_device = core.op("dma.sync_for_device")

    @property
    def ops(self) -> DmaOps:
        """How addresses are made."""
        return self._ops

    @ops.setter
    def ops(self, ops: DmaOps) -> None:
        self._ops = ops
        self.must_sync = self.core.cache is not None or ops.bounces
        self.charge_sync = self.must_sync or not self._skip_sync


def arch_sync_dma_for_device(dev: Device, address: int, size: int, direction: DmaDirection) -> None:
    """Write the CPU's bytes back to memory, where the machine is not coherent: arm64's clean, in every direction, or
    what it did before (:attr:`driver_model.cpu.noncoherent.CoreCache.discards`)."""
    if dev.core.cache is not None:
        dev.core.cache.hand_over(address, size, direction is DmaDirection.FROM_DEVICE)


def arch_sync_dma_for_cpu(dev: Device, address: int, size: int, direction: DmaDirection) -> None:
    """Drop what the CPU caches hold of memory that the device may have written, where the machine is not coherent:
    arm64's invalidate. What the CPU wrote since the range was the device's is destroyed."""
    if dev.core.cache is not None and direction is not DmaDirection.TO_DEVICE:
        dev.core.cache.invalidate(address, size)


def dma_map_single_attrs(dev: Device, address: int, size: int, direction: DmaDirection, attrs: int) -> int:
    """Give ``size`` bytes at a physical address to the device. Returns the device's address for them, or
    :data:`DMA_MAPPING_ERROR`, which the caller must test with :func:`dma_mapping_error`.

    ``attrs`` is 0 or :data:`DMA_ATTR_SKIP_CPU_SYNC`: then the bytes are not handed over, a sync has to do it.
    """
    if size <= 0 or direction is DmaDirection.NONE:
        raise ValueError(f"A mapping needs a positive size and a direction, not {size!r} and {direction!r}")
    if dev.checker is not None:
        dev.checker.dma_debug.check_area(dev.core, address, size)
    dev.core.spend(dev.op_map)
    dma_address = dev.ops.map(dev, address, size, direction, attrs)
    if dma_address == DMA_MAPPING_ERROR:
        dev.map_errors += 1
    elif dev.checker is not None:
        bus = dev.ops.physical(dma_address) - address if dev.ops.bounces else 0
        skip = bool(attrs & DMA_ATTR_SKIP_CPU_SYNC)
        dev.checker.mapped(dev.core, dma_address, address, size, direction, bus=bus, overlaps=skip)
    return dma_address


def dma_map_single(dev: Device, address: int, size: int, direction: DmaDirection) -> int:
    """:func:`dma_map_single_attrs` without attributes."""
    return dma_map_single_attrs(dev, address, size, direction, 0)


def dma_map_page_attrs(dev: Device, page: Page, offset: int, size: int, direction: DmaDirection, attrs: int) -> int:
    """As :func:`dma_map_single_attrs`, for a part of a page."""
    return dma_map_single_attrs(dev, page.address + offset, size, direction, attrs)


def dma_map_page(dev: Device, page: Page, offset: int, size: int, direction: DmaDirection) -> int:
    """:func:`dma_map_page_attrs` without attributes."""
    return dma_map_single_attrs(dev, page.address + offset, size, direction, 0)


def dma_mapping_error(dev: Device, dma_address: int) -> bool:
    """Whether a map call failed. Must be asked before the address is used."""
    if dma_address == DMA_MAPPING_ERROR:
        return True
    if dev.checker is not None:
        dev.checker.dma_debug.mapping_error(dma_address)
    return False


def dma_unmap_single_attrs(dev: Device, dma_address: int, size: int, direction: DmaDirection, attrs: int) -> None:
    """Take a whole mapping back from the device; size and direction as they were given to map.

    With :data:`DMA_ATTR_SKIP_CPU_SYNC` the CPU need not see what the device wrote since the last sync.
    """
    dev.core.spend(dev.op_unmap)
    if dev.checker is not None:
        dev.checker.unmapped(dev.core, dma_address, size, direction)
    dev.ops.unmap(dev, dma_address, size, direction, attrs)


def dma_unmap_single(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """:func:`dma_unmap_single_attrs` without attributes."""
    dma_unmap_single_attrs(dev, dma_address, size, direction, 0)


dma_unmap_page_attrs = dma_unmap_single_attrs
dma_unmap_page = dma_unmap_single


def dma_need_sync(dev: Device, dma_address: int) -> bool:
    """Whether a mapping's syncs have anything to do. Where they have not, a driver may leave them out."""
    return dev.core.cache is not None or dev.ops.need_sync(dma_address)


def dma_sync_single_for_cpu(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """Hand ``size`` bytes of a live mapping to the CPU; the mapping stays."""
    if dev.charge_sync:
        dev.core.spend(dev.op_sync_cpu)
    if dev.checker is not None:
        dev.checker.synced_for_cpu(dev.core, dma_address, size, direction)
    if dev.must_sync:
        dev.ops.sync_for_cpu(dev, dma_address, size, direction)


def dma_sync_single_for_device(dev: Device, dma_address: int, size: int, direction: DmaDirection) -> None:
    """Hand ``size`` bytes of a live mapping to the device again."""
    if dev.charge_sync:
        dev.core.spend(dev.op_sync_device)
    if dev.checker is not None:
        dev.checker.synced_for_device(dev.core, dma_address, size, direction)
    if dev.must_sync:
        dev.ops.sync_for_device(dev, dma_address, size, direction)


def dma_sync_single_range_for_cpu(
    dev: Device, dma_address: int, offset: int, size: int, direction: DmaDirection
) -> None:
    """:func:`dma_sync_single_for_cpu` of bytes that begin ``offset`` behind a mapping's address."""
    dma_sync_single_for_cpu(dev, dma_address + offset, size, direction)


def dma_sync_single_range_for_device(
    dev: Device, dma_address: int, offset: int, size: int, direction: DmaDirection
) -> None:
    """:func:`dma_sync_single_for_device` of bytes that begin ``offset`` behind a mapping's address."""
    dma_sync_single_for_device(dev, dma_address + offset, size, direction)
