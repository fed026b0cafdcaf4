# SPDX-License-Identifier: BSD-2-Clause
"""DescriptorFetch with pools: every fill that counted as taken leaves once, and what is supplied is as if fetched."""

import random

import pytest

from hw.abi.rings import QueueError
from hw.config import preset
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from tests.hw.nic.rings.fetch_bench import RX
from tests.hw.nic.rings.pooled_bench import PooledBench
from tests.hw.streams import receive, until


def post(bench, queue, values, length=64):
    for index, value in enumerate(values):
        bench.post(queue, index, value, length)


@pytest.mark.parametrize("width", [64, 128, 512])
def test_fills_of_a_queue_with_a_pool_leave_in_order_and_none_arrives(width):
    """Beside a queue without one, whose descriptors arrive. Only the id of a fill counts, so its length may be 0."""
    bench = PooledBench(0b01, latency=(3, 20), seed=width).build(data_width=width)

    async def software(ctx):
        post(bench, 0, range(100, 116), length=0)
        post(bench, 1, range(200, 216))
        await bench.start(ctx, 0, 1)
        await bench.ring(ctx, 0, 14)
        await bench.ring(ctx, 1, 15)
        await bench.returned(ctx, 0, 14)
        await bench.available(ctx, 1, 15)
        await bench.quiet(ctx, 0)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)
    assert bench.fills == [list(range(100, 114)), []]
    assert bench.arrived == [[], list(range(200, 215))]


def test_one_fill_a_cycle_of_one_queue_and_of_many():
    queues, entries = 4, 64
    bench = PooledBench((1 << queues) - 1, entries, latency=40).build(data_width=512, queues=queues, fetch_depth=256)

    async def software(ctx):
        for queue in range(queues):
            post(bench, queue, range(entries))
        await bench.start(ctx, *range(queues))
        await bench.ring(ctx, 0, entries)
        await bench.returned(ctx, 0, entries)
        for queue in range(1, queues):
            await bench.ring(ctx, queue, entries)
        for queue in range(1, queues):
            await bench.returned(ctx, queue, entries)

    bench.run(software)
    for first, last in ((0, entries - 1), (entries, queues * entries - 1)):
        assert bench.filled_at[last] - bench.filled_at[first] <= last - first + 8


def test_fills_are_fetched_only_while_they_are_wanted():
    bench = PooledBench(0b001, 64, latency=2).build(queues=3, data_width=512)

    async def software(ctx):
        post(bench, 0, range(64))
        await bench.start(ctx, 0, 1)
        await ctx.tick()
        ctx.set(bench.dut.wanted, 0)
        await ctx.tick()
        await bench.ring(ctx, 0, 64)
        await bench.ring(ctx, 1, 8)
        await bench.available(ctx, 1, 8)
        await ctx.tick().repeat(50)
        assert not bench.fills[0], "nobody wanted them"
        assert not ctx.get(bench.dut.descriptors.fetching) & 1
        ctx.set(bench.dut.wanted, 1)
        await bench.returned(ctx, 0, 4)
        ctx.set(bench.dut.wanted, 0)
        fell = bench.memory.cycle
        await bench.quiet(ctx, 0)
        await ctx.tick().repeat(50)
        assert max(cycle for cycle, queue in bench.commands if queue == 0) <= fell + 2
        assert len(bench.fills[0]) < 64
        ctx.set(bench.dut.wanted, 1)
        await bench.returned(ctx, 0, 64)

    bench.run(software)
    assert bench.fills[0] == list(range(64))


