# SPDX-License-Identifier: BSD-2-Clause
from itertools import pairwise

import pytest

from sim.traffic.capture import read_capture
from sim.traffic.flows import sequence_of
from sim.traffic.sample import sample_capture
from sim.traffic.source import Traffic


def test_a_flood_is_numbered_and_paced():
    frames = Traffic("64", frames=100, flows=7, queues=2).generate(156_250)
    assert [sequence_of(frame.data) for frame in frames] == list(range(100))
    assert [frame.serial for frame in frames] == list(range(100))
    assert frames[98].start == 98 * 21 // 2


def test_frames_never_overlap_on_the_wire():
    frames = Traffic("internet", frames=500).generate(156_250)
    for before, after in pairwise(frames):
        assert 8 * (after.start - before.start + 1) > len(before.data) + 24


def test_the_sample_capture_is_the_same_every_time_and_varied(tmp_path):
    one, two = sample_capture(tmp_path / "one.pcapng"), sample_capture(tmp_path / "two.pcapng")
    assert one.read_bytes() == two.read_bytes()
    lengths = [len(frame.data) for frame in read_capture(one)]
    assert len(lengths) > 500
    assert min(lengths) == 60
    assert 1400 < max(lengths) <= 1514


def test_a_capture_at_line_rate_and_at_its_own_times(tmp_path):
    path = str(sample_capture(tmp_path / "sample.pcapng", connections=3))
    captured = read_capture(path)
    fast = Traffic("capture", capture=path).generate(156_250)
    slow = Traffic("capture", capture=path, timing="capture").generate(156_250)
    assert [frame.data for frame in fast] == [frame.data for frame in slow] == [frame.data for frame in captured]
    assert fast[-1].start < slow[-1].start
    assert slow[-1].start == (captured[-1].nanoseconds - captured[0].nanoseconds) * 156_250 // 1_000_000
    assert len(Traffic("capture", capture=path, frames=5).generate(156_250)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames must be in 1..10000000, not 0"),
        ({"sizes": "capture"}, "played with sizes 'capture' and a file, not 'capture' and None"),
        ({"capture": "a.pcap"}, "played with sizes 'capture' and a file, not '64' and 'a.pcap'"),
        ({"timing": "fast"}, "timing must be one of rate, capture, not 'fast'"),
        ({"timing": "capture"}, "timing 'capture' needs sizes 'capture', not '64'"),
        ({"sizes": "huge"}, "Frame sizes must be"),
    ],
)
def test_refused_traffic(arguments, message):
    with pytest.raises(ValueError, match=message):
        Traffic(**arguments)


@pytest.mark.parametrize(
    ("microseconds", "size", "load", "frames"),
    [(100, "64", "1", 1488), (100, "64", "0.25", 372), (100, "1518", "1", 81), (1, "1518", "1", 1)],
)
def test_traffic_that_lasts_so_long(microseconds, size, load, frames):
    traffic = Traffic.lasting(microseconds, size, 10_000_000_000, load, seed=7)
    assert (traffic.frames, traffic.sizes, traffic.load, traffic.seed) == (frames, size, load, 7)
