# SPDX-License-Identifier: BSD-2-Clause
"""The software side of the IOMMU's fault queue."""

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from driver_model.cpu.scheduler import Task, WaitQueue
from driver_model.drivers.iommu.registers import WAIT_PS, IommuError, IommuRegisters
from hw.abi.codec import Codec
from hw.abi.iommu import FAULT_BYTES, Cause, FaultRecord, TransactionType

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device

ENTRIES = 4096  #: as Linux' driver
KEPT = 4096  #: records that are kept whole; all are counted

STOP_STEP_PS = 2 * 10**6  #: between two looks whether the thread has ended

_RECORD = Codec(FaultRecord)


class IommuFault(NamedTuple):
    """A request that the IOMMU refused."""

    time: int  #: picoseconds at which the driver learned of it
    cause: int  #: value of :class:`hw.abi.iommu.Cause`
    ttyp: int  #: value of :class:`hw.abi.iommu.TransactionType`
    device_id: int
    address: int  #: iotval: as the device gave it
    guest_address: int  #: iotval2

    def __str__(self) -> str:
        return (
            f"device {self.device_id:#x}, {_name(TransactionType, self.ttyp)} at {self.address:#x}: "
            f"{_name(Cause, self.cause)} (seen at {self.time / 10**6:.3f} us)"
        )


def _name(kind: type, value: int) -> str:
    try:
        return str(kind(value).name)
    except ValueError:
        return f"{kind.__name__} {value}"


class FaultQueue:
    """Reads records in a thread that the interrupt wakes (``request_threaded_irq``), keeps the first of them, counts
    all, and clears the flag of an overflow so that recording goes on.

    A device that faults without end keeps the thread busy, which shares its core with other processes and gives way to
    interrupts and softirqs: the core's other devices are still served. Records that the thread is too slow for are
    lost, as the flag says.

    Attributes
    ----------
    faults : the first records, in the order of the queue
    causes : how many there were of each cause
    overflows, memory_errors : how often the thread found that records were lost
    interrupts : how often the interrupt came
    ring : memory of the queue, while it is on
    """

    def __init__(self, dev: "Device", registers: IommuRegisters, entries: int = ENTRIES) -> None:
        self.entries = entries
        self.faults: list[IommuFault] = []
        self.causes: Counter[int] = Counter()
        self.overflows = 0
        self.memory_errors = 0
        self.interrupts = 0
        self._registers = registers
        self.ring = registers.allocate(dev, entries * FAULT_BYTES)
        self._head = 0
        self._wait = WaitQueue()
        self._woken = self._active = self._stopping = False  # of the thread
        self._thread: Task

    @property
    def count(self) -> int:
        """Records read."""
        return self.causes.total()

    def start(self, core: "Core", irq_core: "Core") -> None:
        """Start the thread on the core that has the interrupt, and turn the queue on; called on ``core``."""
        registers = self._registers
        core.sync()
        self._thread = irq_core.spawn("irq/iommu-fltq", lambda: self._run(irq_core))
        registers.write(core, "fqb", log2sz_1=self.entries.bit_length() - 2, ppn=self.ring.pfn)
        registers.write(core, "fqh", index=0)
        registers.write(core, "fqcsr", fqen=1, fie=1)
        registers.wait(core, "fqcsr", lambda word: registers.get("fqcsr", word, "fqon"), "the fault queue to turn on")

    def stop(self, dev: "Device") -> None:
        """End the thread, read what is left, turn the queue off, and give its memory back."""
        registers, core = self._registers, dev.core
        self._stopping = True
        self._wait.wake_up(core)
        deadline = core.time + WAIT_PS
        while not self._thread.done:
            if core.time >= deadline:
                raise IommuError(f"Waited {WAIT_PS // 10**9} ms for the fault queue's thread to end")
            core.sleep_until(core.time + STOP_STEP_PS)
        self.drain(core)
        registers.write(core, "fqcsr")
        registers.wait(
            core,
            "fqcsr",
            lambda word: not registers.get("fqcsr", word, "fqon") and not registers.get("fqcsr", word, "busy"),
            "the fault queue to turn off",
        )
        registers.release(dev, self.ring)

    def interrupt(self, core: "Core") -> None:
        """The hardirq's handler: wakes the thread. While that is active, it only notes the edge."""
        self.interrupts += 1
        if self._active:
            self._woken = True
        elif self._registers.read(core, "ipsr"):
            self._woken = True
            self._wait.wake_up(core)

    def _run(self, core: "Core") -> None:
        """The thread."""
        while not self._stopping:
            self._active = False
            self._wait.wait(core, lambda: self._woken or self._stopping)
            self._active, self._woken = True, False
            self._handle(core)

    def _handle(self, core: "Core") -> None:
        """Serve the queue until its wire is low.

        The wire is a level, and an interrupt its rising edge: a bit that was set again in the cycle in which it was
        cleared would otherwise be the last interrupt ever. All of ipsr is cleared, as every cause is on one wire.
        """
        registers = self._registers
        pending = True
        while pending and not self._stopping:
            self.drain(core)  # before the error bits, which a queue that is still full would set again
            self._clear_errors(core)
            registers.write(core, "ipsr", cip=1, fip=1, pmip=1, pip=1)
            self.drain(core)
            pending = bool(registers.read(core, "ipsr"))

    def _clear_errors(self, core: "Core") -> None:
        registers = self._registers
        status = registers.read(core, "fqcsr")
        overflow, memory = registers.get("fqcsr", status, "fqof"), registers.get("fqcsr", status, "fqmf")
        if not overflow and not memory:
            return
        self.overflows += overflow
        self.memory_errors += memory
        registers.write(core, "fqcsr", fqen=1, fie=1, fqof=overflow, fqmf=memory)
        if core.log is not None:
            lost = "it was full" if overflow else "memory refused a write"
            core.log.record(core.time, core.index, core.context, "fault", f"IOMMU fault queue lost records: {lost}")

    def drain(self, core: "Core") -> None:
        """Read all records that are in the queue."""
        registers = self._registers
        tail = registers.read(core, "fqt") % self.entries
        if tail == self._head:
            return
        while self._head != tail:
            record = _RECORD.unpack(core.load(self.ring.address + FAULT_BYTES * self._head, FAULT_BYTES))
            fault = IommuFault(core.time, record.cause, record.ttyp, record.did, record.iotval, record.iotval2)
            self.causes[fault.cause] += 1
            if len(self.faults) < KEPT:
                self.faults.append(fault)
            if core.log is not None:
                core.log.record(core.time, core.index, core.context, "fault", str(fault))
            self._head = (self._head + 1) % self.entries
        registers.write(core, "fqh", index=self._head)
