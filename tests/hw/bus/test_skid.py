# SPDX-License-Identifier: BSD-2-Clause
"""SkidBuffer: everything once, in order, without a bubble, and no path through it."""

import random

import pytest
from amaranth.sim import Simulator

from hw.bus.skid import SkidBuffer


def simulate(dut, bench):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize(("offered", "accepted", "seed"), [(1.0, 1.0, 1), (0.5, 0.5, 2), (1.0, 0.3, 3), (0.3, 1.0, 4)])
def test_everything_comes_out_once_in_order(offered, accepted, seed):
    rng = random.Random(seed)
    dut = SkidBuffer(16)
    sent, received = [], []

    async def bench(ctx):
        offering, stalled = False, None
        for value in range(400):
            if not offering:
                offering = rng.random() < offered
                ctx.set(dut.input.payload, value)
            ctx.set(dut.input.valid, offering)
            ctx.set(dut.output.ready, rng.random() < accepted)
            payload_in = ctx.get(dut.input.payload)
            _, _, taken, valid, ready, payload = await ctx.tick().sample(
                dut.input.ready, dut.output.valid, dut.output.ready, dut.output.payload
            )
            if stalled is not None:
                assert (valid, payload) == (1, stalled), "a stalled payload must hold"
            stalled = payload if valid and not ready else None
            if offering and taken:
                sent.append(payload_in)
                offering = False
            if valid and ready:
                received.append(payload)

    simulate(dut, bench)
    assert len(received) > 50
    assert received == sent[: len(received)]
    assert len(sent) - len(received) <= 2


def test_a_payload_takes_one_cycle_and_one_comes_every_cycle():
    dut = SkidBuffer(8)
    seen = []

    async def bench(ctx):
        ctx.set(dut.output.ready, 1)
        ctx.set(dut.input.valid, 1)
        for value in range(10):
            ctx.set(dut.input.payload, value)
            _, _, ready, valid, payload = await ctx.tick().sample(dut.input.ready, dut.output.valid, dut.output.payload)
            assert ready
            seen.append(payload if valid else None)

    simulate(dut, bench)
    assert seen == [None, *range(9)]


def test_ready_and_valid_come_from_registers():
    dut = SkidBuffer(8)

    async def bench(ctx):
        ctx.set(dut.input.valid, 1)
        assert ctx.get(dut.output.valid) == 0
        for full in (False, False, True):
            for ready in (0, 1, 0):
                ctx.set(dut.output.ready, ready)
                assert ctx.get(dut.input.ready) == (not full)
            await ctx.tick()

    simulate(dut, bench)
