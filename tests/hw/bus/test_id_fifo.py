# SPDX-License-Identifier: BSD-2-Clause
"""The queues per ID against a dictionary of deques."""

import random
from collections import deque
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.id_fifo import IdFifo


def test_against_a_model() -> None:
    """Random pushes, pops and steps of few IDs, often the same one; a reset in the middle."""
    seed = 2
    print(f"seed {seed}")
    rng = random.Random(seed)
    depth = 4
    dut = IdFifo(12, id_width=3, depth=depth, scratch_width=5)
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut
    queues: dict[int, deque[int]] = {index: deque() for index in range(8)}
    scratch = dict.fromkeys(queues, 0)

    async def bench(ctx: Any) -> None:
        for cycle in range(2000):
            push_id, head_id = rng.randrange(8), rng.randrange(8)
            if rng.random() < 0.5:
                head_id = push_id
            word = rng.randrange(1 << 12)
            ctx.set(dut.push_id, push_id)
            ctx.set(dut.push_data, word)
            ctx.set(dut.head_id, head_id)
            assert ctx.get(dut.push_ready) == (len(queues[push_id]) < depth), f"cycle {cycle}"
            push = ctx.get(dut.push_ready) and rng.random() < 0.6
            pop = step = False
            following = rng.randrange(32)
            if queues[head_id]:
                assert (ctx.get(dut.head), ctx.get(dut.scratch)) == (queues[head_id][0], scratch[head_id]), f"{cycle}"
                pop, step = rng.random() < 0.4, rng.random() < 0.5
            ctx.set(dut.push, push)
            ctx.set(dut.pop, pop)
            ctx.set(dut.step, step)
            ctx.set(dut.scratch_next, following)
            ctx.set(domain.rst, cycle == 1000)
            await ctx.tick()
            if step:
                scratch[head_id] = following
            if pop:
                queues[head_id].popleft()
                scratch[head_id] = 0
            if push:
                queues[push_id].append(word)
            if cycle == 1000:
                for index, queue in queues.items():
                    queue.clear()
                    scratch[index] = 0

    sim = Simulator(m)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match=r"ID width must be in 1\.\.16 bits, not 0"):
        IdFifo(8, id_width=0, depth=2)
    with pytest.raises(ValueError, match="Depth of an ID's queue must be a power of two, not 3"):
        IdFifo(8, id_width=2, depth=3)
