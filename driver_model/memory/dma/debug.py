# SPDX-License-Identifier: BSD-2-Clause
"""``CONFIG_DMA_API_DEBUG``: what a driver asks of the DMA API, checked call by call (``kernel/dma/debug.c``)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from driver_model.memory.dma.api import DMA_MAPPING_ERROR, DmaDirection
from driver_model.memory.dma.mapping import Kind, Mapping, MappingTable
from driver_model.memory.pages.kernel_map import Area, KernelMap
from driver_model.memory.pages.page import PAGE_SHIFT
from driver_model.memory.site import caller, told

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

_LINE_SHIFT = 6
_UNMAPPABLE = {
    Area.STACK: "stack",
    Area.TEXT: "kernel text or rodata",
    Area.RODATA: "kernel text or rodata",
    Area.VMALLOC: "vmalloc area",
    Area.INVALID: "invalid area",
}


class DmaDebug:
    """Linux's own rules of the DMA API, in its words, all of them but those of ``dma_map_resource``.

    A report's rule begins with ``DMA-API: ``; its message gives the kernel's figures in brackets, the line, core and
    time of the call, and the mapping with who handed it over last. Two rules see more than the kernel's: overlapping
    mappings are found on every cache line, not only on a mapping's first (as there, what only the device reads does
    not count, nor does a mapping that leaves the caches alone); and a sync that begins in a mapping and passes its end
    is told from one outside of any.

    Parameters
    ----------
    report : told (rule, message)
    table : the mappings, which others add to and take from

    Attributes
    ----------
    kernel_map : the kernel's areas; None checks none
    last_ended : by device address, the mapping that ended there last
    """

    def __init__(self, report: Callable[[str, str], None], table: MappingTable) -> None:
        self.kernel_map: KernelMap | None = None
        self.last_ended: dict[int, Mapping] = {}
        self._report = report
        self._table = table

    # Map

    def check_area(self, core: "Core", address: int, size: int) -> None:
        """Before a range is mapped: ``debug_dma_map_single``, ``check_for_stack``, ``check_for_illegal_area``."""
        if self.kernel_map is not None:
            area = self.kernel_map.area(address, size)
            if area is not Area.DIRECT_MAP:
                self._tell(
                    core, f"device driver maps memory from {_UNMAPPABLE[area]}", f"[addr={address:#x}] [len={size}]"
                )

    def check_segment(self, core: "Core", dma_address: int, length: int, most: int, boundary: int) -> None:
        """An entry of a list was mapped: ``check_sg_segment``."""
        if length > most:
            self._tell(core, "mapping sg segment longer than device claims to support", f"[len={length}] [max={most}]")
        end = dma_address + length - 1
        if (dma_address ^ end) & ~boundary:
            self._tell(
                core,
                "mapping sg segment across boundary",
                f"[start={dma_address:#x}] [end={end:#x}] [boundary={boundary:#x}]",
            )

    def check_overlap(self, core: "Core", address: int, size: int, direction: DmaDirection) -> None:
        """Before a mapping is entered: ``active_cacheline_insert``."""
        if direction is DmaDirection.TO_DEVICE:
            return
        first, last = address >> _LINE_SHIFT, address + size - 1 >> _LINE_SHIFT
        for frame in range(address >> PAGE_SHIFT, (address + size - 1 >> PAGE_SHIFT) + 1):
            for other in self._table.by_frame.get(frame, ()):
                if other.ended is not None or other.direction is DmaDirection.TO_DEVICE:
                    continue
                if other.address >> _LINE_SHIFT <= last and first <= other.stop - 1 >> _LINE_SHIFT:
                    what = f"{address:#x}..{address + size - 1:#x}"
                    rule = "cacheline tracking EEXIST, overlapping mappings aren't supported"
                    self._tell(core, rule, what, other)
                    return

    def mapping_error(self, dma_address: int) -> None:
        """``dma_mapping_error`` was asked about one mapping of this address that it was not yet asked about."""
        for mapping in self._table.live.get(dma_address >> PAGE_SHIFT, ()):
            if mapping.dma_address == dma_address and not mapping.tested:
                mapping.tested = True
                return

    # Unmap

    def unmapped(
        self,
        core: "Core",
        kind: Kind,
        dma_address: int,
        size: int,
        direction: DmaDirection,
        *,
        address: int | None = None,
        entries: int = 0,
    ) -> Mapping | None:
        """``check_unmap``. Returns the mapping that is meant, which has not ended yet, or None."""
        mapping = self._exact(kind, dma_address, size, direction)
        given = f"[device address={dma_address:#x}] [size={size} bytes]"
        if mapping is None:
            self._unmap_of_nothing(core, dma_address, given)
            return None
        if size != mapping.size:
            figures = f"[device address={dma_address:#x}] [map size={mapping.size} bytes] [unmap size={size} bytes]"
            self._tell(core, "device driver frees DMA memory with different size", figures, mapping)
        if kind is not mapping.kind:
            figures = f"{given} [mapped as {mapping.kind.value}] [unmapped as {kind.value}]"
            self._tell(core, "device driver frees DMA memory with wrong function", figures, mapping)
        elif address is not None and address != mapping.address:
            figures = f"{given} [cpu alloc address={mapping.address:#x}] [cpu free address={address:#x}]"
            self._tell(core, "device driver frees DMA memory with different CPU address", figures, mapping)
        if kind is Kind.SG and entries != mapping.entries:
            figures = f"[map count={mapping.entries}] [unmap count={entries}]"
            self._tell(core, "device driver frees DMA sg list with different entry count", figures, mapping)
        if direction is not mapping.direction:
            figures = f"{given} [mapped with {mapping.direction.name}] [unmapped with {direction.name}]"
            self._tell(core, "device driver frees DMA memory with different direction", figures, mapping)
        if not mapping.tested:
            figures = f"{given} [mapped as {mapping.kind.value}]"
            self._tell(core, "device driver failed to check map error", figures, mapping)
        return mapping

    def _unmap_of_nothing(self, core: "Core", dma_address: int, given: str) -> None:
        if dma_address == DMA_MAPPING_ERROR:
            self._tell(core, "device driver tries to free an invalid DMA memory address", given)
            return
        before = self.last_ended.get(dma_address) or self._table.find(dma_address)
        self._tell(core, "device driver tries to free DMA memory it has not allocated", given, before)

    def _exact(self, kind: Kind, dma_address: int, size: int, direction: DmaDirection) -> Mapping | None:
        """``bucket_find_exact``: of several mappings at an address only one that fits in all."""
        found = None
        several = False
        for mapping in self._table.live.get(dma_address >> PAGE_SHIFT, ()):
            if mapping.dma_address == dma_address:
                if mapping.size == size and mapping.direction is direction and mapping.kind is kind:
                    return mapping
                several = found is not None
                found = mapping
        return None if several else found

    # Sync

    def synced(
        self, core: "Core", to_cpu: bool, dma_address: int, size: int, direction: DmaDirection, entries: int = 0
    ) -> Mapping | None:
        """``check_sync``. Returns the mapping that is meant, or None."""
        for mapping in self._table.live.get(dma_address >> PAGE_SHIFT, ()):
            if (
                mapping.direction is direction
                and mapping.dma_address <= dma_address
                and dma_address + size <= mapping.dma_stop
                and not (entries and mapping.entries != entries)
            ):
                return mapping
        return self._check_sync(core, to_cpu, dma_address, size, direction, entries)

    def _check_sync(
        self, core: "Core", to_cpu: bool, dma_address: int, size: int, direction: DmaDirection, entries: int
    ) -> Mapping | None:
        """Not the mapping that the call should mean: what is wrong with the one that it does mean."""
        mapping = self._table.find(dma_address)
        given = f"[device address={dma_address:#x}] [size={size} bytes]"
        if mapping is None:
            before = self.last_ended.get(dma_address)
            self._tell(core, "device driver tries to sync DMA memory it has not allocated", given, before)
            return None
        if dma_address + size > mapping.dma_stop:
            figures = (
                f"[device address={mapping.dma_address:#x}] [allocation size={mapping.size} bytes] "
                f"[sync offset+size={dma_address - mapping.dma_address + size}]"
            )
            self._tell(core, "device driver syncs DMA memory outside allocated range", figures, mapping)
        given += f" [mapped with {mapping.direction.name}] [synced with {direction.name}]"
        if mapping.direction not in (direction, DmaDirection.BIDIRECTIONAL):
            self._tell(core, "device driver syncs DMA memory with different direction", given, mapping)
            if to_cpu and mapping.direction is DmaDirection.TO_DEVICE:
                self._tell(core, "device driver syncs device read-only DMA memory for cpu", given, mapping)
            if not to_cpu and mapping.direction is DmaDirection.FROM_DEVICE:
                self._tell(core, "device driver syncs device write-only DMA memory to device", given, mapping)
        if entries and entries != mapping.entries:
            figures = f"[map count={mapping.entries}] [sync count={entries}]"
            self._tell(core, "device driver syncs DMA sg list with different entry count", figures, mapping)
        return mapping

    # Unbind

    def released(self) -> None:
        """The driver has left its device: ``dma_debug_device_change``."""
        leaked = {id(mapping): mapping for mappings in self._table.live.values() for mapping in mappings}
        if leaked:
            one = next(iter(leaked.values()))
            self._report(
                "DMA-API: device driver has pending DMA allocations while released from device",
                f"[count of leaked entries]={len(leaked)}; one of leaked entries: "
                f"[device address={one.dma_address:#x}] [size={one.size} bytes] [mapped with {one.direction.name}] "
                f"[mapped as {one.kind.value}]: {one}",
            )

    def _tell(self, core: "Core", rule: str, figures: str, mapping: Mapping | None = None) -> None:
        about = "" if mapping is None else f": {mapping}"
        self._report(f"DMA-API: {rule}", f"{figures} at {told(caller())} on core {core.index}, {core.time} ps{about}")
