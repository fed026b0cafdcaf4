# SPDX-License-Identifier: BSD-2-Clause
"""No buffer is ever granted beyond the limit in force, and every event is counted."""

import random
from collections import deque

import pytest

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.recycle.interfaces import VISIT_CYCLES
from hw.nic.recycle.limits import LoopControl, PoolLimits
from tests.hw.nic.recycle.limits_bench import EVENTS, POOLS, Bench

BACK = ("handed_back", "returned", "removed")


@pytest.fixture
def bench():
    return Bench()


class World:
    """Buffers as they are, and as they were in the cycles before."""

    def __init__(self, rng, pools, buffers, most):
        self.rng, self.most = rng, most
        self.free = [buffers] * pools
        self.ahead, self.outstanding = [0] * pools, [0] * pools
        self.granted = [0] * pools  # but not found yet whether there was a buffer
        self.history = deque(maxlen=5)

    def came_back(self, cycles):
        """What has come back in the last cycles, per pool."""
        kept = list(self.history)[-cycles:]
        return [sum(back[p] for back, _ in kept) for p in range(len(self.free))]

    def step(self, b, opened, eager):
        """One cycle of random events."""
        rng = self.rng
        back = [0] * len(self.free)
        for name in rng.sample(EVENTS[1:-1], len(EVENTS) - 2):
            pool = rng.randrange(len(self.free))
            likely = 0.9 if name in BACK and not eager[pool] else min(0.12 * len(self.free), 0.35)
            if rng.random() > likely:
                continue
            if name == "missed" and self.granted[pool] and not self.free[pool]:
                self.granted[pool] -= 1
                self.ahead[pool] -= 1
                back[pool] += 1
            elif name == "unused" and self.ahead[pool] > self.granted[pool]:
                self.ahead[pool] -= 1
                self.free[pool] += 1
                back[pool] += 1
            elif name in ("taken", "given") and self.ahead[pool] > self.granted[pool]:
                most = min(self.ahead[pool] - self.granted[pool], self.most) if name == "given" else 1
                count = rng.choice((1, most))
                self.ahead[pool] -= count
                self.outstanding[pool] += count
                b.event(name, pool, count)
                continue
            elif name in BACK and self.outstanding[pool]:
                self.outstanding[pool] -= 1
                self.free[pool] += 1
                back[pool] += 1
            else:
                continue
            b.event(name, pool)
        for pool, count in enumerate(self.granted):
            if count and self.free[pool]:
                self.granted[pool] -= 1
                self.free[pool] -= 1
        wanted = [pool for pool in opened if eager[pool]]
        granted = rng.choice(wanted) if wanted and rng.random() < 0.95 else None
        if granted is not None:
            self.granted[granted] += 1
            self.ahead[granted] += 1
            b.event("granted", granted)
        self.history.append((back, list(zip(self.outstanding, self.ahead))))


@pytest.mark.parametrize(("seed", "pools"), [(0, 1), (1, 2), (2, 3), (3, 16)])
def test_random_events_are_counted_and_never_pass_a_limit_that_changes(seed, pools):
    print(f"seed {seed}")
    rng = random.Random(seed)
    b = Bench(pools, pool_buffers=32, fetch_depth=8, recycle_ahead=8)
    world = World(rng, pools, 32, 8)
    seen = {"full": 0, "above": 0, "out": 0}

    async def run(b):
        eager = [True] * pools
        for cycle in range(1500):
            opened = [pool for pool in range(pools) if b.bit("open", pool)]
            unknown = world.came_back(3)
            for pool in range(pools):
                limit = b.status(pool)[0]
                used = world.outstanding[pool] + world.ahead[pool]
                seen["out"] = max(seen["out"], used)
                assert b.bit("limited", pool) == (pool not in opened)
                if cycle <= VISIT_CYCLES + 3:
                    continue
                if limit and used >= limit:
                    seen["full" if used == limit else "above"] += 1
                    assert pool not in opened, f"cycle {cycle}: {used} of pool {pool} are out, {limit} may be"
                elif not limit or used + unknown[pool] < limit:
                    assert pool in opened, f"cycle {cycle}: {used} of pool {pool} are out, {limit} may be"
            world.step(b, opened, eager)
            if cycle >= 3:
                assert [b.counts(pool) for pool in range(pools)] == world.history[-4][1], f"cycle {cycle}"
            if rng.random() < 0.02:
                pool = rng.randrange(pools)
                b.limit[pool] = rng.choice((0, 1, 2, 8, 20, 31, 63))
            if rng.random() < 0.01:
                eager[rng.randrange(pools)] ^= True
            await b.tick()
        await b.settle()
        for pool in range(pools):
            assert b.status(pool)[0] == b.limit[pool]
            assert b.counts(pool) == (world.outstanding[pool], world.ahead[pool])

    b.run(run)
    assert min(seen.values()) >= 20, f"{seen}: limits were not reached"


