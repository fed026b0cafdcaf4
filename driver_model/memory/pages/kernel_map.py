# SPDX-License-Identifier: BSD-2-Clause
"""Where in the kernel's address space an address lies, as far as the DMA API asks."""

from enum import Enum

from driver_model.memory.pages.page import PAGE_SIZE

VMALLOC_START, VMALLOC_END = 0xFFFF_C900_0000_0000, 0xFFFF_E900_0000_0000
STACKS_START = VMALLOC_END - (1 << 32)  #: stacks are vmalloc'ed (VMAP_STACK); here at the end of that area
THREAD_SIZE = 16 << 10
TEXT_START, TEXT_END = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8200_0000
RODATA_START, RODATA_END = TEXT_END, 0xFFFF_FFFF_8280_0000


class Area(Enum):
    """A part of the kernel's address space."""

    DIRECT_MAP = "direct map"
    STACK = "stack"
    VMALLOC = "vmalloc area"
    TEXT = "kernel text"
    RODATA = "rodata"
    INVALID = "invalid area"


class KernelMap:
    """The areas of a kernel's address space.

    The direct map is physical memory: an address in it is the physical address, and the only kind that can be mapped.
    The other areas lie above any memory, where x86-64 has them (``Documentation/arch/x86/x86_64/mm.rst``).

    Parameters
    ----------
    memory_size : bytes of memory, from physical address 0, of which the first page is nobody's
    """

    def __init__(self, memory_size: int) -> None:
        if not isinstance(memory_size, int) or isinstance(memory_size, bool):
            raise TypeError(f"Memory size must be an integer, not {memory_size!r}")
        if not PAGE_SIZE < memory_size < VMALLOC_START:
            raise ValueError(f"Memory size must be more than a page and below the kernel's areas, not {memory_size!r}")
        self.memory_size = memory_size

    def area(self, address: int, size: int) -> Area:
        """Where a range lies: in the direct map only as a whole, in text or rodata with any byte."""
        stop = address + size
        if address >= PAGE_SIZE and stop <= self.memory_size:
            return Area.DIRECT_MAP
        if address < TEXT_END and stop > TEXT_START:
            return Area.TEXT
        if address < RODATA_END and stop > RODATA_START:
            return Area.RODATA
        if STACKS_START <= address < VMALLOC_END:
            return Area.STACK
        if VMALLOC_START <= address < VMALLOC_END:
            return Area.VMALLOC
        return Area.INVALID

    def stack(self, core: int) -> int:
        """Address of the stack of what runs on a core."""
        return STACKS_START + core * THREAD_SIZE
