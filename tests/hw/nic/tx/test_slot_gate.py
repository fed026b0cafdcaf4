# SPDX-License-Identifier: BSD-2-Clause
"""SlotGate: frames are admitted in order, each with its slots, and none waits for another queue's."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.slot_gate import SlotGate
from tests.hw.nic.standins import SlotCounter

DELAY = 8


class GateBench:
    """A gate and slots. ``admitted`` and ``reserved`` count each queue's frames and slots."""

    def __init__(self, queues, slots, fetch_depth=8):
        self.config = preset("10g", queues=queues, fetch_depth=fetch_depth)
        self.dut, self.slots = SlotGate(self.config), SlotCounter(self.config, slots)
        self.told = [[] for _ in range(queues)]  # reports of each frame
        self.admitted, self.reserved = [0] * queues, [0] * queues
        self.cycle = 0

    def run(self, scenario):
        async def main(ctx):
            ctx.set(self.dut.enable, (1 << self.config.queues) - 1)
            await scenario(ctx)
            assert not ctx.get(self.slots.overrun), "reserved slots that are not there"

        m = Module()
        m.submodules.dut, m.submodules.slots = self.dut, self.slots
        connect(m, self.dut.slots, self.slots.port)
        simulator = Simulator(m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.run()

    async def tick(self, ctx):
        admitted = self.dut.admitted
        await ctx.tick()
        self.cycle += 1
        if ctx.get(admitted.strobe):
            self.admitted[ctx.get(admitted.queue)] += ctx.get(admitted.count)
        if ctx.get(self.dut.slots.reserve):
            self.reserved[ctx.get(self.dut.slots.reserve_queue)] += ctx.get(self.dut.slots.reserve_count)
        for told, count, slots in zip(self.told, self.admitted, self.reserved, strict=True):
            assert count <= len(told)
            assert slots == sum(told[:count])

    async def tell(self, ctx, queue, reports):
        """A frame that asks for so many completions."""
        told, modulus = self.told[queue], 2 * self.config.fetch_depth
        told.append(reports)
        framed = self.dut.framed
        ctx.set(framed.strobe, 1)
        ctx.set(framed.queue, queue)
        ctx.set(framed.place, (len(told) - 1) % self.config.fetch_depth)
        ctx.set(framed.frames, len(told) % modulus)
        ctx.set(framed.reports, sum(told) % modulus)
        await self.tick(ctx)
        ctx.set(framed.strobe, 0)

    async def give(self, ctx, queue, slots):
        ctx.set(self.slots.give, slots)
        ctx.set(self.slots.give_queue, queue)
        await self.tick(ctx)
        ctx.set(self.slots.give, 0)


@pytest.mark.parametrize("queues", [1, 2, 16])
@pytest.mark.parametrize("seed", range(3))
def test_as_many_frames_are_admitted_as_have_slots(queues, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = GateBench(queues, slots=3)

    async def scenario(ctx):
        given = [3] * queues
        for _ in range(800):
            queue = rng.randrange(queues)
            reports = rng.choice((0, 0, 1, 1, 2, 3))
            waiting = [*bench.told[queue][bench.admitted[queue] :], reports]
            if rng.random() < 0.5 and sum(max(n, 1) for n in waiting) <= bench.config.fetch_depth:
                await bench.tell(ctx, queue, reports)
            elif rng.random() < 0.2:
                slots = rng.randint(1, 3)
                given[queue] += slots
                await bench.give(ctx, queue, slots)
            else:
                await bench.tick(ctx)
        for _ in range(40 + 8 * 16):
            await bench.tick(ctx)
        for told, count, slots in zip(bench.told, bench.admitted, given, strict=True):
            assert sum(told[:count]) <= slots
            assert count == len(told) or sum(told[: count + 1]) > slots

    bench.run(scenario)


def test_a_frame_is_admitted_at_a_known_time():
    bench = GateBench(2, slots=1)

    async def scenario(ctx):
        await bench.tell(ctx, 1, 1)
        for _ in range(DELAY - 1):
            assert bench.admitted == [0, 0]
            await bench.tick(ctx)
        assert bench.admitted == [0, 1]

    bench.run(scenario)


def test_queues_without_slots_delay_no_other():
    bench = GateBench(16, slots=1, fetch_depth=64)

    async def scenario(ctx):
        for queue in range(15):
            for _ in range(3):
                await bench.tell(ctx, queue, 1)
        for _ in range(100):
            await bench.tell(ctx, 15, 0)
            assert len(bench.told[15]) - bench.admitted[15] <= 16 + DELAY
        assert bench.admitted[:15] == [1] * 15

    bench.run(scenario)


def test_nothing_is_admitted_of_a_queue_that_stops_and_all_is_forgotten_when_it_starts():
    bench = GateBench(2, slots=20)

    async def scenario(ctx):
        for wait in range(12):
            await bench.tell(ctx, 0, 1)
            for _ in range(wait):
                await bench.tick(ctx)
            ctx.set(bench.dut.enable, 2)
            before = list(bench.admitted)
            await bench.tick(ctx)  # what was decided in the cycle before
            admitted = list(bench.admitted)
            await bench.tick(ctx)
            ctx.set(bench.dut.clear, 1)
            await bench.tick(ctx)
            assert bench.admitted == admitted
            ctx.set(bench.dut.clear, 0)
            ctx.set(bench.dut.enable, 3)
            assert before[0] <= admitted[0] <= 1
            bench.told[0].clear()
            bench.admitted[0] = bench.reserved[0] = 0
            for _ in range(12):
                await bench.tick(ctx)
            assert bench.admitted == [0, 0]

    bench.run(scenario)
