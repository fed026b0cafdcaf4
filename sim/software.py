# SPDX-License-Identifier: BSD-2-Clause
"""A machine without devices: memory and cores, for loops of software on its own."""

from collections.abc import Callable
from typing import Any

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.platform import Timer
from sim.backends.kernel import Event, EventKernel, NullHardware
from sim.backends.kernel_platform import KernelPlatform

CYCLE_PS = 6_400  #: nothing happens in these cycles
TIME_LIMIT = 10**13  #: picoseconds that a loop may take, 10 s


class SoftwarePlatform(KernelPlatform):
    """Memory over the event kernel; there are no registers, and nobody interrupts.

    Parameters
    ----------
    memory_size : bytes
    """

    def __init__(self, memory_size: int, cycle_ps: int = CYCLE_PS) -> None:
        super().__init__(EventKernel(NullHardware(), cycle_ps))
        self.memory_size = memory_size
        self.register_space = 0
        self.iommu_registers: int | None = None
        self.memory = bytearray(memory_size)

    def read(self, address: int, length: int) -> bytes:
        if not 0 <= address <= self.memory_size - length:
            raise ValueError(f"Load of {length} bytes at {address:#x} is outside of 0..{self.memory_size - 1:#x}")
        return bytes(self.memory[address : address + length])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        if not 0 <= address <= self.memory_size - len(data):
            raise ValueError(f"Store of {len(data)} bytes at {address:#x} is outside of 0..{self.memory_size - 1:#x}")
        self.memory[address : address + len(data)] = data

    def mmio_write(self, offset: int, value: int, size: int = 8) -> None:
        raise ValueError(f"This machine has no register at {offset:#x}")

    def mmio_read(self, offset: int, done: Callable[[int, bool], None]) -> None:
        raise ValueError(f"This machine has no register at {offset:#x}")

    def watch(self, start: int, stop: int, hit: Callable[[], None]) -> Timer:
        return Event(hit)  # nobody writes but the cores

    def on_interrupt(self, vector: int, call: Callable[[], None]) -> None:
        """Nobody interrupts."""


class Software:
    """A kernel on such a machine.

    Parameters
    ----------
    profile : name of the cost profile
    memory_size : bytes
    checked : with the checkers
    host : further parameters of the :class:`driver_model.drivers.host.Host`
    """

    def __init__(self, profile: str, memory_size: int, *, checked: bool = False, **host: Any) -> None:
        self.platform = SoftwarePlatform(memory_size)
        self.profile = Profile.load(profile)
        self.system = System(self.platform, self.profile)
        self.checker = OwnershipChecker(CYCLE_PS) if checked else None
        self.host = Host(self.system.cores, checker=self.checker, **host)

    @property
    def core(self) -> Core:
        """The only core."""
        return self.system.cores[0]

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in a process; its result. Raises ``TimeoutError`` if it does not end in 10 s of its time."""
        done: list[Any] = []

        def body() -> None:
            done.append(function())
            self.core.sync()
            self.platform.stop()

        self.core.spawn("loop", body)
        if not self.platform.run(self.platform.now + TIME_LIMIT):
            raise TimeoutError(f"Waited {TIME_LIMIT // 10**12} s of simulated time for a loop of software to end")
        return done[0]

    def cycles(self, turn: Callable[[], object], turns: int, warm_up: int = 0) -> float:
        """Core cycles of one turn of a loop, in a process in which nothing comes in: a mean over so many."""

        def measure() -> int:
            core = self.core
            for _ in range(warm_up):
                turn()
            core.softirq.disable()
            start = core.time
            for _ in range(turns):
                turn()
            spent = core.time - start
            core.softirq.enable()
            return spent

        return float(self.run(measure)) * self.profile.khz / 10**9 / turns
