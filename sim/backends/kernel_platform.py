# SPDX-License-Identifier: BSD-2-Clause
"""The time of a machine over the event kernel."""

from collections.abc import Callable

from driver_model.platform import Platform
from sim.backends.kernel import Event, EventKernel


class KernelPlatform(Platform):
    """A machine whose time is the event kernel's. Memory, registers and interrupts are left to those that have them.

    Parameters
    ----------
    kernel : runs all software
    """

    def __init__(self, kernel: EventKernel) -> None:
        self.kernel = kernel
        self.cycle_ps = kernel.cycle_ps

    @property
    def now(self) -> int:
        return self.kernel.now

    def at(self, time: int, call: Callable[[], None], rank: int = 0) -> Event:
        return self.kernel.at(time, call, rank)

    def advance(self, until: int) -> bool:
        return self.kernel.advance(until)

    def run(self, until: int) -> bool:
        """Run software and hardware until a time, or until :meth:`stop`: True if stopped."""
        return self.kernel.run(until)

    def stop(self) -> None:
        """End :meth:`run`."""
        self.kernel.stop()
