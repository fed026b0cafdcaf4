# SPDX-License-Identifier: BSD-2-Clause
"""Free lists, in both orders, against a deque."""

import random
from collections import deque
from itertools import chain

import pytest
from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.free_list import POP_CYCLES, FreeList


class Bench:
    """Pushes and pops what it is told to in each cycle, and compares all answers with deques."""

    def __init__(self, *, pools=2, buffers=16, lifo=0):
        self.dut = FreeList(NicConfig(pools=pools, pool_buffers=buffers))
        self.lifo = lifo
        self.lists = [deque() for _ in range(pools)]
        self.answers = deque([None] * POP_CYCLES)

    def run(self, steps):
        """``steps`` gives (push, pop, clear) for each cycle: (pool, id), pool, and a mask of pools; None, None, 0."""
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def testbench(ctx):
            ctx.set(self.dut.lifo, self.lifo)
            for push, pop, clear in chain([(None, None, -1)], steps(self), [(None, None, 0)] * (POP_CYCLES + 1)):
                self.check(ctx)
                ctx.set(self.dut.clear, clear)
                ctx.set(self.dut.push.strobe, push is not None)
                ctx.set(self.dut.pop.strobe, pop is not None)
                answer = None
                if pop is not None:
                    ctx.set(self.dut.pop.pool, pop)
                    answer = pop, self.take(pop)
                if push is not None:
                    ctx.set(self.dut.push.buffer, {"pool": push[0], "id": push[1]})
                    self.lists[push[0]].append(push[1])
                for pool, each in enumerate(self.lists):
                    if clear >> pool & 1:
                        each.clear()
                self.answers.append(answer)
                await ctx.tick()

        sim.add_testbench(testbench)
        sim.run()

    def take(self, pool):
        if not self.lists[pool]:
            return None
        return self.lists[pool].pop() if self.lifo >> pool & 1 else self.lists[pool].popleft()

    def check(self, ctx):
        answer, popped = self.answers.popleft(), self.dut.popped
        assert ctx.get(popped.strobe) == (answer is not None)
        if answer is not None:
            pool, buffer = answer
            assert ctx.get(popped.buffer.pool) == pool
            assert ctx.get(popped.valid) == (buffer is not None)
            if buffer is not None:
                assert ctx.get(popped.buffer.id) == buffer
        for pool, each in enumerate(self.lists):
            assert ctx.get(self.dut.free[pool]) == len(each)


@pytest.mark.parametrize("lifo", [0b00, 0b11], ids=["fifo", "lifo"])
def test_a_push_can_be_popped_in_the_next_cycle_and_not_in_its_own(lifo):
    Bench(lifo=lifo).run(lambda bench: [((1, 5), 1, 0), (None, 1, 0), (None, 1, 0)])


@pytest.mark.parametrize("lifo", [0b00, 0b11], ids=["fifo", "lifo"])
def test_all_ids_fit_and_the_last_two_pops_know_of_each_other(lifo):
    def steps(bench):
        yield from [((0, buffer), None, 0) for buffer in range(16)]
        yield from [(None, 0, 0)] * 18

    Bench(lifo=lifo).run(steps)


def test_a_pop_takes_what_lay_on_top_before_the_push_of_its_cycle():
    Bench(lifo=0b11).run(lambda bench: [((0, 1), None, 0), ((0, 2), 0, 0), ((0, 3), 0, 0), (None, 0, 0), (None, 0, 0)])


@pytest.mark.parametrize("pools", [1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_any_pushes_and_pops(seed, pools):
    print(f"seed {seed}")
    rng = random.Random(seed)

    def steps(bench):
        eager = 0.5
        for cycle in range(1500):
            if cycle % 50 == 0:
                eager = rng.random()
            held = [set(each) for each in bench.lists]
            pool = rng.randrange(pools)
            missing = [buffer for buffer in range(16) if buffer not in held[pool]]
            push = (pool, rng.choice(missing)) if missing and rng.random() < eager else None
            pop = rng.randrange(pools) if rng.random() < 1 - eager + 0.2 else None
            yield push, pop, 1 << rng.randrange(pools) if rng.random() < 0.005 else 0

    Bench(pools=pools, lifo=rng.randrange(1 << pools)).run(steps)
