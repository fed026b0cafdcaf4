# SPDX-License-Identifier: BSD-2-Clause
"""EntryBanks against a list."""

import random

import pytest
from amaranth.sim import Simulator

from hw.nic.rings.entry_banks import EntryBanks


@pytest.mark.parametrize(("depth", "wide"), [(8, 1), (12, 2), (24, 4), (4, 4)])
def test_entries_are_read_where_they_were_written(depth, wide):
    dut = EntryBanks(depth=depth, wide=wide)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    random_ = random.Random(depth)
    model = [0] * depth

    async def testbench(ctx):
        for _ in range(200):
            count = random_.randint(0, wide)
            start = random_.randint(0, depth - max(1, count))
            entries = [random_.getrandbits(128) for _ in range(wide)]
            ctx.set(dut.write_index, start)
            ctx.set(dut.write_count, count)
            ctx.set(dut.write_entries, entries)
            where = random_.randrange(depth)
            ctx.set(dut.read_index, where)
            for step in range(min(wide, depth - where)):
                assert ctx.get(dut.read_entries[step]) == model[where + step]
            await ctx.tick()
            model[start : start + count] = entries[:count]

    sim.add_testbench(testbench)
    sim.run()


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="An access must be 1, 2 or 4 entries wide, not 3"):
        EntryBanks(depth=8, wide=3)
    with pytest.raises(ValueError, match="Depth must be a positive multiple of 4 entries, not 10"):
        EntryBanks(depth=10, wide=4)
