# SPDX-License-Identifier: BSD-2-Clause
"""Addresses and lengths of buffers, by pool and id."""

import pytest
from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.pool_table import PoolTable


@pytest.mark.parametrize("pools", [1, 3])
def test_each_buffer_has_its_entry_two_cycles_after_it_was_named(pools):
    config = NicConfig(pools=pools, pool_buffers=16)
    dut = PoolTable(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    entries = {
        (pool, buffer): ((pool << 60) + 4096 * buffer + 256, 1 + 1000 * pool + buffer)
        for pool in range(pools)
        for buffer in range(16)
    }

    async def testbench(ctx):
        ctx.set(dut.write.strobe, 1)
        for (pool, buffer), (address, length) in entries.items():
            ctx.set(dut.write.buffer, {"pool": pool, "id": buffer})
            ctx.set(dut.write.entry, {"address": address, "length": length})
            await ctx.tick()
        ctx.set(dut.write.strobe, 0)
        found = []
        names = list(entries)
        for pool, buffer in [*names, names[0], names[0]]:
            ctx.set(dut.buffer, {"pool": pool, "id": buffer})
            found.append((ctx.get(dut.entry.address), ctx.get(dut.entry.length)))
            await ctx.tick()
        assert found[2:] == [entries[name] for name in names]

    sim.add_testbench(testbench)
    sim.run()


def test_what_was_written_is_there_for_who_is_named_in_the_next_cycle():
    dut = PoolTable(NicConfig(pools=1, pool_buffers=16))
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        ctx.set(dut.write.strobe, 1)
        ctx.set(dut.write.buffer, {"pool": 0, "id": 9})
        ctx.set(dut.write.entry, {"address": 77, "length": 5})
        await ctx.tick()
        ctx.set(dut.write.strobe, 0)
        ctx.set(dut.buffer, {"pool": 0, "id": 9})
        await ctx.tick().repeat(2)
        assert ctx.get(dut.entry.address) == 77

    sim.add_testbench(testbench)
    sim.run()
