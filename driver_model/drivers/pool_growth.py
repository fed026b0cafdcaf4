# SPDX-License-Identifier: BSD-2-Clause
"""More buffers for a hardware pool that runs low, and other pages for those that have left it."""

from collections.abc import Callable

from driver_model.drivers.device import POLL_STEP_PS, DeviceError
from driver_model.drivers.hardware_pool import HardwarePool

GROWTH_TIMEOUT_PS = 10**12  #: for a step of growth to end
GROWTH_RETRY_PS = 10**9  #: after an allocation failed, the interrupt is armed again after this time (1 ms)


class PoolGrowth:
    """Lets a pool grow by a quarter of its first size whenever fewer than so many of its buffers are free, up to a
    bound, and replaces pages that have left. The pool's low-water interrupt, and who sees a page leave, say when; the
    work is a process's, for it gives commands and allocates.

    Where there is no memory, what joined counts, and the rest is tried again only after :data:`GROWTH_RETRY_PS`: the
    interrupt would come at once. Where the device refuses or does not answer, that was the last step, and ``warn`` is
    told.

    Parameters
    ----------
    pool : which
    grow : lets so many more buffers join; how many did
    replenish : lets pages join for those that have left; whether it did for all
    size, most : buffers that it has, and that it may have
    vector : of its interrupt
    warn : takes a message
    """

    def __init__(
        self,
        pool: HardwarePool,
        grow: Callable[[int], int],
        replenish: Callable[[], bool],
        size: int,
        most: int,
        vector: int,
        warn: Callable[[str], None],
    ) -> None:
        self._pool, self._grow, self._replenish, self._warn = pool, grow, replenish, warn
        self._size, self._most, self._vector = size, most, vector
        self._step = max(1, size // 4)
        self._running = self._stopped = False
        self._low = self._lacks = False  # what is to be done

    def arm(self) -> None:
        """Ask for the interrupt, if the pool may grow."""
        if not self._stopped and self._size < self._most:
            self._pool.arm_low_water(self._step, self._vector)

    def interrupt(self) -> None:
        """Handler of the interrupt. It may come late, when growth has stopped."""
        self._low = self._size < self._most
        self._begin()

    def replace(self) -> None:
        """A page has left."""
        self._lacks = True
        self._begin()

    def _begin(self) -> None:
        if (self._low or self._lacks) and not self._stopped and not self._running:
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
        core = self._pool.core
        try:
            while (self._low or self._lacks) and not self._stopped:
                low = self._low
                if not self._work() and not self._stopped:
                    core.sleep_until(core.time + GROWTH_RETRY_PS)
                if low:
                    self.arm()
        except (DeviceError, OSError) as error:
            self._stopped = True
            self._warn(f"Pool {self._pool.pool} grows no more: {error}")
        finally:
            self._running = False

    def _work(self) -> bool:
        """Replace what has left, and grow if that was asked for; whether there was memory."""
        low, lacks = self._low, self._lacks
        self._low = self._lacks = False
        replenished = self._replenish() if lacks else True
        self._lacks |= not replenished
        wanted = min(self._step, self._most - self._size) if low else 0
        joined = self._grow(wanted)
        self._size += joined
        return replenished and joined == wanted
