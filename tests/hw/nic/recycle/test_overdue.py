# SPDX-License-Identifier: BSD-2-Clause
"""Overdue: owners and ages are right however long a buffer is out, and overdue buffers are found and counted."""

import random

import pytest

from hw.abi.pools import BufferState
from hw.config import preset
from hw.nic.recycle.overdue import MAX_AGE, Overdue
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import write_register
from tests.hw.nic.recycle.standins import DELAYS, Buffers, serve

OUT, NIC = BufferState.OUT, BufferState.NIC
STEP = 8 + 2 * DELAYS[1]  # most cycles that the walk takes for an id
RECORDED = 2  # cycles after a hand-over


class Bench(BlockBench):
    """Overdue with buffers that are handed over and come back by method calls. ``since`` has the cycle of the last
    hand-over of each buffer, and its owner."""

    def __init__(self, pools=2, ids=16, tick=4, seed=0, live=~0):
        self.pools, self.ids, self.tick_cycles = pools, ids, tick
        self.dut = Overdue(preset("10g", pools=pools, pool_buffers=ids), tick)
        self.rng = random.Random(seed)
        self.buffers = Buffers(ids)
        self.since = {}
        self.traffic = []
        self.cycle = 0
        self.live = live & (1 << pools) - 1
        self.walk = 2 * pools * ids * STEP  # most cycles until a walk that begins from now on is finished

    async def set_up(self):
        self.ctx.set(self.dut.live, self.live)

    def stand_ins(self):
        return [serve(self.dut.requests, self.buffers.answer, self.rng), *self.traffic]

    async def tick(self, cycles=1):
        await self.ctx.tick().repeat(cycles)
        self.cycle += cycles

    async def bound(self, pool, bound):
        await write_register(self.ctx, self.dut.write, "overdue_bound", pool, bound=bound)
        self.cycle += 1

    async def hand_over(self, pool, id, owner=0, out=True):
        """For one cycle. The buffer is out at once, which is sooner than it may be: then nobody may ask at once."""
        port = self.dut.handed_over
        self.ctx.set(port.strobe, 1)
        self.ctx.set(port.buffer, {"pool": pool, "id": id})
        self.ctx.set(port.owner, owner)
        self.since[pool, id] = (self.cycle, owner)
        await self.tick()
        self.ctx.set(port.strobe, 0)
        if out:
            self.buffers.states[pool, id] = OUT

    async def ask(self, pool, id, search=0, within=200):
        """Answer to a question: None, or id, owner and age."""
        port = self.dut.questions
        self.ctx.set(port.request.payload, {"buffer": {"pool": pool, "id": id}, "search": search})
        self.ctx.set(port.request.valid, 1)
        accepted = False
        for _ in range(within):
            answer = port.answer
            _, _, ready, strobe, *found = await self.ctx.tick().sample(
                port.request.ready, answer.strobe, answer.found, answer.id, answer.owner, answer.age
            )
            self.cycle += 1
            if strobe:
                assert accepted, "an answer before the question"
                return tuple(found[1:]) if found[0] else None
            if ready:
                accepted = True
                self.ctx.set(port.request.valid, 0)
        raise AssertionError(f"no answer about pool {pool}, id {id} within {within} cycles")

    async def search(self, pool, id):
        return await self.ask(pool, id, search=1, within=2 * STEP * (self.ids + 1))

    def check(self, pool, answer, before):
        """An answer that was asked for in the cycle ``before`` has the right owner and age."""
        id, owner, age = answer
        since, expected = self.since[pool, id]
        least, most = ((cycle - since - RECORDED) / self.tick_cycles for cycle in (before, self.cycle))
        assert owner == expected
        assert min(least - 1, MAX_AGE) <= age <= min(most + 1, MAX_AGE), (age, least, most)

    def counts(self):
        return [self.ctx.get(self.dut.overdue[pool]) for pool in range(self.pools)]


def test_each_of_hand_overs_in_a_row_is_recorded():
    async def run(b):
        for pool in range(2):
            for id in range(b.ids):
                await b.hand_over(pool, id, owner=(pool * 100 + id) & 255)
        for pool in range(2):
            for id in range(b.ids):
                before = b.cycle
                answer = await b.ask(pool, id)
                assert answer[0] == id
                b.check(pool, answer, before)

    Bench().run(run)


