# SPDX-License-Identifier: BSD-2-Clause
"""Mapping lists of buffers at once (``dma_map_sg``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    Device,
    DmaDirection,
)
from driver_model.memory.pages.page import Page


@dataclass(slots=True)
class Scatterlist:
    """``struct scatterlist``: a part of a page and, once mapped, where the device finds it."""

    page: Page
    offset: int
    length: int
    dma_address: int = DMA_MAPPING_ERROR

    @property
    def address(self) -> int:
        """Physical address of the first byte (``sg_phys``)."""
        return self.page.address + self.offset


def dma_set_max_seg_size(dev: Device, size: int) -> None:
    """The longest entry that the device takes; 64 KiB by default."""
    if size <= 0:
        raise ValueError(f"Segment size must be positive, not {size!r}")
    dev.max_seg_size = size


def dma_set_seg_boundary(dev: Device, mask: int) -> None:
    """The device takes no entry that crosses a multiple of ``mask + 1``; 4 GiB by default."""
    if mask <= 0 or mask & (mask + 1):
        raise ValueError(f"Segment boundary mask must be a power of two less one, not {mask!r}")
    dev.seg_boundary = mask


def dma_map_sg(dev: Device, sgl: Sequence[Scatterlist], direction: DmaDirection, attrs: int = 0) -> int:
    """Give all entries to the device, in place. Returns how many there are for it; 0, with nothing mapped, where one
    could not be mapped.

    No entries are joined (as in ``dma_direct_map_sg``; an IOMMU could). Each is charged as a mapping of its own.
    Neither maximum nor boundary is enforced, as in the kernel: a list is made to fit, and DMA_API_DEBUG looks.
    """
    if direction is DmaDirection.NONE or not sgl or any(entry.length <= 0 for entry in sgl):
        raise ValueError(f"A list needs entries of positive length and a direction, not {sgl!r} and {direction!r}")
    checker = dev.checker
    for done, entry in enumerate(sgl):
        if checker is not None:
            checker.dma_debug.check_area(dev.core, entry.address, entry.length)
        dev.core.spend(dev.op_map)
        entry.dma_address = dev.ops.map(dev, entry.address, entry.length, direction, attrs)
        if entry.dma_address == DMA_MAPPING_ERROR:
            dev.map_errors += 1
            for mapped in sgl[:done]:
                dev.core.spend(dev.op_unmap)
                dev.ops.unmap(dev, mapped.dma_address, mapped.length, direction, attrs | DMA_ATTR_SKIP_CPU_SYNC)
                mapped.dma_address = DMA_MAPPING_ERROR
            return 0
    if checker is not None:
        skip = bool(attrs & DMA_ATTR_SKIP_CPU_SYNC)
        for entry in sgl:
            checker.dma_debug.check_segment(
                dev.core, entry.dma_address, entry.length, dev.max_seg_size, dev.seg_boundary
            )
            bus = dev.ops.physical(entry.dma_address) - entry.address if dev.ops.bounces else 0
            checker.mapped(
                dev.core,
                entry.dma_address,
                entry.address,
                entry.length,
                direction,
                bus=bus,
                entries=len(sgl),
                overlaps=skip,
            )
    return len(sgl)


def dma_unmap_sg(dev: Device, sgl: Sequence[Scatterlist], direction: DmaDirection, attrs: int = 0) -> None:
    """Take all entries back: the whole list that was mapped."""
    for entry in sgl:
        dev.core.spend(dev.op_unmap)
        if dev.checker is not None:
            dev.checker.unmapped(dev.core, entry.dma_address, entry.length, direction, entries=len(sgl))
        dev.ops.unmap(dev, entry.dma_address, entry.length, direction, attrs)
        entry.dma_address = DMA_MAPPING_ERROR


def dma_sync_sg_for_cpu(dev: Device, sgl: Sequence[Scatterlist], direction: DmaDirection) -> None:
    """Hand all entries to the CPU; the mappings stay."""
    if dev.charge_sync:
        dev.core.spend(dev.op_sync_cpu, len(sgl))
    for entry in sgl:
        if dev.checker is not None:
            dev.checker.synced_for_cpu(dev.core, entry.dma_address, entry.length, direction, len(sgl))
        if dev.must_sync:
            dev.ops.sync_for_cpu(dev, entry.dma_address, entry.length, direction)


def dma_sync_sg_for_device(dev: Device, sgl: Sequence[Scatterlist], direction: DmaDirection) -> None:
    """Hand all entries to the device again."""
    if dev.charge_sync:
        dev.core.spend(dev.op_sync_device, len(sgl))
    for entry in sgl:
        if dev.checker is not None:
            dev.checker.synced_for_device(dev.core, entry.dma_address, entry.length, direction, len(sgl))
        if dev.must_sync:
            dev.ops.sync_for_device(dev, entry.dma_address, entry.length, direction)
