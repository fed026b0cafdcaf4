# SPDX-License-Identifier: BSD-2-Clause
"""RoundRobin: fair, and steady until taken."""

import random

import pytest
from amaranth.sim import Simulator

from hw.nic.dma.arbiter import RoundRobin


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_nobody_waits_for_more_than_all_others(count):
    dut = RoundRobin(count)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    random_ = random.Random(count)

    async def testbench(ctx):
        requests, waited, held = 0, [0] * count, None
        for _ in range(500):
            requests |= random_.randrange(1 << count)
            taken = random_.random() < 0.6
            ctx.set(dut.requests, requests)
            ctx.set(dut.taken, taken)
            assert ctx.get(dut.valid) == (requests != 0)
            grant = ctx.get(dut.grant)
            if requests:
                assert requests >> grant & 1
                assert held in (None, grant)
                held = None if taken else grant
            if requests and taken:
                for other in range(count):
                    waited[other] += requests >> other & 1
                    assert waited[other] <= count
                waited[grant] = 0
                requests &= ~(1 << grant)
            await ctx.tick()

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("count", [0, 65, "2"])
def test_number_of_requesters_is_checked(count):
    with pytest.raises(ValueError, match=f"Requesters must be an integer in 1..64, not {count!r}"):
        RoundRobin(count)
