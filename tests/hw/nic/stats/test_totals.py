# SPDX-License-Identifier: BSD-2-Clause
"""Totals of what is collected, and a copy of one moment."""

import random
from collections import Counter

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.nic.stats.totals import Step, Totals

ROWS = 9
# Row 0 has three parts, and some have two, from entries of two sources; rows 7 and 8 have none.
STEPS = [Step(source=row % 2, entry=row, row=row) for row in (3, 4, 5, 6, 0, 1, 2)]
STEPS += [Step(1, 3, 3), Step(1, 4, 5), Step(1, 7, 0), Step(0, 8, 1), Step(1, 1, 2), Step(0, 7, 4), Step(1, 6, 6)]
STEPS += [Step(0, 5, 0)]


class Bench:
    """Totals, beside sums of random amounts as of each exchange."""

    def __init__(self, seed, bits=22):
        print(f"seed {seed}")
        self.rng = random.Random(seed)
        self.bits = bits
        self.dut = Totals(STEPS, rows=ROWS, amount_width=bits)
        self.reset = Signal()
        self.exchanges = []  # totals of all steps collected before, at each exchange

    def run(self, bench):
        async def collect(ctx):
            """Play the banks: a step's entry asks for its sum, which its source then chooses."""
            dut, totals, sums, asked = self.dut, Counter(), {}, ({}, 0)
            while True:
                answers, entry = asked
                ctx.set(dut.amount, answers.get((ctx.get(dut.sources).bit_length() - 1, entry), 0))
                asked = sums, ctx.get(dut.entry)
                _, _, reset, exchange = await ctx.tick().sample(self.reset, dut.exchange)
                if reset:
                    totals, sums, asked = Counter(), {}, ({}, 0)
                elif exchange:
                    sums = {(step.source, step.entry): self.rng.getrandbits(self.bits) for step in STEPS}
                    for step in STEPS:
                        totals[step.row] += sums[step.source, step.entry]
                    self.exchanges.append(Counter(totals))

        async def testbench(ctx):
            await bench(ctx, self)

        sim = Simulator(ResetInserter(self.reset)(self.dut))
        sim.add_clock(1e-6)
        sim.add_testbench(collect, background=True)
        sim.add_testbench(testbench)
        sim.run()

    async def snapshot(self, ctx):
        """Take one; the number of the exchange that it must show, and the cycles it was busy."""
        dut = self.dut
        ctx.set(dut.snapshot, 1)
        await ctx.tick()
        ctx.set(dut.snapshot, 0)
        shown, cycles = len(self.exchanges), 0
        while ctx.get(dut.busy):
            await ctx.tick()
            cycles += 1
            assert cycles <= 2 * dut.period + 5, "snapshot takes too long"
        return shown, cycles

    async def read(self, ctx):
        values = []
        for row in range(ROWS):
            ctx.set(self.dut.read_row, row)
            await ctx.tick().repeat(2)
            values.append(ctx.get(self.dut.value))
        return values


def test_a_snapshot_shows_the_first_exchange_after_it_whenever_it_comes():
    bench = Bench(seed=1)

    async def run(ctx, b):
        assert await b.read(ctx) == [0] * ROWS
        times = set()
        for wait in range(b.dut.period):
            await ctx.tick().repeat(1 + wait)
            shown, cycles = await b.snapshot(ctx)
            times.add(cycles)
            assert await b.read(ctx) == [b.exchanges[shown][row] for row in range(ROWS)], wait
        assert max(times) == 2 * b.dut.period + 5

    bench.run(run)


def test_a_value_is_of_the_snapshot_in_the_cycle_after_busy_fell():
    bench = Bench(seed=2)

    async def run(ctx, b):
        for row in range(7):
            ctx.set(b.dut.read_row, row)
            await ctx.tick()
            shown, _ = await b.snapshot(ctx)
            await ctx.tick()
            assert ctx.get(b.dut.value) == b.exchanges[shown][row], row

    bench.run(run)


def test_sums_carry_into_the_high_half():
    bench = Bench(seed=3, bits=32)

    async def run(ctx, b):
        await ctx.tick().repeat(12 * b.dut.period)
        shown, _ = await b.snapshot(ctx)
        values = await b.read(ctx)
        assert values == [b.exchanges[shown][row] for row in range(ROWS)]
        assert min(values[:7]) > 1 << 33

    bench.run(run)


@pytest.mark.parametrize("cycles", [1, 5, 20, 40])
def test_reset_forgets_totals_and_copy(cycles):
    bench = Bench(seed=cycles)

    async def run(ctx, b):
        await b.snapshot(ctx)
        await ctx.tick().repeat(cycles)
        ctx.set(b.reset, 1)
        await ctx.tick()
        ctx.set(b.reset, 0)
        b.exchanges.clear()
        assert await b.read(ctx) == [0] * ROWS
        shown, _ = await b.snapshot(ctx)
        assert await b.read(ctx) == [b.exchanges[shown][row] for row in range(ROWS)]

    bench.run(run)


def test_a_command_during_a_snapshot_is_ignored():
    bench = Bench(seed=4)

    async def run(ctx, b):
        for after in range(1, 2 * b.dut.period, 3):
            ctx.set(b.dut.snapshot, 1)
            await ctx.tick()
            ctx.set(b.dut.snapshot, 0)
            shown = len(b.exchanges)
            for cycle in range(2 * b.dut.period + 6):
                ctx.set(b.dut.snapshot, cycle == after and ctx.get(b.dut.busy))
                await ctx.tick()
            ctx.set(b.dut.snapshot, 0)
            assert not ctx.get(b.dut.busy)
            assert await b.read(ctx) == [b.exchanges[shown][row] for row in range(ROWS)]

    bench.run(run)


@pytest.mark.parametrize("places", [(0, 4), (3, 5), (0, 5), (1, 5)])
def test_steps_of_one_row_must_be_apart(places):
    rows = [row if row not in places else 7 for row in range(6)]
    with pytest.raises(ValueError, match="Steps of row 7 must be 5 apart"):
        Totals([Step(0, 0, row) for row in rows], rows=8, amount_width=8)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match=r"Row must be in 0..3, not 4"):
        Totals([Step(0, 0, 4)], rows=4, amount_width=8)
    with pytest.raises(ValueError, match=r"A sum must have 1..32 bits, not 33"):
        Totals([Step(0, 0, 0)], rows=4, amount_width=33)
