# SPDX-License-Identifier: BSD-2-Clause
"""The deterministic event kernel: it runs all software, and the hardware between events."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

STOP_SLACK = 10 * 10**6  #: picoseconds: a process that stops the kernel may leave its core before it ends


class Hardware(Protocol):
    """What the kernel needs of a backend (:class:`sim.backends.base.Backend`)."""

    @property
    def cycle(self) -> int: ...

    def advance(self, until_cycle: int) -> int: ...

    def watch(self, storage: str, start: int, stop: int) -> int: ...

    def unwatch(self, token: int) -> None: ...

    def hits(self) -> list[int]: ...


class NullHardware:
    """Hardware that does nothing, for software on its own."""

    def __init__(self) -> None:
        self.cycle = 0  #: edges taken

    def advance(self, until_cycle: int) -> int:
        """Take edges at no cost."""
        self.cycle = until_cycle
        return until_cycle

    def watch(self, storage: str, start: int, stop: int) -> int:
        """A watch that is never hit."""
        return 0

    def unwatch(self, token: int) -> None:
        """End a watch."""

    def hits(self) -> list[int]:
        """None, ever."""
        return []


class Event:
    """A scheduled call."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Take it back; without effect once it ran."""
        self.call = None


class Watch:
    """A standing watch of the kernel's hardware."""

    def __init__(self, kernel: EventKernel, token: int) -> None:
        self._kernel = kernel
        self._token = token

    def cancel(self) -> None:
        """End it; without effect the second time."""
        self._kernel.unwatch(self._token)


class EventKernel:
    """A heap of calls, ordered by time, rank and the order in which they were made, over hardware that runs in cycles.

    Edge *n* happens at ``n * cycle_ps``, before the calls of that time. Where an edge hits a watch, the kernel calls
    back at that edge's time, in the order in which the watches were set. The same calls on the same hardware give the
    same run.

    Parameters
    ----------
    hardware : a backend, or :class:`NullHardware`
    cycle_ps : picoseconds of a clock cycle
    """

    def __init__(self, hardware: Hardware, cycle_ps: int) -> None:
        if not isinstance(cycle_ps, int) or isinstance(cycle_ps, bool):
            raise TypeError(f"cycle_ps must be an integer, not {cycle_ps!r}")
        if cycle_ps < 1:
            raise ValueError(f"cycle_ps must be positive, not {cycle_ps!r}")
        self.cycle_ps = cycle_ps
        self.now = hardware.cycle * cycle_ps  #: picoseconds: every edge up to it was taken, every call before it ran
        self._hardware = hardware
        self._heap: list[tuple[int, int, int, Event]] = []
        self._sequence = 0
        self._watches: dict[int, Callable[[], None]] = {}
        self._running = False
        self._stopped = False
        self._end = 0

    def at(self, time: int, call: Callable[[], None], rank: int = 0) -> Event:
        """Call at a time; ``ValueError`` if that is over."""
        if time < self.now:
            raise ValueError(f"Cannot call at {time} ps: {self.now} ps is reached")
        event = Event(call)
        self._sequence += 1
        heappush(self._heap, (time, rank, self._sequence, event))
        return event

    def watch(self, storage: str, start: int, stop: int, hit: Callable[[], None]) -> Watch:
        """Call ``hit`` whenever hardware writes bytes ``start..stop-1`` of a storage, at the time of that edge."""
        return self.adopt(self._hardware.watch(storage, start, stop), hit)

    def adopt(self, token: int, hit: Callable[[], None]) -> Watch:
        """Call ``hit`` whenever a watch that is set already is hit."""
        self._watches[token] = hit
        return Watch(self, token)

    def unwatch(self, token: int) -> None:
        """End a watch."""
        if self._watches.pop(token, None) is not None:
            self._hardware.unwatch(token)

    def advance(self, until: int) -> bool:
        """Let the hardware run until a time; False if a call is due up to then, a watch called back before, or
        :meth:`run` is to end before: a core that polls for ever must not keep it."""
        next_time = self._next()
        if (self._running and until > self._end) or (next_time is not None and next_time <= until):
            return False
        return self._run_hardware(until)

    def run(self, until: int) -> bool:
        """Run everything until a time, or until :meth:`stop`: True if stopped.

        Calls of that time are run, unless stopped.
        """
        if self._running:
            raise RuntimeError("the event kernel runs already: software inside it must not run it")
        if until < self.now:
            raise ValueError(f"Cannot run until {until} ps: {self.now} ps is reached")
        self._running, self._stopped, self._end = True, False, until
        try:
            while not self._stopped:
                next_time = self._next()
                target = until if next_time is None else min(next_time, until)
                if self.now < target and not self._run_hardware(target):
                    continue
                if next_time is None or next_time > until:
                    return False
                call = heappop(self._heap)[3].call
                if call is not None:
                    call()
            return True
        finally:
            self._running = False

    def stop(self) -> None:
        """End :meth:`run` as soon as the present call returns to it; it may still wait for :data:`STOP_SLACK`."""
        self._stopped = True
        self._end = min(self._end, self.now + STOP_SLACK)

    def _next(self) -> int | None:
        heap = self._heap
        while heap and heap[0][3].call is None:
            heappop(heap)
        return heap[0][0] if heap else None

    def _run_hardware(self, until: int) -> bool:
        """To a time, or to the first edge that hits a watch; whether the time was reached."""
        hardware = self._hardware
        cycle = until // self.cycle_ps
        if hardware.cycle < cycle:
            reached = hardware.advance(cycle)
            hits = hardware.hits()
            if reached < cycle or hits:
                self.now = reached * self.cycle_ps
                for token in hits:
                    hit = self._watches.get(token)
                    if hit is not None:
                        hit()
                return self.now == until
        self.now = until
        return True
