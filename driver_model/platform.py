# SPDX-License-Identifier: BSD-2-Clause
"""The abstract machine under the software: memory, registers, interrupts, watchpoints and time.

Software time is an integer of picoseconds. The hardware takes an edge every ``cycle_ps``; edge *n* happens at
``n * cycle_ps``. Software that acts at time *t* sees every effect of edges up to ``t // cycle_ps``, and the hardware
sees its effects from the next edge on.

Everything here is about *now*: the time that hardware and events have reached. A core that has spent time beyond it
brings the machine up to its own time before it calls (see :class:`driver_model.cpu.core.Core`); only cores, and
the checkers and recorders that only look, use this interface.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

REGISTER_SIZES = (4, 8)  #: bytes of a register access
IOMMU_REGISTER_BYTES = 4096
IOMMU_VECTOR = 0x8000  #: interrupt vector of the IOMMU's wire 0, the others follow; a message comes at each rising edge


def check_register_access(offset: int, size: int) -> None:
    """Raise ``ValueError`` unless a register access has a size that there is, at a multiple of it."""
    if size not in REGISTER_SIZES:
        raise ValueError(f"Register accesses have {' or '.join(map(str, REGISTER_SIZES))} bytes, not {size!r}")
    if offset % size:
        raise ValueError(f"Register offset must be a multiple of {size} for an access of {size} bytes, not {offset!r}")


class Timer(Protocol):
    """A scheduled call that can be taken back."""

    def cancel(self) -> None:
        """Take it back; without effect once it ran."""


class Platform(ABC):
    """A machine: simulated hardware behind one of the backends, or a fake in unit tests."""

    cycle_ps: int  #: picoseconds of a hardware clock cycle
    memory_size: int  #: bytes of host memory, from physical address 0
    register_space: int  #: bytes of the device's register space, from offset 0
    iommu_registers: int | None  #: offset of the IOMMU's registers, 4 KiB; None on a machine without one

    @property
    @abstractmethod
    def now(self) -> int:
        """Picoseconds reached: every edge at or before it has been taken, every event before it has run."""

    @abstractmethod
    def at(self, time: int, call: Callable[[], None], rank: int = 0) -> Timer:
        """Run ``call`` at a time (not before now). Calls of one time run by rank, then in the order in which they were
        made; core *i* has rank *i + 1*, everything else 0."""

    @abstractmethod
    def advance(self, until: int) -> bool:
        """Let the hardware run until ``until``, or until something wakes software; True if ``until`` was reached.

        Fast path of a core that waits while no other event is due: it may be called from any greenlet and never
        switches one. It returns False at once where an event is due up to ``until`` (the caller then waits through
        :meth:`at`), and early where an interrupt or a watchpoint called back: :attr:`now` tells how far it came.
        """

    @abstractmethod
    def read(self, address: int, length: int) -> bytes:
        """Bytes of host memory as they are now."""

    @abstractmethod
    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store to host memory now; hardware sees it from its next edge on."""

    @abstractmethod
    def mmio_write(self, offset: int, value: int, size: int = 8) -> None:
        """A posted register write of ``size`` bytes, 8 or 4, leaves the CPU now; offsets are multiples of the size. A
        refusal by the device is counted in the platform's ``mmio_errors`` and reported. The device's registers take 8
        bytes at once, the IOMMU's also 4."""

    @abstractmethod
    def mmio_read(self, offset: int, done: Callable[[int, bool], None]) -> None:
        """A 64-bit register read leaves the CPU now; ``done(value, error)`` runs when its completion arrives. Offsets
        are multiples of 8; registers do not tell a read of one half from a read of both."""

    @abstractmethod
    def watch(self, start: int, stop: int, hit: Callable[[], None]) -> Timer:
        """Call ``hit`` each time the device writes any byte of host memory in ``start..stop-1``, at the time of the
        write, until cancelled."""

    @abstractmethod
    def on_interrupt(self, vector: int, call: Callable[[], None]) -> None:
        """Run ``call`` whenever an interrupt message with this vector arrives at the CPU."""
