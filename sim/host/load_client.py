# SPDX-License-Identifier: BSD-2-Clause
"""Software's side of a load generator: what a run sends, and what it measures."""

from collections import deque
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from hw.bus.axi4 import PAGE_BYTES
from sim.backends.base import Backend
from sim.host.load_generator import (
    ID_WIDTH,
    INTERVAL_BITS,
    MAX_OUTSTANDING,
    REGISTERS,
    RESULTS,
    START,
    VECTOR,
    WORD_BYTES,
    Shape,
)
from sim.host.mailbox import Event, Interrupt, MailboxClient, RegisterRead

FLAGS = ("write", "random")
BOUNDS = {
    "size": (WORD_BYTES, PAGE_BYTES),
    "count": (2, (1 << 32) - 1),
    "outstanding": (1, MAX_OUTSTANDING),
    "interval": (1 << INTERVAL_BITS, (1 << 16) - 1),
    "ids": (1, 1 << ID_WIDTH),
    "device_id": (0, (1 << 24) - 1),
    "seed": (1, (1 << 32) - 1),
}


@dataclass(frozen=True)
class Load:
    """What a run of a :class:`~sim.host.load_generator.LoadGenerator` sends.

    Attributes
    ----------
    window : bytes from ``base`` on, a multiple of ``size``
    size : bytes of a request, a power of two, 8..4096
    count : requests, at least two
    write : writes, else reads
    random : at random places, else one after the other
    outstanding : requests without response, 1..256
    interval : cycles between two requests, in 1/256: 256..65535
    ids : AXI IDs that take turns, 1..256: requests of one ID are ordered
    base : address of the window, a multiple of ``size``
    device_id : who asks, for the IOMMU
    seed : of the random places, not 0
    """

    window: int
    size: int = 64
    count: int = 1000
    write: bool = False
    random: bool = True
    outstanding: int = 64
    interval: int = 1 << INTERVAL_BITS
    ids: int = 1 << ID_WIDTH
    base: int = 0
    device_id: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name in FLAGS and not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {value!r}")
            if name not in FLAGS and (not isinstance(value, int) or isinstance(value, bool)):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        for name, (low, high) in BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in {low}..{high}, not {getattr(self, name)!r}")
        if self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two, not {self.size!r}")
        if self.window % self.size or not 0 < self.window // self.size < 1 << 32:
            raise ValueError(f"window must be 1..2**32-1 times the size of {self.size} bytes, not {self.window!r}")
        highest = (1 << 64) - self.window
        if self.base % self.size or not 0 <= self.base <= highest:
            raise ValueError(f"base must be a multiple of {self.size} in 0..{highest:#x}, not {self.base!r}")

    def registers(self) -> dict[str, int]:
        """What the generator's registers are set to."""
        shape: Any = Shape.const(
            {
                "write": self.write,
                "random": self.random,
                "log_size": self.size.bit_length() - 1,
                "last_id": self.ids - 1,
                "outstanding": self.outstanding,
                "interval": self.interval,
            }
        )
        return {
            "shape": shape.as_bits(),
            "base": self.base,
            "places": self.window // self.size,
            "count": self.count,
            "device_id": self.device_id,
            "seed": self.seed,
        }


class LoadResult(NamedTuple):
    """What a run measured, in cycles; see :class:`~sim.host.load_generator.LoadGenerator`."""

    done: int
    cycles: int
    latency_sum: int
    latency_min: int
    latency_max: int
    errors: int
    nonzero: int = 0


class LoadError(Exception):
    """The generator, or what it was attached to, did not do what a run needs."""


class LoadClient:
    """Runs loads on a machine whose device is a load generator; made after each reset.

    Parameters
    ----------
    backend : the simulator
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self.mailbox = MailboxClient(backend)  #: for others' registers too, between runs
        self._waiting: deque[Event] = deque()

    def run(self, load: Load, *, limit: int) -> LoadResult:
        """Run a load to its end: Python sleeps meanwhile.

        Raises :class:`LoadError` if it does not end in ``limit`` cycles, or a register access is refused.
        """
        mailbox = self.mailbox
        for name, value in load.registers().items():
            mailbox.write_register(REGISTERS[name], value)
        mailbox.write_register(START, 1)
        event = self._next(limit, f"{load!r} to end")
        if not isinstance(event, Interrupt) or event.vector != VECTOR:
            raise LoadError(f"During {load!r} there came {event!r}")
        return LoadResult(*(self.read(REGISTERS[name]) for name in RESULTS))

    def read(self, offset: int, *, limit: int = 100_000) -> int:
        """A register's value."""
        self.mailbox.read_register(offset)
        event = self._next(limit, f"register {offset:#x} to be read")
        if not isinstance(event, RegisterRead) or event.error:
            raise LoadError(f"Instead of the value of register {offset:#x} there came {event!r}")
        return event.value

    def _next(self, limit: int, what: str) -> Event:
        """The next event."""
        until = self._backend.cycle + limit
        while not self._waiting:
            self._waiting += self.mailbox.events()
            if not self._waiting:
                if self._backend.cycle == until:
                    raise LoadError(f"Waited {limit} cycles for {what}")
                self._backend.advance(until)
                self._backend.hits()
        return self._waiting.popleft()
