# SPDX-License-Identifier: BSD-2-Clause
"""FrameWindow: every frame in order, and again from the oldest that is not decided."""

import random

import pytest
from amaranth.sim import Simulator

from hw.abi.rings import TransportLayer
from hw.config import preset
from hw.nic.rx.frame_window import FrameWindow


@pytest.mark.parametrize("seed", range(4))
def test_frames_come_in_order_and_again_after_a_restart(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut, total = FrameWindow(preset("10g", queues=3)), 200
    frames = [(rng.randrange(1, 9000), rng.randrange(3), rng.random() < 0.8) for _ in range(total)]
    ways = {"given": 0, "decided": 0}

    async def offer(ctx):
        for number, (length, queue, routed) in enumerate(frames):
            while rng.random() < 0.2:
                ctx.set(dut.input.valid, 0)
                await ctx.tick()
            ctx.set(
                dut.input.payload, {"length": length, "queue": queue, "routed": routed, "info": {"rss_hash": number}}
            )
            ctx.set(dut.input.valid, 1)
            await ctx.tick().until(dut.input.ready)
        ctx.set(dut.input.valid, 0)

    async def decide(ctx):
        """Frames are decided some cycles after they were given, by their place; now and then one is not."""
        given = []  # number and place of those not decided
        asked = None
        for _ in range(5000):
            if asked is not None:
                assert ctx.get(dut.aside.info.rss_hash) == asked
            advance = rng.random() < 0.9
            ctx.set(dut.advance, advance)
            decides = bool(given) and rng.random() < 0.8
            ctx.set(dut.decided, decides)
            if given:
                asked = given[0][0]
                ctx.set(dut.place, given[0][1])
            if decides:
                given.pop(0)
                ways["decided"] += 1
            elif given and rng.random() < 0.05:
                ctx.set(dut.restart, 1)
                await ctx.tick().repeat(2)
                ctx.set(dut.restart, 0)
                assert not ctx.get(dut.head_valid)
                ways["given"], given, asked = ways["decided"], [], None
                continue
            if ctx.get(dut.head_valid) and advance:
                length, queue, routed = frames[ways["given"]]
                head = ctx.get(dut.head)
                assert (head.length, head.queue, head.select) == (length, queue, routed << queue)
                given.append((ways["given"], head.place))
                ways["given"] += 1
            await ctx.tick()
            if ways["decided"] == total:
                return
        raise AssertionError(f"Waited 5000 cycles for {total} frames: {ways}")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(offer, background=True)
    simulator.add_testbench(decide)
    simulator.run()


def test_one_frame_a_cycle_passes_while_decisions_take_ten():
    dut = FrameWindow(preset("10g"))
    came = []

    async def bench(ctx):
        ctx.set(dut.input.valid, 1)
        ctx.set(dut.advance, 1)
        for cycle in range(100):
            came.append(ctx.get(dut.head_valid))
            ctx.set(dut.decided, cycle >= 10 and came[cycle - 8])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert came.index(1) <= 3
    assert all(came[3:])


def test_what_could_be_split_is_known_of_each_frame():
    """Also of frames whose headers end with them, and of those that just fit a buffer."""
    dut = FrameWindow(preset("10g", classify=True, header_split=True))
    frames = []
    for transport in TransportLayer:
        for headers in (0, 42, 64, 65, 128, 129, 255):
            frames += [
                (transport, headers, length) for length in (headers - 1, headers, headers + 1, 300) if length > 0
            ]
    found = []

    async def offer(ctx):
        for transport, headers, length in frames:
            info = {"header_length": headers, "packet_type": {"transport": transport}}
            ctx.set(dut.input.payload, {"length": length, "routed": 1, "info": info})
            ctx.set(dut.input.valid, 1)
            await ctx.tick().until(dut.input.ready)
        ctx.set(dut.input.valid, 0)

    async def take(ctx):
        ctx.set(dut.advance, 1)
        for _ in range(1000):
            _, _, valid, head = await ctx.tick().sample(dut.head_valid, dut.head)
            if valid:
                found.append((head.length, head.behind, head.headers))
            ctx.set(dut.decided, valid)
            if len(found) == len(frames):
                return
        raise AssertionError(f"Waited 1000 cycles for {len(frames)} frames, got {len(found)}")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(offer, background=True)
    simulator.add_testbench(take)
    simulator.run()
    for (transport, headers, length), (given, behind, size) in zip(frames, found, strict=True):
        assert given == length
        splits = transport in (TransportLayer.TCP, TransportLayer.UDP) and headers < length
        assert size == (splits and next(code for code in (1, 2, 3) if headers <= 32 << code))
        assert not splits or behind == length - headers
