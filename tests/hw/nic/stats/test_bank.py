# SPDX-License-Identifier: BSD-2-Clause
"""A bank loses no update, and a snapshot shows one cycle whatever arrives meanwhile."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.nic.stats.bank import CounterBank


def simulate(bank, bench, reset=None):
    sim = Simulator(bank if reset is None else ResetInserter(reset)(bank))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


async def copies(ctx, bank):
    """All counters of the last snapshot."""
    ctx.set(bank.strobe, 0)
    ctx.set(bank.snapshot, 0)
    for _ in range(4 * bank.counters + 8):
        if not ctx.get(bank.busy):
            break
        await ctx.tick()
    assert not ctx.get(bank.busy), "snapshot still busy after more free cycles than it may take"
    values = []
    for index in range(bank.counters):
        ctx.set(bank.copy_index, index)
        await ctx.tick()
        values.append(ctx.get(bank.copy))
    return values


@pytest.mark.parametrize(("counters", "load"), [(1, 1.0), (2, 0.5), (5, 0.9), (12, 1.0)])
def test_snapshot_is_of_one_cycle(counters, load):
    seed = counters
    print(f"seed {seed}")
    rng = random.Random(seed)
    bank = CounterBank(counters, amount_width=16)
    model = [0] * counters

    async def bench(ctx):
        async def updates(cycles, *, snapshot_first=False):
            for cycle in range(cycles):
                strobe = rng.random() < load
                index, amount = rng.choice((0, rng.randrange(counters))), rng.randrange(1 << 16)
                ctx.set(bank.strobe, strobe)
                ctx.set(bank.index, index)
                ctx.set(bank.amount, amount)
                ctx.set(bank.snapshot, snapshot_first and cycle == 0)
                model[index] += amount * strobe
                await ctx.tick()

        assert await copies(ctx, bank) == [0] * counters
        for _ in range(20):
            await updates(rng.randrange(1, 50))
            expected = list(model)
            await updates(rng.randrange(1, 50), snapshot_first=True)
            assert await copies(ctx, bank) == expected

    simulate(bank, bench)


def test_snapshot_ends_after_as_many_free_cycles_as_counters():
    bank = CounterBank(6)

    async def bench(ctx):
        ctx.set(bank.snapshot, 1)
        await ctx.tick()
        ctx.set(bank.snapshot, 0)
        cycles = 0
        while ctx.get(bank.busy):
            cycles += 1
            assert cycles <= 6 + 2, "snapshot takes too long"
            await ctx.tick()

    simulate(bank, bench)


@pytest.mark.parametrize("counters", [1, 2, 6])
@pytest.mark.parametrize("spread", [False, True])
def test_snapshot_ends_with_an_update_in_every_cycle(counters, spread):
    bank = CounterBank(counters)

    async def bench(ctx):
        ctx.set(bank.strobe, 1)
        ctx.set(bank.amount, 1)
        for cycle in range(10 * counters):
            ctx.set(bank.index, (-cycle if spread else counters - 1) % counters)
            await ctx.tick()
        ctx.set(bank.snapshot, 1)
        cycles = 0
        while cycles == 0 or ctx.get(bank.busy):
            ctx.set(bank.index, (-cycles if spread else counters - 1) % counters)
            cycles += 1
            assert cycles <= 2 * counters + 2, "snapshot takes too long"
            await ctx.tick()
            ctx.set(bank.snapshot, 0)
        expected = [10] * counters if spread else [0] * (counters - 1) + [10 * counters]
        assert await copies(ctx, bank) == expected

    simulate(bank, bench)


def test_reset_forgets_counts_and_copies():
    bank = CounterBank(3, amount_width=4)
    reset = Signal()

    async def bench(ctx):
        for index in range(3):
            ctx.set(bank.strobe, 1)
            ctx.set(bank.index, index)
            ctx.set(bank.amount, 9)
            await ctx.tick()
        ctx.set(bank.strobe, 0)
        ctx.set(bank.snapshot, 1)
        await ctx.tick()
        assert await copies(ctx, bank) == [9, 9, 9]
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert await copies(ctx, bank) == [0, 0, 0]
        ctx.set(bank.strobe, 1)
        ctx.set(bank.index, 1)
        await ctx.tick()
        ctx.set(bank.strobe, 0)
        ctx.set(bank.snapshot, 1)
        await ctx.tick()
        assert await copies(ctx, bank) == [0, 9, 0]

    simulate(bank, bench, reset)


@pytest.mark.parametrize("counters", [0, -1, "4"])
def test_number_of_counters_is_checked(counters):
    with pytest.raises(ValueError, match=f"positive number of counters, not {counters!r}"):
        CounterBank(counters)


def test_amount_width_is_checked():
    with pytest.raises(ValueError, match=r"Amount width must be in 1..64 bits, not 65"):
        CounterBank(1, amount_width=65)
