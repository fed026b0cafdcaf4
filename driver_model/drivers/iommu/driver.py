# SPDX-License-Identifier: BSD-2-Clause
"""The driver of the RISC-V IOMMU, after Linux' ``drivers/iommu/riscv``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from driver_model.cpu.core import Core
from driver_model.drivers.host import Host
from driver_model.drivers.iommu.commands import (
    CommandQueue,
    invalidate_context,
    invalidate_device,
    invalidate_page,
    invalidate_range,
    invalidate_space,
)
from driver_model.drivers.iommu.directory import DeviceDirectory
from driver_model.drivers.iommu.faults import FaultQueue
from driver_model.drivers.iommu.registers import IommuError, IommuRegisters, value_of
from driver_model.memory.dma.api import DirectDma, DmaOps
from driver_model.memory.dma.domain import IommuDomain
from driver_model.memory.dma.flush_queue import FlushQueue
from driver_model.memory.dma.iommu_ops import IommuDma
from driver_model.memory.dma.iova import IovaDomain
from driver_model.memory.dma.page_table import DEFAULT_PAGE_SIZES
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE
from driver_model.platform import IOMMU_VECTOR
from hw.abi.iommu import DirectoryMode, Event

VERSION = 0x10
RANGE_LIMIT = 2 << 20  #: ranges from this size on are invalidated by forgetting the whole address space, as in Linux
ALL = 1 << 64  #: bytes of everything that a device may keep
MODES = ("passthrough", "strict", "lazy")
FIRST_PSCID = 1
MOST_PSCIDS = 1 << 20


class Translated(NamedTuple):
    """Answer of a debug translation."""

    physical: int  #: of the address itself
    size: int  #: bytes that translate alike


@dataclass(frozen=True)
class IommuSetup:
    """How the driver uses the IOMMU.

    Attributes
    ----------
    device_id_bits : width of device ids, which decides the directory's levels
    command_entries, fault_entries : sizes of the queues, powers of two
    levels : of page tables: 3 (Sv39) or 4 (Sv48)
    page_sizes : leaves to map with: see :class:`driver_model.memory.dma.page_table.PageTable`
    aperture : highest I/O virtual address; below 4 GiB by default, where Linux goes first for a PCI device
    iova_mode : ``top_down`` or ``contiguous``
    range_invalidation : one command for a power-of-two range (S = 1), where the IOMMU can, instead of one per page
    vector : interrupt vector of the IOMMU's first wire; the fault queue uses it
    irq_core : core that takes the interrupt and runs the fault queue's thread
    """

    device_id_bits: int = 7
    command_entries: int = 8192
    fault_entries: int = 4096
    levels: int = 3
    page_sizes: tuple[int, ...] = DEFAULT_PAGE_SIZES
    aperture: int = (1 << 32) - 1
    iova_mode: str = "top_down"
    range_invalidation: bool = False
    vector: int = IOMMU_VECTOR
    irq_core: int = 0

    def __post_init__(self) -> None:
        for name in ("command_entries", "fault_entries"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not 2 <= value <= 1 << 17 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two in 2..{1 << 17}, not {value!r}")
        if self.levels not in (3, 4):
            raise ValueError(f"levels must be 3 or 4, not {self.levels!r}")
        if not PAGE_SIZE < self.aperture < 1 << 38 + 9 * (self.levels - 3):
            raise ValueError(f"aperture must lie in the lower half of {self.levels} levels, not {self.aperture!r}")


class RiscvIommu:
    """The IOMMU on a host. Methods are called in a process, those that set up and tear down on the host's first core;
    :meth:`invalidate_range` and :meth:`invalidate_space` on any core, also in softirqs.

    Parameters
    ----------
    host : the kernel
    setup : how to use the IOMMU

    Attributes
    ----------
    commands, faults, directory : from :meth:`open` on; kept after :meth:`close` for their counters
    page_invalidations, space_invalidations : IOTINVAL commands for a page or range, and for an address space
    device_invalidations : ATS.INVAL commands
    """

    def __init__(self, host: Host, setup: IommuSetup | None = None) -> None:
        base = host.platform.iommu_registers
        if base is None:
            raise IommuError("This machine has no IOMMU")
        self.host = host
        self.setup = IommuSetup() if setup is None else setup
        self.core: Core = host.cores[0]
        self.dev = host.devices[0]
        if not 0 <= self.setup.irq_core < len(host.cores):
            raise ValueError(f"irq_core must be in 0..{len(host.cores) - 1}, not {self.setup.irq_core!r}")
        self.registers = IommuRegisters(base)
        self.capabilities = 0
        self.page_invalidations = 0
        self.space_invalidations = 0
        self.device_invalidations = 0
        self.commands: CommandQueue
        self.faults: FaultQueue
        self.directory: DeviceDirectory
        self._next_pscid = FIRST_PSCID
        self._pscids: set[int] = set()
        self._attached: dict[int, IommuDomain | None] = {}  # by device
        self._ats: set[int] = set()  # devices that may keep translations
        self._events: tuple[Event, ...] = ()
        self._on = False
        self._requested = False

    # The IOMMU itself

    def can(self, name: str) -> bool:
        """Whether a field of register capabilities is set."""
        return bool(self.registers.get("capabilities", self.capabilities, name))

    def probe(self) -> None:
        """Find the IOMMU and read what it can do. Raises :class:`IommuError` if it does not suit the set-up."""
        self.capabilities = self.registers.read(self.core, "capabilities")
        version = self.registers.get("capabilities", self.capabilities, "version")
        if version != VERSION:
            raise IommuError(f"No RISC-V IOMMU of version 1.0: its capabilities read {self.capabilities:#x}")
        first = "sv39" if self.setup.levels == 3 else "sv48"
        if not self.can(first):
            raise IommuError(f"The IOMMU has no {first}: its capabilities read {self.capabilities:#x}")
        if self.registers.get("capabilities", self.capabilities, "igs") not in (1, 2):
            raise IommuError(f"The IOMMU has no interrupt wires: its capabilities read {self.capabilities:#x}")

    def open(self) -> None:
        """Set up directory and queues, and turn translation on: from here on devices need a context."""
        if not self.capabilities:
            raise IommuError("The IOMMU must be probed before it is opened")
        if self._on:
            raise IommuError("The IOMMU is open already")
        core, setup = self.core, self.setup
        self.directory = DeviceDirectory(self.dev, self.registers, setup.device_id_bits)
        self.commands = CommandQueue(self.dev, self.registers, setup.command_entries)
        self.faults = FaultQueue(self.dev, self.registers, setup.fault_entries)
        irq_core = self.host.cores[setup.irq_core]
        if not self._requested:
            self._requested = True
            irq_core.request_irq(setup.vector, lambda: self.faults.interrupt(irq_core))
        self.registers.write(core, "icvec")
        self.commands.start(core)
        self.faults.start(core, irq_core)
        self._set_directory(self.directory.mode, self.directory.root.pfn)
        self._on = True

    def close(self) -> None:
        """Turn translation off: every device is refused; give all memory back. Domains must be closed before."""
        if not self._on:
            raise IommuError("The IOMMU is not open")
        self._set_directory(value_of(DirectoryMode.OFF), 0)
        self.commands.stop(self.dev)
        self.faults.stop(self.dev)
        self.directory.free(self.dev)
        self._attached.clear()
        self._ats.clear()
        self._on = False

    def _set_directory(self, mode: int, ppn: int) -> None:
        registers = self.registers
        registers.write(self.core, "ddtp", iommu_mode=mode, ppn=ppn)
        word = registers.wait(
            self.core, "ddtp", lambda word: not registers.get("ddtp", word, "busy"), "the directory to change"
        )
        if registers.get("ddtp", word, "iommu_mode") != mode:
            raise IommuError(f"The IOMMU does not take directory mode {mode}: ddtp reads {word:#x}")

    # Devices and domains

    def attach(self, device_id: int, domain: IommuDomain | None, *, ats: bool = False) -> None:
        """Attach a device to a domain, or with None to no translation at all; detached first where it must be."""
        self.detach(device_id)
        if ats:
            self._need_ats()
            self._ats.add(device_id)
        self.directory.write(self.dev, device_id, domain, ats=ats)
        self._attached[device_id] = domain

    def detach(self, device_id: int) -> None:
        """Take a device's context away, and wait until no access uses it."""
        if self.directory.valid(self.core, device_id):
            self.directory.clear(self.core, device_id)
            self.commands.execute(self.core, [invalidate_context(device_id)])
            self._attached.pop(device_id, None)
            self._forget_device(device_id)

    def enable_ats(self, device_id: int) -> None:
        """Let an attached device ask for translations, keep them and send accesses with them: from now on whatever is
        invalidated in its domain is invalidated in the device as well, which must acknowledge it."""
        self._need_ats()
        self._ats.add(device_id)  # before it can have any
        self.directory.set_ats(self.core, device_id, ats=True)
        self.commands.execute(self.core, [invalidate_context(device_id)])

    def disable_ats(self, device_id: int) -> None:
        """The reverse, when the device uses no translations any more: wait until it has forgotten what it kept."""
        self.directory.set_ats(self.core, device_id, ats=False)
        self.commands.execute(self.core, [invalidate_context(device_id)])
        self._forget_device(device_id)

    def _need_ats(self) -> None:
        if not self.can("ats"):
            raise IommuError("The IOMMU has no ATS")

    def _forget_device(self, device_id: int) -> None:
        """A device keeps no translations any more."""
        if device_id in self._ats:
            self._ats.remove(device_id)
            self._invalidate_devices(self.core, [device_id], 0, ALL)

    def new_domain(self) -> IommuDomain:
        """An empty address space with a number of its own."""
        if len(self._pscids) == MOST_PSCIDS - FIRST_PSCID:
            raise IommuError(f"All {MOST_PSCIDS - FIRST_PSCID} address space numbers are in use")
        while self._next_pscid in self._pscids:
            self._next_pscid = self._next_pscid % (MOST_PSCIDS - 1) + 1
        domain = IommuDomain(self.dev, self._next_pscid, self, self.setup.levels, self.setup.page_sizes)
        self._pscids.add(domain.pscid)
        return domain

    def free_domain(self, domain: IommuDomain) -> None:
        """Give a domain's tables and number back; no device may be attached to it."""
        domain.free(self.dev)
        self._pscids.remove(domain.pscid)

    def set_up_dma(self, device_id: int, mode: str) -> DmaOps:
        """Attach a device in a mode, and make that the way in which the host's device gets its addresses.

        Modes are ``passthrough``, ``strict`` and ``lazy``. Before the device's driver is opened.
        """
        if mode not in MODES:
            raise ValueError(f"IOMMU mode must be one of {', '.join(MODES)}, not {mode!r}")
        ops: DmaOps
        if mode == "passthrough":
            self.attach(device_id, None)
            ops = DirectDma()
        else:
            domain = self.new_domain()
            iova = IovaDomain(self.setup.aperture >> PAGE_SHIFT, self.setup.iova_mode)
            queue = FlushQueue(domain, iova, self.host.timers) if mode == "lazy" else None
            ops = IommuDma(domain, iova, queue)
            self.attach(device_id, domain)
        self.host.set_dma_ops(ops)
        return ops

    def tear_down_dma(self, device_id: int, ops: DmaOps) -> None:
        """The reverse of :meth:`set_up_dma`, after the device's driver gave all its mappings back."""
        self.detach(device_id)
        if isinstance(ops, IommuDma):
            ops.drain(self.dev)
            self.free_domain(ops.domain)
        self.host.set_dma_ops(DirectDma())

    # Invalidation

    def invalidate_range(self, core: Core, pscid: int, iova: int, size: int) -> None:
        """One command for each page (or aligned power-of-two piece) of a range below 2 MiB, else one for the address
        space; then a fence. Then the same for devices that keep translations: they must not be asked to forget one that
        they could get again (so does Linux' SMMUv3 driver: TLBI, sync, ATC_INV, sync)."""
        if size >= RANGE_LIMIT:
            self.invalidate_space(core, pscid)
            return
        start, whole = iova, size
        pieces: list[bytes] = []
        while size:
            piece = PAGE_SIZE
            if self.setup.range_invalidation and self.can("s"):
                piece = min(iova & -iova or RANGE_LIMIT, 1 << size.bit_length() - 1)
            single = piece == PAGE_SIZE
            pieces.append(invalidate_page(pscid, iova) if single else invalidate_range(pscid, iova, piece))
            iova, size = iova + piece, size - piece
        self.page_invalidations += len(pieces)
        self.commands.execute(core, pieces)
        self._invalidate_devices(core, self._keepers(pscid), start, whole)

    def invalidate_space(self, core: Core, pscid: int) -> None:
        """One command, and a fence; then the same for devices that keep translations."""
        self.space_invalidations += 1
        self.commands.execute(core, [invalidate_space(pscid)])
        self._invalidate_devices(core, self._keepers(pscid), 0, ALL)

    def _keepers(self, pscid: int) -> list[int]:
        """Devices that may keep translations of an address space."""
        domains = ((device_id, self._attached.get(device_id)) for device_id in sorted(self._ats))
        return [device_id for device_id, domain in domains if domain is not None and domain.pscid == pscid]

    def _invalidate_devices(self, core: Core, devices: Sequence[int], iova: int, size: int) -> None:
        """One command for each device, and a fence that waits for their acknowledgements."""
        if devices:
            self.device_invalidations += len(devices)
            self.commands.execute(core, [invalidate_device(device_id, iova, size) for device_id in devices])

    # Looking in

    def translate(self, device_id: int, iova: int, *, write: bool = False) -> Translated | None:
        """What the IOMMU itself makes of an address, by its debug registers; None where it faults."""
        if not self.can("dbg"):
            raise IommuError("The IOMMU has no debug translation")
        registers, core = self.registers, self.core
        registers.write(core, "tr_req_iova", vpn=iova >> PAGE_SHIFT)
        registers.write(core, "tr_req_ctl", go_busy=1, nw=not write, did=device_id)
        registers.wait(
            core, "tr_req_ctl", lambda word: not registers.get("tr_req_ctl", word, "go_busy"), "a debug translation"
        )
        word = registers.read(core, "tr_response")
        if registers.get("tr_response", word, "fault"):
            return None
        ppn, size = registers.get("tr_response", word, "ppn"), PAGE_SIZE
        if registers.get("tr_response", word, "s"):
            size <<= (ppn ^ ppn + 1).bit_length()
        return Translated((ppn << PAGE_SHIFT & -size) | iova & size - 1, size)

    def count_events(self, events: Sequence[Event]) -> None:
        """Let performance counters count these events, of all devices, from 0 on."""
        if events and not self.can("hpm"):
            raise IommuError("The IOMMU has no performance counters")
        for number, event in enumerate(events, 1):
            self.registers.write(self.core, f"iohpmevt{number}", eventid=value_of(event))
            self.registers.write(self.core, f"iohpmctr{number}")
            word = self.registers.read(self.core, f"iohpmevt{number}")
            if self.registers.get(f"iohpmevt{number}", word, "eventid") != value_of(event):
                raise IommuError(f"The IOMMU has {number - 1} performance counters, not {len(events)}")
        self._events = tuple(events)

    def event_counts(self) -> dict[str, int]:
        """What the performance counters say, by event in lower case: ``iommu_tlb_miss``…"""
        return {
            f"iommu_{event.name.lower()}": self.registers.read(self.core, f"iohpmctr{number}")
            for number, event in enumerate(self._events, 1)
        }

    def statistics(self) -> dict[str, int]:
        """What the driver did and learned."""
        return {
            "iommu_commands": self.commands.commands,
            "iommu_fences": self.commands.fences,
            "iommu_page_invalidations": self.page_invalidations,
            "iommu_space_invalidations": self.space_invalidations,
            "iommu_device_invalidations": self.device_invalidations,
            "iommu_faults": self.faults.count,
            "iommu_fault_overflows": self.faults.overflows,
        }
