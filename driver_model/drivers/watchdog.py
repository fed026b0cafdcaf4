# SPDX-License-Identifier: BSD-2-Clause
"""The watchdog of a TX ring (``dev_watchdog`` of ``net/sched/sch_generic.c``)."""

from collections.abc import Callable
from typing import Any

from driver_model.cpu.core import Core

TX_TIMEOUT_PS = 10**9  #: ``watchdog_timeo``: a ring that was full for so long has stopped (5 s in Linux)


class Watchdog:
    """Looks after a ring that found no room for a frame and has given nothing back since. After
    :data:`TX_TIMEOUT_PS` it asks for a poll, for the interrupt that should have brought one may be lost.

    A timer runs as long as the ring is full; one that is not costs nothing.

    Parameters
    ----------
    core : the ring's

    Attributes
    ----------
    expired : called in a hardirq to ask for a poll; None: nobody can be asked
    """

    def __init__(self, core: Core) -> None:
        self.expired: Callable[[], object] | None = None
        self._core = core
        self._since: int | None = None
        self._timer: Any = None

    def full(self) -> None:
        """A frame found no room."""
        if self._since is None:
            self._since = self._core.time
            if self._timer is None:
                self._start(self._since + TX_TIMEOUT_PS)

    def moved(self) -> None:
        """Descriptors were given back."""
        self._since = None

    def timed_out(self) -> bool:
        """No frame has found room for :data:`TX_TIMEOUT_PS`, nor since this said so last."""
        time = self._core.time
        if self._since is None or time - self._since < TX_TIMEOUT_PS:
            return False
        self._since = time
        return True

    def stop(self) -> None:
        """The ring is closed."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, time: int) -> None:
        self._timer = self._core.platform.at(time, self._look)

    def _look(self) -> None:
        """The timer: of a ring that was full meanwhile, but not all the time, it runs on."""
        self._timer = None
        if self._since is None:
            return
        now, due = self._core.platform.now, self._since + TX_TIMEOUT_PS
        if now < due:
            self._start(due)
            return
        self._start(now + TX_TIMEOUT_PS)
        if self.expired is not None:
            self._core.interrupt(self.expired)
