# SPDX-License-Identifier: BSD-2-Clause
"""An IOMMU without hardware: commands, first-stage tables, a TLB that goes stale, fault records, in plain Python."""

from struct import unpack
from typing import Any, NamedTuple

from driver_model.platform import IOMMU_VECTOR
from hw.abi.codec import Codec
from hw.abi.iommu import (
    AtsCommand,
    Cause,
    DeviceContext,
    DirectoryCommand,
    FaultRecord,
    FenceCommand,
    FirstMode,
    InvalidateCommand,
    Opcode,
    PageTableEntry,
    TransactionType,
)
from hw.abi.iommu_registers import iommu_registers
from tests.driver_model.fake_nic import FakeNic
from tests.driver_model.fake_platform import FakePlatform

BASE = 0x40000
COMMAND_PS = 200_000  #: of each command, and of the fence's write

_CONTEXT, _PTE, _RECORD = Codec(DeviceContext), Codec(PageTableEntry), Codec(FaultRecord)
_INVALIDATE, _FENCE, _DIRECTORY = Codec(InvalidateCommand), Codec(FenceCommand), Codec(DirectoryCommand)
_ATS = Codec(AtsCommand)
_QUEUE_ERRORS = ("cqmf", "cmd_to", "cmd_ill")


class Cached(NamedTuple):
    """A TLB entry: the physical page, and whether it may be written."""

    ppn: int
    writable: bool


