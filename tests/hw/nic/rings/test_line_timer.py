# SPDX-License-Identifier: BSD-2-Clause
"""LineTimer: due exactly at the deadline, whatever the clock's value."""

import pytest
from amaranth.sim import Simulator

from hw.nic.rings.line_timer import LineTimer


@pytest.mark.parametrize("timeout", [0, 1, 2, 17])
def test_due_follows_the_deadline(timeout):
    dut = LineTimer(2)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        ctx.set(dut.timeout, timeout)
        await ctx.tick()
        for _ in range(5):
            ctx.set(dut.start, 0b10)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(timeout + 1):
                assert not ctx.get(dut.due) & 0b10
                await ctx.tick()
            for _ in range(3):
                assert ctx.get(dut.due) & 0b10
                await ctx.tick()

    sim.add_testbench(testbench)
    sim.run()


def test_number_of_queues_is_checked():
    with pytest.raises(ValueError, match="Queues must be a positive integer, not 0"):
        LineTimer(0)
