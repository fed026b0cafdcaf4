# SPDX-License-Identifier: BSD-2-Clause
"""Which queues have a pool."""

from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.queue_pools import QueuePools

CONFIG = NicConfig(queues=4, pools=3, pool_buffers=16)


def test_pools_of_queues():
    dut = QueuePools(CONFIG)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def write(ctx, queue, word):
        ctx.set(dut.write.queue, queue)
        ctx.set(dut.write.data, word)
        ctx.set(dut.write.at.rx_pool, 1)
        await ctx.tick()
        ctx.set(dut.write.at.rx_pool, 0)
        await ctx.tick()

    async def testbench(ctx):
        assert ctx.get(dut.pooled) == 0
        await write(ctx, 0, 0x001)
        await write(ctx, 1, 0x201)
        await write(ctx, 2, 0x301)  # no such pool
        await write(ctx, 3, 0x200)  # not enabled
        assert ctx.get(dut.pooled) == 0b0111
        assert ctx.get(dut.existing) == 0b0011
        assert ctx.get(dut.pools)[1] == 2
        for enabled, supplied in ((0b000, 0b00), (0b001, 0b01), (0b100, 0b10), (0b111, 0b11)):
            ctx.set(dut.enabled, enabled)
            await ctx.tick()
            assert ctx.get(dut.supplied) == supplied
        await write(ctx, 0, 0)
        assert ctx.get(dut.pooled) == 0b0110

    sim.add_testbench(testbench)
    sim.run()
