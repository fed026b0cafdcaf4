# SPDX-License-Identifier: BSD-2-Clause
"""A machine without hardware: memory, registers and interrupts that a test plays with, over the real event kernel."""

from collections.abc import Callable

from driver_model.platform import IOMMU_REGISTER_BYTES, Timer, check_register_access
from sim.backends.kernel import EventKernel, NullHardware
from sim.backends.kernel_platform import KernelPlatform

CYCLE_PS = 6_400  #: 156.25 MHz


class FakeWatch:
    """A watch on memory of a :class:`FakePlatform`."""

    def __init__(self, platform: "FakePlatform", start: int, stop: int, hit: Callable[[], None]) -> None:
        self._platform = platform
        self.start = start
        self.stop = stop
        self.hit = hit

    def cancel(self) -> None:
        """End it."""
        if self in self._platform.watches:
            self._platform.watches.remove(self)


class FakePlatform(KernelPlatform):
    """A machine whose device is the test.

    The test (or a fake device) acts in calls that it schedules with :meth:`at`: it writes memory with
    :meth:`device_write`, which hits watches, and sends interrupts with :meth:`interrupt`. A register write calls
    ``on_write(offset, value)``; a register read answers ``on_read(offset)`` after ``read_latency`` picoseconds.
    Accesses to the IOMMU's registers, where :attr:`iommu_registers` says that there are any, go to
    ``on_iommu_write(offset, value, size)`` and ``on_iommu_read(offset)`` instead, with offsets from there; the device's
    registers refuse writes of 4 bytes, which :attr:`mmio_errors` counts.
    Everything is logged: :attr:`stores` and :attr:`register_writes` with the time at which the machine saw them.
    """

    def __init__(self, memory_size: int = 1 << 20, cycle_ps: int = CYCLE_PS, *, log: bool = True) -> None:
        super().__init__(EventKernel(NullHardware(), cycle_ps))
        self.memory_size = memory_size
        self.register_space = 1 << 16
        self.iommu_registers: int | None = None
        self.memory = bytearray(memory_size)
        self.watches: list[FakeWatch] = []
        self.handlers: dict[int, Callable[[], None]] = {}
        self.read_latency = 500_000
        self.on_read: Callable[[int], tuple[int, bool]] = lambda offset: (0, False)
        self.on_write: Callable[[int, int], None] = lambda offset, value: None
        self.on_iommu_read: Callable[[int], tuple[int, bool]] = lambda offset: (0, False)
        self.on_iommu_write: Callable[[int, int, int], None] = lambda offset, value, size: None
        self.mmio_errors = 0
        self.stores: list[tuple[int, int, bytes]] = []
        self.register_writes: list[tuple[int, int, int]] = []
        self._log = log

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.memory[address : address + length])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        if self._log:
            self.stores.append((self.kernel.now, address, bytes(data)))
        self.memory[address : address + len(data)] = data

    def mmio_write(self, offset: int, value: int, size: int = 8) -> None:
        check_register_access(offset, size)
        if self._log:
            self.register_writes.append((self.kernel.now, offset, value))
        place = self._iommu_offset(offset)
        if place is not None:
            self.on_iommu_write(place, value, size)
        elif size == 8:
            self.on_write(offset, value)
        else:
            self.mmio_errors += 1

    def mmio_read(self, offset: int, done: Callable[[int, bool], None]) -> None:
        check_register_access(offset, 8)
        place = self._iommu_offset(offset)
        read, place = (self.on_read, offset) if place is None else (self.on_iommu_read, place)
        self.at(self.now + self.read_latency, lambda: done(*read(place)))

    def _iommu_offset(self, offset: int) -> int | None:
        """Where among the IOMMU's registers an access goes, or None."""
        base = self.iommu_registers
        return None if base is None or not 0 <= offset - base < IOMMU_REGISTER_BYTES else offset - base

    def watch(self, start: int, stop: int, hit: Callable[[], None]) -> Timer:
        watch = FakeWatch(self, start, stop, hit)
        self.watches.append(watch)
        return watch

    def on_interrupt(self, vector: int, call: Callable[[], None]) -> None:
        self.handlers[vector] = call

    def device_write(self, address: int, data: bytes) -> None:
        """The device writes memory now."""
        self.memory[address : address + len(data)] = data
        for watch in list(self.watches):
            if watch.start < address + len(data) and address < watch.stop:
                watch.hit()

    def interrupt(self, vector: int) -> None:
        """The device's interrupt message arrives now."""
        self.handlers[vector]()
