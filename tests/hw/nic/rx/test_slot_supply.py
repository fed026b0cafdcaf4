# SPDX-License-Identifier: BSD-2-Clause
"""SlotSupply: a slot for each lookup that is let through, and none held back."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rx.slot_supply import SlotSupply
from tests.hw.nic.standins import SlotCounter

TO_TAKE = 6  #: cycles from a lookup to its reservation


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_lookups_are_let_through_exactly_while_there_are_slots(seed, rate):
    """Each reserves one slot six cycles later; the consumer gives some back at random."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    queues, initial = 3, rng.choice((0, 1, 5, 30))
    config = preset("10g", queues=queues)
    m = Module()
    m.submodules.dut = dut = SlotSupply(config)
    m.submodules.slots = slots = SlotCounter(config, initial)
    connect(m, dut.slots, slots.port)
    free = [initial] * queues  # behind all lookups
    given = [(queues, 0)] * 2  # what the supply may not know of yet

    async def bench(ctx):
        nonlocal given
        lookups = [None] * TO_TAKE
        await ctx.tick()
        for _ in range(600):
            some = ctx.get(dut.some)
            for queue in range(queues):
                known = free[queue] - sum(count for other, count in given if other == queue)
                assert known <= 0 or some >> queue & 1, "a slot was held back"
                assert not some >> queue & 1 or free[queue] > 0, "there is no such slot"
            queue = rng.randrange(queues)
            lookup = queue if some >> queue & 1 and rng.random() < rate else None
            lookups.append(lookup)
            ctx.set(dut.lookup, 0 if lookup is None else 1 << lookup)
            if lookup is not None:
                free[lookup] -= 1
            taken = lookups.pop(0)
            ctx.set(dut.take.strobe, taken is not None)
            ctx.set(dut.take.queue, taken or 0)
            ctx.set(dut.take.count, 1)
            back, count = rng.randrange(queues), rng.choice((0, 0, 0, 0, 0, 1, 2))
            ctx.set(slots.give_queue, back)
            ctx.set(slots.give, count)
            free[back] += count
            given = [given[1], (back, count)]
            await ctx.tick()
        assert not ctx.get(slots.overrun)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_lookups_that_are_forgotten_leave_their_slots():
    config = preset("10g")
    m = Module()
    m.submodules.dut = dut = SlotSupply(config)
    m.submodules.slots = slots = SlotCounter(config, 3)
    connect(m, dut.slots, slots.port)

    async def bench(ctx):
        await ctx.tick()
        for _ in range(3):
            assert ctx.get(dut.some) == 3
            ctx.set(dut.lookup, 1)
            await ctx.tick()
        ctx.set(dut.lookup, 0)
        assert ctx.get(dut.some) == 2
        ctx.set(dut.restart, 1)
        await ctx.tick().repeat(2)
        ctx.set(dut.restart, 0)
        await ctx.tick()
        assert ctx.get(dut.some) == 3

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
