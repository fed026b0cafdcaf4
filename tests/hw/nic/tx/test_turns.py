# SPDX-License-Identifier: BSD-2-Clause
"""FrameTurns: each queue's frames in order, by fair turns, one a cycle, and none missed when a queue stops."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.turns import FrameTurns

DELAY = 4


class TurnsBench:
    """Tells of frames and admits them. ``taken`` are (cycle, queue, length, stopped); a queue's frames have its own
    lengths in order."""

    def __init__(self, queues, fetch_depth=16):
        self.config = preset("10g", queues=queues, fetch_depth=fetch_depth)
        self.dut = FrameTurns(self.config)
        self.told, self.taken = [0] * queues, []
        self.cycle = 0

    def run(self, scenario):
        async def main(ctx):
            ctx.set(self.dut.enable, (1 << self.config.queues) - 1)
            ctx.set(self.dut.open, 1)
            await scenario(ctx)

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.run()

    async def tick(self, ctx, ready=1, admit=None):
        """A cycle, in which ``admit`` = (queue, count) may be admitted."""
        following, admitted = self.dut.next, self.dut.admitted
        queue, count = admit or (0, 0)
        ctx.set(admitted.strobe, int(admit is not None))
        ctx.set(admitted.queue, queue)
        ctx.set(admitted.count, count)
        ctx.set(following.ready, ready)
        if ready and ctx.get(following.valid):
            frame = ctx.get(following.payload)
            self.taken.append((self.cycle, frame.queue, frame.record.length, frame.stopped))
        await ctx.tick()
        self.cycle += 1

    async def tell(self, ctx, queue, ready=1):
        framed = self.dut.framed
        ctx.set(framed.strobe, 1)
        ctx.set(framed.queue, queue)
        ctx.set(framed.record.length, self.told[queue])
        ctx.set(framed.place, self.told[queue] % self.config.fetch_depth)
        self.told[queue] += 1
        await self.tick(ctx, ready)
        ctx.set(framed.strobe, 0)

    async def fill(self, ctx, queue, count):
        """Admit so many frames at once."""
        for _ in range(count):
            await self.tell(ctx, queue)
        await self.tick(ctx, admit=(queue, count))

    def of(self, queue):
        return [length for _, of, length, stopped in self.taken if of == queue and not stopped]


@pytest.mark.parametrize("queues", [1, 2, 3, 16])
@pytest.mark.parametrize("seed", range(2))
def test_each_queues_frames_come_in_order_however_they_are_admitted_and_taken(queues, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = TurnsBench(queues)

    async def scenario(ctx):
        admitted = [0] * queues
        for _ in range(1500):
            queue, ready = rng.randrange(queues), int(rng.random() < 0.7)
            if rng.random() < 0.6 and bench.told[queue] - len(bench.of(queue)) < bench.config.fetch_depth:
                await bench.tell(ctx, queue, ready)
            elif bench.told[queue] > admitted[queue]:
                count = rng.randint(1, bench.told[queue] - admitted[queue])
                admitted[queue] += count
                await bench.tick(ctx, ready, (queue, count))
            else:
                await bench.tick(ctx, ready)
        for _ in range(40 * queues):
            await bench.tick(ctx)
        for queue, count in enumerate(admitted):
            assert bench.of(queue) == list(range(count))

    bench.run(scenario)


def test_a_frame_comes_at_a_known_time():
    bench = TurnsBench(2)

    async def scenario(ctx):
        await bench.fill(ctx, 1, 1)
        for _ in range(10):
            await bench.tick(ctx)

    bench.run(scenario)
    assert bench.taken == [(1 + DELAY, 1, 0, 0)]


@pytest.mark.parametrize(("queues", "active"), [(1, [0]), (2, [0, 1]), (16, [7]), (16, [3, 9, 10]), (16, range(16))])
def test_queues_with_frames_take_turns_and_no_cycle_is_lost(queues, active):
    bench = TurnsBench(queues)

    async def scenario(ctx):
        ctx.set(bench.dut.open, 0)
        for queue in active:
            await bench.fill(ctx, queue, 10)
        await bench.tick(ctx)
        assert not bench.taken
        ctx.set(bench.dut.open, 1)
        for _ in range(10 * len(active) + 2 * DELAY):
            await bench.tick(ctx)

    bench.run(scenario)
    first = bench.taken[0][0]
    assert [cycle for cycle, *_ in bench.taken] == list(range(first, first + 10 * len(active)))
    turns = [queue for _, queue, *_ in bench.taken]
    assert turns == [turns[i % len(active)] for i in range(len(turns))]
    assert sorted(turns[: len(active)]) == list(active)


def test_a_queue_that_wakes_has_its_turn_after_one_of_each_other():
    bench = TurnsBench(16)

    async def scenario(ctx):
        for queue in range(15):
            await bench.fill(ctx, queue, 1)
        ctx.set(bench.dut.open, 0)
        for queue in range(15):
            await bench.fill(ctx, queue, 12)
        await bench.tell(ctx, 15)
        ctx.set(bench.dut.open, 1)
        for _ in range(20):
            await bench.tick(ctx)
        await bench.tick(ctx, admit=(15, 1))
        woken = bench.cycle
        for _ in range(40):
            await bench.tick(ctx)
        assert next(cycle for cycle, queue, *_ in bench.taken if queue == 15) <= woken + DELAY + 16

    bench.run(scenario)


@pytest.mark.parametrize("blocked", [0, 20])
def test_frames_of_a_queue_that_stops_say_so_even_when_it_has_started_again(blocked):
    bench = TurnsBench(2)

    async def scenario(ctx):
        for _ in range(6):
            await bench.tell(ctx, 0, ready=0)
        await bench.tick(ctx, 0, (0, 6))
        for _ in range(10):
            await bench.tick(ctx, 0)  # three of them have had their turn
        ctx.set(bench.dut.enable, 2)
        for _ in range(2):
            await bench.tick(ctx, 0)
        ctx.set(bench.dut.clear, 1)
        await bench.tick(ctx, 0)
        ctx.set(bench.dut.clear, 0)
        ctx.set(bench.dut.enable, 3)
        for _ in range(blocked):
            await bench.tick(ctx, 0)
        bench.told[0] = 0
        for _ in range(4):
            await bench.tell(ctx, 0)
        await bench.tick(ctx, 1, (0, 4))
        for _ in range(20):
            await bench.tick(ctx)
        assert [stopped for *_, stopped in bench.taken] == [1, 1, 1, 0, 0, 0, 0]
        assert bench.of(0) == [0, 1, 2, 3]

    bench.run(scenario)