def test_the_first_overdue_buffer_from_an_id_on_is_found():
    async def run(b):
        for id in (3, 5, 9):
            await b.hand_over(1, id, owner=id)
        await b.hand_over(0, 4)
        await b.bound(1, 100)
        await b.tick(101 * b.tick_cycles)
        await b.hand_over(1, 4)
        b.buffers.states[1, 5] = NIC
        assert [(await b.search(1, id) or [None])[0] for id in (0, 3, 4, 9, 10)] == [3, 3, 9, 9, None]
        assert await b.search(0, 0) is None
        before = b.cycle
        b.check(1, await b.search(1, 0), before)
        await b.bound(1, 0)
        assert await b.search(1, 0) is None

    Bench().run(run)


def test_a_buffer_is_not_overdue_before_its_time_and_is_after():
    async def run(b):
        await b.bound(0, 50)
        await b.hand_over(0, 0)
        while await b.search(0, 0) is None:
            assert b.cycle < 100 * b.tick_cycles, "it is never overdue"
        since = b.since[0, 0][0]
        assert 50 * b.tick_cycles < b.cycle - since <= 52 * b.tick_cycles + 2 * STEP * (b.ids + 1)

    Bench(tick=256).run(run)


def test_overdue_buffers_of_each_pool_are_counted():
    async def run(b):
        for pool, id in [(0, 0), (0, 15), (1, 7), (2, 0)]:
            await b.hand_over(pool, id)
        await b.bound(0, 20)
        await b.bound(1, 20)
        await b.tick(21 * b.tick_cycles + b.walk)
        assert b.counts() == [2, 1, 0]
        b.buffers.states[0, 15] = NIC
        await b.tick(b.walk)
        assert b.counts() == [1, 1, 0]
        await b.hand_over(0, 0)
        b.buffers.states[0, 15] = OUT
        await b.bound(1, MAX_AGE)
        await b.tick(b.walk)
        assert b.counts() == [2, 0, 0]
        for id in range(b.ids):
            await b.hand_over(2, id)
        await b.bound(2, 1)
        await b.tick(2 * b.walk)
        assert b.counts() == [2, 0, b.ids]

    Bench(pools=3).run(run)


@pytest.mark.parametrize("how", ["clear", "live"])
def test_a_pool_that_is_not_live_or_new_has_none(how):
    async def run(b):
        for pool in range(2):
            await b.hand_over(pool, 5)
            await b.bound(pool, 1)
        await b.tick(2 * b.walk)
        assert b.counts() == [1, 1]
        b.buffers.live = 0b10
        b.ctx.set(b.dut.live, 0b10)
        if how == "clear":
            b.ctx.set(b.dut.clear, 0b01)
            await b.tick()
            b.ctx.set(b.dut.clear, 0)
        else:
            await b.tick(b.walk)
        assert b.counts() == [0, 1]
        await b.tick(b.walk)
        assert b.counts() == [0, 1]
        assert await b.search(0, 0) is None

    Bench().run(run)


def test_no_age_looks_young_again():
    """Over two and a half wraps of the time; and a new hand-over is young."""

    async def run(b):
        await b.bound(0, 3000)
        await b.hand_over(0, 3, owner=9)
        for wait in (MAX_AGE - 600, 500, 200, 30000, 2600, 100, 400, 30000, 35000, 30000):
            await b.tick(wait)
            before = b.cycle
            b.check(0, await b.ask(0, 3), before)
            assert (await b.search(0, 0))[0] == 3
            assert b.counts() == [1]
        assert b.cycle > 2.4 * (1 << 16)
        await b.hand_over(0, 3, owner=7)
        before = b.cycle
        b.check(0, await b.ask(0, 3), before)
        assert await b.search(0, 0) is None

    Bench(pools=1, tick=1).run(run)


