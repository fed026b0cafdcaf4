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
                await ctx.tick().repeat(self.dut.latency + 4)
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


def play(bench, frames):
    """Frames one after the other; what was found out about each, which is as the reference says."""

    async def scenario(ctx):
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    found = bench.run(scenario)
    check(found, frames)
    return found


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


@pytest.mark.parametrize(("width", "latency"), [(64, 11), (128, 12), (256, 12), (512, 13)])
def test_latency_is_fixed_whatever_the_frame_is(width, latency):
    bench, rng, ends = Bench(width), random.Random(width), []
    frames = [random_frame(rng) for _ in range(12)]

    async def scenario(ctx):
        for i, frame in enumerate(frames):
            await bench.send(ctx, frame)
            ends.append(bench.cycle)
            await bench.settle(ctx, i + 1)

    check(bench.run(scenario), frames)
    assert bench.dut.latency == latency
    after = {found - end for found, end in zip(bench.found_at, ends)}
    assert len(after) == 1
    assert latency <= after.pop() <= latency + 4


@pytest.mark.parametrize("width", [64, 512])
def test_a_frame_may_begin_and_end_in_every_beat(width):
    bench, rng = Bench(width), random.Random(width)
    frames = []
    for _ in range(150):
        frame = random_frame(rng)
        frames.append(frame[: rng.choice((width // 8, width // 8, 2 * width // 8, rng.randrange(1, width // 8)))])

    async def scenario(ctx):
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    check(bench.run(scenario), frames)


def test_as_many_frames_as_the_ingress_holds_wait_for_a_reader_that_stalls():
    bench, rng = Bench(512, stall=1.0), random.Random(6)
    room = preset("10g").rx_buffer_bytes // 64
    frames = [random_frame(rng)[: rng.randrange(40, 65)] for _ in range(room)]

    async def scenario(ctx):
        for frame in frames:
            await bench.send(ctx, frame)
        await ctx.tick().repeat(bench.dut.latency)
        bench.stall = 0.5
        await bench.settle(ctx, len(frames))

    check(bench.run(scenario), frames)


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("tail", [b"\0", b"\xff", b"\0\xff", b"\xa5" * 21])
def test_what_follows_the_ip_packet_counts_in_the_raw_sum_alone(width, tail):
    bench, rng, frames = Bench(width), random.Random(width), []
    while len(frames) < 60:
        frame = random_frame(rng)
        if classify(frame).status is ChecksumStatus.GOOD:
            frames += [frame, frame + tail]

    found = play(bench, frames)
    assert {ChecksumStatus(result.checksum.status) for result in found} == {ChecksumStatus.GOOD}


@pytest.mark.parametrize("width", [64, 512])
def test_every_end_of_a_frame_within_its_headers_is_malformed_or_has_no_headers(width):
    tcp = bytes.fromhex("0600 0000 0000 0000 0000 0000 5010 0000 0000 0000")
    addresses = bytes(range(32))
    tags = bytes.fromhex("88a80001 81000002")
    v4 = bytes.fromhex("4600 002c 0000 4000 4006 0000") + addresses[:12]
    v6 = bytes.fromhex("6000 0000 0014 0640") + addresses
    whole = [
        bytes(12) + prefix + packet + tcp
        for prefix, packet in ((b"\x08\0", v4), (tags + b"\x08\0", v4), (tags + b"\x86\xdd", v6))
    ]
    frames = [frame[:end] for frame in whole for end in range(1, len(frame) + 1)]
    bench, rng = Bench(width), random.Random(width)
    rng.shuffle(frames)

    found = play(bench, frames)
    headers = [result.headers for result in found]
    assert {h.packet_type.transport for h in headers} == {TransportLayer.OTHER, TransportLayer.TCP}
    assert sum(h.packet_type.transport == TransportLayer.TCP for h in headers) == len(whole)
    assert all(h.header_length <= len(frame) for h, frame in zip(headers, frames))


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("cut", [1, 5, 11, 20])
def test_after_reset_in_traffic_it_is_as_after_power_on(width, cut):
    bench, rng = Bench(width, stall=0.9), random.Random(cut)
    before, after = ([random_frame(rng) for _ in range(8)] for _ in range(2))

    async def scenario(ctx):
        for frame in before:
            await bench.send(ctx, frame, beats=cut)
        ctx.set(bench.reset, 1)
        await ctx.tick().repeat(2)
        ctx.set(bench.reset, 0)
        bench.found.clear()
        bench.stall = 0.0
        # The rest of a frame that the reset cut off.
        ctx.set(bench.dut.beats.payload, {"data": 0, "count": 8, "first": 0, "keep": 0})
        ctx.set(bench.dut.beats.valid, 1)
        await ctx.tick()
        for frame in after:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(after))

    check(bench.run(scenario), after)


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_frame_leaves_nothing_behind_for_the_next(width, keep):
    bench, rng, sound = Bench(width), random.Random(width), []
    while len(sound) < 24:
        frame = random_frame(rng)
        if len(frame) < 300 and classify(frame).status is ChecksumStatus.GOOD:
            sound.append(frame)
    # Whatever the bytes before were taken for, every length that they hold is an extreme one.
    others = [bytes([value]) * length for value in (0, 255) for length in (14, 19, 60, 130)]
    others += [bytes(12) + kind + bytes(46) for kind in (b"\x08\0", b"\x86\xdd", b"\x81\0\0\0\x08\0")]
    frames = [frame for i, good in enumerate(sound) for frame in (others[i % len(others)], good)]

    async def scenario(ctx):
        for i, frame in enumerate(frames):
            await bench.send(ctx, frame, keep=keep or i % 2)
        await bench.settle(ctx, len(frames) if keep else len(sound))

    check(bench.run(scenario), frames if keep else sound)


def test_a_wrong_ipv4_header_checksum_is_bad_whatever_follows_unless_that_is_malformed():
    ends = {
        "tcp": (6, bytes(12) + b"\x50" + bytes(7)),
        "short tcp": (6, bytes(12) + b"\x40" + bytes(7)),
        "udp": (17, bytes.fromhex("0001 0002 0008 0000")),
        "long udp": (17, bytes.fromhex("0001 0002 0009 0000")),
        "icmp": (1, bytes(8)),
        "fragment": (17, bytes(8)),
    }
    frames = []
    for name, (protocol, payload) in ends.items():
        fixed = bytes.fromhex("2000" if name == "fragment" else "0000") + bytes([64, protocol])
        header = b"\x45\0" + (20 + len(payload)).to_bytes(2, "big") + bytes(2) + fixed + b"\xbe\xef" + bytes(range(8))
        frames.append((bytes(12) + b"\x08\0" + header + payload).ljust(60, b"\0"))
    bench = Bench(512)

    found = play(bench, frames)
    verdicts = dict(zip(ends, (ChecksumStatus(result.checksum.status) for result in found)))
    not_checked = {name for name, verdict in verdicts.items() if verdict is ChecksumStatus.NOT_CHECKED}
    assert not_checked == {"short tcp", "long udp"}
    assert set(verdicts.values()) == {ChecksumStatus.NOT_CHECKED, ChecksumStatus.BAD}
