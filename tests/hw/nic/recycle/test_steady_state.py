# SPDX-License-Identifier: BSD-2-Clause
"""Limits in force are what registers say, or follow the steady state by the rule, pool by pool."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.recycle.interfaces import VISIT_CYCLES
from hw.nic.recycle.steady_state import CALM_WINDOWS, Limit, SteadyState
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

POOLS = 3
WINDOW = 256
DELAY = 9  #: from a visit to its bounds
REGISTERS = {"limit": {"limit": 0, "resume": 0}, "loop": {"track": 0, "window": 16, "slack": 64}}  #: after reset


class Rule:
    """What is in force of one pool, by the rule, with what is seen at each visit."""

    def __init__(self, greatest):
        self.greatest = greatest  # that a limit can be
        self.registers = REGISTERS["limit"] | REGISTERS["loop"]
        self.outstanding, self.tripped, self.cleared = 0, False, True
        self.forget()

    def forget(self):
        self.average = self.met = None
        self.leasts, self.seen = [], None  # of calm windows in a row, and of this one; None: it is not calm

    def visit(self, cycle):
        """Limit and resume level by what was until this cycle."""
        registers = self.registers
        start = cycle - cycle % VISIT_CYCLES
        ended = start % (1 << max(8, registers["window"])) == 0
        if self.cleared or not registers["track"]:
            self.forget()
        else:
            self._window(ended)
        self.tripped = self.cleared = False
        if self.average is None:
            return registers["limit"], registers["resume"]
        average = self.average // 8
        limit = max(1, average + average // 2 + registers["slack"])
        return min(limit, registers["limit"] or self.greatest), max(
            average, min(registers["slack"] // 2, self.greatest)
        )

    def _window(self, ended):
        if self.tripped:
            self.average = self.met
            self.leasts, self.seen = [], None
        if self.seen is not None:
            self.seen = min(self.seen, self.outstanding)
        if not ended:
            return
        if self.seen is not None:
            self.leasts.append(self.seen)
            if len(self.leasts) >= CALM_WINDOWS:
                self._move(8 * self.seen)
        self.seen = None if self.tripped else self.outstanding

    def _move(self, least):
        before = self.average
        self.average = least if before is None else before + (least - before) // CALM_WINDOWS
        if before is None or self.average <= before:
            self.met = self.average


class Bench:
    """SteadyState beside the rule; ``bounds`` are the last of each pool."""

    def __init__(self, pools=POOLS, **parameters):
        self.config = preset("10g", pools=pools, **parameters)
        self.dut = SteadyState(self.config)
        self.greatest = 2 ** self.config.pool_buffers.bit_length() - 1
        self.reset = Signal()
        self.pools = pools
        self.forget()

    def run(self, bench):
        async def testbench(ctx):
            self.ctx = ctx
            await bench(self)

        sim = Simulator(ResetInserter(self.reset)(self.dut))
        sim.add_clock(1e-6)
        sim.add_testbench(testbench)
        sim.run()

    def forget(self):
        """All is as after reset."""
        self.rules = [Rule(self.greatest) for _ in range(self.pools)]
        self.expected = {}
        self.bounds = {}
        self.cycle = 0
        self.written = None  # in this cycle

    async def restart(self):
        self.ctx.set(self.reset, 1)
        await self.ctx.tick()
        self.ctx.set(self.reset, 0)
        outstanding = [rule.outstanding for rule in self.rules]
        self.forget()
        self.out(*outstanding)

    def write(self, name, pool, **fields):
        begin_write(self.ctx, self.dut.write, name, pool, **fields)
        fields = {field: fields.get(field, 0) for field in REGISTERS[name]}
        if name == "limit":
            fields = {field: min(value, self.greatest) for field, value in fields.items()}
        self.written = (pool, fields)

    async def tick(self, cycles=1, refused=0, cleared=0):
        dut, ctx = self.dut, self.ctx
        for _ in range(cycles):
            ctx.set(dut.refused, refused)
            ctx.set(dut.clear, cleared)
            pool = self.cycle % VISIT_CYCLES
            if pool < len(self.rules):
                self.expected[self.cycle + DELAY] = (pool, *self.rules[pool].visit(self.cycle))
            for pool, rule in enumerate(self.rules):
                rule.tripped |= bool(refused >> pool & 1)
                rule.cleared |= bool(cleared >> pool & 1)
            if self.written:
                pool, values = self.written
                self.rules[pool].registers |= values
                self.written = None
            bounds = dut.bounds
            _, _, strobe, *found = await ctx.tick().sample(bounds.strobe, bounds.pool, bounds.limit, bounds.resume)
            end_write(ctx, dut.write)
            expected = self.expected.pop(self.cycle, None)
            assert (tuple(found) if strobe else None) == expected, f"cycle {self.cycle}"
            if strobe:
                self.bounds[found[0]] = tuple(found[1:])
            self.cycle += 1

    def out(self, *outstanding):
        for pool, count in enumerate(outstanding):
            self.rules[pool].outstanding = count
            self.ctx.set(self.dut.counts[pool].outstanding, count)

    async def windows(self, count, **events):
        await self.tick(count * WINDOW - self.cycle % WINDOW, **events)


@pytest.fixture
def bench():
    return Bench()


def test_without_tracking_registers_count_within_32_cycles(bench):
    async def run(b):
        await b.tick(2 * VISIT_CYCLES)
        assert b.bounds == dict.fromkeys(range(POOLS), (0, 0))
        for offset in range(VISIT_CYCLES):
            b.write("limit", 1, limit=100 + offset, resume=50 + offset)
            await b.tick(32 - 3 + 1)
            assert b.bounds[1] == (100 + offset, 50 + offset)
            await b.tick(3)
        assert b.bounds[0] == b.bounds[2] == (0, 0)
        b.write("limit", 0, limit=1 << 31, resume=2047)
        await b.tick(2 * VISIT_CYCLES)
        assert b.bounds[0] == (2047, 2047)

    bench.run(run)


def test_the_average_begins_with_eight_calm_windows_and_follows_by_eighths(bench):
    async def run(b):
        b.write("limit", 0, limit=500, resume=300)
        await b.tick()
        b.write("loop", 0, track=1, window=8, slack=10)
        b.out(40, 90)
        await b.windows(CALM_WINDOWS)
        assert b.bounds[0] == (500, 300)
        await b.windows(1)
        await b.tick(VISIT_CYCLES)
        assert b.bounds == {0: (40 + 20 + 10, 40), 1: (0, 0), 2: (0, 0)}
        b.out(120)
        found = []
        for _ in range(30):
            await b.windows(1)
            await b.tick(VISIT_CYCLES)
            found.append(b.bounds[0][1])
        assert found[:4] == [40, 50, 58, 66]
        assert found == sorted(found)
        assert found[-1] in (117, 118)
        b.out(400)
        await b.windows(20)
        assert b.bounds[0][0] == 500, "no more than LIMIT says"
        b.out(0)
        await b.windows(60)
        assert b.bounds[0] == (10, 5)
        b.write("loop", 0, track=1, window=8, slack=0)
        await b.windows(2)
        assert b.bounds[0] == (1, 0), "0 would be none at all"

    bench.run(run)


def test_a_closing_takes_back_what_the_average_has_gained(bench):
    async def run(b):
        b.write("loop", 0, track=1, window=8, slack=10)
        b.out(40)
        await b.windows(10)
        b.out(200)
        await b.windows(5)
        assert b.bounds[0][1] > 80
        await b.tick(refused=0b001)
        await b.tick(2 * VISIT_CYCLES)
        assert b.bounds[0] == (70, 40)
        await b.windows(CALM_WINDOWS)
        assert b.bounds[0] == (70, 40), "calm windows do not count before there are eight"
        await b.windows(3)
        assert b.bounds[0][1] > 60

    bench.run(run)


@pytest.mark.parametrize(("seed", "pools", "buffers"), [(0, 1, 256), (1, 3, 65536), (2, 16, 16)])
def test_random_states_and_registers_give_what_the_rule_gives(seed, pools, buffers):
    print(f"seed {seed}")
    rng = random.Random(seed)
    b = Bench(pools, pool_buffers=buffers)
    most = buffers
    kinds = set()

    async def run(b):
        level = [rng.randrange(most) for _ in range(pools)]
        for pool in range(pools):
            b.write("loop", pool, track=1, window=8, slack=rng.randrange(20))
            await b.tick(5)
        for _ in range(1200):
            for pool in range(pools):
                if rng.random() < 0.004:
                    level[pool] = rng.choice((0, most, rng.randrange(most)))
            b.out(*(min(max(0, around + rng.randint(-4, 4)), most) for around in level))
            pool = rng.randrange(pools)
            if rng.random() < 0.01:
                b.write("limit", pool, limit=rng.choice((0, 5, most // 2, 1 << 30)), resume=rng.randrange(most))
            elif rng.random() < 0.005:
                b.write(
                    "loop", pool, track=rng.random() < 0.8, window=rng.choice((0, 8, 8, 9)), slack=rng.randrange(99)
                )
            await b.tick(refused=(rng.random() < 0.003) << pool, cleared=(rng.random() < 0.0003) << pool)
            await b.tick(rng.randrange(40))
            kinds.update((rule.average is None, rule.met == rule.average) for rule in b.rules)

    b.run(run)
    assert kinds == {(True, True), (False, True), (False, False)}


def test_reset_forgets_registers_and_averages(bench):
    async def run(b):
        b.write("limit", 0, limit=100, resume=50)
        await b.tick(5)
        b.write("loop", 0, track=1, window=8, slack=10)
        b.out(40)
        await b.windows(10)
        assert b.bounds[0] == (70, 40)
        await b.restart()
        await b.tick(100)
        assert b.bounds[0] == (0, 0)
        b.write("loop", 0, track=1, window=8, slack=10)
        await b.windows(5)
        assert b.bounds[0] == (0, 0)

    bench.run(run)


def test_limit_register_is_laid_out_as_described():
    for field in register_map(2, pools=2).pool["limit"].fields.values():
        found = Limit.as_shape()[field.name]
        assert (found.offset, found.width) == (field.lsb, field.width)
