# SPDX-License-Identifier: BSD-2-Clause
"""Bounce buffers: memory that a device reaches in place of memory that it does not (``kernel/dma/swiotlb.c``)."""

from typing import TYPE_CHECKING, ClassVar

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    DirectDma,
    DmaDirection,
    arch_sync_dma_for_cpu,
    arch_sync_dma_for_device,
)
from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.page import Page

if TYPE_CHECKING:
    from driver_model.memory.dma.api import Device

IO_TLB_SHIFT = 11
IO_TLB_SIZE = 1 << IO_TLB_SHIFT  #: bytes of a slot
IO_TLB_SEGSIZE = 128  #: slots of a segment; a buffer lies in one
SEGMENT_BYTES = IO_TLB_SIZE * IO_TLB_SEGSIZE
_LINE = 64


class BouncePool:
    """``struct io_tlb_mem``: slots of 2 KiB, in contiguous segments of 128.

    A buffer takes as many slots as it needs, next to each other; one of a page or more begins at a page. Segments are
    tried in turn, from the one that the last buffer came from.

    Parameters
    ----------
    pages : whose memory it is, for as long as the machine runs
    slots : how many, a multiple of 128

    Attributes
    ----------
    segments : their memory
    used : slots in use
    """

    def __init__(self, pages: PageAllocator, slots: int) -> None:
        if not isinstance(slots, int) or isinstance(slots, bool):
            raise TypeError(f"slots must be an integer, not {slots!r}")
        if slots <= 0 or slots % IO_TLB_SEGSIZE:
            raise ValueError(f"slots must be a positive multiple of {IO_TLB_SEGSIZE}, not {slots!r}")
        self.slots = slots
        self.used = 0
        self.segments: list[Page] = []
        for _ in range(slots // IO_TLB_SEGSIZE):
            page = pages.alloc_pages(pages.get_order(SEGMENT_BYTES))
            if page is None:
                self.exit(pages)
                raise MemoryError(f"No memory for {slots} bounce slots of {IO_TLB_SIZE} bytes")
            self.segments.append(page)
        self._numbers = {page.address: number for number, page in enumerate(self.segments)}
        self._free = [(1 << IO_TLB_SEGSIZE) - 1] * len(self.segments)
        self._next = 0
        self._page_size = pages.page_size
        slots_of_a_page = self._page_size >> IO_TLB_SHIFT
        self._page_starts = sum(1 << slot for slot in range(0, IO_TLB_SEGSIZE, slots_of_a_page))

    def alloc(self, size: int) -> int | None:
        """Physical address of slots for so many bytes, or None (``swiotlb_find_slots``)."""
        count = -(-size >> IO_TLB_SHIFT)
        for step in range(len(self.segments)):
            number = (self._next + step) % len(self.segments)
            runs = free = self._free[number]
            for further in range(1, count):
                runs &= free >> further
            if size >= self._page_size:
                runs &= self._page_starts
            if runs:
                slot = (runs & -runs).bit_length() - 1
                self._free[number] ^= (1 << count) - 1 << slot
                self._next = number
                self.used += count
                return self.segments[number].address + (slot << IO_TLB_SHIFT)
        return None

    def free(self, address: int, size: int) -> None:
        """Give them back (``swiotlb_release_slots``)."""
        count = -(-size >> IO_TLB_SHIFT)
        segment = address & -SEGMENT_BYTES
        self._free[self._numbers[segment]] |= (1 << count) - 1 << (address - segment >> IO_TLB_SHIFT)
        self.used -= count

    def exit(self, pages: PageAllocator) -> None:
        """Give the memory back (``swiotlb_exit``). Raises ``RuntimeError`` while slots are in use."""
        if self.used:
            raise RuntimeError(f"{self.used} bounce slots are in use")
        for page in self.segments:
            pages.put_page(page)
        self.segments.clear()


class BounceDma(DirectDma):
    """The device reaches memory up to its mask; what lies beyond is copied to and from slots that it reaches.

    A mapping's device address is then a slot's. Its bytes go there when it is mapped and at ``sync_for_device`` (not
    where only the device writes), and come back when it is unmapped and at ``sync_for_cpu`` (not where only the device
    reads). Whoever forgets a sync sees stale bytes, and what the CPU wrote to a buffer that the device writes is lost
    at the next. A mapping that only the device writes is filled as well, so that bytes which the device leaves alone
    come back as they were, and not what the slot held before (since Linux 5.18, commits ddbd89deb7d3 and 901c7280ca0d).

    Costs: ``dma.bounce_slot`` to find slots and to free them; each copy ``cpu.copy_line`` a line, from the device also
    the first touch of each line that it wrote. Where no slots are free, or a buffer is longer than a segment (256 KiB),
    mapping fails and counts in ``full``.

    Parameters
    ----------
    pool : the slots, which the device must reach
    mask : highest address that the device can drive
    force : bounce everything (``swiotlb=force``)

    Attributes
    ----------
    bounced, full : mappings that were, and those that found no slots
    copied : bytes, both ways
    warning : what the kernel's log said last about a full pool
    """

    bounces: ClassVar[bool] = True

    def __init__(self, pool: BouncePool, mask: int = (1 << 64) - 1, *, force: bool = False) -> None:
        super().__init__(mask)
        for segment in pool.segments:
            if segment.address + SEGMENT_BYTES - 1 > mask:
                raise ValueError(f"Bounce slots at {segment.address:#x} are beyond the device's mask {mask:#x}")
        self.pool = pool
        self.force = force
        self.bounced = 0
        self.full = 0
        self.copied = 0
        self.warning = ""
        self._slots: dict[int, tuple[int, int]] = {}  # by slot: its part of the buffer, and bytes from there on

    def map(self, dev: "Device", address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        """``dma_direct_map_page``, ``swiotlb_map``."""
        if not self.force and address + size - 1 <= self.mask:
            return super().map(dev, address, size, direction, attrs)
        dev.core.spend(dev.core.op("dma.bounce_slot"))
        slot_address = self.pool.alloc(size)
        if slot_address is None:
            self.full += 1
            total, used = self.pool.slots, self.pool.used
            self.warning = f"swiotlb buffer is full (sz: {size} bytes), total {total} (slots), used {used} (slots)"
            return DMA_MAPPING_ERROR
        self.bounced += 1
        for done in range(0, size, IO_TLB_SIZE):
            self._slots[slot_address + done >> IO_TLB_SHIFT] = (address + done, size - done)
        self._copy(dev, slot_address, address, size)
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            arch_sync_dma_for_device(dev, slot_address, size, direction)
        return slot_address

    def unmap(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection, attrs: int = 0) -> None:
        """``dma_direct_unmap_page``, ``swiotlb_tbl_unmap_single``."""
        if not attrs & DMA_ATTR_SKIP_CPU_SYNC:
            self.sync_for_cpu(dev, dma_address, size, direction)
        slot = self._slots.get(dma_address >> IO_TLB_SHIFT)
        if slot is None or dma_address % IO_TLB_SIZE:
            return
        dev.core.spend(dev.core.op("dma.bounce_slot"))
        self.pool.free(dma_address, slot[1])
        for done in range(0, slot[1], IO_TLB_SIZE):
            del self._slots[dma_address + done >> IO_TLB_SHIFT]

    def map_coherent(self, dev: "Device", address: int, size: int) -> int:
        """Not bounced: it has to be memory that the device reaches."""
        return super().map(dev, address, size, DmaDirection.BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC)

    def sync_for_cpu(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """``dma_direct_sync_single_for_cpu``."""
        arch_sync_dma_for_cpu(dev, dma_address, size, direction)
        buffer = self._buffer(dma_address, size)
        if buffer is not None and direction is not DmaDirection.TO_DEVICE:
            address, length = buffer
            dev.core.spend(dev.core.device_line, _lines(dma_address, length))
            self._copy(dev, address, dma_address, length)

    def sync_for_device(self, dev: "Device", dma_address: int, size: int, direction: DmaDirection) -> None:
        """``dma_direct_sync_single_for_device``."""
        buffer = self._buffer(dma_address, size)
        if buffer is not None and direction is not DmaDirection.FROM_DEVICE:
            address, length = buffer
            self._copy(dev, dma_address, address, length)
        arch_sync_dma_for_device(dev, dma_address, size, direction)

    def need_sync(self, dma_address: int) -> bool:
        """Whether it is a slot's address."""
        return dma_address >> IO_TLB_SHIFT in self._slots

    def _buffer(self, dma_address: int, size: int) -> tuple[int, int] | None:
        """What a slot's address stands for, and how much of a range is in its mapping; None where it is no slot's."""
        slot = self._slots.get(dma_address >> IO_TLB_SHIFT)
        if slot is None:
            return None
        offset = dma_address % IO_TLB_SIZE
        return slot[0] + offset, min(size, slot[1] - offset)

    def _copy(self, dev: "Device", target: int, source: int, size: int) -> None:
        """``swiotlb_bounce``."""
        self.copied += size
        dev.core.spend(dev.core.op("cpu.copy_line"), _lines(target, size))
        dev.core.move_owned(target, source, size)


def _lines(address: int, size: int) -> int:
    return (address % _LINE + size + _LINE - 1) // _LINE