@pytest.mark.parametrize("depth", [8, 16])
def test_fills_that_are_not_claimed_stop_the_fetches_of_queues_with_pools_alone(depth):
    bench = PooledBench(0b011, 64, drains=0, latency=(2, 9)).build(queues=3, fetch_depth=depth)

    async def software(ctx):
        for queue in range(3):
            post(bench, queue, range(64))
        await bench.start(ctx, 0, 1, 2)
        await bench.ring(ctx, 0, 61)
        await bench.ring(ctx, 1, 62)
        await bench.ring(ctx, 2, 64)
        for _ in range(64 // depth):
            await bench.available(ctx, 2, depth)
            await bench.take(ctx, depth, 2)
        await ctx.tick().repeat(100)
        fetched = sum(burst.beats * 8 // 16 for burst in bench.memory.reads) - 64
        assert fetched == depth
        bench.drains = 0.3
        await bench.returned(ctx, 0, 61)
        await bench.returned(ctx, 1, 62)

    bench.run(software)
    assert bench.fills[:2] == [list(range(61)), list(range(62))]


def test_supplied_buffers_are_in_the_cache_in_order_one_a_cycle():
    """Over several laps of the cache, of two queues in no order."""
    bench = PooledBench(0b11).build(fetch_depth=16)
    offered = []

    async def software(ctx):
        await bench.start(ctx, 0, 1)
        rng, counts = random.Random(3), [0, 0]
        for lap in range(6):
            for queue in rng.sample([0] * 16 + [1] * 16, 32):
                offered.append(bench.memory.cycle)
                await bench.supply(ctx, queue, 1000 * queue + counts[queue])
                counts[queue] += 1
            for queue in range(2):
                for index in range(16 * lap, 16 * lap + 16):
                    assert await bench.read(ctx, queue, index) == 1000 * queue + index
                await bench.take(ctx, 16, queue)

    bench.run(software)
    assert bench.arrived == [list(range(96)), list(range(1000, 1096))]
    assert bench.arrivals == [cycle + 1 for cycle in offered], "each arrives in the cycle in which it was taken"


def test_a_supplied_buffer_waits_only_while_descriptors_arrive_that_were_fetched():
    bench = PooledBench(0b001, 64, latency=5).build(data_width=512, queues=3, fetch_depth=64)
    free = []

    async def software(ctx):
        post(bench, 1, range(64))
        post(bench, 0, range(100, 164))
        await bench.start(ctx, 0, 1)
        await bench.ring(ctx, 0, 32)
        await bench.ring(ctx, 1, 64)
        for value in range(60):
            begin = bench.memory.cycle
            await bench.supply(ctx, 0, value)
            free.append(bench.memory.cycle - begin)
        await bench.available(ctx, 1, 64)
        await bench.returned(ctx, 0, 32)

    bench.run(software)
    assert bench.arrived[:2] == [list(range(60)), list(range(64))]
    assert 0 < sum(cycles > 1 for cycles in free) < 60
    between = [one for one, other in zip(bench.arrivals, bench.arrivals[1:], strict=False) if other - one != 1]
    assert all(cycle > bench.arrivals[0] + 60 for cycle in between), "there was always one of the two"


def test_fetching_of_a_queue_with_a_pool_is_what_its_supplier_says():
    bench = PooledBench(0b01, latency=20).build()

    async def software(ctx):
        port = bench.dut.descriptors
        await bench.start(ctx, 0, 1)
        await bench.ring(ctx, 0, 8)
        await until(ctx, bench.dut.control.busy[0], name="the fetch", bound=30)
        assert ctx.get(port.fetching) == 0, "a fill is no buffer yet"
        ctx.set(bench.dut.supplying, 0b11)
        await ctx.tick()
        assert ctx.get(port.fetching) == 0b01, "a queue without a pool is supplied with nothing"
        ctx.set(bench.dut.supplying, 0)
        await ctx.tick()
        assert ctx.get(port.fetching) == 0

    bench.run(software)


@pytest.mark.parametrize("ahead", [8, 9])
def test_a_doorbell_may_be_a_ring_ahead_of_the_last_fill_that_was_fetched(ahead):
    """Whether they have been claimed does not matter; nor do the buffers that frames take instead."""
    bench = PooledBench(0b01, 8, drains=0, latency=2).build(fetch_depth=64)

    async def software(ctx):
        post(bench, 0, range(8))
        await bench.start(ctx, 0)
        await bench.supply(ctx, 0, *range(50, 58))
        await bench.ring(ctx, 0, 6)
        await bench.take(ctx, 8)
        await until(ctx, bench.dut.fills.valid, name="fills", bound=100)
        await ctx.tick().repeat(60)
        await bench.ring(ctx, 0, 6 + ahead)
        await ctx.tick().repeat(20)
        if ahead > 8:
            fault = await receive(ctx, bench.dut.faults, bound=20)
            assert (fault.queue, fault.error) == (0, QueueError.DOORBELL)
        else:
            assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


def test_a_read_error_hands_nothing_back_from_there_on():
    bench = PooledBench(0b01, latency=(5, 20), seed=3, drains=0).build()
    bench.memory.fail(range(bench.base(0) + 64, bench.base(0) + 80))

    async def software(ctx):
        post(bench, 0, range(16))
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 16)
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.RING_READ)
        ctx.set(bench.dut.control.enable, 0)
        await ctx.tick().repeat(100)
        assert ctx.get(bench.dut.control.busy) & 1, "fills wait"
        bench.drains = 1
        await bench.quiet(ctx, 0)

    bench.run(software)
    assert bench.fills[0] == list(range(4))


