# SPDX-License-Identifier: BSD-2-Clause
"""FreeSlots: never more than are free, and all that are, some cycles after the doorbell."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rings.free_slots import FreeSlots
from tests.hw.nic.queue_writes import write_register
from tests.hw.streams import until

RX = {"size": "rx_completion_size", "doorbell": "rx_doorbell", "consumer": "completion_consumer"}
QUEUES = 3
DOORBELL_CYCLES = 5


def simulate(bench, entries=16):
    dut = FreeSlots(preset("10g", queues=QUEUES), **RX)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        for queue in range(QUEUES):
            await write_register(ctx, dut.queue_write, RX["size"], queue, entries=entries)
        await clear(ctx, dut, (1 << QUEUES) - 1)
        for queue in range(QUEUES):
            await until(ctx, dut.slots.free[queue] == entries, name="the ring to be free", bound=10)
        await bench(ctx, dut)

    sim.add_testbench(testbench)
    sim.run()


async def clear(ctx, dut, queues):
    ctx.set(dut.enable, ctx.get(dut.enable) & ~queues)
    ctx.set(dut.clear, queues)
    await ctx.tick()
    ctx.set(dut.clear, 0)
    ctx.set(dut.enable, ctx.get(dut.enable) | queues)


async def ring(ctx, dut, queue, consumer):
    await write_register(ctx, dut.queue_write, RX["doorbell"], queue, completion_consumer=consumer & 0xFFFF)


async def reserve(ctx, dut, queue, count):
    ctx.set(dut.slots.reserve, 1)
    ctx.set(dut.slots.reserve_queue, queue)
    ctx.set(dut.slots.reserve_count, count)
    await ctx.tick()
    ctx.set(dut.slots.reserve, 0)


@pytest.mark.parametrize("seed", range(4))
def test_slots_are_exact_after_each_reserve_and_come_back_after_each_doorbell(seed):
    """Random reserves and doorbells in any cycles, several laps of the 16-bit indices; entries are sent as soon as
    their slots are reserved."""
    random_ = random.Random(seed)
    print("seed", seed)
    entries = 32768

    async def bench(ctx, dut):
        reserved, consumed, known = [0] * QUEUES, [0] * QUEUES, [0] * QUEUES
        under_way = []  # doorbells: when they count, and for what
        for cycle in range(1500):
            queue = random_.randrange(QUEUES)
            free = entries - (reserved[queue] - known[queue])
            count = random_.choice((0, 1, random_.randint(0, free))) if free else 0
            ctx.set(dut.slots.reserve, count > 0)
            ctx.set(dut.slots.reserve_queue, queue)
            ctx.set(dut.slots.reserve_count, count)
            rung = random_.randrange(QUEUES)
            ctx.set(dut.sent[rung], reserved[rung] & 0xFFFF)
            if random_.random() < 0.6:
                consumed[rung] += random_.choice((0, 1, random_.randint(0, reserved[rung] - consumed[rung])))
                consumed[rung] = min(consumed[rung], reserved[rung])
                under_way.append((cycle + DOORBELL_CYCLES, rung, consumed[rung]))
                await ring(ctx, dut, rung, consumed[rung])
            else:
                await ctx.tick()
            reserved[queue] += count
            while under_way and under_way[0][0] == cycle + 1:
                _, rung, known[rung] = under_way.pop(0)
            for queue in range(QUEUES):
                assert ctx.get(dut.slots.free[queue]) == entries - (reserved[queue] - known[queue])
            assert not ctx.get(dut.refused)
        assert max(reserved) > 1 << 16

    simulate(bench, entries)


@pytest.mark.parametrize(("consumer", "sent"), [(5, 4), (1, 4), (0x8000, 4), (3, 2)])
def test_a_doorbell_out_of_range_is_refused_and_no_later_one_counts(consumer, sent):
    async def bench(ctx, dut):
        await reserve(ctx, dut, 1, 8)
        ctx.set(dut.sent[1], sent)
        await ring(ctx, dut, 1, 2)
        await ring(ctx, dut, 1, consumer)
        await ring(ctx, dut, 1, sent)
        await ctx.tick()
        assert not ctx.get(dut.refused)
        await ctx.tick()
        assert ctx.get(dut.refused)
        assert ctx.get(dut.refused_queue) == 1
        for _ in range(8):
            await ctx.tick()
            assert not ctx.get(dut.refused)
        assert ctx.get(dut.slots.free[1]) == 16 - 8 + 2
        await clear(ctx, dut, 1 << 1)
        ctx.set(dut.sent[1], 0)
        assert ctx.get(dut.slots.free[1]) == 0
        await until(ctx, dut.slots.free[1] == 16, name="the ring to be free", bound=10)

    simulate(bench)


def test_doorbells_of_a_queue_that_is_not_enabled_do_not_count():
    async def bench(ctx, dut):
        await reserve(ctx, dut, 2, 8)
        ctx.set(dut.sent[2], 8)
        ctx.set(dut.enable, 0b011)
        await ring(ctx, dut, 2, 8)
        await ring(ctx, dut, 2, 9)
        for _ in range(DOORBELL_CYCLES + 1):
            await ctx.tick()
            assert not ctx.get(dut.refused)
        assert ctx.get(dut.slots.free[2]) == 8

    simulate(bench)


def test_a_cleared_ring_is_free_after_six_cycles_and_empty_until_then():
    async def bench(ctx, dut):
        await reserve(ctx, dut, 0, 3)
        await clear(ctx, dut, 1)
        for _ in range(5):
            assert ctx.get(dut.slots.free[0]) == 0
            await ctx.tick()
        assert ctx.get(dut.slots.free[0]) == 16

    simulate(bench)


def test_field_names_are_checked():
    with pytest.raises(ValueError, match="Register rx_doorbell has no field 'tail'; it has fill_producer, completion"):
        FreeSlots(preset("10g"), **(RX | {"consumer": "tail"}))
