# SPDX-License-Identifier: BSD-2-Clause
"""CommitFifo: only what was committed comes out, in order, at one entry a cycle."""

import random

import pytest
from amaranth.sim import Simulator

from hw.nic.commit_fifo import CommitFifo


def run(fifo, *benches):
    simulator = Simulator(fifo)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_a_list_with_a_mark_does(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    fifo = CommitFifo(16, 8)
    model, pending, received = [], [], []

    async def bench(ctx):
        for value in range(600):
            push = rng.random() < 0.7 and ctx.get(fifo.room)
            rewind, commit = rng.random() < 0.1, rng.random() < 0.3
            ctx.set(fifo.push, push)
            ctx.set(fifo.payload, value)
            ctx.set(fifo.rewind, rewind)
            ctx.set(fifo.commit, commit)
            ctx.set(fifo.output.ready, rng.random() < (0.2 if value % 100 < 50 else 0.9))
            if rewind:
                pending.clear()
            if push:
                pending.append(value)
            if commit:
                model.extend(pending)
                pending.clear()
            _, _, taken, payload = await ctx.tick().sample(fifo.output.valid & fifo.output.ready, fifo.output.payload)
            if taken:
                received.append(payload)
            if len(pending) == fifo.depth:
                pending.clear()
                ctx.set(fifo.push, 0)
                ctx.set(fifo.commit, 0)
                ctx.set(fifo.rewind, 1)
                ctx.set(fifo.output.ready, 0)
                await ctx.tick()
        for port in (fifo.push, fifo.commit):
            ctx.set(port, 0)
        ctx.set(fifo.output.ready, 1)
        for _ in range(2 * fifo.depth):
            _, _, valid, payload = await ctx.tick().sample(fifo.output.valid, fifo.output.payload)
            if valid:
                received.append(payload)

    run(fifo, bench)
    assert received == model
    assert len(model) > 50


def test_one_entry_a_cycle_four_cycles_after_its_commit():
    fifo = CommitFifo(8, 8)
    seen = []

    async def bench(ctx):
        ctx.set(fifo.output.ready, 1)
        ctx.set(fifo.push, 1)
        ctx.set(fifo.commit, 1)
        for value in range(20):
            assert ctx.get(fifo.room)
            ctx.set(fifo.payload, value)
            _, _, valid, payload = await ctx.tick().sample(fifo.output.valid, fifo.output.payload)
            seen.append(payload if valid else None)

    run(fifo, bench)
    assert seen == [None, None, None, None, *range(16)]


def test_its_depth_is_all_usable_and_then_there_is_no_room():
    fifo = CommitFifo(8, 4)

    async def bench(ctx):
        ctx.set(fifo.push, 1)
        ctx.set(fifo.commit, 1)
        for _ in range(4):
            assert ctx.get(fifo.room)
            await ctx.tick()
        assert not ctx.get(fifo.room)

    run(fifo, bench)


@pytest.mark.parametrize("depth", [0, 1, 3, -4])
def test_a_depth_that_is_no_power_of_two_is_refused(depth):
    with pytest.raises(ValueError, match=f"power of two from 2 up, not {depth}"):
        CommitFifo(8, depth)


@pytest.mark.parametrize("depth", [4.0, "4", True])
def test_a_depth_that_is_no_integer_is_refused(depth):
    with pytest.raises(TypeError, match="must be an integer, not "):
        CommitFifo(8, depth)
