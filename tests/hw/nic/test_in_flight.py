# SPDX-License-Identifier: BSD-2-Clause
"""InFlight: a queue is busy while something that started has not finished, and not much longer."""

import random

import pytest
from amaranth.sim import Simulator

from hw.nic.in_flight import InFlight


@pytest.mark.parametrize("seed", range(3))
def test_busy_follows_starts_and_finishes_of_each_queue(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = InFlight(3, 20)
    counts = [0] * 3

    async def bench(ctx):
        under_way = [[0, 0, 0]] * 3
        for _ in range(500):
            start, started, count = rng.random() < 0.3, rng.randrange(3), rng.randint(1, 4)
            finished = rng.randrange(3)
            start = start and counts[started] + count <= 20
            finish = rng.random() < 0.8 and counts[finished] > 0
            ctx.set(dut.start, start)
            ctx.set(dut.start_queue, started)
            ctx.set(dut.start_count, count)
            ctx.set(dut.finish, finish)
            ctx.set(dut.finish_queue, finished)
            await ctx.tick()
            counts[started] += count * start
            counts[finished] -= finish
            under_way = [*under_way[1:], list(counts)]
            for queue in range(3):
                assert ctx.get(dut.busy) >> queue & 1 == any(before[queue] for before in under_way)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="queues must be at least 1, not 0"):
        InFlight(0, 4)
    with pytest.raises(TypeError, match="limit must be an integer, not '4'"):
        InFlight(1, "4")
