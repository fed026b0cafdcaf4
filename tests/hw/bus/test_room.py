# SPDX-License-Identifier: BSD-2-Clause
"""Room: exact at its limit, and known a cycle ahead."""

import random

import pytest
from amaranth.sim import Simulator

from hw.bus.room import Room


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_room_is_what_the_limit_leaves(limit):
    dut = Room(limit)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    random_ = random.Random(limit)
    full = []

    async def bench(ctx):
        used = counted = 0  # in use; in use, or given back in the last cycle
        for cycle in range(600):
            assert ctx.get(dut.room) == (counted < limit), f"cycle {cycle}"
            full.append(counted == limit)
            take = counted < limit and random_.random() < (0.9 if cycle % 100 < 50 else 0.2)
            give = used > 0 and random_.random() < 0.5
            ctx.set(dut.take, take)
            ctx.set(dut.give, give)
            counted = used + take
            used += take - give
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    assert any(full)
    assert not all(full)


@pytest.mark.parametrize("limit", [0, -1, "2", True])
def test_limit_is_checked(limit):
    with pytest.raises(ValueError, match=f"Limit must be an integer from 1 up, not {limit!r}"):
        Room(limit)
