# SPDX-License-Identifier: BSD-2-Clause
"""A pool that runs low interrupts once for each time it is armed, whatever comes in which cycle."""

import random
from itertools import pairwise

import pytest

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.recycle.low_water import LowWater, LowWaterMark
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

POOLS = 3


class Bench(BlockBench):
    """LowWater with all that comes in a cycle set by method calls; ``sent`` has cycle and vector of each message."""

    def __init__(self, pools=POOLS):
        self.dut = LowWater(preset("10g", pools=pools))
        self.free = [100] * pools
        self.sent = []
        self.cycle = 0

    async def set_up(self):
        self.ctx.set(self.dut.interrupt.ready, 1)

    def write(self, pool, threshold, vector=7, arm=1):
        begin_write(self.ctx, self.dut.write, "low_water", pool, threshold=threshold, vector=vector, arm=arm)

    async def tick(self, cycles=1):
        interrupt = self.dut.interrupt
        for _ in range(cycles):
            self.ctx.set(self.dut.free, self.free)
            _, _, valid, ready, vector = await self.ctx.tick().sample(
                interrupt.valid, interrupt.ready, interrupt.payload
            )
            if valid and ready:
                self.sent.append((self.cycle, vector))
            self.cycle += 1
            self.ctx.set(self.dut.clear, 0)
            end_write(self.ctx, self.dut.write)

    async def fired(self, cycles=10):
        """Messages within some cycles from now."""
        before = len(self.sent)
        await self.tick(cycles)
        return len(self.sent) - before


@pytest.fixture
def bench():
    return Bench()


def test_register_is_laid_out_as_described():
    for field in register_map(2, pools=2).pool["low_water"].fields.values():
        found = LowWaterMark.as_shape()[field.name]
        assert (found.offset, found.width) == (field.lsb, field.width)


@pytest.mark.parametrize(
    ("free", "threshold", "fires"), [(5, 6, 1), (5, 5, 0), (0, 1, 1), (0, 0, 0), (1024, 1 << 31, 1)]
)
def test_arming_fires_at_once_if_the_pool_is_low_already(bench, free, threshold, fires):
    async def run(b):
        b.free[1] = free
        await b.tick(5)
        first = b.cycle
        b.write(1, threshold, vector=0xABCD)
        assert await b.fired() == fires
        assert all(0 <= cycle - first - 4 < POOLS and vector == 0xABCD for cycle, vector in b.sent)

    bench.run(run)


@pytest.mark.parametrize("lasts", [1, 2, 20])
@pytest.mark.parametrize("offset", range(-6, 8))
def test_running_low_around_the_cycle_of_arming_is_never_missed(bench, offset, lasts):
    async def run(b):
        start = 10
        for cycle in range(60):
            b.free[0] = 3 if start + offset <= cycle < start + offset + lasts else 4
            if cycle == start:
                b.write(0, 4)
            await b.tick()
        low = max(offset, 1)
        assert len(b.sent) == (low < offset + lasts)
        assert all(0 <= cycle - (start + low + 3) < POOLS for cycle, _ in b.sent)

    bench.run(run)


def test_it_fires_once_and_again_when_armed_again(bench):
    async def run(b):
        b.write(0, 50)
        assert await b.fired() == 0
        b.free[0] = 49
        assert await b.fired() == 1
        for free in (60, 10, 0):
            b.free[0] = free
            assert await b.fired() == 0
        for _ in range(2):
            b.write(0, 50)
            assert await b.fired() == 1

    bench.run(run)


@pytest.mark.parametrize("offset", range(-6, 7))
def test_writing_again_counts_from_its_cycle_on(bench, offset):
    """What is low by the old threshold before the write fires, after it only by the new one."""

    async def run(b):
        b.write(0, 50, vector=1)
        await b.tick(10)
        for cycle in range(-10, 20):
            if cycle == offset:
                b.free[0] = 30
            if cycle == 0:
                b.write(0, 20, vector=2)
            await b.tick()
        assert len(b.sent) == (offset < 0)
        b.free[0] = 19
        assert await b.fired() == 1
        assert b.sent[-1][1] == 2

    bench.run(run)


