# SPDX-License-Identifier: BSD-2-Clause
"""The tag's bytes go, all others stay, and no cycle is lost."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from hw.config import preset
from hw.nic.rx.vlan_strip import VlanStrip
from tests.hw.nic.rx.reference import strip

WIDTHS = (64, 128, 256, 512)


def tagged(rng: random.Random, length: int) -> bytes:
    """A frame of this length with tags of any kind."""
    packet = Ether(dst=f"02:00:00:00:00:{rng.randrange(256):02x}", src="02:00:00:00:00:01", type=0x88B5)
    tags = rng.choice(((), (Dot1Q,), (Dot1Q,), (Dot1Q, Dot1Q), (Dot1AD, Dot1Q), (Dot1AD,)))
    for tag in tags:
        # Number 0 is a priority tag.
        packet /= tag(vlan=rng.choice((0, rng.randrange(4096))), prio=rng.randrange(8), type=0x88B5)
    if tags:
        packet[tags[0]].underlayer.type = {Dot1Q: 0x8100, Dot1AD: 0x88A8}[tags[0]]
    if len(tags) == 2:
        packet[tags[0]].type = 0x8100
    return (bytes(packet) + rng.randbytes(length))[:length]


class Bench:
    """Frames as beats in and out. What comes out, with the cycle of each beat."""

    def __init__(self, width: int, seed: int):
        print(f"seed {seed}")
        self.size, self.random = width // 8, random.Random(seed)
        self.dut = VlanStrip(preset("10g", data_width=width), 8)
        self.frames: list[tuple[bytes, int | None, int]] = []  #: bytes, tag, what was known
        self.beats: list[int] = []
        self.came: list[int] = []
        self.cycle = 0

    def run(self, scenario: Any) -> None:
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(scenario)
        simulator.add_testbench(self._take, background=True)
        simulator.run()

    async def send(self, ctx: Any, frame: bytes, about: int, *, idle: float = 0.0, cut: int | None = None) -> None:
        """A frame's beats, or ``cut`` of them; ``idle`` is the chance of a pause before each."""
        port = self.dut.input
        for start in range(0, len(frame), self.size)[:cut]:
            while self.random.random() < idle:
                ctx.set(port.valid, 0)
                await ctx.tick()
            piece = frame[start : start + self.size]
            last = start + self.size >= len(frame)
            noise = self.random.randbytes(self.size - len(piece))
            data = int.from_bytes(piece + noise, "little")
            known = about if last else self.random.randrange(256)
            fields = {"data": data, "count": len(piece), "first": int(start == 0), "last": int(last), "about": known}
            ctx.set(port.payload, fields)
            ctx.set(port.valid, 1)
            await ctx.tick()
        ctx.set(port.valid, 0)

    async def finish(self, ctx: Any, frames: int) -> None:
        for _ in range(10):
            if len(self.frames) == frames:
                return
            await ctx.tick()
        raise AssertionError(f"Waited 10 cycles for {frames} frames: {len(self.frames)} came")

    async def _take(self, ctx: Any) -> None:
        dut, frame = self.dut, b""
        while True:
            *_, comes, valid, beat, off, tag = await ctx.tick().sample(
                dut.input.valid, dut.output.valid, dut.output.payload, dut.stripped, dut.tag
            )
            if comes:
                self.came.append(self.cycle)
            if valid:
                frame = (b"" if beat.first else frame) + beat.data.to_bytes(self.size, "little")[: beat.count]
                assert 0 < beat.count <= self.size
                self.beats.append(self.cycle)
                if beat.last:
                    self.frames.append((frame, tag if off else None, beat.about))
                else:
                    assert beat.count == self.size, "only a frame's last beat may not be full"
            self.cycle += 1


def lengths(rng: random.Random) -> int:
    """Around every edge: of beats, and of the shortest frame of which a tag is taken."""
    return rng.choice(
        (rng.randrange(14, 24), rng.randrange(60, 73), max(14, 60 + 64 * rng.randrange(24) + rng.randrange(-8, 9)))
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("idle", [0.0, 0.3])
def test_c_tags_go_and_all_else_stays_whatever_the_length_and_the_frames_around(width: int, idle: float) -> None:
    bench, rng = Bench(width, seed=width), random.Random(width + 1)
    sent: list[tuple[bytes, int | None, int]] = []

    async def scenario(ctx: Any) -> None:
        for number in range(400):
            frame, on = tagged(rng, lengths(rng)), rng.random() < 0.8
            if rng.random() < 0.05:
                # Cut off: no end, and the next frame is not harmed.
                await bench.send(ctx, frame.ljust(200), 0, idle=idle, cut=rng.randrange(1, 200 // bench.size))
            ctx.set(bench.dut.enable, on)
            sent.append((*(strip(frame) if on else (frame, None)), number % 256))
            await bench.send(ctx, frame, number % 256, idle=idle)
        await bench.finish(ctx, len(sent))

    bench.run(scenario)
    assert bench.frames == sent
    assert len({tag for _, tag, _ in sent}) > 50


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("length", [*range(60, 73), 124, 128, 132, 1518])
def test_each_beat_takes_one_cycle_and_one_that_had_no_more_than_four_bytes_none(width: int, length: int) -> None:
    bench, rng = Bench(width, seed=1), random.Random(length)
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / Dot1Q(vlan=7, type=0x88B5) / Raw(rng.randbytes(2))
    raw = (bytes(frame) + rng.randbytes(length))[:length]

    async def scenario(ctx: Any) -> None:
        ctx.set(bench.dut.enable, 1)
        for number in range(20):
            await bench.send(ctx, raw, number)
        await bench.finish(ctx, 20)

    bench.run(scenario)
    words, left = -(-length // bench.size), -(-(length - 4) // bench.size)
    assert bench.frames == [(*strip(raw), number) for number in range(20)]
    assert bench.came == list(range(20 * words)), "a beat came every cycle"
    assert bench.beats == [2 + frame * words + beat for frame in range(20) for beat in range(left)]


@pytest.mark.parametrize("width", WIDTHS)
def test_frames_that_keep_their_tag_come_out_two_cycles_later(width: int) -> None:
    bench, rng = Bench(width, seed=2), random.Random(3)
    frames = [rng.randbytes(rng.randrange(60, 200)) for _ in range(50)]

    async def scenario(ctx: Any) -> None:
        for number, frame in enumerate(frames):
            await bench.send(ctx, frame, number)
        await bench.finish(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [(frame, None, number) for number, frame in enumerate(frames)]
    assert bench.beats == [cycle + 2 for cycle in bench.came]


def test_a_pause_holds_a_beat_back_until_the_next_comes() -> None:
    bench = Bench(64, seed=4)
    frame = tagged(random.Random(5), 64)

    async def scenario(ctx: Any) -> None:
        for start in range(0, len(frame), 8):
            fields = {"count": 8, "first": int(start == 0), "last": int(start == 56), "about": 0}
            ctx.set(bench.dut.input.payload, {"data": int.from_bytes(frame[start : start + 8], "little"), **fields})
            ctx.set(bench.dut.input.valid, 1)
            await ctx.tick()
            ctx.set(bench.dut.input.valid, 0)
            await ctx.tick().repeat(5)
        await bench.finish(ctx, 1)

    bench.run(scenario)
    assert bench.frames == [(frame, None, 0)]
    assert bench.beats == [*(cycle + 1 for cycle in bench.came[1:]), bench.came[-1] + 2]
