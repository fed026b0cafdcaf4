# SPDX-License-Identifier: BSD-2-Clause
"""The check of a queue that seems to have stopped."""

from collections.abc import Callable

from driver_model.cpu.core import Core

CHECK_TIMEOUT_PS = 10**12  #: for a check, which reads registers
STEP_PS = 5 * 10**6  #: between two looks whether it is done


class QueueCheck:
    """Checks of a queue, in a process of its core, one at a time.

    Parameters
    ----------
    core, index : the queue's
    action : reads what has become of the queue
    done : called after each
    """

    def __init__(self, core: Core, index: int, action: Callable[[], None], done: Callable[[], None]) -> None:
        self.running = False
        self.action = action
        self._core, self._index, self._done = core, index, done

    def start(self) -> None:
        """Begin a check, unless one is running. The queue is armed only when that is done: a direction in ERROR
        interrupts at every arm."""
        if self.running:
            return
        self.running = True

        def check() -> None:
            self.action()
            # Whoever waits must not come in between and reset the device, nor a poll that leaves the arming to this.
            self._core.softirq.disable()
            self.running = False
            self._done()
            self._core.softirq.enable()

        self._core.spawn(f"check queue {self._index}", check)

    def wait(self) -> None:
        """Wait, in another process, until none is running."""
        deadline = self._core.time + CHECK_TIMEOUT_PS
        while self.running:
            if self._core.time >= deadline:
                raise TimeoutError(f"Waited {CHECK_TIMEOUT_PS // 10**9} ms for the check of queue {self._index} to end")
            self._core.sleep_until(self._core.time + STEP_PS)
