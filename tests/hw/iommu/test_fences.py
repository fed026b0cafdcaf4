# SPDX-License-Identifier: BSD-2-Clause
"""A fence ends when the accesses from before it have, whatever comes meanwhile."""

import random

import pytest
from amaranth.sim import Simulator

from hw.iommu.fences import Fences

WAITERS, CHANNELS = 3, 2


@pytest.mark.parametrize("seed", range(6))
def test_random_accesses_and_fences(seed):
    """Channels accept at random and never stop. Each fence ends after every access older than it, and within the time
    that those, and those of the turns before it, may last."""
    rng = random.Random(seed)
    longest = rng.choice([1, 10, 60])
    rate = rng.choice([0.05, 0.4])
    dut = Fences(WAITERS, CHANNELS)
    fences = []

    async def testbench(ctx):
        accesses = []  # (cycle of acceptance, cycle of the end, channel, color)
        asked = [None] * WAITERS
        for cycle in range(3000):
            color = ctx.get(dut.channels[0].color)
            assert ctx.get(dut.channels[1].color) == color
            accesses = [access for access in accesses if access[1] > cycle]
            for channel, port in enumerate(dut.channels):
                # What is accepted in a cycle shows as busy in the next.
                ctx.set(port.busy, sum(1 << k for k in range(2) if any(a[2:] == (channel, k) for a in accesses)))
                if rng.random() < rate:
                    accesses.append((cycle, cycle + rng.randint(2, 1 + longest), channel, color))
            for waiter in range(WAITERS):
                if asked[waiter] is None and rng.random() < 0.05:
                    asked[waiter] = cycle
                elif asked[waiter] is not None and rng.random() < 0.02:
                    asked[waiter] = None  # given up
            ctx.set(dut.request, sum(1 << waiter for waiter in range(WAITERS) if asked[waiter] is not None))
            _, _, done = await ctx.tick().sample(dut.done)
            assert done in (0, 1, 2, 4)
            for waiter in range(WAITERS):
                if done >> waiter & 1:
                    older = [access for access in accesses if access[0] < asked[waiter] and access[1] > cycle]
                    assert not older, f"cycle {cycle}, fence of {asked[waiter]}: still there are {older}"
                    fences.append(cycle - asked[waiter])
                    asked[waiter] = None

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    assert len(fences) > 20
    assert max(fences) <= 2 * WAITERS * (longest + 10)
