# SPDX-License-Identifier: BSD-2-Clause
"""The software side of the IOMMU's command queue."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from driver_model.cpu.core import LINE
from driver_model.cpu.locks import SpinLock
from driver_model.drivers.iommu.registers import IommuError, IommuRegisters, value_of
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE
from hw.abi.codec import Codec
from hw.abi.iommu import (
    COMMAND_BYTES,
    AtsCommand,
    AtsFunction,
    DirectoryCommand,
    DirectoryFunction,
    FenceCommand,
    InvalidateCommand,
    InvalidateFunction,
    Opcode,
)

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device

ENTRIES = 8192  #: as Linux' driver
FENCE_TIMEOUT_PS = 20 * 10**9  #: longer than the IOMMU gives a device to acknowledge an invalidation
SPACE_TIMEOUT_PS = 20 * 10**9

_INVALIDATE = Codec(InvalidateCommand)
_FENCE = Codec(FenceCommand)
_DIRECTORY = Codec(DirectoryCommand)
_ATS = Codec(AtsCommand)
_ATS_OPCODE, _ATS_INVAL = value_of(Opcode.ATS), value_of(AtsFunction.INVAL)
_ATS_RANGE = 11  #: bit of the payload: the address names a range
_IOTINVAL, _IOFENCE, _IODIR = (value_of(code) for code in (Opcode.IOTINVAL, Opcode.IOFENCE, Opcode.IODIR))
_VMA, _INVAL_DDT = value_of(InvalidateFunction.VMA), value_of(DirectoryFunction.INVAL_DDT)
_ERRORS = {
    "cqmf": "memory refused the fetch of a command, or the write of a fence's data",
    "cmd_to": "a device did not acknowledge an invalidation in time",
    "cmd_ill": "the command is illegal",
}


def invalidate_page(pscid: int, iova: int) -> bytes:
    """IOTINVAL.VMA: the leaf of one page of an address space without a second stage."""
    return _INVALIDATE.pack(opcode=_IOTINVAL, func3=_VMA, av=1, pscv=1, pscid=pscid, address=iova >> PAGE_SHIFT)


def invalidate_range(pscid: int, iova: int, size: int) -> bytes:
    """IOTINVAL.VMA with S: a range of a power of two of pages, two or more, aligned to its size."""
    address = iova | (size >> 1) - 1
    return _INVALIDATE.pack(opcode=_IOTINVAL, func3=_VMA, av=1, s=1, pscv=1, pscid=pscid, address=address >> PAGE_SHIFT)


def invalidate_space(pscid: int) -> bytes:
    """IOTINVAL.VMA: all of an address space without a second stage, entries that lead to tables included."""
    return _INVALIDATE.pack(opcode=_IOTINVAL, func3=_VMA, pscv=1, pscid=pscid)


def invalidate_context(device_id: int) -> bytes:
    """IODIR.INVAL_DDT: the context of one device."""
    return _DIRECTORY.pack(opcode=_IODIR, func3=_INVAL_DDT, dv=1, did=device_id)


def invalidate_device(device_id: int, iova: int, size: int) -> bytes:
    """ATS.INVAL: what a device itself keeps of a range, whose smallest enclosing power of two is named."""
    if size >= 1 << 64 - 1:
        page = (1 << 63 - PAGE_SHIFT) - 1  # all ones but the highest: everything
    else:
        span = (iova ^ iova + size - 1) >> PAGE_SHIFT
        low = 1 << span.bit_length()
        page = (iova >> PAGE_SHIFT & -low) | (low >> 1) - 1 if span else iova >> PAGE_SHIFT
    ranged = page != iova >> PAGE_SHIFT or size > PAGE_SIZE
    segment = device_id >> 16
    return _ATS.pack(
        opcode=_ATS_OPCODE,
        func3=_ATS_INVAL,
        rid=device_id & 0xFFFF,
        dseg=segment,
        dsv=segment != 0,
        payload=page << PAGE_SHIFT | ranged << _ATS_RANGE,
    )


class CommandQueue:
    """A ring of commands for all cores, under a lock, and for each core a word that its fences write.

    :meth:`execute` posts commands with an IOFENCE.C behind them and polls the core's word in memory until the fence has
    written its number there, so that a wait costs one register write and no read. (Linux' driver writes cqt behind each
    command, without a lock, and polls the register cqh; Intel's waits as here.)

    Parameters
    ----------
    dev : as the core sees it that sets the queue up; memory comes from its page allocator
    registers : the IOMMU's
    entries : of the ring, a power of two

    Attributes
    ----------
    commands, fences : posted; ``commands`` includes the fences
    """

    def __init__(self, dev: "Device", registers: IommuRegisters, entries: int = ENTRIES) -> None:
        self.entries = entries
        self.commands = 0
        self.fences = 0
        self._registers = registers
        self._ring = registers.allocate(dev, entries * COMMAND_BYTES)
        self._words = registers.allocate(dev, PAGE_SIZE)
        self._numbers: dict[int, int] = {}  # of each core's last fence
        self._lock = SpinLock("iommu command queue")
        self._tail = 0
        self._head = 0  # commands before it are known to be done

    def start(self, core: "Core") -> None:
        """Turn the queue on."""
        registers = self._registers
        registers.write(core, "cqb", log2sz_1=self.entries.bit_length() - 2, ppn=self._ring.pfn)
        registers.write(core, "cqt", index=0)
        registers.write(core, "cqcsr", cqen=1)
        registers.wait(core, "cqcsr", lambda word: registers.get("cqcsr", word, "cqon"), "the command queue to turn on")
        self._tail = self._head = 0

    def stop(self, dev: "Device") -> None:
        """Turn it off, and give its memory back."""
        registers = self._registers
        registers.write(dev.core, "cqcsr")
        registers.wait(
            dev.core,
            "cqcsr",
            lambda word: not registers.get("cqcsr", word, "cqon") and not registers.get("cqcsr", word, "busy"),
            "the command queue to turn off",
        )
        registers.release(dev, self._ring)
        registers.release(dev, self._words)

    def execute(self, core: "Core", commands: Sequence[bytes]) -> None:
        """Post commands and wait until they have taken effect: no access uses what they invalidate, and every access
        that did is done. Raises :class:`IommuError` if the IOMMU stops at a command or does not answer in time."""
        word = self._words.address + LINE * core.index
        with core.irq_save(), self._lock.held(core):
            number = self._numbers[core.index] = self._numbers.get(core.index, 0) + 1 & 0xFFFFFFFF
            fence = _FENCE.pack(opcode=_IOFENCE, av=1, pr=1, pw=1, data=number, address=word >> 2)
            for command in (*commands, fence):
                self._put(core, command)
            end = self._tail
            self._registers.write(core, "cqt", index=end % self.entries)
            self.fences += 1

        def passed(data: bytes) -> bool:
            # An interrupt on this core may have waited for a later fence meanwhile.
            return (int.from_bytes(data, "little") - number & 0xFFFFFFFF) < 1 << 31

        if not core.poll_until(word, word + 4, passed, core.time + FENCE_TIMEOUT_PS, core.op("iommu.poll")):
            raise IommuError(f"A fence did not complete within {FENCE_TIMEOUT_PS // 10**9} ms: {self.explain(core)}")
        core.spend(core.device_line)  # the look that finds the fence's number misses
        self._head = max(self._head, end - 1)  # the fence stays until the write of its number is acknowledged

    def explain(self, core: "Core") -> str:
        """What the command queue's registers say."""
        registers = self._registers
        status = registers.read(core, "cqcsr")
        head = registers.read(core, "cqh")
        raw = core.load(self._ring.address + COMMAND_BYTES * (head % self.entries), COMMAND_BYTES)
        reasons = [text for name, text in _ERRORS.items() if registers.get("cqcsr", status, name)]
        if not registers.get("cqcsr", status, "cqon"):
            reasons.append("the queue is off")
        why = "; ".join(reasons) or "no error is reported"
        return (
            f"cqcsr is {status:#x} ({why}), head {head}, tail {self._tail % self.entries}, "
            f"command at the head {raw[::-1].hex()}"
        )

    def _put(self, core: "Core", command: bytes) -> None:
        if self._tail - self._head >= self.entries - 1:
            self._make_room(core)
        core.spend(core.op("iommu.command"))
        core.store_owned(self._ring.address + COMMAND_BYTES * (self._tail % self.entries), command)
        self._tail += 1
        self.commands += 1

    def _make_room(self, core: "Core") -> None:
        """Ask the IOMMU how far it is; what is in the ring already must be published for it to go on."""
        registers = self._registers
        registers.write(core, "cqt", index=self._tail % self.entries)
        deadline = core.time + SPACE_TIMEOUT_PS
        while True:
            # Another core may learn of later commands while the register is read, and the answer is older than that.
            known = self._head
            done = registers.read(core, "cqh") - known & self.entries - 1
            self._head = max(self._head, known + done)
            if self._head > known:
                return
            if core.time >= deadline:
                limit = SPACE_TIMEOUT_PS // 10**9
                raise IommuError(f"The command queue stayed full for {limit} ms: {self.explain(core)}")