class FakeIommu:
    """Registers, command queue, fault queue, debug translation, and :meth:`translate` for a device's accesses.

    The TLB has no bound and keeps every page until it is told to forget it. Commands take ``COMMAND_PS`` each.

    Attributes
    ----------
    tlb : (pscid, page) to entry; contexts : of each device_id, as cached
    executed : every command, decoded; walks : of pages that the TLB did not have
    stuck : commands are not executed any more
    retire_ps : from a fence's write until ``cqh`` goes past it, as long as the write's acknowledgement takes
    acknowledges : devices acknowledge invalidations; otherwise the next fence finds that one timed out
    """

    def __init__(self, platform: FakePlatform, *, vector: int = IOMMU_VECTOR, **capabilities: int) -> None:
        self.platform = platform
        self.vector = vector
        self.map = iommu_registers()
        self.values = dict.fromkeys(self.map, 0)
        have = {"version": 0x10, "sv39": 1, "sv48": 1, "igs": 1, "hpm": 1, "dbg": 1, "pas": 56, "nl": 1, "s": 1}
        self.values["capabilities"] = self.map["capabilities"].pack(**(have | capabilities))
        self.counters = 4
        self.tlb: dict[tuple[int, int], Cached] = {}
        self.contexts: dict[int, Any] = {}
        self.executed: list[Any] = []
        self.walks = 0
        self.stuck = False
        self.retire_ps = 0
        self.acknowledges = True
        self._timed_out = False
        self._running = False
        self._names = {register.offset: name for name, register in self.map.items()}
        platform.iommu_registers = BASE
        platform.register_space = max(platform.register_space, BASE + 4096)
        platform.on_iommu_write = self._write
        platform.on_iommu_read = self._read

    def field(self, register: str, name: str) -> int:
        """A field of a register as it is now."""
        return self.map[register].get(self.values[register], name)

    def set(self, register: str, **fields: int) -> None:
        """Change fields of a register, from the hardware's side."""
        for name, value in fields.items():
            field = self.map[register].fields[name]
            self.values[register] = self.values[register] & ~field.mask | value << field.lsb

    # Registers

    def _read(self, offset: int) -> tuple[int, bool]:
        value = 0
        for half in (0, 4):
            name = self._names.get(offset + half)
            if name is not None:
                value |= self.values[name] << 8 * half
        return value, False

    def _write(self, offset: int, value: int, size: int) -> None:
        name = self._names[offset]
        register = self.map[name]
        assert size == register.width // 8, f"{name} written with {size} bytes"
        if name in ("cqcsr", "fqcsr"):
            self._control(name, value)
        elif name == "ipsr":
            self.values["ipsr"] &= ~value
            self._raise()
        elif name == "tr_req_ctl":
            self._debug(value)
        elif name.startswith(("iohpmevt", "iohpmctr")) and int(name[8:]) > self.counters:
            return
        else:
            self.values[name] = value
            if name == "cqt":
                self._kick()

    def _control(self, name: str, value: int) -> None:
        register, kind = self.map[name], name[0]
        enable = register.get(value, f"{kind}qen")
        if enable and not self.field(name, f"{kind}qen"):
            self.values[f"{kind}qh" if kind == "c" else f"{kind}qt"] = 0
        keep = self.values[name]
        self.values[name] = value & 3
        self.set(name, **{f"{kind}qon": enable})
        for error in (*_QUEUE_ERRORS, "fence_w_ip") if kind == "c" else ("fqmf", "fqof"):
            self.set(name, **{error: register.get(keep, error) & ~register.get(value, error)})
        self._kick()

    def _debug(self, value: int) -> None:
        register = self.map["tr_req_ctl"]
        address = self.values["tr_req_iova"]
        write = not register.get(value, "nw")
        device_id = register.get(value, "did")
        cause, ppn, size, _ = self._walk(self._context(device_id, cached=False), address, write)
        response = self.map["tr_response"]
        if cause is not Cause.NONE:
            self.values["tr_response"] = response.pack(fault=1)
        elif size == 4096:
            self.values["tr_response"] = response.pack(ppn=ppn)
        else:
            pages = size >> 12
            self.values["tr_response"] = response.pack(s=1, ppn=ppn & -pages | (pages >> 1) - 1)
        self.values["tr_req_ctl"] = value & ~1

    # Commands

    def _kick(self) -> None:
        if not self._running:
            self._running = True
            self.platform.at(self.platform.now + COMMAND_PS, self._execute)

    def _execute(self) -> None:
        self._running = False
        blocked = any(self.field("cqcsr", name) for name in _QUEUE_ERRORS)
        if self.stuck or blocked or not self.field("cqcsr", "cqon") or self.values["cqh"] == self.values["cqt"]:
            return
        base, size = self.field("cqb", "ppn") << 12, 2 << self.field("cqb", "log2sz_1")
        raw = self.platform.read(base + 16 * self.values["cqh"], 16)
        opcode = raw[0] & 0x7F
        if opcode == Opcode.IOTINVAL.value:
            self._invalidate(_INVALIDATE.unpack(raw))
        elif opcode == Opcode.IODIR.value:
            command = _DIRECTORY.unpack(raw)
            self.executed.append(command)
            for device_id in [each for each in self.contexts if not command.dv or each == command.did]:
                del self.contexts[device_id]
        elif opcode == Opcode.IOFENCE.value:
            command = _FENCE.unpack(raw)
            if self._timed_out:
                self._timed_out = False
                self.set("cqcsr", cmd_to=1)
                return
            self.executed.append(command)
            if command.av:
                self.platform.device_write(command.address << 2, command.data.to_bytes(4, "little"))
            self._running = True
            self.platform.at(self.platform.now + self.retire_ps, lambda: self._retire(size))
            return
        elif opcode == Opcode.ATS.value and self.field("capabilities", "ats"):
            self.executed.append(_ATS.unpack(raw))
            self._timed_out = not self.acknowledges
        else:
            self.set("cqcsr", cmd_ill=1)
            return
        self._retire(size)

    def _retire(self, size: int) -> None:
        self.values["cqh"] = (self.values["cqh"] + 1) % size
        self._running = False
        self._kick()

    def _invalidate(self, command: Any) -> None:
        self.executed.append(command)
        assert (command.pscv, command.gv) == (1, 0), "the driver names its address space, which has no second stage"
        page, mask = command.address, 0
        if command.s:
            mask = page ^ page + 1
        for key in list(self.tlb):
            pscid, cached = key
            if pscid == command.pscid and (not command.av or cached & ~mask == page & ~mask):
                del self.tlb[key]

    # Translation

    def translate(self, device_id: int, address: int, length: int, *, write: bool) -> list[tuple[int, int]] | None:
        """Physical pieces (address, length) of an access; None, and a fault record, if a page of it is refused."""
        pieces = []
        stop = address + length
        while address < stop:
            piece = min(stop, (address | 4095) + 1) - address
            physical = self._page(device_id, address, write)
            if physical is None:
                return None
            pieces.append((physical, piece))
            address += piece
        return pieces

    def _page(self, device_id: int, address: int, write: bool) -> int | None:
        if self.field("ddtp", "iommu_mode") == 0:
            self._fault(Cause.ALL_DISALLOWED, device_id, address, write)
            return None
        context = self._context(device_id)
        if context is None:
            self._fault(Cause.DIRECTORY_INVALID, device_id, address, write)
            return None
        key = context.ta >> 12, address >> 12
        entry = self.tlb.get(key)
        if entry is None or (write and not entry.writable):
            self.walks += 1
            cause, ppn, _, writable = self._walk(context, address, write)
            if cause is not Cause.NONE:
                self._fault(cause, device_id, address, write)
                return None
            entry = Cached(ppn, writable)
            if context.fsc >> 60:
                self.tlb[key] = entry
        return entry.ppn << 12 | address & 4095

    def _context(self, device_id: int, *, cached: bool = True) -> Any:
        if cached and device_id in self.contexts:
            return self.contexts[device_id]
        mode, table = self.field("ddtp", "iommu_mode"), self.field("ddtp", "ppn") << 12
        for level in range(mode - 2, 0, -1):
            (entry,) = unpack("<Q", self.platform.read(table + 8 * (device_id >> (7, 16)[level - 1] & 511), 8))
            if not entry & 1:
                return None
            table = (entry >> 10 & (1 << 44) - 1) << 12
        context = _CONTEXT.unpack(self.platform.read(table + 32 * (device_id & 127), 32))
        if not context.tc & 1:
            return None
        if cached:
            self.contexts[device_id] = context
        return context

    def _walk(self, context: Any, address: int, write: bool) -> tuple[Cause, int, int, bool]:
        """Cause, physical page of the address, size of its page, and whether it may be written."""
        if context is None:
            return Cause.DIRECTORY_INVALID, 0, 0, False
        mode = context.fsc >> 60
        if not mode:
            return Cause.NONE, address >> 12, 4096, True
        fault = Cause.WRITE_PAGE if write else Cause.READ_PAGE
        table = (context.fsc & (1 << 44) - 1) << 12
        levels = {FirstMode.SV39.value: 3, FirstMode.SV48.value: 4}[mode]
        if address >> 12 + 9 * levels - 1:
            return fault, 0, 0, False
        for level in reversed(range(levels)):
            entry = _PTE.unpack(self.platform.read(table + 8 * (address >> 12 + 9 * level & 511), 8))
            if not entry.v or (entry.w and not entry.r):
                break
            if entry.r or entry.x:
                pages = 16 if entry.n else 1 << 9 * level
                base = entry.ppn & -pages
                if not (entry.u and entry.a and entry.r) or (write and not (entry.w and entry.d)):
                    break
                assert entry.ppn == base | (8 if entry.n else 0), f"misaligned leaf of level {level}"
                return Cause.NONE, base | address >> 12 & pages - 1, pages << 12, bool(entry.w)
            table = entry.ppn << 12
        return fault, 0, 0, False

    # Faults

    def _fault(self, cause: Cause, device_id: int, address: int, write: bool) -> None:
        if not self.field("fqcsr", "fqon") or self.field("fqcsr", "fqof"):
            return
        base, size = self.field("fqb", "ppn") << 12, 2 << self.field("fqb", "log2sz_1")
        tail = self.values["fqt"]
        if (tail + 1) % size == self.values["fqh"]:
            self.set("fqcsr", fqof=1)
        else:
            ttyp = TransactionType.UNTRANSLATED_WRITE if write else TransactionType.UNTRANSLATED_READ
            raw = _RECORD.pack(cause=cause.value, ttyp=ttyp.value, did=device_id, iotval=address)
            self.platform.device_write(base + 32 * tail, raw)
            self.values["fqt"] = (tail + 1) % size
        self._raise(new=True)

    def _raise(self, *, new: bool = False) -> None:
        """The interrupt's wire rises where it was low."""
        wanted = new or self.field("fqcsr", "fqof") or self.field("fqcsr", "fqmf")
        if wanted and self.field("fqcsr", "fie") and not self.field("ipsr", "fip"):
            self.set("ipsr", fip=1)
            self.platform.at(self.platform.now + COMMAND_PS, lambda: self.platform.interrupt(self.vector))


class TranslatedNic(FakeNic):
    """The fake NIC behind the fake IOMMU: reads that fault give zeros, writes that fault do nothing."""

    def __init__(self, platform: FakePlatform, iommu: FakeIommu, queues: int = 2, *, access_log: bool = False) -> None:
        super().__init__(platform, queues, access_log=access_log)
        self.iommu = iommu
        self.device_id = 0

    def read(self, address: int, length: int) -> bytes:
        """The device reads memory now."""
        pieces = self.iommu.translate(self.device_id, address, length, write=False)
        if pieces is None:
            return bytes(length)
        return b"".join(FakeNic.read(self, at, size) for at, size in pieces)

    def write(self, address: int, data: bytes) -> None:
        """The device writes memory now."""
        for at, size in self.iommu.translate(self.device_id, address, len(data), write=True) or ():
            FakeNic.write(self, at, data[:size])
            data = data[size:]
