# SPDX-License-Identifier: BSD-2-Clause
"""How the IOMMU's driver reaches registers, and memory that the IOMMU uses."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from driver_model.memory.pages.page import Page
from hw.abi.iommu_registers import iommu_registers

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device

WAIT_PS = 10**10
WAIT_STEP_PS = 10**6


def value_of(member: Any) -> int:
    """The bits of a member of an enumeration of ``hw.abi``; the type checker takes its members for integers."""
    return member.value


class IommuError(RuntimeError):
    """The IOMMU is not what the driver expects, or does not answer in time."""


class IommuRegisters:
    """The registers by name, each accessed in its own width.

    Parameters
    ----------
    base : their offset in the machine's register space
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.registers = iommu_registers()

    def read(self, core: "Core", name: str) -> int:
        """Value of a register."""
        register = self.registers[name]
        return core.mmio_read(self.base + register.offset, register.width // 8)

    def write(self, core: "Core", name: str, **fields: int) -> None:
        """Write a register: these fields, 0 in the others."""
        register = self.registers[name]
        core.mmio_write(self.base + register.offset, register.pack(**fields), register.width // 8)

    def get(self, name: str, word: int, field: str) -> int:
        """One field of a register's value."""
        return self.registers[name].get(word, field)

    def wait(self, core: "Core", name: str, ready: Callable[[int], object], what: str) -> int:
        """Read a register until ``ready(value)``; the value. Raises :class:`IommuError` after 10 ms."""
        deadline = core.time + WAIT_PS
        while not ready(word := self.read(core, name)):
            if core.time >= deadline:
                raise IommuError(f"Waited {WAIT_PS // 10**9} ms for {what}: register {name} is {word:#x}")
            core.spin_until(lambda: False, WAIT_STEP_PS)
        return word

    def allocate(self, dev: "Device", size: int) -> Page:
        """Zeroed memory that the IOMMU reads and writes, aligned to its size. Raises ``MemoryError``."""
        page = dev.pages.alloc_pages(dev.pages.get_order(size))
        if page is None:
            raise MemoryError(f"No {size} bytes of contiguous memory for the IOMMU")
        if dev.checker is not None:
            dev.checker.shared_with_iommu(dev.core, page)
        if dev.core.cache is not None:
            dev.core.cache.make_uncached(page.address, page.size)
        dev.core.store(page.address, bytes(page.size))
        return page

    def release(self, dev: "Device", page: Page) -> None:
        """Give it back; the IOMMU uses it no more."""
        if dev.checker is not None:
            dev.checker.taken_from_iommu(dev.core, page)
        if dev.core.cache is not None:
            dev.core.cache.make_cached(page.address, page.size)
        dev.pages.put_page(page)
