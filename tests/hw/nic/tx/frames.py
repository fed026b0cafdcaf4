# SPDX-License-Identifier: BSD-2-Clause
"""Random descriptors, and the frames that they make."""

import random
from dataclasses import dataclass

from hw.abi.rings import QueueError
from hw.config import NicConfig
from hw.nic.tx.framer import max_descriptors
from tests.hw.nic.tx.bench import DESCRIPTOR, END_OF_PACKET, REPORT, context, data

DATA, CONTEXT = 1, 2
BAD = (data(0, 0), bytes(16), DESCRIPTOR.pack(length=60, type=3, flags=1))


@dataclass
class Frame:
    """A frame, or a piece of one that has too many descriptors; or what a queue breaks off with, if ``error``."""

    first: int
    length: int
    wrong: bool
    end: bool
    error: int
    pieces: list[tuple[int, int, bool, bool]]  # buffer id, index behind it, has data, asks for a completion


def random_frame(rng: random.Random, config: NicConfig, number: int) -> list[bytes]:
    """Descriptors of a frame of any kind; ``number`` is the first's buffer id."""
    limit = max_descriptors(config)
    count = rng.choice((1, 1, 1, 2, 3, limit, limit + 1, 2 * limit + 1))
    length = rng.choice((5, 20, 60, 300, 700, 20000))
    return [
        context()
        if i < count - 1 and rng.random() < 0.2
        else data(0, length + i, number + i, end=i == count - 1, report=rng.random() < 0.4)
        for i in range(count)
    ]


def expected_frames(entries: list[bytes], config: NicConfig) -> list[Frame]:
    """Frames that these descriptors of a ring make, without one that has no end yet."""
    frames: list[Frame] = []
    length, pieces, discarding = 0, [], False
    for index, raw in enumerate(entries):
        entry = DESCRIPTOR.unpack(raw)
        is_data = entry.type == DATA
        end = is_data and bool(entry.flags & END_OF_PACKET)
        length += entry.length if is_data else 0
        pieces.append((entry.buffer_id, index + 1, is_data, is_data and bool(entry.flags & REPORT)))
        error = QueueError.NONE
        if is_data and entry.length == 0:
            error = QueueError.DESCRIPTOR_LENGTH
        elif entry.type not in (DATA, CONTEXT):
            error = QueueError.DESCRIPTOR_TYPE
        if error != QueueError.NONE or end or len(pieces) == max_descriptors(config):
            wrong = not end or discarding or not 14 <= length <= config.max_frame
            first = index + 1 - len(pieces)
            frames.append(Frame(first, min(length, 65535), wrong, end, error.value, pieces))
            length, pieces, discarding = 0, [], not end
        if error != QueueError.NONE:
            break
    return frames