@pytest.mark.parametrize("wait", range(8, 64, 4))
@pytest.mark.parametrize("drains", [1.0, 0.2])
def test_a_queue_that_stops_hands_back_what_came_before(wait, drains):
    """At any moment. It is busy until its fills have left, and begins anew with fill 0 and an empty cache."""
    bench = PooledBench(0b01, 16, drains=drains, latency=15, seed=wait).build(data_width=128)
    busy = bench.dut.control.busy

    async def software(ctx):
        post(bench, 0, range(100, 116))
        await bench.start(ctx, 0)
        await bench.supply(ctx, 0, 1, 2, 3)
        await bench.ring(ctx, 0, 16)
        await ctx.tick().repeat(wait)
        ctx.set(bench.dut.control.enable, 0)
        await bench.quiet(ctx, 0)
        handed = list(bench.fills[0])
        assert handed == list(range(100, 100 + len(handed)))
        reads = len(bench.memory.reads)
        for _ in range(40):
            assert not ctx.get(busy)
            await ctx.tick()
        assert (bench.fills[0], len(bench.memory.reads)) == (handed, reads)
        post(bench, 0, range(200, 216))
        await bench.start(ctx, 0)
        await bench.supply(ctx, 0, 7)
        assert await bench.read(ctx, 0, 0) == 7
        await bench.ring(ctx, 0, 5)
        await bench.returned(ctx, 0, 5)
        assert bench.fills[0] == list(range(200, 205))

    bench.run(software)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_each_fill_leaves_once_or_was_never_taken(seed):
    """Random posting, claiming, supplying and stopping of three queues, one without a pool. ``fills`` of each start are
    the first that were posted; as many counted as taken, as a doorbell a ring ahead of them shows."""
    rng = random.Random(seed)
    entries, depth = rng.choice((8, 16, 64)), rng.choice((8, 16))
    bench = PooledBench(0b011, entries, drains=rng.choice((1, 0.5, 0.1)), seed=seed, stall=0.2, latency=(1, 40)).build(
        queues=3, fetch_depth=depth, data_width=rng.choice((64, 128, 512))
    )
    posted, supplied, kept = [0] * 3, [0] * 2, [0] * 3

    def value(queue, index):
        return queue << 12 | index

    async def restart(ctx, queue):
        ctx.set(bench.dut.control.enable, ctx.get(bench.dut.control.enable) & ~(1 << queue))
        await bench.quiet(ctx, queue)
        handed = len(bench.fills[queue])
        assert bench.fills[queue] == [value(queue, index) for index in range(handed)]
        assert handed <= posted[queue]
        await ctx.tick().repeat(rng.randint(1, 30))
        assert len(bench.fills[queue]) == handed, "a fill left although the queue was not busy"
        posted[queue], kept[queue] = 0, 0
        if queue < 2:
            supplied[queue] = 0
        await bench.start(ctx, queue)

    async def software(ctx):
        await bench.start(ctx, 0, 1, 2)
        for _ in range(300):
            queue = rng.randrange(3)
            out = len(bench.fills[queue]) if queue < 2 else bench.taken[queue]
            for _ in range(rng.randrange(6)):
                if posted[queue] - out < entries:
                    bench.post(queue, posted[queue], value(queue, posted[queue]))
                    posted[queue] += 1
            await bench.ring(ctx, queue, posted[queue])
            if queue < 2 and supplied[queue] - bench.taken[queue] < depth:
                await bench.supply(ctx, queue, value(queue, supplied[queue]))
                supplied[queue] += 1
            count = rng.randint(0, len(bench.arrived[queue]) - bench.taken[queue])
            if count:
                await bench.take(ctx, count, queue)
            ctx.set(bench.dut.wanted, rng.choice((0b00, 0b01, 0b11, 0b11)))
            if rng.random() < 0.05:
                await restart(ctx, queue)
            for member in range(3):
                assert bench.arrived[member] == [value(member, i) for i in range(len(bench.arrived[member]))]
            await ctx.tick().repeat(rng.randint(1, 15))
        ctx.set(bench.dut.wanted, 0b11)
        for queue in range(2):
            await bench.returned(ctx, queue, posted[queue])
            await bench.ring(ctx, queue, posted[queue] + entries)
            await ctx.tick().repeat(10)
            assert not ctx.get(bench.dut.faults.valid), "fewer counted as taken than left"
            await bench.returned(ctx, queue, posted[queue] + entries)
            await bench.quiet(ctx, queue)
            await bench.ring(ctx, queue, posted[queue] + 2 * entries + 1)
            fault = await receive(ctx, bench.dut.faults, bound=20)
            assert (fault.queue, fault.error) == (queue, QueueError.DOORBELL), "more counted as taken than left"

    bench.run(software)


def test_recycling_is_checked():
    with pytest.raises(TypeError, match="recycling must be a bool, not 1"):
        DescriptorFetch(preset("10g", pools=1), **RX, recycling=1)
    with pytest.raises(ValueError, match="recycling must be False where pools is 0, not True"):
        DescriptorFetch(preset("10g"), **RX, recycling=True)
