# SPDX-License-Identifier: BSD-2-Clause
"""Who takes frames from a queue at a rate of its own, and keeps their buffers until then."""

from fractions import Fraction

import numpy as np

from sim.line_rate.pools import PoolReceiver


class Consumer:
    """Consumes what a receiver got, one frame after the other in the order in which they came; each takes ``service``
    cycles. Then its buffer goes back.

    Attributes
    ----------
    service : cycles of a frame; may change at any time
    consumed : frames so far
    """

    def __init__(self, receiver: PoolReceiver, service: Fraction):
        self._receiver = receiver
        self._waiting: np.ndarray = np.zeros(0, np.int64)
        self._free = Fraction(0)  # cycle in which the last frame was done
        self.service = service
        self.consumed = 0
        self._new: list[np.ndarray] = []
        receiver.then = self._new.append

    @property
    def held(self) -> int:
        """Buffers that software has: of frames that wait, and of those that go back with the next."""
        return len(self._waiting) + self._receiver.kept

    def work(self, cycle: int) -> None:
        """Hand back what was consumed up to ``cycle``, and take what has come.

        A frame is not begun before the call that brings it.
        """
        self.hand_back(min(len(self._waiting), int((cycle - self._free) // self.service)))
        if not len(self._waiting):
            self._free = Fraction(cycle)
        self._waiting = np.concatenate((self._waiting, *self._new))
        self._new.clear()

    def hand_back(self, count: int) -> None:
        """Consume so many frames, or those that there are."""
        done, self._waiting = np.split(self._waiting, [count])
        self._free += len(done) * self.service
        self.consumed += len(done)
        self._receiver.give_back(done)
