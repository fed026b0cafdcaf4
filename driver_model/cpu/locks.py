# SPDX-License-Identifier: BSD-2-Clause
"""Spin locks: queues of cores on a shared cache line."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from driver_model.cpu.core import Core
from driver_model.cpu.lines import CacheLine

LOCKUP = 10**12  #: picoseconds that a core spins before it gives up: a second


class SpinLock:
    """A fair spin lock (Linux' queued spin lock): cores get it in the order in which they came.

    Taking it costs ``spin.lock``, and the line's transfer where another core held it last; releasing it costs
    ``spin.unlock``. A core that finds it taken spins, with interrupts as they are, and pays a transfer when it gets it;
    the holder's releasing store does not wait for the line.
    The holder is not preempted; against its own interrupts and softirqs it protects itself by
    :meth:`driver_model.cpu.core.Core.irq_save` or ``softirq.disable``.

    Taking a lock that one's own core holds raises ``RuntimeError`` (on the real machine: a deadlock); a core that spins
    for a second raises ``TimeoutError``.
    """

    def __init__(self, name: str, line: CacheLine | None = None) -> None:
        self.name = name
        self.line = CacheLine(name) if line is None else line
        self.holder: Core | None = None
        self.contended = 0  #: how often a core had to spin
        self._queue: deque[Core] = deque()

    def acquire(self, core: Core) -> None:
        """Take the lock (``spin_lock``)."""
        if self.holder is core or core in self._queue:
            raise RuntimeError(f"Core {core.index} deadlocks: it holds or waits for spin lock {self.name!r} already")
        core.preempt_disable()
        self.line.write(core)
        core.spend(core.spin_lock)
        if self.holder is None:
            self.holder = core
            return
        self.contended += 1
        self._queue.append(core)
        if not core.spin_until(lambda: self.holder is core, LOCKUP):
            held_by = "nobody" if self.holder is None else f"core {self.holder.index}"
            raise TimeoutError(f"Core {core.index} spun for a second on spin lock {self.name!r}, held by {held_by}")
        self.line.hand_over(core)

    def release(self, core: Core) -> None:
        """Give it to the core that waits longest (``spin_unlock``)."""
        if self.holder is not core:
            raise RuntimeError(f"Core {core.index} releases spin lock {self.name!r}, which it does not hold")
        core.spend(core.spin_unlock)
        if not core.alone:
            core.sync()
        self.holder = None
        if self._queue:
            self.holder = self._queue.popleft()
            self.holder.kick()
        core.preempt_enable()

    def held(self, core: Core) -> Held:
        """``with lock.held(core):`` takes it and releases it."""
        return Held(self, core)


class Held:
    """The region of :meth:`SpinLock.held`."""

    def __init__(self, lock: SpinLock, core: Core) -> None:
        self._lock = lock
        self._core = core

    def __enter__(self) -> None:
        self._lock.acquire(self._core)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._lock.release(self._core)
