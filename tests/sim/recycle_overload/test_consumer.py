# SPDX-License-Identifier: BSD-2-Clause
"""A consumer with a rate of its own, at a queue that is not there."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from sim.recycle_overload.consumer import Consumer


class FakeReceiver:
    """Takes buffers back, in lots of four."""

    then: Callable[[np.ndarray], None]

    def __init__(self) -> None:
        self.back: list[int] = []

    @property
    def kept(self) -> int:
        return len(self.back) % 4

    def give_back(self, ids: np.ndarray) -> None:
        self.back += ids.tolist()


def consumer(service: str) -> tuple[FakeReceiver, Consumer]:
    receiver: Any = FakeReceiver()
    return receiver, Consumer(receiver, Fraction(service))


def test_frames_are_consumed_in_order_at_the_consumers_rate() -> None:
    receiver, slow = consumer("21/2")
    receiver.then(np.array([7, 3]))
    receiver.then(np.array([5, 1, 4]))
    slow.work(100)
    assert (receiver.back, slow.held) == ([], 5)
    slow.work(110)
    assert receiver.back == []
    slow.work(111)
    assert (receiver.back, slow.held) == ([7], 5)
    slow.work(143)
    assert (receiver.back, slow.held, slow.consumed) == ([7, 3, 5, 1], 1, 4)


def test_no_time_is_lost_between_looks_and_none_is_saved_up() -> None:
    receiver, slow = consumer("10")
    receiver.then(np.arange(100))
    slow.work(0)
    for cycle in range(7, 500, 7):
        slow.work(cycle)
    assert slow.consumed == 49
    slow.work(5000)
    assert slow.consumed == 100
    receiver.then(np.arange(2))
    slow.work(9000)
    assert slow.consumed == 100
    slow.work(9010)
    assert slow.consumed == 101


def test_more_than_there_are_cannot_be_handed_back() -> None:
    receiver, slow = consumer("10")
    receiver.then(np.arange(3))
    slow.work(0)
    slow.hand_back(512)
    assert (receiver.back, slow.consumed) == ([0, 1, 2], 3)
