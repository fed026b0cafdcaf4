# SPDX-License-Identifier: BSD-2-Clause
"""DescriptorFetch: every posted descriptor once, in order, never one that is not posted, and clean ends."""

import random

import pytest

from hw.nic.interfaces import FETCHING_DELAY
from tests.hw.nic.rings.fetch_bench import Bench, address
from tests.hw.streams import until


@pytest.mark.parametrize(
    ("width", "entries", "depth", "stall", "seed"),
    [(64, 16, 8, 0.3, 1), (64, 64, 64, 0.0, 2), (128, 8, 16, 0.2, 3), (256, 32, 8, 0.2, 4), (512, 16, 32, 0.3, 5)],
)
def test_every_descriptor_arrives_once_and_in_order(width, entries, depth, stall, seed):
    """Random posting and taking over several laps of three rings, indices wrapping."""
    queues, total = 3, 150
    bench = Bench(entries, seed=seed, stall=stall, latency=(1, 40)).build(
        data_width=width, fetch_depth=depth, queues=queues
    )
    random_ = random.Random(seed)
    posted, taken = [0] * queues, [0] * queues

    def value(queue, index):
        return (queue << 48) + index * 0x10001 + 1

    async def software(ctx):
        await bench.start(ctx, *range(queues))
        while min(posted) < total:
            queue = random_.randrange(queues)
            for _ in range(random_.choice((1, 1, 3, 4, 9))):
                if posted[queue] - taken[queue] < entries:
                    bench.post(queue, posted[queue], value(queue, posted[queue]))
                    posted[queue] += 1
            await bench.ring(ctx, queue, posted[queue])
            await ctx.tick().repeat(random_.randrange(1, 30))

    async def consumer(ctx):
        idle = 0
        while min(taken) < total:
            idle += 1
            assert idle < 3000, f"Nothing came: posted {posted}, taken {taken}"
            queue = random_.randrange(queues)
            available = len(bench.arrived[queue]) - taken[queue]
            assert available <= depth
            assert taken[queue] + available <= posted[queue]
            await ctx.tick()
            for offset in random_.sample(range(available), min(available, 2)):
                assert await bench.read(ctx, queue, taken[queue] + offset) == value(queue, taken[queue] + offset)
            count = random_.randint(0, available)
            if count:
                await bench.take(ctx, count, queue)
                taken[queue] += count
                idle = 0

    async def no_fault(ctx):
        await ctx.tick().repeat(50)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software, consumer, no_fault)
    for queue in range(queues):
        assert bench.arrived[queue] == [value(queue, index) for index in range(len(bench.arrived[queue]))]
    for burst in bench.memory.reads:
        assert burst.beats * width // 8 <= 64


def test_whole_lines_are_fetched_and_a_partial_one_when_the_queue_runs_dry():
    bench = Bench(latency=3).build()
    sizes = []

    async def software(ctx):
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 6)
        await bench.available(ctx, 0, 6)
        sizes.append([burst.beats * 8 // 16 for burst in bench.memory.reads])
        await bench.ring(ctx, 0, 7)
        await bench.available(ctx, 0, 7)
        await bench.ring(ctx, 0, 16)
        await bench.available(ctx, 0, 16)
        sizes.append([burst.beats * 8 // 16 for burst in bench.memory.reads])

    bench.run(software)
    assert sizes[0] == [4, 2]
    # 1 of the line's rest, its last one, and whole lines up to the end of the ring.
    assert sizes[1] == [4, 2, 1, 1, 4, 4]


@pytest.mark.parametrize(("width", "cycles"), [(64, 2), (128, 1), (256, 1), (512, 1)])
def test_one_descriptor_a_cycle_is_fetched_from_far_away(width, cycles):
    """A latency of 60 cycles is hidden by what is in flight. At 64 bits, half a descriptor comes in a cycle."""
    bench = Bench(256, latency=60).build(data_width=width, fetch_depth=256)

    async def software(ctx):
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 256)
        await bench.available(ctx, 0, 256)

    bench.run(software)
    assert bench.arrivals[-1] - bench.arrivals[0] <= cycles * 255 + 4
    assert bench.arrivals[0] < 60 + 40


def test_one_descriptor_a_cycle_is_fetched_for_many_queues():
    """Whole lines in turns: in steady state no cycle is lost."""
    queues = 8
    bench = Bench(32, latency=40).build(data_width=512, fetch_depth=32, queues=queues)

    async def software(ctx):
        await bench.start(ctx, *range(queues))
        for queue in range(queues):
            await bench.ring(ctx, queue, 32)
        for queue in range(queues):
            await bench.available(ctx, queue, 32)

    bench.run(software)
    assert bench.arrivals[-1] - bench.arrivals[0] <= 32 * queues + 8


def test_one_descriptor_a_cycle_is_taken_and_fetched():
    """The cache holds a fraction of the ring, the latency is hidden, and takes make room as fast as fetches fill it."""
    bench = Bench(256, latency=20).build(data_width=512, fetch_depth=64)

    async def software(ctx):
        for index in range(256):
            bench.post(0, index, index)
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 256)
        await bench.available(ctx, 0, 64)
        for index in range(256):
            assert len(bench.arrived[0]) > index, "the cache ran dry"
            await bench.take(ctx)

    bench.run(software)
    assert bench.arrived[0] == list(range(256))


def test_one_descriptor_a_cycle_is_read_and_a_pause_holds_what_was_read():
    bench = Bench(64, latency=4).build(data_width=512)
    entries = []

    async def software(ctx):
        for index in range(64):
            bench.post(0, index, index)
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 64)
        await bench.available(ctx, 0, 64)
        port, random_ = bench.dut.descriptors, random.Random(7)
        asked = 0
        while len(entries) < 64:
            enable = random_.random() < 0.7
            ctx.set(port.read_enable, enable)
            ctx.set(port.read_index, asked % 64)
            await ctx.tick()
            asked += enable
            if enable and asked >= 2:
                entries.append(address(ctx.get(port.entry)))
            elif entries:
                assert address(ctx.get(port.entry)) == entries[-1]

    bench.run(software)
    assert entries == list(range(64))


def test_fetching_covers_posting_to_arrival():
    bench = Bench(latency=20).build()

    async def software(ctx):
        port = bench.dut.descriptors
        await bench.start(ctx, 0)
        assert not ctx.get(port.fetching)
        await bench.ring(ctx, 0, 6)
        await until(ctx, port.fetching[0], name="the fetch to be due", bound=8)
        while len(bench.arrived[0]) < 6:
            assert ctx.get(port.fetching)
            assert bench.memory.cycle < 150
            await ctx.tick()
        await until(ctx, ~port.fetching[0], name="the fetch to be over", bound=8)

    bench.run(software)


def test_fetching_tells_of_room_soon_enough():
    """The cache is full; descriptors are taken until a line fits."""
    bench = Bench(16, latency=20).build(fetch_depth=8)

    async def software(ctx):
        port = bench.dut.descriptors
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 16)
        await bench.available(ctx, 0, 8)
        await ctx.tick().repeat(20)
        await bench.take(ctx, 3)
        await ctx.tick().repeat(20)
        assert not ctx.get(port.fetching)
        await bench.take(ctx, 1)
        await ctx.tick().repeat(FETCHING_DELAY - 1)
        assert ctx.get(port.fetching)

    bench.run(software)
