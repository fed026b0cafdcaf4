# SPDX-License-Identifier: BSD-2-Clause
"""The classifier against a reference in Python: every kind of frame, every width, and nothing left behind."""

import random
from typing import Any

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.rings import ChecksumStatus, NetworkLayer, TransportLayer
from hw.config import preset
from hw.nic.rx.classifier import RxClassifier
from tests.hw.nic.rx.reference import Expected, classify, random_frame


class Bench:
    """Beats in, classifications out. ``stall`` is the chance, per cycle, that nothing is taken."""

    def __init__(self, width: int, *, seed: int = 0, stall: float = 0.0):
        print(f"seed {seed}")
        self.random, self.stall, self.size = random.Random(seed), stall, width // 8
        self.dut, self.reset = RxClassifier(preset("10g", data_width=width)), Signal()
        self.found: list[Any] = []
        self.found_at: list[int] = []
        self.cycle = 0

    def run(self, scenario: Any) -> list[Any]:
        async def main(ctx: Any) -> None:
            await scenario(ctx)

        m = Module()
        m.submodules.dut = self.dut
        simulator = Simulator(ResetInserter(self.reset)(m))
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.add_testbench(self._take, background=True)
        simulator.run()
        return self.found

    async def send(self, ctx: Any, frame: bytes, *, keep: int = 1, idle: float = 0.0, beats: int | None = None) -> None:
        """A frame's beats, or the first ``beats`` of them; ``idle`` is the chance of a gap before each."""
        port = self.dut.beats
        for start in range(0, len(frame), self.size)[:beats]:
            while self.random.random() < idle:
                ctx.set(port.valid, 0)
                await ctx.tick()
            piece = frame[start : start + self.size]
            noise = self.random.randbytes(self.size - len(piece))
            last = start + self.size >= len(frame)
            fields = {"count": len(piece), "first": int(start == 0), "keep": int(last and keep)}
            ctx.set(port.payload, {"data": int.from_bytes(piece + noise, "little"), **fields})
            ctx.set(port.valid, 1)
            await ctx.tick()
        ctx.set(port.valid, 0)

    async def settle(self, ctx: Any, frames: int, bound: int = 2000) -> None:
        for _ in range(bound):
            if len(self.found) >= frames:
                await ctx.tick().repeat(self.dut.latency + 2)
                return
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for {frames} classifications: {len(self.found)} came")

    async def _take(self, ctx: Any) -> None:
        output = self.dut.output
        while True:
            ctx.set(output.ready, int(self.random.random() >= self.stall))
            *_, moved, payload = await ctx.tick().sample(output.valid & output.ready, output.payload)
            if moved:
                self.found.append(payload)
                self.found_at.append(self.cycle)
            self.cycle += 1


def expectation(found: Any, expected: Expected) -> Expected:
    """What the hardware found, in the form of ``expected``, which says whether the flow counts."""
    headers, flow = found.headers, found.headers.flow
    size = 4 if expected.network is NetworkLayer.IPV4 else 16
    if size == 4 and expected.addresses:
        assert not flow.source >> 32
        assert not flow.destination >> 32
    addresses = tuple((x & (1 << 8 * size) - 1).to_bytes(size, "little") for x in (flow.source, flow.destination))
    ports = tuple(x.to_bytes(2, "little") for x in (flow.source_port, flow.destination_port))
    assert headers.vlan_valid or not headers.vlan
    return Expected(
        NetworkLayer(headers.packet_type.network),
        TransportLayer(headers.packet_type.transport),
        headers.header_length,
        headers.vlan if headers.vlan_valid else None,
        found.checksum.checksum,
        ChecksumStatus(found.checksum.status),
        addresses if expected.addresses else None,
        ports if expected.ports else None,
    )


def check(found: list[Any], frames: list[bytes]) -> None:
    assert len(found) == len(frames)
    for result, frame in zip(found, frames):
        expected = classify(frame)
        assert expectation(result, expected) == expected, f"{len(frame)} bytes: {frame.hex()}"


@pytest.mark.parametrize(("width", "count"), [(64, 300), (128, 150), (256, 150), (512, 500)])
@pytest.mark.parametrize("seed", range(2))
def test_random_frames_are_what_the_reference_says_among_gaps_and_frames_that_are_dropped(width, count, seed):
    bench, rng = Bench(width, seed=seed), random.Random(seed)
    frames: list[bytes] = []

    async def scenario(ctx):
        for _ in range(count):
            frame, idle = random_frame(rng), rng.choice((0, 0, 0, 0.1))
            if rng.random() < 0.1:
                await bench.send(ctx, frame, keep=0, beats=rng.choice((None, 1, 3)))
            else:
                frames.append(frame)
                await bench.send(ctx, frame, idle=idle)
        await bench.settle(ctx, len(frames))

    check(bench.run(scenario), frames)
