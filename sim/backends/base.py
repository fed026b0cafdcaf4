# SPDX-License-Identifier: BSD-2-Clause
"""What a simulator offers to software: memory, time, watchpoints; and how a job is run on one."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from amaranth.lib import wiring

ACCESS_STORAGE = "memory"  #: the storage whose accesses are logged


class StorageError(Exception):
    """The hardware accessed a storage outside its bounds or out of alignment."""


class JobError(Exception):
    """A job failed in the simulator's process; the message holds its traceback.

    Attributes
    ----------
    kind : the exception's class, as ``package.module.Name``; empty if the process just ended
    reason : the exception's own message
    """

    def __init__(self, message: str, kind: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason


class Access(NamedTuple):
    """An access of the device to host memory: contiguous beats in consecutive cycles."""

    cycle: int  #: edge of its first beat
    address: int
    length: int
    is_write: bool


class Design(Protocol):
    """A configuration from which hardware is built; picklable, with a ``repr`` that tells all of it."""

    @property
    def access_log(self) -> bool:
        """Keep :meth:`Backend.accesses`."""

    def build(self) -> wiring.Component:
        """The top, without ports, in domain sync."""


class Backend(ABC):
    """A machine in a simulator.

    Software runs between clock edges: it sees every effect of edges up to :attr:`cycle`, and the hardware sees what
    software changed from edge ``cycle + 1`` on.
    """

    storage: Mapping[str, np.ndarray]  #: bytes of each storage, by name; zero after reset

    @property
    @abstractmethod
    def cycle(self) -> int:
        """Clock edges taken since reset."""

    @abstractmethod
    def advance(self, until_cycle: int) -> int:
        """Take edges until ``until_cycle``, or until one whose writes hit a watch; the cycle reached.

        Raises ``ValueError`` if ``until_cycle`` is in the past, :class:`StorageError` if an access was out of bounds.
        """

    @abstractmethod
    def watch(self, storage: str, start: int, stop: int) -> int:
        """Watch bytes ``start..stop-1`` of a storage for writes by the hardware, from the next edge on; a token."""

    @abstractmethod
    def unwatch(self, token: int) -> None:
        """End a watch; its pending hit is forgotten."""

    @abstractmethod
    def hits(self) -> list[int]:
        """Tokens of watches that were hit since the last call, in ascending order, each once."""

    @abstractmethod
    def accesses(self) -> list[Access]:
        """Accesses to storage ``memory`` since the last call, in order of their first beat, reads before writes of one
        edge; empty unless the design asks for them. The bytes of a read are those of whole words. An access under way
        comes in parts, one of each call: :class:`sim.accesses.AccessJoiner` puts them together."""

    @abstractmethod
    def reset(self) -> None:
        """As after power-on: ``rst`` is pulsed, storages are zero, watches and logs gone, :attr:`cycle` is 0."""


def check_range(size: int, storage: str, start: int, stop: int) -> None:
    """Raise ``ValueError`` unless ``start..stop-1`` lies in a storage of that size."""
    if not 0 <= start < stop <= size:
        raise ValueError(f"Watched range must lie in 0..{size} of storage {storage!r}, not {start!r}..{stop!r}")


def check_until(cycle: int, until_cycle: int) -> None:
    """Raise ``ValueError`` for a time that is over."""
    if until_cycle < cycle:
        raise ValueError(f"Cannot advance to cycle {until_cycle!r}: cycle {cycle} is reached")


def resolve(job: str) -> Callable[[Any, Any, Any], Any]:
    """The function that ``package.module:function`` names."""
    module, colon, name = job.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"Job must be given as 'package.module:function', not {job!r}")
    function = getattr(importlib.import_module(module), name, None)
    if not callable(function):
        raise ValueError(f"Module {module!r} has no function {name!r}")
    return function


BACKENDS = ("verilator", "amaranth")


def launch(backend: str, design: Design, job: str, argument: Any = None, *, waves: Path | None = None) -> Any:
    """Run ``function(backend, design, argument)``, plain synchronous code, on a machine just after reset.

    Parameters
    ----------
    backend : ``verilator`` (own process, through cocotb) or ``amaranth`` (this process)
    design : what to simulate
    job : ``package.module:function``
    argument : passed to the function; picklable
    waves : file for waves of the whole run, VCD or (Verilator) FST by its suffix

    Returns the function's result, which must be JSON-able. An exception of the function comes back as it is from
    ``amaranth``, and as :class:`JobError` from ``verilator``.
    """
    if backend not in BACKENDS:
        raise ValueError(f"Backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return importlib.import_module(f"sim.backends.{backend}").run(design, job, argument, waves)
