# SPDX-License-Identifier: BSD-2-Clause
"""StreamFifo: everything once, in order, without a bubble."""

import random

import pytest
from amaranth.sim import Simulator

from hw.bus.fifo import StreamFifo
from tests.hw.streams import receive, send


def run(dut, *benches):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in benches:
        sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 16, 40])
@pytest.mark.parametrize(("offered", "accepted"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.3), (0.3, 1.0)])
def test_everything_comes_out_once_in_order(depth, offered, accepted):
    dut = StreamFifo(16, depth)
    random_ = random.Random(depth)
    values = [random_.getrandbits(16) for _ in range(200)]
    received = []

    async def source(ctx):
        for value in values:
            while random_.random() >= offered:
                await ctx.tick()
            await send(ctx, dut.input, value)

    async def sink(ctx):
        for _ in values:
            while random_.random() >= accepted:
                await ctx.tick()
            received.append(await receive(ctx, dut.output))

    run(dut, source, sink)
    assert received == values


@pytest.mark.parametrize("depth", [4, 16, 33])
def test_a_payload_takes_two_cycles_and_one_comes_every_cycle(depth):
    dut = StreamFifo(8, depth)
    seen = []

    async def bench(ctx):
        ctx.set(dut.output.ready, 1)
        ctx.set(dut.input.valid, 1)
        for value in range(100):
            ctx.set(dut.input.payload, value)
            _, _, ready, valid, payload = await ctx.tick().sample(dut.input.ready, dut.output.valid, dut.output.payload)
            assert ready
            seen.append(payload if valid else None)

    run(dut, bench)
    assert seen == [None, None, *range(98)]


@pytest.mark.parametrize("depth", [1, 3, 16])
def test_at_least_depth_payloads_fit(depth):
    dut = StreamFifo(8, depth)

    async def bench(ctx):
        for value in range(depth):
            await send(ctx, dut.input, value, bound=10)
        for value in range(depth):
            assert await receive(ctx, dut.output, bound=10) == value

    run(dut, bench)


@pytest.mark.parametrize("depth", [0, -1, "4", True])
def test_depth_is_checked(depth):
    with pytest.raises(ValueError, match=f"Depth of a FIFO must be an integer from 1 up, not {depth!r}"):
        StreamFifo(8, depth)
