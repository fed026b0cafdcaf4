# SPDX-License-Identifier: BSD-2-Clause
"""Numbered frames are those of the flows, and a byte out of place is seen."""

import random

import numpy as np
import pytest

from sim.line_rate.frames import FrameError, NumberedFrames
from sim.traffic.flows import Flows


@pytest.mark.parametrize(("length", "flows", "queues"), [(60, 1, 1), (61, 16, 16), (1514, 5, 2)])
def test_they_are_the_frames_of_flows(length: int, flows: int, queues: int) -> None:
    rng = random.Random(length)
    numbers = [*range(20), *(rng.randrange(1 << 63) for _ in range(200))]
    rows = NumberedFrames(length, flows=flows, queues=queues, seed=3).make(np.array(numbers))
    source = Flows(flows, queues, 3)
    for number, row in zip(numbers, rows, strict=True):
        assert bytes(row) == source.frame(number % flows, length, number)


def test_numbers_come_back_and_any_other_byte_is_an_error() -> None:
    frames = NumberedFrames(60, flows=2)
    numbers = np.array([7, 8, 1000])
    rows = frames.make(numbers)
    assert (frames.numbers(rows) == numbers).all()
    for place in range(60):
        damaged = rows.copy()
        damaged[1, place] ^= 1
        with pytest.raises(FrameError, match=r"A frame numbered \d+ has bytes that are not its own"):
            frames.numbers(damaged)
