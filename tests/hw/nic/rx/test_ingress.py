# SPDX-License-Identifier: BSD-2-Clause
"""RxIngress at the edge of its buffer: no word is written over, and no frame is lost for which there is room."""

import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hw.abi.rings import DropReason
from hw.config import preset
from hw.nic.rx.ingress import RxIngress
from tests.hw.nic.rx.reference import strip


class Bench:
    """An ingress between a wire, a packet buffer and a reader in Python. The reader takes a frame from its FIFO with
    the chance ``pace`` per cycle, and then reads a word of it a cycle."""

    def __init__(self, width: int, *, seed: int, pace: float, strips: bool = False):
        print(f"seed {seed}")
        self.config = preset("10g", data_width=width, rx_buffer_bytes=2048, max_frame=1024, classify=strips)
        self.words, self.size = 2048 * 8 // width, width // 8
        self.random, self.pace = random.Random(seed), pace
        self.dut = RxIngress(self.config)
        self.kept: list[bytes] = []
        self.events: list[tuple[int, DropReason]] = []
        self.beats: list[tuple[int, int]] = []
        self.read = 0  # words

    def run(self, scenario: Any, *watchers: Any) -> None:
        m = Module()
        m.submodules.dut = self.dut
        simulator = Simulator(m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(scenario)
        for part in (self._reader, self._watch, *watchers):
            simulator.add_testbench(part, background=True)
        simulator.run()

    async def send(self, ctx: Any, frame: bytes, *, error: int = 0) -> None:
        wire = self.dut.wire
        for start in range(0, len(frame), self.size):
            piece = frame[start : start + self.size]
            last = int(start + self.size >= len(frame))
            fields = {"count": len(piece), "first": int(start == 0), "last": last, "error": error & last}
            ctx.set(wire.payload, {"data": int.from_bytes(piece, "little"), **fields})
            ctx.set(wire.valid, 1)
            await ctx.tick()
        ctx.set(wire.valid, 0)

    async def _reader(self, ctx: Any) -> None:
        dut = self.dut
        memory: dict[int, int] = {}
        while True:
            takes = self.random.random() < self.pace
            ctx.set(dut.frames.ready, takes)
            frame = await self._clock(ctx, memory)
            if frame is None:
                continue
            ctx.set(dut.frames.ready, 0)
            content = b""
            for _ in range(-(-frame // self.size)):
                content += memory.pop(self.read % self.words).to_bytes(self.size, "little")
                self.read += 1
                ctx.set(dut.read_pointer, self.read % (2 * self.words))
                await self._clock(ctx, memory)
            self.kept.append(content[:frame])

    async def _clock(self, ctx: Any, memory: dict[int, int]) -> int | None:
        """A cycle; the length of the frame that is taken in it."""
        dut = self.dut
        *_, writes, address, word, taken, frame = await ctx.tick().sample(
            dut.write_enable,
            dut.write_address,
            dut.write_data,
            dut.frames.valid & dut.frames.ready,
            dut.frames.payload.length,
        )
        if writes:
            memory[address] = word
        return frame if taken else None

    async def _watch(self, ctx: Any) -> None:
        event, beats = self.dut.event, self.dut.beats
        while True:
            *_, strobe, dropped, reason, seen, first, keep = await ctx.tick().sample(
                event.strobe, event.dropped, event.reason, beats.valid, beats.payload.first, beats.payload.keep
            )
            if strobe:
                self.events.append((dropped, reason))
            if seen:
                self.beats.append((first, keep))


@pytest.mark.parametrize(("width", "lengths"), [(64, (64, 65, 200, 500)), (512, (64, 64, 64, 65, 400)), (512, (64,))])
@pytest.mark.parametrize(("seed", "pace"), [(1, 0.02), (2, 0.3), (3, 1.0)])
@pytest.mark.parametrize("strips", [False, True])
def test_at_the_edge_of_the_buffer_a_frame_is_lost_only_for_want_of_room(width, lengths, seed, pace, strips):
    bench, rng = Bench(width, seed=seed, pace=pace, strips=strips), random.Random(seed)
    sent: list[tuple[bytes, int, int]] = []  # frame, whether it is damaged, words that the reader had freed by then

    async def scenario(ctx: Any) -> None:
        for port in (bench.dut.rx_enable, bench.dut.carrier):
            ctx.set(port, 1)
        ctx.set(bench.dut.min_length, 60)
        ctx.set(bench.dut.max_length, 1024)
        if strips:
            ctx.set(bench.dut.vlan_strip, 1)
        await ctx.tick().repeat(2)
        for number in range(300):
            if rng.random() < 0.1:
                await ctx.tick().repeat(rng.randrange(4, 200))
            elif rng.random() < 0.5:
                await ctx.tick().repeat(rng.randrange(1, 4))
            frame = number.to_bytes(2, "little") + rng.randbytes(rng.choice(lengths) - 2)
            if strips and rng.random() < 0.5:
                frame = frame[:12] + b"\x81\0" + frame[14:]
            sent.append((frame, int(rng.random() < 0.2), bench.read))
            await bench.send(ctx, frame, error=sent[-1][1])
        for _ in range(20_000):
            await ctx.tick()
            stored = sum(not dropped for dropped, _ in bench.events)
            if len(bench.events) == len(sent) and len(bench.kept) == stored:
                return
        raise AssertionError(f"Waited 20000 cycles for {stored} stored frames: {len(bench.kept)} came")

    bench.run(scenario)
    stored, kept, beats, lost = 0, [], [], 0
    for (wire, damaged, read), (dropped, reason) in zip(sent, bench.events, strict=True):
        frame = strip(wire)[0] if strips else wire
        words = -(-len(frame) // bench.size)
        beats += [(int(i == 0), int(i == words - 1 and not dropped)) for i in range(words)]
        if damaged:
            assert (dropped, reason) == (1, DropReason.BAD_FCS)
        elif dropped:
            assert reason == DropReason.OVERFLOW
            assert stored - read + words > bench.words - 1, "there was room, but for the word that may stay unused"
            lost += 1
        else:
            kept.append(frame)
            stored += words
    assert bench.kept == kept
    assert bench.beats == beats
    assert len(kept) > 20
    assert lost > 20 or pace > 0.1, "the buffer was never full"


@pytest.mark.parametrize(("length", "strips", "more"), [(64, False, 0), (64, True, 2), (68, True, 1)])
def test_latencies_are_as_stated(length, strips, more):
    bench, seen = Bench(64, seed=4, pace=1.0, strips=strips), {}

    async def scenario(ctx: Any) -> None:
        for port in (bench.dut.rx_enable, bench.dut.carrier):
            ctx.set(port, 1)
        ctx.set(bench.dut.max_length, 1024)
        if strips:
            ctx.set(bench.dut.vlan_strip, 1)
        await ctx.tick().repeat(2)
        await bench.send(ctx, bytes(12) + b"\x81\0" + bytes(length - 14))
        await ctx.tick().repeat(20)

    async def watch(ctx: Any) -> None:
        dut = bench.dut
        points = {"last": dut.wire.valid & dut.wire.payload.last, "event": dut.event.strobe}
        points |= {"write": dut.write_enable, "keep": dut.beats.valid & dut.beats.payload.keep}
        points |= {"frame": dut.frames.valid}
        cycle = 0
        while True:
            *_, a, b, c, d, e = await ctx.tick().sample(*points.values())
            seen.update({name: cycle for name, happens in zip(points, (a, b, c, d, e)) if happens})
            cycle += 1

    bench.run(scenario, watch)
    after = {name: cycle - seen["last"] for name, cycle in seen.items()}
    assert after == {"last": 0, **dict.fromkeys(("event", "write", "keep"), 5 + more), "frame": 8 + more}
