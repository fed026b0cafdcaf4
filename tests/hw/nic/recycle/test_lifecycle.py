# SPDX-License-Identifier: BSD-2-Clause
"""PoolLifecycle: a pool is cleared before it is enabled, and idle before it is disabled."""

import random

import pytest

from hw.abi.pools import PoolState
from hw.config import preset
from hw.nic.recycle.lifecycle import SETTLE_CYCLES, PoolLifecycle
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

POOLS = 3
DISABLED, CLEARING, ENABLED, DRAINING = PoolState


class Bench(BlockBench):
    """Pools of which pool 1 is looked at; what is not it must stay DISABLED unless told otherwise."""

    def __init__(self):
        self.dut = PoolLifecycle(preset("10g", pools=POOLS, pool_buffers=16))

    def set(self, **bits):
        for name, value in bits.items():
            self.ctx.set(getattr(self.dut, name), value)

    async def control(self, pool=1, **fields):
        begin_write(self.ctx, self.dut.write, "control", pool, **fields)
        await self.ctx.tick()
        end_write(self.ctx, self.dut.write)

    def state(self, pool=1):
        return PoolState(self.ctx.get(self.dut.state[pool]))

    def outputs(self):
        return {name: self.ctx.get(getattr(self.dut, name)) for name in ("clear", "enabled", "live", "lifo")}

    async def states(self, cycles):
        """States of so many cycles from this one on, and the outputs agree with each."""
        seen = []
        for _ in range(cycles):
            seen.append(self.state())
            outputs = self.outputs()
            assert outputs["enabled"] >> 1 & 1 == (seen[-1] == ENABLED)
            assert outputs["live"] >> 1 & 1 == (seen[-1] in (ENABLED, DRAINING))
            await self.ctx.tick()
        return seen

    async def enable(self):
        await self.control(enable=1)
        await self.states(SETTLE_CYCLES)
        assert self.state() == ENABLED


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("late", [0, 1, SETTLE_CYCLES - 1])
@pytest.mark.parametrize("lifo", [0, 1])
def test_a_pool_is_cleared_before_it_is_enabled(bench, lifo, late):
    async def run(b):
        await b.control(enable=1, lifo=lifo)
        assert b.outputs() == {"clear": 0b010, "enabled": 0, "live": 0, "lifo": lifo << 1}
        assert await b.states(late) == [CLEARING] * late
        b.set(clearing=0b010)
        assert await b.states(100) == [CLEARING] * 100
        assert b.outputs()["clear"] == 0
        b.set(clearing=0b101)
        assert await b.states(SETTLE_CYCLES + 1) == [CLEARING] * SETTLE_CYCLES + [ENABLED]
        assert [b.state(pool) for pool in (0, 2)] == [DISABLED, DISABLED]
        await b.control(enable=1, lifo=1 - lifo)
        assert await b.states(50) == [ENABLED] * 50
        assert b.outputs() == {"clear": 0, "enabled": 0b010, "live": 0b010, "lifo": lifo << 1}

    bench.run(run)


def test_a_pool_drains_until_nothing_was_on_its_way_for_long_enough(bench):
    async def run(b):
        await b.enable()
        await b.control(enable=0)
        assert await b.states(50) == [DRAINING] * 50
        b.set(idle=0b010)
        assert await b.states(SETTLE_CYCLES - 1) == [DRAINING] * (SETTLE_CYCLES - 1)
        b.set(idle=0b101)
        assert await b.states(50) == [DRAINING] * 50
        await b.control(enable=0)
        b.set(idle=0b010)
        assert await b.states(SETTLE_CYCLES + 1) == [DRAINING] * SETTLE_CYCLES + [DISABLED]
        b.set(idle=0)
        assert await b.states(50) == [DISABLED] * 50
        await b.control(enable=0)
        assert await b.states(50) == [DISABLED] * 50
        await b.enable()

    bench.run(run)


def test_idle_before_the_pool_drains_does_not_count(bench):
    async def run(b):
        b.set(idle=0b111)
        await b.enable()
        assert await b.states(50) == [ENABLED] * 50
        await b.control(enable=0)
        assert await b.states(SETTLE_CYCLES + 1) == [DRAINING] * SETTLE_CYCLES + [DISABLED]

    bench.run(run)


@pytest.mark.parametrize("writes", [[0], [0, 1], [0, 1, 0], [1]])
@pytest.mark.parametrize("from_end", [0, 1, 30])
def test_what_is_written_last_while_clearing_counts(bench, writes, from_end):
    """Also in the last cycle of CLEARING."""

    async def run(b):
        b.set(clearing=0b010)
        await b.control(enable=1)
        for enable in writes[:-1]:
            await b.control(enable=enable)
        b.set(clearing=0b010 if from_end >= SETTLE_CYCLES else 0)
        for _ in range(max(0, SETTLE_CYCLES - 1 - from_end)):
            await b.ctx.tick()
        assert b.state() == CLEARING
        await b.control(enable=writes[-1])
        b.set(clearing=0)
        seen = await b.states(SETTLE_CYCLES + 1)
        assert seen[-1] == (ENABLED if writes[-1] else DISABLED)
        assert set(seen) <= {CLEARING, seen[-1]}
        assert b.outputs()["clear"] == 0

    bench.run(run)


def test_random_writes_of_all_pools_follow_the_table(bench):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)

    async def run(b):
        states, wanted, held = [DISABLED] * POOLS, [0] * POOLS, [0] * POOLS
        visited = set()
        for _ in range(6000):
            clearing, idle = (rng.choice((0, 0, 0, 0b111, rng.getrandbits(POOLS))) for _ in range(2))
            settle = rng.random() < 0.9
            if settle:
                clearing, idle = 0, 0b111
            b.set(clearing=clearing, idle=idle)
            pool, enable = rng.randrange(POOLS), rng.getrandbits(1)
            writes = rng.random() < 0.04 and not (enable and states[pool] == DRAINING)
            if writes:
                await b.control(pool, enable=enable)
            else:
                await b.ctx.tick()
            for p in range(POOLS):
                written = writes and p == pool
                if written:
                    wanted[p] = enable
                ready = {CLEARING: ~clearing, DRAINING: idle}.get(states[p], 0) >> p & 1
                held[p] = held[p] + 1 if ready else 0
                before = states[p]
                if held[p] == SETTLE_CYCLES:
                    states[p] = ENABLED if before == CLEARING and wanted[p] else DISABLED
                elif written and before == DISABLED and enable:
                    states[p] = CLEARING
                elif written and before == ENABLED and not enable:
                    states[p] = DRAINING
                if states[p] != before:
                    held[p] = 0
                    visited.add((before, states[p]))
                assert b.state(p) == states[p]
                assert b.outputs()["clear"] >> p & 1 == ((before, states[p]) == (DISABLED, CLEARING))
        assert len(visited) == 5

    bench.run(run)
