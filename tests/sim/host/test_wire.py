# SPDX-License-Identifier: BSD-2-Clause
"""The wire's player and recorder, joined, in both backends: bytes, flags and exact cycles."""

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

from sim.backends.base import BACKENDS, Backend, launch
from sim.host.wire_player import AHEAD, SLOTS, PlayerClient, WirePlayer
from sim.host.wire_recorder import OVERHEAD_BYTES, RecorderClient, SentFrame, WireError, WireRecorder

HERE = "tests.sim.host.test_wire"
UNLIMITED = Fraction(4096)


class Loop(wiring.Component):
    """A player on a recorder; with ``gap``, one beat in eleven is held back for a cycle."""

    def __init__(self, width: int, rate: Fraction, gap: bool):
        self.width = width
        self.rate = rate
        self.gap = gap
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.player = player = WirePlayer(self.width, 32)
        m.submodules.recorder = recorder = WireRecorder(self.width, self.rate, 32)
        cycle, phase = Signal(64), Signal(range(11))
        m.d.sync += [cycle.eq(cycle + 1), phase.eq(phase + 1)]
        with m.If(phase == 10):
            m.d.sync += phase.eq(0)
        closed = (phase == 10) & self.gap
        m.d.comb += [
            player.cycle.eq(cycle),
            recorder.cycle.eq(cycle),
            recorder.wire.payload.eq(player.wire.payload),
            recorder.wire.valid.eq(player.wire.valid & ~closed),
            player.wire.ready.eq(recorder.wire.ready & ~closed),
        ]
        return m


@dataclass(frozen=True)
class LoopDesign:
    """See :class:`Loop`."""

    width: int = 64
    rate: Fraction = UNLIMITED
    gap: bool = False
    access_log: bool = False

    def build(self) -> wiring.Component:
        return Loop(self.width, self.rate, self.gap)


Frame = tuple[int, bytes, int, bool]


