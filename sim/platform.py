# SPDX-License-Identifier: BSD-2-Clause
"""The abstract machine on simulated hardware."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from driver_model.platform import IOMMU_REGISTER_BYTES, Timer, check_register_access
from sim.backends.base import Backend
from sim.backends.kernel import EventKernel
from sim.backends.kernel_platform import KernelPlatform
from sim.host.mailbox import Interrupt, MailboxClient, PostedErrors, RegisterRead

MEMORY = "memory"  #: the storage that is host memory


class RefusedWrite(NamedTuple):
    """A register write that the device refused."""

    time: int  #: picoseconds at which its response arrived
    offset: int


class SimPlatform(KernelPlatform):
    """A machine in a backend, just after its reset: registers and interrupts go through its mailbox.

    Parameters
    ----------
    backend : the simulator; its storage ``memory`` is host memory
    cycle_ps : picoseconds of a clock cycle
    register_space : bytes of the device's registers
    iommu_registers, intruder_registers : offsets of the IOMMU's registers, and of a second device's; None without one

    Attributes
    ----------
    kernel : the event kernel that runs all software
    refused : register writes that the device refused, in the order of their responses
    posted_errors : writes of the device that memory refused after they had been acknowledged: their bytes are lost
    spurious_interrupts : interrupt messages with a vector that nobody asked for
    """

    def __init__(
        self,
        backend: Backend,
        cycle_ps: int,
        register_space: int,
        iommu_registers: int | None = None,
        intruder_registers: int | None = None,
    ) -> None:
        super().__init__(EventKernel(backend, cycle_ps))
        self.memory_size = len(backend.storage[MEMORY])
        self.register_space = register_space
        self.iommu_registers = iommu_registers
        self._spaces = [(0, register_space)]
        for start in (iommu_registers, intruder_registers):
            if start is not None:
                self._spaces.append((start, start + IOMMU_REGISTER_BYTES))
        self.refused: list[RefusedWrite] = []
        self.posted_errors = 0
        self.spurious_interrupts = 0
        self._memory = backend.storage[MEMORY].data
        self._mailbox = MailboxClient(backend)
        self._reads: deque[Callable[[int, bool], None]] = deque()
        self._handlers: dict[int, Callable[[], None]] = {}
        self.kernel.adopt(self._mailbox.token, self._take_events)

    @property
    def mmio_errors(self) -> int:
        """Register writes that the device refused."""
        return len(self.refused)

    def set_carrier(self, up: bool) -> None:
        """Plug the partner of the device's wire in or out; out after reset."""
        self._mailbox.set_carrier(up)

    def set_stalls(self, rate: int, seed: int) -> None:
        """Hold back the streams between the machine's parts at random: see
        :meth:`sim.host.mailbox.MailboxClient.set_stalls`."""
        self._mailbox.set_stalls(rate, seed)

    def read(self, address: int, length: int) -> bytes:
        if not 0 <= address <= self.memory_size - length:
            raise ValueError(f"Load of {length} bytes at {address:#x} is outside of 0..{self.memory_size - 1:#x}")
        return self._memory[address : address + length].tobytes()

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        if not 0 <= address <= self.memory_size - len(data):
            raise ValueError(f"Store of {len(data)} bytes at {address:#x} is outside of 0..{self.memory_size - 1:#x}")
        self._memory[address : address + len(data)] = data

    def mmio_write(self, offset: int, value: int, size: int = 8) -> None:
        check_register_access(offset, size)
        self._mailbox.write_register(self._register(offset, size), value, size)

    def mmio_read(self, offset: int, done: Callable[[int, bool], None]) -> None:
        check_register_access(offset, 8)
        self._mailbox.read_register(self._register(offset, 8))
        self._reads.append(done)

    def watch(self, start: int, stop: int, hit: Callable[[], None]) -> Timer:
        return self.kernel.watch(MEMORY, start, stop, hit)

    def on_interrupt(self, vector: int, call: Callable[[], None]) -> None:
        if vector in self._handlers:
            raise ValueError(f"Interrupt vector {vector!r} already has a handler")
        self._handlers[vector] = call

    def _register(self, offset: int, size: int) -> int:
        if not any(start <= offset <= stop - size for start, stop in self._spaces):
            allowed = " or ".join(f"{start:#x}..{stop - size:#x}" for start, stop in self._spaces)
            raise ValueError(f"Register offset must be in {allowed}, not {offset!r}")
        return offset

    def _take_events(self) -> None:
        for event in self._mailbox.events():
            if isinstance(event, Interrupt):
                handler = self._handlers.get(event.vector)
                if handler is None:
                    self.spurious_interrupts += 1
                else:
                    handler()
            elif isinstance(event, RegisterRead):
                self._reads.popleft()(event.value, event.error)
            elif isinstance(event, PostedErrors):
                self.posted_errors = event.total
            else:
                self.refused.append(RefusedWrite(self.now, event.offset))