@pytest.mark.parametrize("disarm", ["write", "clear"])
@pytest.mark.parametrize("offset", range(4))
def test_a_write_without_arm_disarms_and_so_does_clear(bench, disarm, offset):
    async def run(b):
        b.write(0, 50)
        await b.tick(offset)
        if disarm == "write":
            b.write(0, 50, arm=0)
        else:
            b.ctx.set(b.dut.clear, 0b001)
        await b.tick()
        b.free[0] = 0
        assert await b.fired() == 0
        b.write(0, 50)
        assert await b.fired() == 1

    bench.run(run)


def test_messages_wait_for_host_and_hold_and_pools_take_turns(bench):
    async def run(b):
        b.ctx.set(b.dut.interrupt.ready, 0)
        b.free = [0] * POOLS
        for pool in (2, 0, 1):
            b.write(pool, 1, vector=pool)
            await b.tick(5)
        assert b.ctx.get(b.dut.interrupt.payload) == 2
        for pool in (2, 0):
            b.write(pool, 1, vector=pool)
            await b.tick(5)
        b.ctx.set(b.dut.hold, 1)
        b.ctx.set(b.dut.interrupt.ready, 1)
        assert await b.fired() == 1, "what is put up is taken"
        b.ctx.set(b.dut.hold, 0)
        assert await b.fired() == 3
        first, *others = [vector for _, vector in b.sent]
        assert first == 2
        assert others in ([0, 1, 2], [1, 2, 0], [2, 0, 1])

    bench.run(run)


@pytest.mark.parametrize("offset", range(-6, 8))
def test_firing_again_around_the_cycle_of_the_message_brings_one_after_it(bench, offset):
    async def run(b):
        b.free[0] = 0
        b.ctx.set(b.dut.hold, 1)
        b.write(0, 1)
        await b.tick(10)
        for cycle in range(-10, 20):
            if cycle == offset:
                b.ctx.set(b.dut.hold, 0)
            if cycle == 0:
                armed = b.cycle
                b.write(0, 1)
            await b.tick()
        assert len(b.sent) in ((2,) if offset < 1 else (1, 2))
        assert b.sent[-1][0] >= armed + 4

    bench.run(run)


@pytest.mark.parametrize(("seed", "pools"), [(0, 1), (1, 3), (2, 16)])
def test_random_pools_fire_as_often_as_they_should(seed, pools):
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def run(b):
        armed, threshold = [False] * pools, [0] * pools
        causes = [[] for _ in range(pools)]
        written = None
        for cycle in range(1500 + 500 * pools):
            for pool in range(pools):
                if pool != written and armed[pool] and b.free[pool] < threshold[pool]:
                    armed[pool] = False
                    causes[pool].append(cycle)
                b.free[pool] = min(max(0, b.free[pool] + rng.randint(-3, 3)), 120)
            written = None
            if rng.random() < 0.1:
                written = rng.randrange(pools)
                threshold[written], armed[written] = rng.randrange(120), rng.random() < 0.8
                b.write(written, threshold[written], vector=written, arm=armed[written])
            await b.tick()
        await b.tick(10 + pools)
        for pool in range(pools):
            sent = [cycle for cycle, vector in b.sent if vector == pool]
            assert len(sent) > 10
            # Each cause has its message, which may be that of the one before as well.
            for cause in causes[pool]:
                assert any(3 <= cycle - cause + 1 < 3 + 2 * pools for cycle in sent)
            assert all(any(3 <= cycle - cause + 1 < 3 + 2 * pools for cause in causes[pool]) for cycle in sent)
            apart = [later - cause for cause, later in pairwise(causes[pool])]
            assert len(causes[pool]) - sum(cycles < 2 * pools for cycles in apart) <= len(sent) <= len(causes[pool])

    Bench(pools).run(run)
