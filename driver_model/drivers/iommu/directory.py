# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's device directory in simulated memory."""

from struct import pack, unpack
from typing import TYPE_CHECKING

from driver_model.drivers.iommu.registers import IommuRegisters, value_of
from driver_model.memory.pages.page import PAGE_SIZE, Page
from hw.abi.codec import Codec
from hw.abi.iommu import (
    CONTEXT_BYTES,
    DIRECTORY_BITS,
    DirectoryEntry,
    DirectoryMode,
    FirstMode,
    FirstStage,
    TranslationAttributes,
    TranslationControl,
)

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device
    from driver_model.memory.dma.domain import IommuDomain

ENTRY_BYTES = 8
_ENTRY = Codec(DirectoryEntry)
_CONTROL = Codec(TranslationControl)
_ATTRIBUTES = Codec(TranslationAttributes)
_FIRST = Codec(FirstStage)
_FIRST_MODES = {3: FirstMode.SV39, 4: FirstMode.SV48}
_MODES = (DirectoryMode.LVL1, DirectoryMode.LVL2, DirectoryMode.LVL3)


class DeviceDirectory:
    """A directory of as few levels as the width of device ids needs (7, 16 and 24 bits); tables below the root are made
    when a device in them is first attached.

    A context's double-word with the valid bit is written last, and taken away first.

    Parameters
    ----------
    dev : as the core sees it that makes the directory
    registers : for memory that the IOMMU uses
    device_id_bits : width of device ids, 1 to 24
    """

    def __init__(self, dev: "Device", registers: IommuRegisters, device_id_bits: int = 24) -> None:
        if not isinstance(device_id_bits, int) or isinstance(device_id_bits, bool):
            raise TypeError(f"device_id_bits must be an integer, not {device_id_bits!r}")
        if not 1 <= device_id_bits <= sum(DIRECTORY_BITS):
            raise ValueError(f"device_id_bits must be in 1..{sum(DIRECTORY_BITS)}, not {device_id_bits!r}")
        self.device_id_bits = device_id_bits
        self.levels = next(n for n in (1, 2, 3) if device_id_bits <= sum(DIRECTORY_BITS[:n]))
        self._registers = registers
        self._pages: list[Page] = []
        self.root = self._new_table(dev)

    @property
    def mode(self) -> int:
        """For ddtp."""
        return value_of(_MODES[self.levels - 1])

    def valid(self, core: "Core", device_id: int) -> bool:
        """Whether a device has a context."""
        at = self._find(core, device_id)
        return at is not None and bool(core.load(at, ENTRY_BYTES)[0] & 1)

    def write(self, dev: "Device", device_id: int, domain: "IommuDomain | None", *, ats: bool = False) -> None:
        """Give a device, which has none, a context: that of a domain, or with None one that translates nothing."""
        at = self._make(dev, device_id)
        first = attributes = bytes(ENTRY_BYTES)
        if domain is not None:
            mode = value_of(_FIRST_MODES[domain.table.levels])
            first = _FIRST.pack(mode=mode, ppn=domain.table.root // PAGE_SIZE)
            attributes = _ATTRIBUTES.pack(pscid=domain.pscid)
        second = bytes(ENTRY_BYTES)
        dev.core.store(at + ENTRY_BYTES, second + attributes + first)
        dev.core.store(at, _CONTROL.pack(v=1, en_ats=ats))

    def set_ats(self, core: "Core", device_id: int, *, ats: bool) -> None:
        """Let a device, which has a context, ask for translations and use them, or not; the IOMMU may know the context
        as it was until it is told."""
        at = self._find(core, device_id)
        if at is None:
            raise ValueError(f"Device {device_id!r} has no context")
        control = _CONTROL.unpack(core.load(at, ENTRY_BYTES))
        core.store(at, _CONTROL.pack(**control._asdict() | {"en_ats": ats}))

    def clear(self, core: "Core", device_id: int) -> None:
        """Take a device's context away; the IOMMU may know it until it is told."""
        at = self._find(core, device_id)
        if at is not None:
            core.store(at, bytes(ENTRY_BYTES))

    def free(self, dev: "Device") -> None:
        """Give all tables back; the IOMMU uses them no more."""
        for page in self._pages:
            self._registers.release(dev, page)
        self._pages.clear()

    def check(self, device_id: int) -> None:
        """Raise ``TypeError`` or ``ValueError`` unless a device id fits."""
        if not isinstance(device_id, int) or isinstance(device_id, bool):
            raise TypeError(f"device_id must be an integer, not {device_id!r}")
        if not 0 <= device_id < 1 << self.device_id_bits:
            raise ValueError(f"device_id must have {self.device_id_bits} bits, not {device_id!r}")

    def _find(self, core: "Core", device_id: int) -> int | None:
        """Address of a device's context, if its table is there."""
        self.check(device_id)
        table = self.root.address
        for level in range(self.levels - 1, 0, -1):
            (entry,) = unpack("<Q", core.load(table + ENTRY_BYTES * _index(device_id, level), ENTRY_BYTES))
            if not entry & 1:
                return None
            table = _ENTRY.unpack(pack("<Q", entry)).ppn * PAGE_SIZE
        return table + CONTEXT_BYTES * _index(device_id, 0)

    def _make(self, dev: "Device", device_id: int) -> int:
        """Address of a device's context, tables on the way made where they are missing."""
        self.check(device_id)
        table = self.root.address
        for level in range(self.levels - 1, 0, -1):
            at = table + ENTRY_BYTES * _index(device_id, level)
            raw = dev.core.load(at, ENTRY_BYTES)
            if not raw[0] & 1:
                raw = _ENTRY.pack(v=1, ppn=self._new_table(dev).pfn)
                dev.core.store(at, raw)
            table = _ENTRY.unpack(raw).ppn * PAGE_SIZE
        return table + CONTEXT_BYTES * _index(device_id, 0)

    def _new_table(self, dev: "Device") -> Page:
        page = self._registers.allocate(dev, PAGE_SIZE)
        self._pages.append(page)
        return page


def _index(device_id: int, level: int) -> int:
    return device_id >> sum(DIRECTORY_BITS[:level]) & (1 << DIRECTORY_BITS[level]) - 1
