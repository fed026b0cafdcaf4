# SPDX-License-Identifier: BSD-2-Clause
"""DescriptorFetch: doorbells out of range, reads that fail, queues that stop and start again."""

import pytest

from hw.abi.rings import QueueError
from hw.config import preset
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from tests.hw.nic.rings.fetch_bench import RX, Bench
from tests.hw.streams import receive, until


@pytest.mark.parametrize("producer", [17, 0x8000, 0xFFFF, 3])
def test_a_doorbell_out_of_range_stops_the_queue_alone(producer):
    """Past the ring, far away, and backwards."""
    bench = Bench(latency=2).build()

    async def software(ctx):
        await bench.start(ctx, 0, 1)
        await bench.ring(ctx, 0, 4)
        await bench.available(ctx, 0, 4)
        await bench.ring(ctx, 0, producer)
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.DOORBELL)
        await bench.ring(ctx, 0, 8)
        await bench.ring(ctx, 1, 16)
        await bench.available(ctx, 1, 16)
        assert len(bench.arrived[0]) == 4
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


def test_a_full_ring_may_be_posted_again_once_taken():
    bench = Bench(8, latency=2).build()

    async def software(ctx):
        await bench.start(ctx, 0)
        for lap in range(3):
            await bench.ring(ctx, 0, 8 * (lap + 1))
            await bench.available(ctx, 0, 8)
            await bench.take(ctx, 8)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


def test_a_read_error_stops_the_queue_alone_and_hides_what_follows():
    bench = Bench(latency=(5, 20), seed=3).build()
    bench.memory.fail(range(bench.base(0) + 64, bench.base(0) + 80))

    async def software(ctx):
        await bench.start(ctx, 0, 1)
        await bench.ring(ctx, 0, 16)
        await bench.ring(ctx, 1, 16)
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.RING_READ)
        await bench.available(ctx, 1, 16)
        await until(ctx, bench.dut.control.busy == 0, name="busy to fall")
        await bench.available(ctx, 0, 4)
        assert not ctx.get(bench.dut.descriptors.fetching)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


def test_doorbells_in_a_row_are_each_checked_against_the_one_before():
    bench = Bench(latency=2).build()

    async def software(ctx):
        await bench.start(ctx, 0, 1)
        for producer in (4, 7, 6):
            await bench.ring(ctx, 0, producer)
            await bench.ring(ctx, 1, producer + 2 * (producer == 6))
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.DOORBELL)
        await bench.available(ctx, 1, 8)
        await ctx.tick().repeat(50)
        assert len(bench.arrived[0]) <= 7
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


@pytest.mark.parametrize("wait", range(1, 60, 4))
def test_stopping_discards_and_starting_again_begins_at_zero(wait):
    bench = Bench(latency=15).build()

    async def software(ctx):
        for index in range(16):
            bench.post(0, index, 100 + index)
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 16)
        await ctx.tick().repeat(wait)
        ctx.set(bench.dut.control.enable, 0)
        await until(ctx, bench.dut.control.busy == 0, name="busy to fall")
        reads = len(bench.memory.reads)
        assert bench.memory.idle
        await ctx.tick().repeat(40)
        assert len(bench.memory.reads) == reads
        for index in range(16):
            bench.post(0, index, 200 + index)
        await bench.start(ctx, 0)
        await bench.ring(ctx, 0, 5)
        await bench.available(ctx, 0, 5)
        assert bench.arrived[0] == list(range(200, 205))
        assert await bench.read(ctx, 0, 0) == 200

    bench.run(software)


def test_a_doorbell_while_disabled_does_nothing():
    bench = Bench().build()

    async def software(ctx):
        await bench.ring(ctx, 0, 60000)
        await ctx.tick().repeat(20)
        assert not bench.memory.reads
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(software)


def test_field_names_are_checked():
    with pytest.raises(ValueError, match="Register rx_doorbell has no field 'head'; it has fill_producer, completion"):
        DescriptorFetch(preset("10g"), **(RX | {"producer": "head"}))
    with pytest.raises(ValueError, match="Register must be one of a queue pair's .*, not 'ring_base'"):
        DescriptorFetch(preset("10g"), **(RX | {"base": "ring_base"}))
