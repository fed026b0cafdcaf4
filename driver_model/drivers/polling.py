# SPDX-License-Identifier: BSD-2-Clause
"""Who polls a queue pair: NAPI after an interrupt, or a process that does nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from driver_model.cpu.scheduler import Task
from driver_model.net.napi import Napi, napi_disable, napi_enable, napi_schedule

if TYPE_CHECKING:
    from driver_model.drivers.queue import QueuePair

BURST = 32  #: frames that a poll-mode driver takes at once (``MAX_PKT_BURST``)
IDLE_PS = 10**8  #: a process that polls looks up from an empty ring so often, to see whether it should end
SENDING_PS = 10**6  #: and so often while frames are being sent
SUSPICIOUS_PS = 10**9  #: after so long without a frame it asks the device whether the queue still runs
STOP_TIMEOUT_PS = 10**12
STEP_PS = 10**6


class Polling(ABC):
    """Polls of a queue pair can be allowed, forbidden, asked for, and waited for.

    Attributes
    ----------
    polls : polls so far
    busy : a poll is under way or due
    """

    @property
    @abstractmethod
    def polls(self) -> int:
        """Polls so far."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """A poll is under way or due."""

    @abstractmethod
    def enable(self) -> None:
        """Allow polls."""

    @abstractmethod
    def disable(self) -> None:
        """In a process: allow none, and wait until none is under way. Raises ``TimeoutError`` after a second."""

    @abstractmethod
    def schedule(self) -> None:
        """Ask for a poll."""


class NapiPolling(Polling):
    """By the softirq, when the device has interrupted or there is more to do."""

    def __init__(self, napi: Napi) -> None:
        self._napi = napi

    @property
    def polls(self) -> int:
        """Polls so far."""
        return self._napi.polls

    @property
    def busy(self) -> bool:
        """It is scheduled."""
        return self._napi.scheduled

    def enable(self) -> None:
        """``napi_enable``."""
        napi_enable(self._napi)

    def disable(self) -> None:
        """``napi_disable``."""
        napi_disable(self._napi)

    def schedule(self) -> None:
        """``napi_schedule``."""
        napi_schedule(self._napi)


class PollMode(Polling):
    """By a process of the queue's core that never sleeps. It runs in the background, as whatever else its core has to
    do must come in (poll-mode drivers get cores of their own). Bottom halves are off in a poll, so that no other
    process meets it half-way.

    Each look at the ring costs ``pmd.poll``, whether it finds a burst or nothing.
    """

    def __init__(self, queue: QueuePair) -> None:
        self._queue = queue
        self._core = queue.core
        self._polls = 0
        self._found = False  # the last poll did: there may be more
        self._task: Task | None = None
        self._ending = False
        self._op_poll = queue.core.op("pmd.poll")

    @property
    def polls(self) -> int:
        """Polls so far."""
        return self._polls

    @property
    def busy(self) -> bool:
        """The last look found frames, and there may be more."""
        return self._found

    def enable(self) -> None:
        """Start the process."""
        if self._task is None:
            self._ending = False
            self._task = self._core.spawn(f"pmd {self._queue.index}", self._run, background=True)

    def disable(self) -> None:
        """Let the process end."""
        self._ending = True
        deadline = self._core.time + STOP_TIMEOUT_PS
        while self._task is not None and not self._task.done:
            if self._core.time >= deadline:
                raise TimeoutError(f"Waited a second for the process that polls queue {self._queue.index} to end")
            self._core.sleep_until(self._core.time + STEP_PS)
        self._task = None
        self._found = False

    def schedule(self) -> None:
        """It looks by itself."""

    def _run(self) -> None:
        core, queue, softirq = self._core, self._queue, self._core.softirq
        idle_since: int | None = None
        while not self._ending:
            softirq.disable()
            core.spend(self._op_poll)
            work = queue.burst(BURST)
            softirq.enable()
            self._polls += 1
            self._found = bool(work)
            if work:
                idle_since = None
                continue
            if idle_since is None:
                idle_since = core.time
            elif core.time - idle_since >= SUSPICIOUS_PS:
                idle_since = core.time
                queue.suspect()
            start, stop, ready = queue.rx.completions.awaited
            pause = SENDING_PS if queue.tx.outstanding else IDLE_PS
            core.poll_until(start, stop, ready, core.time + pause, self._op_poll)