@pytest.mark.parametrize("registers", [{}, {"pool_buffers": 16}, {"pool_buffers": 65536, "pools": 16}])
def test_registers_are_laid_out_as_described(registers):
    page = register_map(2, pools=2).pool
    dut = PoolLimits(preset("10g", **{"pools": 2} | registers))
    fields = page["loop"].fields
    for name in ("track", "close", "open", "window", "slack"):
        field = LoopControl.as_shape()[name]
        assert (field.offset, field.width) == (fields[name].lsb, fields[name].width)
    for register, layout in (("outstanding", dut.counts[0]), ("loop_status", dut.loop_status[0])):
        assert set(page[register].fields) == {name for name, _ in layout.shape()}


def test_nothing_is_granted_before_the_limit_is_known(bench):
    async def run(b):
        b.limit = [0, 5, 0]
        granted = await _until_open(b)
        assert granted == [3, 4, 5], "three cycles after the visit"
        b.ctx.set(b.dut.clear, 0b010)
        await b.tick()
        assert [b.bit("open", pool) for pool in range(POOLS)] == [1, 0, 1]
        await b.settle()
        assert b.status(1) == (5, 0)
        await b.put_out(5, 1)
        assert b.bit("limited", 1)

    bench.run(run)


async def _until_open(b):
    """The cycle in which each pool opens for the first time."""
    opened = {}
    while len(opened) < POOLS:
        assert b.cycle < 2 * VISIT_CYCLES, f"only pools {sorted(opened)} are open"
        for pool in range(POOLS):
            if b.bit("open", pool):
                opened.setdefault(pool, b.cycle)
        await b.tick()
    return [opened[pool] for pool in range(POOLS)]


@pytest.mark.parametrize("offset", range(-6, 7))
def test_clear_meets_a_visit_in_any_cycle(bench, offset):
    """What a visit found before it counts no more after it."""

    async def run(b):
        b.limit = [5] * POOLS
        await b.tick(VISIT_CYCLES + 4)
        await b.put_out(3)
        b.event("dropped", 0)
        b.limit = [7] * POOLS
        await b.tick(4 * VISIT_CYCLES - b.cycle % VISIT_CYCLES + offset)
        b.ctx.set(b.dut.clear, 1)
        await b.tick()
        assert (b.counts(), b.status()[1], b.bit("refused")) == ((0, 0), 0, 0)
        await b.settle()
        assert b.status() == (7, 0)
        await b.put_out(7)
        assert not b.bit("open")
        assert b.counts() == (7, 0)

    bench.run(run)


def test_a_limit_lowered_below_what_is_out_takes_nothing_away(bench):
    async def run(b):
        b.limit = [9] * POOLS
        await b.settle()
        await b.put_out(9)
        b.limit = [2] * POOLS
        await b.settle()
        for out in range(9, 1, -1):
            assert (b.bit("limited"), b.bit("refused")) == (1, 0), f"{out} are out"
            await b.hand_back(1)
            await b.settle()
        assert b.bit("open"), "one is out, two may be"
        b.limit = [0] * POOLS
        await b.settle()
        await b.put_out(30)
        b.limit = [32] * POOLS
        await b.settle()
        await b.put_out(1)
        assert not b.bit("open")

    bench.run(run)
