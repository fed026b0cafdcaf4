# SPDX-License-Identifier: BSD-2-Clause
"""The collector finds what was lost, changed, repeated or reordered."""

import pytest

from driver_model.net.collector import Collector, CollectorError

FRAMES = [bytes([number]) * 60 for number in range(10)]


def test_frames_in_order_on_two_queues() -> None:
    collector = Collector([FRAMES, FRAMES[:2]])
    for frame in FRAMES:
        collector.check(0, frame)
    collector.check(1, FRAMES[0])
    assert collector.received == [10, 1]
    assert collector.missing == [0, 0]


def test_lost_frames_are_counted() -> None:
    collector = Collector([FRAMES])
    collector.check(0, FRAMES[2])
    collector.check(0, FRAMES[9])
    assert collector.received == [2]
    assert collector.missing == [8]


@pytest.mark.parametrize("again", [2, 0])
def test_a_frame_twice_or_late(again: int) -> None:
    collector = Collector([FRAMES])
    collector.check(0, FRAMES[2])
    with pytest.raises(CollectorError, match=f"Queue 0: frame {again} came again or late, after frame 2"):
        collector.check(0, FRAMES[again])


def test_a_changed_frame() -> None:
    collector = Collector([FRAMES])
    changed = bytearray(FRAMES[3])
    changed[7] ^= 0x10
    with pytest.raises(
        CollectorError, match=r"frame 3 of 60 bytes was changed: 1 bytes differ, the first at 7 \(0x03 sent, 0x13"
    ):
        collector.check(0, bytes(changed))


def test_a_frame_never_sent() -> None:
    collector = Collector([FRAMES])
    with pytest.raises(CollectorError, match="a frame of 61 bytes came that was not sent"):
        collector.check(0, bytes(61))
    with pytest.raises(CollectorError, match="came from queue 1, to which none was sent"):
        collector.check(1, FRAMES[0])
