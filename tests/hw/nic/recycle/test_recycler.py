# SPDX-License-Identifier: BSD-2-Clause
"""All pools of a NIC together: what queues are told of theirs."""

from amaranth.sim import Simulator

from hw.abi.pools import PoolCommand
from hw.config import NicConfig
from hw.nic.recycle.recycler import Recycler
from tests.hw.nic.recycle.pool_writes import write_register

CONFIG = NicConfig(pools=1, pool_buffers=64)
LIMIT = 2
PATIENCE = 200  #: cycles that anything here may take


async def wait(ctx, what, value):
    for _ in range(PATIENCE):
        if ctx.get(value):
            return
        await ctx.tick()
    raise AssertionError(f"waited {PATIENCE} cycles for {what}")


async def start(ctx, dut):
    """Pool 0 has all buffers that it can, and queue 0 runs with it."""
    await write_register(ctx, dut.write, "limit", 0, limit=LIMIT)
    await write_register(ctx, dut.write, "control", 0, enable=1)
    for _ in range(CONFIG.pool_buffers + 40):
        await ctx.tick()
    for buffer in range(CONFIG.pool_buffers):
        await write_register(ctx, dut.write, "command", 0, id=buffer, length=2048, command=PoolCommand.JOIN.value)
        await wait(ctx, f"buffer {buffer} to join", ~dut.command_busy[0])
    ctx.set(dut.queue_write.data, 1)
    ctx.set(dut.queue_write.at.rx_pool, 1)
    await ctx.tick()
    ctx.set(dut.queue_write.at.rx_pool, 0)
    for _ in range(4):
        await ctx.tick()
    ctx.set(dut.control.enable, 1)


async def receive(ctx, dut):
    """A frame takes a buffer, and software hears of it."""
    ctx.set(dut.supply.ready, 1)
    await wait(ctx, "a buffer", dut.supply.valid)
    buffer = ctx.get(dut.supply.payload.entry.buffer_id)
    await ctx.tick()
    ctx.set(dut.supply.ready, 0)
    ctx.set(dut.given.count, 1)
    ctx.set(dut.delivered.buffer_id, buffer)
    for strobe in (dut.given.strobe, dut.delivered.strobe):
        ctx.set(strobe, 1)
        await ctx.tick()
        ctx.set(strobe, 0)
    return buffer


def test_fills_are_wanted_while_the_limit_lets_nothing_out_however_many_are_free():
    """They may be the only way in which buffers come back, and without them the loop would never open."""
    dut = Recycler(CONFIG)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        await start(ctx, dut)
        buffers = [await receive(ctx, dut) for _ in range(LIMIT)]
        await wait(ctx, "fills to be wanted", dut.wanted[0])
        ctx.set(dut.fills.payload.buffer_id, buffers[0])
        ctx.set(dut.fills.valid, 1)
        await wait(ctx, "the fill to be taken", dut.fills.ready)
        await ctx.tick()
        ctx.set(dut.fills.valid, 0)
        await wait(ctx, "a buffer that the limit lets out", dut.supply.valid)

    sim.add_testbench(testbench)
    sim.run()


def test_fills_are_not_wanted_while_enough_are_free():
    dut = Recycler(CONFIG)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        await start(ctx, dut)
        await write_register(ctx, dut.write, "limit", 0, limit=0)
        for _ in range(PATIENCE):
            await ctx.tick()
        assert not ctx.get(dut.wanted[0])

    sim.add_testbench(testbench)
    sim.run()
