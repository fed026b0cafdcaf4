# SPDX-License-Identifier: BSD-2-Clause
"""Cache lines that several cores share: an access by another core pays for the line's way to it."""

from __future__ import annotations

from typing import Generic, TypeVar

from driver_model.cpu.core import Core

Value = TypeVar("Value")


class CacheLine:
    """A declared shared line: which cores hold it, and since when.

    It is modified in one core's cache (its ``owner``), or held by any number of ``sharers``. A core that holds it as it
    needs it pays nothing beyond its own operation; otherwise it pays ``line.transfer``. Transfers of one line follow
    one another, so that contended accesses queue. Accesses happen in the order of (time, core) over all cores: each
    first brings the machine to its core's time, unless that core is alone.

    What shares memory in C shares a line here: several fields on one line model false sharing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: Core | None = None
        self.sharers: set[int] = set()
        self.transfers = 0  #: how often the line moved between cores
        self._free_at = 0

    def read(self, core: Core) -> None:
        """A core reads the line, at its time; afterwards it shares it."""
        if not core.alone:
            core.sync()
        if core.index not in self.sharers:
            self._move(core)
            self.owner = None
            self.sharers.add(core.index)

    def write(self, core: Core) -> None:
        """A core writes the line, at its time; afterwards it alone holds it."""
        if not core.alone:
            core.sync()
        if self.owner is not core:
            if self.sharers != {core.index}:
                self._move(core)
            self.owner = core
            self.sharers = {core.index}

    def hand_over(self, core: Core) -> None:
        """The line comes to a core that waits for another core's store to it, at its time."""
        self._move(core)
        self.owner = core
        self.sharers = {core.index}

    def _move(self, core: Core) -> None:
        if not self.sharers:
            return
        core.time = max(core.time, self._free_at)
        core.spend(core.line_transfer)
        self._free_at = core.time
        self.transfers += 1


class Shared(Generic[Value]):
    """A variable on a shared line."""

    def __init__(self, line: CacheLine, value: Value) -> None:
        self.line = line
        self._value = value

    def load(self, core: Core) -> Value:
        """Its value at the core's time."""
        self.line.read(core)
        return self._value

    def store(self, core: Core, value: Value) -> None:
        """Set it at the core's time."""
        self.line.write(core)
        self._value = value
