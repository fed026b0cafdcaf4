# SPDX-License-Identifier: BSD-2-Clause
"""Buffers from free lists to queues, ahead of their frames."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.free_list import POP_CYCLES
from hw.nic.recycle.supply import SUPPLY_CYCLES, RecycleSupply

AHEAD = 8
BASE, LENGTH = 0x10_0000, 2048


def config(queues=3, pools=2):
    return NicConfig(queues=queues, pools=pools, pool_buffers=64, recycle_ahead=AHEAD)


def address(pool, buffer):
    return BASE * (pool + 1) + 4096 * buffer


class Bench:
    """Free lists that answer after :data:`POP_CYCLES`, a cache that takes entries, and frames that take buffers."""

    def __init__(self, *, queues=3, pools=2, pool_of=(1, 0, 1), seed=0):
        self.dut = RecycleSupply(config(queues, pools))
        self.rng = random.Random(seed)
        self.pool_of = pool_of[:queues]
        self.lists = [deque(range(64)) for _ in range(pools)]
        self.enable = (1 << queues) - 1
        self.open = lambda cycle, pool: True
        self.ready = 1.0
        self.frames = lambda cycle, queue: 0  # buffers that a frame takes
        self.takes = {}  # cycle: pool
        self.cache = [deque() for _ in range(queues)]
        self.held = [[] for _ in range(queues)]  # (cycle, id), all that came
        self.granted, self.missed = [0] * pools, [0] * pools
        self.taken, self.answers = [], []
        self.supplying = []

    def run(self, cycles):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def testbench(ctx):
            await self._join(ctx)
            await self._bench(ctx, cycles)

        sim.add_testbench(testbench)
        sim.run()
        return self

    async def _join(self, ctx):
        write = self.dut.table_write
        ctx.set(write.strobe, 1)
        for pool in range(len(self.lists)):
            for buffer in range(64):
                ctx.set(write.buffer, {"pool": pool, "id": buffer})
                ctx.set(write.entry, {"address": address(pool, buffer), "length": LENGTH + pool})
                await ctx.tick()
        ctx.set(write.strobe, 0)

    async def _bench(self, ctx, cycles):
        dut = self.dut
        for queue, pool in enumerate(self.pool_of):
            ctx.set(dut.pools[queue], pool)
        ctx.set(dut.supplied, -1)
        answers = deque([None] * POP_CYCLES)
        waiting = None
        for cycle in range(cycles):
            ctx.set(dut.enable, self.enable)
            ctx.set(dut.open, sum(self.open(cycle, pool) << pool for pool in range(len(self.lists))))
            ctx.set(dut.some, sum(bool(each) << pool for pool, each in enumerate(self.lists)))
            self._answer(ctx, answers.popleft())
            ctx.set(dut.supply.ready, self.rng.random() < self.ready)
            self._give(ctx, cycle)
            waiting = self.takes.get(cycle, waiting)
            ctx.set(dut.take.request.valid, waiting is not None)
            ctx.set(dut.take.request.payload.pool, waiting or 0)
            ctx.set(dut.took.ready, self.rng.random() < 0.5)
            if waiting is not None and ctx.get(dut.take.request.ready):
                waiting = None
            answers.append(self._pop(ctx))
            self._look(ctx, cycle)
            await ctx.tick()

    def _pop(self, ctx):
        if not ctx.get(self.dut.pop.strobe):
            return None
        pool = ctx.get(self.dut.pop.pool)
        return pool, self.lists[pool].popleft() if self.lists[pool] else None

    def _answer(self, ctx, answer):
        popped = self.dut.popped
        pool, buffer = answer or (0, None)
        ctx.set(popped.strobe, answer is not None)
        ctx.set(popped.valid, buffer is not None)
        ctx.set(popped.buffer, {"pool": pool, "id": buffer or 0})

    def _give(self, ctx, cycle):
        given = self.dut.given
        ctx.set(given.strobe, 0)
        queue = cycle % len(self.cache)
        count = self.frames(cycle, queue)
        if count and len(self.cache[queue]) >= count:
            ctx.set(given.strobe, 1)
            ctx.set(given.queue, queue)
            ctx.set(given.count, count)
            for _ in range(count):
                self.cache[queue].popleft()

    def _look(self, ctx, cycle):
        dut = self.dut
        for event, counts in ((dut.granted, self.granted), (dut.missed, self.missed)):
            if ctx.get(event.strobe):
                assert ctx.get(event.count) == 1
                counts[ctx.get(event.pool)] += 1
        if ctx.get(dut.supply.valid) and ctx.get(dut.supply.ready):
            entry, queue = ctx.get(dut.supply.payload.entry), ctx.get(dut.supply.payload.queue)
            pool = self.pool_of[queue]
            assert entry.address == address(pool, entry.buffer_id)
            assert entry.length == LENGTH + pool
            assert ctx.get(dut.held.strobe)
            assert (ctx.get(dut.held.queue), ctx.get(dut.held.id)) == (queue, entry.buffer_id)
            self.held[queue].append((cycle, entry.buffer_id))
            self.cache[queue].append(entry.buffer_id)
            assert len(self.cache[queue]) <= AHEAD
        else:
            assert not ctx.get(dut.held.strobe)
        if ctx.get(dut.took.valid) and ctx.get(dut.took.ready):
            self.taken.append((ctx.get(dut.took.payload.pool), ctx.get(dut.took.payload.id)))
        if ctx.get(dut.take.answer.strobe):
            empty = ctx.get(dut.take.answer.empty)
            self.answers.append(None if empty else ctx.get(dut.take.answer.id))
        self.supplying.append(ctx.get(dut.supplying))


def test_each_queue_gets_as_many_as_it_may_hold_in_the_order_of_its_pool():
    bench = Bench().run(100)
    assert [len(held) for held in bench.held] == [AHEAD] * 3
    assert [buffer for _, buffer in bench.held[1]] == list(range(AHEAD))
    shared = sorted(buffer for queue in (0, 2) for _, buffer in bench.held[queue])
    assert shared == list(range(2 * AHEAD))
    assert bench.granted == [AHEAD, 2 * AHEAD]
    assert bench.missed == [0, 0]


def test_one_queue_gets_all_that_it_may_hold_in_each_round_trip():
    bench = Bench(queues=1, pools=1, pool_of=(0,))
    bench.lists = [deque(i % 64 for i in range(10_000))]
    bench.frames = lambda cycle, queue: 1
    bench.run(200)
    cycles = [cycle for cycle, _ in bench.held[0]]
    # Never more than eight are held, and one that was given makes room some cycles later.
    assert cycles[0] == SUPPLY_CYCLES
    assert len(cycles) > 200 * AHEAD // (SUPPLY_CYCLES + 4)


def test_frames_of_many_buffers_make_room_for_as_many():
    bench = Bench(queues=1, pools=1, pool_of=(0,))
    bench.lists = [deque(i % 64 for i in range(10_000))]
    bench.frames = lambda cycle, queue: 5 if cycle % 20 == 0 else 0
    bench.run(400)
    assert len(bench.held[0]) in (AHEAD + 5 * 18, AHEAD + 5 * 19)


def test_a_pool_that_is_not_open_gives_nothing_and_says_so():
    bench = Bench()
    bench.open = lambda cycle, pool: pool == 0
    bench.run(100)
    assert [len(held) for held in bench.held] == [0, AHEAD, 0]
    assert all(supplying & 0b101 == 0 for supplying in bench.supplying[2:])


def test_an_empty_pool_misses_and_a_later_buffer_comes_through():
    bench = Bench(queues=1, pools=1, pool_of=(0,))
    bench.lists = [deque(range(3))]
    bench.run(60)
    assert [buffer for _, buffer in bench.held[0]] == [0, 1, 2]
    assert bench.granted[0] == 3 + bench.missed[0]
    assert bench.supplying[-1] == 0


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_lost_or_doubled(seed):
    print(f"seed {seed}")
    bench = Bench(seed=seed)
    rng = bench.rng
    bench.ready = rng.choice((0.1, 0.5, 1.0))
    closed = {cycle for start in rng.sample(range(900), 5) for cycle in range(start, start + rng.randrange(60))}
    bench.open = lambda cycle, pool: cycle not in closed
    bench.frames = lambda cycle, queue: rng.choice((0, 0, 0, 1, 1, 3))
    bench.takes = {cycle: rng.randrange(2) for cycle in rng.sample(range(900), 10)}
    bench.run(1500)
    for pool in range(2):
        queues = [queue for queue in range(3) if bench.pool_of[queue] == pool]
        gone = [buffer for queue in queues for _, buffer in bench.held[queue]]
        gone += [buffer for of, buffer in bench.taken if of == pool]
        assert sorted(gone) == list(range(len(gone)))
        assert len(gone) == bench.granted[pool] - bench.missed[pool]
        assert sorted([*gone, *bench.lists[pool]]) == list(range(64))
    for queue in range(3):
        order = [buffer for _, buffer in bench.held[queue]]
        assert order == sorted(order)
    assert bench.answers
    assert [buffer for buffer in bench.answers if buffer is not None] == [buffer for _, buffer in bench.taken]


def test_software_takes_where_the_loop_is_closed_and_is_told_when_nothing_is_left():
    bench = Bench(queues=1, pools=1, pool_of=(0,))
    bench.lists = [deque([5])]
    bench.open = lambda cycle, pool: False
    bench.takes = {10: 0, 60: 0}
    bench.run(120)
    assert bench.answers == [5, None]
    assert bench.taken == [(0, 5)]
    assert not bench.held[0]


def test_supplying_holds_until_two_cycles_after_the_last_came():
    bench = Bench(queues=1, pools=1, pool_of=(0,))
    bench.lists = [deque(range(4))]
    bench.run(80)
    last = bench.held[0][-1][0]
    first = bench.supplying.index(1)
    assert all(bench.supplying[first : last + 3])
    assert not any(bench.supplying[last + 12 :])
