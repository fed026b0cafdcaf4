# SPDX-License-Identifier: BSD-2-Clause
"""Softirqs: work that an interrupt leaves for when interrupts are on again (Linux ``kernel/softirq.c``)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver_model.cpu.scheduler import Task
    from driver_model.cpu.timeline import Timeline

MAX_SOFTIRQ_TIME = 2_000_000_000  #: picoseconds; Linux ``MAX_SOFTIRQ_TIME``, 2 ms
MAX_SOFTIRQ_RESTART = 10  #: Linux ``MAX_SOFTIRQ_RESTART``


class SoftirqVector(IntEnum):
    """Softirqs in their order of priority, numbered as in Linux."""

    TIMER = 1
    NET_TX = 2
    NET_RX = 3
    TASKLET = 6


class Softirq:
    """The softirqs of one core.

    They run at the exit of a hardirq, when :meth:`enable` (``local_bh_enable``) finds them pending, or in the
    process ``ksoftirqd``. A run takes what is pending again and again, until nothing is, 2 ms have passed, it restarted
    10 times, or a process waits for the core; then ``ksoftirqd`` takes over, in fair competition with other processes.
    Softirqs never nest.
    """

    def __init__(self, core: Timeline) -> None:
        self._core = core
        self._actions: dict[int, Callable[[], None]] = {}
        self._ksoftirqd: Task | None = None
        self._entry = core.op("softirq.entry")
        self._began = 0
        self.pending = 0  #: bit mask of raised softirqs
        self.active = False  #: a softirq runs, also while a hardirq interrupts it
        self.bh_count = 0  #: nested :meth:`disable`
        self.busy_ps = 0  #: time in softirqs, without the hardirqs that interrupted them

    @property
    def disabled(self) -> bool:
        """A hardirq's exit may not start a run: one is running, or a process has them disabled."""
        return self.active or self.bh_count > 0

    def open(self, vector: SoftirqVector, action: Callable[[], None]) -> None:
        """What a softirq does when it is raised (``open_softirq``)."""
        if vector in self._actions:
            raise ValueError(f"Softirq {SoftirqVector(vector).name} already has an action on core {self._core.index}")
        self._actions[SoftirqVector(vector)] = action

    def raise_(self, vector: SoftirqVector) -> None:
        """Mark a softirq pending (``raise_softirq``); from a process, outside of any interrupt, ksoftirqd runs it."""
        if vector not in self._actions:
            raise ValueError(f"Softirq {vector!r} has no action on core {self._core.index}: open it first")
        self.pending |= 1 << vector
        if not self._core.in_hardirq and not self.disabled:
            self._wake_ksoftirqd()

    def disable(self) -> None:
        """``local_bh_disable``."""
        if not self.disabled:
            self._core.sync()
        self.bh_count += 1

    def enable(self) -> None:
        """``local_bh_enable``: runs what became pending meanwhile."""
        if not self.bh_count:
            raise RuntimeError("softirqs enabled more often than disabled")
        if self.bh_count == 1 and not self.active:
            self._core.bring_together()
            self.bh_count = 0
            if self.pending and not self._core.in_hardirq:
                self.run()
                self._core.sync()
        else:
            self.bh_count -= 1

    def run(self) -> None:
        """``__do_softirq``: interrupts are on."""
        core = self._core
        scheduler = core.scheduler
        self.active = True
        began, hardirqs = core.time, core.hardirq_ps
        core.spend(self._entry)
        restarts = MAX_SOFTIRQ_RESTART
        while True:
            pending, self.pending = self.pending, 0
            while pending:
                vector = (pending & -pending).bit_length() - 1
                pending &= pending - 1
                self._actions[vector]()
            core.bring_together()
            if not self.pending:
                break
            restarts -= 1
            if not restarts or core.time - began >= MAX_SOFTIRQ_TIME or scheduler.need_resched:
                self._wake_ksoftirqd()
                core.bring_together()
                break
        self.active = False
        self.busy_ps += core.time - began - (core.hardirq_ps - hardirqs)

    def _wake_ksoftirqd(self) -> None:
        scheduler = self._core.scheduler
        if self._ksoftirqd is None:
            self._ksoftirqd = scheduler.spawn(f"ksoftirqd/{self._core.index}", self._daemon)
        else:
            scheduler.wake(self._ksoftirqd)

    def _daemon(self) -> None:
        core = self._core
        while True:
            core.bring_together()
            if self.pending:
                self.run()
            else:
                core.scheduler.sleep()
