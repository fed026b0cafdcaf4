# SPDX-License-Identifier: BSD-2-Clause
"""Kernel timers: calls that a core makes later, in softirq context (``kernel/time/timer.c``)."""

from collections import deque
from collections.abc import Callable

from driver_model.cpu.core import Core
from driver_model.cpu.softirq import SoftirqVector
from driver_model.platform import Timer


class KernelTimer:
    """A call that is to be made, and can be cancelled until it begins: also when its interrupt has come already."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call
        self.interrupt: Timer

    def cancel(self) -> None:
        """``timer_delete``."""
        self.call = None
        self.interrupt.cancel()


class Timers:
    """The timers of one core. A timer's interrupt raises the softirq TIMER, which makes the call.

    Time is not rounded to jiffies.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        self._expired: deque[KernelTimer] = deque()
        core.softirq.open(SoftirqVector.TIMER, self._run)

    def add(self, delay: int, call: Callable[[], None]) -> KernelTimer:
        """Make a call ``delay`` picoseconds after the core's time (``add_timer``), unless it is cancelled before."""
        if not isinstance(delay, int) or isinstance(delay, bool):
            raise TypeError(f"delay must be an integer of picoseconds, not {delay!r}")
        if delay < 0:
            raise ValueError(f"delay must be 0 or more picoseconds, not {delay!r}")

        timer = KernelTimer(call)

        def expire() -> None:
            self._expired.append(timer)
            self.core.raise_softirq(SoftirqVector.TIMER)

        timer.interrupt = self.core.platform.at(self.core.time + delay, lambda: self.core.interrupt(expire))
        return timer

    def _run(self) -> None:
        while self._expired:
            call = self._expired.popleft().call
            if call is not None:
                call()