def random_frames(seed: int, count: int, greatest: int = 300) -> list[Frame]:
    """Frames of all kinds, some back to back, some late, some apart."""
    rng = random.Random(seed)
    start = AHEAD
    frames = []
    for serial in range(count):
        length = rng.choice([1, 8, 9, 60, 64, rng.randint(1, greatest)])
        frames.append((start, rng.randbytes(length), serial, rng.random() < 0.1))
        start += rng.choice([0, length // 8, length // 4])
    return frames


def play(backend: Backend, design: LoopDesign, frames: list[Frame]) -> list[Any]:
    """Play frames with the rings kept up; what was recorded, and how many came late."""
    player, recorder = PlayerClient(backend), RecorderClient(backend)
    player.play(iter(frames))
    sent: list[SentFrame] = []
    limit = backend.cycle + 1000 + 4 * sum(OVERHEAD_BYTES + len(frame[1]) for frame in frames)
    while len(sent) < len(frames):
        assert backend.cycle < limit, f"waited {limit} cycles for {len(frames)} frames, {len(sent)} came"
        backend.advance(backend.cycle + 500)
        if player.token in backend.hits():
            player.refill()
        sent += recorder.recorded()
    assert player.exhausted
    assert player.queued == len(frames)
    return [[frame._replace(data=frame.data.hex()) for frame in sent], player.late]


def contents(sent: list[Any]) -> list[Any]:
    """Bytes, serial and error of each frame."""
    return [(bytes.fromhex(octets), serial, error) for _, _, octets, serial, error, _ in sent]


@pytest.mark.parametrize("width", [64, 512])
def test_frames_arrive_unchanged_at_the_same_cycles_in_both_backends(width: int) -> None:
    frames = random_frames(seed=width, count=120)
    design = LoopDesign(width)
    results = [launch(backend, design, f"{HERE}:play", frames) for backend in BACKENDS]
    assert results[0] == results[1]
    sent, late = results[0]
    assert late == 0
    assert contents(sent) == [frame[1:] for frame in frames]
    free = 0
    for (first, last, *_, underrun), (start, data, *_) in zip(sent, frames, strict=True):
        assert first == max(start, free)
        assert last == first + -(-len(data) // (width // 8)) - 1
        assert not underrun
        free = last + 1


@pytest.mark.parametrize(
    ("backend", "width", "rate", "length"),
    [
        ("verilator", 64, Fraction(8), 60),
        ("verilator", 64, Fraction(8), 1514),
        ("amaranth", 512, Fraction(50), 60),
        ("amaranth", 64, Fraction(4, 5), 61),
    ],
)
def test_recorder_takes_frames_at_the_rate_of_the_wire(backend: str, width: int, rate: Fraction, length: int) -> None:
    count = 100
    sent, _ = launch(backend, LoopDesign(width, rate), f"{HERE}:play", [(0, bytes(length), 0, False)] * count)
    firsts = [frame[0] for frame in sent]
    period = (length + OVERHEAD_BYTES) / rate
    for number, first in enumerate(firsts):
        assert first - firsts[0] == number * period.numerator // period.denominator


def test_idle_time_is_not_saved_up() -> None:
    frames = [(AHEAD + 1000 * burst, bytes(60), 0, False) for burst in range(3) for _ in range(4)]
    sent, _ = launch("verilator", LoopDesign(rate=Fraction(8)), f"{HERE}:play", frames)
    assert [frame[0] for frame in sent] == [
        AHEAD + 1000 * burst + offset for burst in range(3) for offset in (0, 10, 21, 31)
    ]


def follow(backend: Backend, design: LoopDesign, count: int) -> list[Any]:
    """More laps than there are tags: numbers of the frames that differ from what they should be."""
    player, recorder = PlayerClient(backend), RecorderClient(backend)
    player.play((AHEAD + 9 * number, number.to_bytes(60, "little"), number, False) for number in range(count))
    wrong: list[int] = []
    seen = 0
    while seen < count:
        assert backend.advance(backend.cycle + 9 * SLOTS) < 9 * (count + SLOTS), f"frame {seen} of {count} never came"
        if player.token in backend.hits():
            player.refill()
        for first, last, data, serial, *_ in recorder.recorded():
            start = AHEAD + 9 * seen
            if (first, last, data, serial) != (start, start + 7, seen.to_bytes(60, "little"), seen):
                wrong.append(seen)
            seen += 1
    return [wrong[:10], player.late]


def test_rings_are_refilled_for_many_laps() -> None:
    assert launch("verilator", LoopDesign(), f"{HERE}:follow", 260 * SLOTS) == [[], 0]


def follow_in_arrays(backend: Backend, design: LoopDesign, count: int) -> list[Any]:
    """The same, many frames at a time."""
    player, recorder = PlayerClient(backend), RecorderClient(backend)
    wrong: list[int] = []
    seen = 0
    while seen < count:
        numbers = player.queued + np.arange(min(player.room, count - player.queued))
        player.put(AHEAD + 9 * numbers, _octets(numbers))
        assert backend.advance(backend.cycle + 9 * SLOTS) < 9 * (count + SLOTS), f"frame {seen} of {count} never came"
        backend.hits()
        last, rows = recorder.take(60)
        numbers = seen + np.arange(len(last))
        damaged = (last != AHEAD + 9 * numbers + 7) | (rows != _octets(numbers)).any(axis=1)
        wrong += numbers[damaged].tolist()
        seen += len(last)
    return [wrong[:10], player.late]


def _octets(numbers: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(numbers), 60), np.uint8)
    rows[:, :8] = numbers.astype("<u8")[:, None].view(np.uint8)
    return rows


def test_rings_are_refilled_in_arrays() -> None:
    assert launch("verilator", LoopDesign(), f"{HERE}:follow_in_arrays", 260 * SLOTS) == [[], 0]


def refused_in_arrays(backend: Backend, design: LoopDesign, argument: None) -> list[str]:
    """Messages of frames that cannot be played, and of frames that are not as they should be."""
    player, recorder = PlayerClient(backend), RecorderClient(backend)
    messages = []
    for shape in ((SLOTS + 1, 60), (1, 0)):
        with pytest.raises(ValueError, match="At most") as error:
            player.put(np.zeros(shape[0], np.int64), np.zeros(shape, np.uint8))
        messages.append(str(error.value))
    player.put(np.array([AHEAD]), np.zeros((1, 61), np.uint8))
    backend.advance(100)
    with pytest.raises(WireError) as wrong:
        recorder.take(60)
    return [*messages, str(wrong.value)]


def test_bad_arrays_are_refused() -> None:
    assert launch("amaranth", LoopDesign(), f"{HERE}:refused_in_arrays") == [
        "At most 1024 frames of 1..16384 bytes fit, not 1025 of 60",
        "At most 1024 frames of 1..16384 bytes fit, not 1 of 0",
        "Frames left that are not 60 bytes long, or damaged, before cycle 100",
    ]


def test_a_pause_inside_a_frame_is_marked() -> None:
    frames = [(0, bytes(8 * beats), 0, False) for beats in (1, 12, 1, 22)]
    sent, late = launch("verilator", LoopDesign(gap=True), f"{HERE}:play", frames)
    assert [frame[5] for frame in sent] == [False, True, False, True]
    assert late == 4


def unseen(backend: Backend, design: LoopDesign, argument: None) -> str:
    """Frames leave, and nobody looks."""
    player, recorder = PlayerClient(backend), RecorderClient(backend)
    player.play((0, b"x", 0, False) for _ in range(SLOTS + 1))
    while backend.cycle < 3 * SLOTS:
        backend.advance(3 * SLOTS)
        player.refill()
    with pytest.raises(WireError) as error:
        recorder.recorded()
    return str(error.value)


def test_lost_records_are_an_error() -> None:
    message = launch("verilator", LoopDesign(), f"{HERE}:unseen")
    assert message == f"More than {SLOTS} frames left before cycle {3 * SLOTS} without being taken from the recorder"


def refused(backend: Backend, design: LoopDesign, argument: None) -> list[str]:
    """Messages of frames that cannot be played."""
    messages = []
    for frame in ((0, b"", 0, False), (0, bytes(16385), 0, False), (-1, b"x", 0, False)):
        try:
            PlayerClient(backend).play([frame])
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_bad_frames_and_parameters_are_refused() -> None:
    assert launch("amaranth", LoopDesign(), f"{HERE}:refused") == [
        "A frame on the wire has 1..16384 bytes, not 0",
        "A frame on the wire has 1..16384 bytes, not 16385",
        "A frame's start must be a cycle in 0..2**64-1, not -1",
    ]
    with pytest.raises(TypeError, match="bytes_per_cycle must be an integer or a Fraction, not 0.8"):
        WireRecorder(64, 0.8)
    with pytest.raises(ValueError, match="bytes_per_cycle must be in 0..4096 and no finer than 1/1048576, not 0"):
        WireRecorder(64, 0)
