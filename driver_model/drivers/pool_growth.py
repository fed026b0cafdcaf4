# SPDX-License-Identifier: BSD-2-Clause
"""More buffers for a hardware pool that runs low."""

from collections.abc import Callable

from driver_model.drivers.device import POLL_STEP_PS, DeviceError
from driver_model.drivers.hardware_pool import HardwarePool

GROWTH_TIMEOUT_PS = 10**12  #: for a step of growth to end
GROWTH_RETRY_PS = 10**9  #: after an allocation failed, the interrupt is armed again after this time (1 ms)


class PoolGrowth:
    """Lets a pool grow by a quarter of its first size whenever fewer than so many of its buffers are free, up to a
    bound. The pool's low-water interrupt says when; the work is a process's, for it gives commands and allocates.

    Where there is no memory, what joined counts, and the interrupt is armed again only after :data:`GROWTH_RETRY_PS`:
    it would come at once. Where the device refuses or does not answer, the pool grows no more, and ``warn`` is told.

    Parameters
    ----------
    pool : which
    grow : lets so many more buffers join; how many did
    size, most : buffers that it has, and that it may have
    vector : of its interrupt
    warn : takes a message
    """

    def __init__(
        self,
        pool: HardwarePool,
        grow: Callable[[int], int],
        size: int,
        most: int,
        vector: int,
        warn: Callable[[str], None],
    ) -> None:
        self._pool, self._grow, self._warn = pool, grow, warn
        self._size, self._most, self._vector = size, most, vector
        self._step = max(1, size // 4)
        self._running = self._stopped = False

    def arm(self) -> None:
        """Ask for the interrupt, if the pool may grow."""
        if not self._stopped and self._size < self._most:
            self._pool.arm_low_water(self._step, self._vector)

    def interrupt(self) -> None:
        """Handler of the interrupt. It may come late, when growth has stopped."""
        if not self._stopped and not self._running:
            self._running = True
            self._pool.core.spawn(f"grow pool {self._pool.pool}", self._run)

    def stop(self) -> None:
        """Grow no more, and wait, in a process, for a step that is under way: it gives commands."""
        self._stopped = True
        core = self._pool.core
        deadline = core.time + GROWTH_TIMEOUT_PS
        while self._running:
            if core.time >= deadline:
                raise DeviceError(
                    f"Waited {GROWTH_TIMEOUT_PS // 10**9} ms for pool {self._pool.pool} to end a step of growth"
                )
            core.sleep_until(core.time + POLL_STEP_PS)

    def _run(self) -> None:
        wanted = min(self._step, self._most - self._size)
        core = self._pool.core
        try:
            joined = 0 if self._stopped else self._grow(wanted)
        except DeviceError as error:
            self._stopped = True
            self._warn(f"Pool {self._pool.pool} grows no more: {error}")
            joined = wanted
        else:
            self._size += joined
        if joined < wanted and not self._stopped:
            core.sleep_until(core.time + GROWTH_RETRY_PS)
        self._running = False
        self.arm()