def test_a_hand_over_while_its_record_is_marked_as_old_is_young():
    """All records are old when the walk begins; then each buffer is handed over around the time when it passes."""
    seed = random.randrange(1 << 32)
    print("seed", seed)

    async def run(b):
        await b.tick((1 << 15) + 100)
        b.ctx.set(b.dut.live, 1)
        for id in range(b.ids):
            await b.hand_over(0, id, owner=id & 127)
            await b.tick(5 + b.rng.randint(0, 2))
        for id in range(b.ids):
            before = b.cycle
            b.check(0, await b.ask(0, id), before)

    Bench(pools=1, ids=512, tick=1, seed=seed, live=0).run(run)


@pytest.mark.parametrize("search", [0, 1])
def test_a_hand_over_while_its_buffer_is_looked_at(search):
    """Its record is older than the bound, and the buffer is with the NIC, until then. A search must not find it; who
    asks for its owner gets the new one, but for the last cycles before the answer."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    bench = Bench(pools=1, tick=1, seed=seed)
    hand_over = []  # cycle and owner of the next

    async def traffic(ctx):
        port, cycle = bench.dut.handed_over, 0
        while True:
            goes = bool(hand_over) and hand_over[0] == cycle
            ctx.set(port.strobe, goes)
            ctx.set(port.owner, cycle & 255)
            await ctx.tick()
            cycle += 1
            if hand_over and hand_over[0] + RECORDED == cycle:
                bench.buffers.states[0, 15] = OUT

    async def run(b):
        b.ctx.set(b.dut.handed_over.buffer, {"pool": 0, "id": 15})
        await b.bound(0, 100)
        for _ in range(120):
            await b.tick(100 + b.rng.randint(0, 100))
            b.buffers.states[0, 15] = NIC
            hand_over[:] = [b.cycle + b.rng.randint(2, 50 if search else 25)]
            answer = await b.ask(0, 15, search)
            if search:
                assert answer is None
            elif hand_over[0] < b.cycle - 4:
                assert answer[1] == hand_over[0] & 255

    bench.traffic.append(traffic)
    bench.run(run)


def test_random_traffic():
    """While buffers come and go, whatever is found was overdue, and nothing that was all the time is passed over."""
    seed = random.randrange(1 << 32)
    print("seed", seed)

    bench = Bench(seed=seed)
    names = [(pool, id) for pool in range(2) for id in range(bench.ids)]
    bounds = [30, 200]
    moved = dict.fromkeys(names, 0)  # the cycle in which the buffer went or came last

    async def traffic(ctx):
        port, states, rng = bench.dut.handed_over, bench.buffers.states, bench.rng
        cycle, on_its_way = 0, []
        while True:
            name = rng.choice(names)
            goes = name not in on_its_way and rng.random() < 0.02
            if goes:
                moved[name] = cycle
            if goes and states.get(name) == OUT:
                states[name], goes = NIC, False
            if goes:
                bench.since[name] = (cycle, rng.getrandbits(8))
                ctx.set(port.buffer, dict(zip(("pool", "id"), name)))
                ctx.set(port.owner, bench.since[name][1])
            ctx.set(port.strobe, goes)
            on_its_way.append(name if goes else None)
            await ctx.tick()
            cycle += 1
            if len(on_its_way) == RECORDED and (name := on_its_way.pop(0)):
                states[name] = OUT

    async def run(b):
        found = 0
        for pool, bound in enumerate(bounds):
            await b.bound(pool, bound)
        for _ in range(300):
            (pool, first), before = b.rng.choice(names), b.cycle
            overdue = {id for id in range(first, b.ids) if b.buffers.states.get((pool, id)) == OUT}
            least = (bounds[pool] + 2) * b.tick_cycles + RECORDED
            overdue = {id for id in overdue if before - b.since[pool, id][0] > least}
            answer = await b.search(pool, first)
            overdue = {id for id in overdue if moved[pool, id] < before}
            if answer is None:
                assert not overdue
                continue
            found += 1
            assert first <= answer[0] <= min(overdue, default=b.ids)
            assert answer[2] > bounds[pool]
            if moved[pool, answer[0]] < before:
                b.check(pool, answer, before)
        assert found > 50

    bench.traffic.append(traffic)
    bench.run(run)
