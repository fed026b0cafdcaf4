# SPDX-License-Identifier: BSD-2-Clause
"""A bank loses no event, and an exchange divides them by the cycle whatever arrives meanwhile."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.nic.stats.bank import AccumulatorBank

FIELDS = {"events": 1, "bytes": 16}


def simulate(bank, bench, reset=None):
    sim = Simulator(bank if reset is None else ResetInserter(reset)(bank))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


async def event(ctx, bank, entry, **amounts):
    """One cycle with an event, or without one if no amounts are given."""
    ctx.set(bank.strobe, bool(amounts))
    ctx.set(bank.entry, entry)
    ctx.set(bank.amounts, {name: amounts.get(name, 0) for name in FIELDS})
    await ctx.tick()
    ctx.set(bank.strobe, 0)


async def exchange(ctx, bank, **last):
    """Change the halves over in the cycle of a last event."""
    ctx.set(bank.exchange, 1)
    await event(ctx, bank, **({"entry": 0} | last))
    ctx.set(bank.exchange, 0)


def sums(ctx, bank):
    return tuple(ctx.get(bank.sums[name]) for name in FIELDS)


async def collected(ctx, bank, entries):
    """Sums of the last exchange, from the second cycle after it on."""
    await ctx.tick()
    values = []
    for entry in range(entries):
        ctx.set(bank.collect_entry, entry)
        await ctx.tick()
        values.append(sums(ctx, bank))
    return values


@pytest.mark.parametrize(("entries", "load"), [(1, 1.0), (2, 0.5), (5, 0.9), (16, 1.0)])
def test_exchanges_divide_the_events(entries, load):
    seed = entries
    print(f"seed {seed}")
    rng = random.Random(seed)
    bank = AccumulatorBank(entries, FIELDS, cycles=60)

    async def bench(ctx):
        expected = None
        for _ in range(40):
            model = [(0, 0)] * entries
            cycles = rng.randrange(entries + 3, 61)
            for cycle in range(cycles):
                entry, happens = rng.choice((0, rng.randrange(entries))), rng.random() < load
                amounts = {"events": rng.randrange(2), "bytes": rng.randrange(1 << 16)}
                ctx.set(bank.exchange, cycle == cycles - 1)
                ctx.set(bank.collect_entry, max(cycle - 1, 0) % entries)
                await event(ctx, bank, entry, **(amounts if happens else {}))
                if happens:
                    model[entry] = tuple(map(sum, zip(model[entry], amounts.values())))
                if expected and 1 <= cycle <= entries:
                    assert sums(ctx, bank) == expected[cycle - 1], (cycle, entries)
            expected = model

    simulate(bank, bench)


def test_sums_hold_the_most_that_can_come_between_exchanges():
    bank = AccumulatorBank(3, FIELDS, cycles=20)

    async def bench(ctx):
        for _ in range(3):
            for _ in range(19):
                await event(ctx, bank, 1, events=1, bytes=0xFFFF)
            await exchange(ctx, bank, entry=1, events=1, bytes=0xFFFF)
            assert await collected(ctx, bank, 3) == [(0, 0), (20, 20 * 0xFFFF), (0, 0)]
            await exchange(ctx, bank)

    simulate(bank, bench)


def test_collecting_leaves_the_sums_as_they_are():
    bank = AccumulatorBank(2, FIELDS, cycles=100)

    async def bench(ctx):
        await event(ctx, bank, 0, events=1, bytes=7)
        await exchange(ctx, bank)
        for _ in range(3):
            await event(ctx, bank, 0, events=1, bytes=1000)
            assert await collected(ctx, bank, 2) == [(1, 7), (0, 0)]
        await exchange(ctx, bank)
        assert await collected(ctx, bank, 2) == [(3, 3000), (0, 0)]

    simulate(bank, bench)


@pytest.mark.parametrize("exchanges", [0, 1, 2])
def test_reset_forgets_both_halves(exchanges):
    bank = AccumulatorBank(3, FIELDS, cycles=100)
    reset = Signal()

    async def bench(ctx):
        for _ in range(exchanges + 1):
            for entry in range(3):
                await event(ctx, bank, entry, events=1, bytes=9)
            await exchange(ctx, bank)
        await event(ctx, bank, 2, events=1, bytes=9)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await event(ctx, bank, 1, events=1, bytes=5)
        assert await collected(ctx, bank, 3) == [(0, 0)] * 3
        await exchange(ctx, bank)
        assert await collected(ctx, bank, 3) == [(0, 0), (1, 5), (0, 0)]

    simulate(bank, bench, reset)


@pytest.mark.parametrize("entries", [0, -1, "4"])
def test_number_of_entries_is_checked(entries):
    with pytest.raises(ValueError, match=f"positive number of entries, not {entries!r}"):
        AccumulatorBank(entries, FIELDS, cycles=4)


def test_number_of_cycles_is_checked():
    with pytest.raises(ValueError, match=r"positive number of cycles between exchanges, not 0"):
        AccumulatorBank(1, FIELDS, cycles=0)
