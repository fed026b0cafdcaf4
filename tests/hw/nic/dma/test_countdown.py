# SPDX-License-Identifier: BSD-2-Clause
"""Countdown: the first and last beat of items of every length, one after another."""

import random

from amaranth.sim import Simulator

from hw.nic.dma.countdown import Countdown


def test_first_and_last_of_each_item():
    dut = Countdown(4)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    random_ = random.Random(1)

    async def bench(ctx):
        for beats in [1, 1, 2, 1, 16, 16, 3, *(random_.randint(1, 16) for _ in range(60))]:
            ctx.set(dut.beats, beats - 1)
            ctx.set(dut.single, beats == 1)
            for beat in range(beats):
                while random_.random() < 0.3:
                    ctx.set(dut.step, 0)
                    await ctx.tick()
                assert (ctx.get(dut.first), ctx.get(dut.last)) == (beat == 0, beat == beats - 1), f"{beat} of {beats}"
                ctx.set(dut.step, 1)
                await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
