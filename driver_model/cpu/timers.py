# SPDX-License-Identifier: BSD-2-Clause
"""Kernel timers: calls that a core makes later, in softirq context (``kernel/time/timer.c``)."""

from collections import deque
from collections.abc import Callable

from driver_model.cpu.core import Core
from driver_model.cpu.softirq import SoftirqVector
from driver_model.platform import Timer


class Timers:
    """The timers of one core. A timer's interrupt raises the softirq TIMER, which makes the call.

    Time is not rounded to jiffies.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self._expired: deque[Callable[[], None]] = deque()
        core.softirq.open(SoftirqVector.TIMER, self._run)

    def add(self, delay: int, call: Callable[[], None]) -> Timer:
        """Make a call ``delay`` picoseconds after the core's time (``add_timer``), unless it is cancelled before."""
        if not isinstance(delay, int) or isinstance(delay, bool):
            raise TypeError(f"delay must be an integer of picoseconds, not {delay!r}")
        if delay < 0:
            raise ValueError(f"delay must be 0 or more picoseconds, not {delay!r}")

        def expire() -> None:
            self._expired.append(call)
            self.core.raise_softirq(SoftirqVector.TIMER)

        return self.core.platform.at(self.core.time + delay, lambda: self.core.interrupt(expire))

    def _run(self) -> None:
        while self._expired:
            self._expired.popleft()()
