# SPDX-License-Identifier: BSD-2-Clause
"""CompletionWriter: what stops a queue, and what a stopped queue still does."""

import pytest

from hw.abi.rings import QueueError
from tests.hw.nic.rings.completion_bench import CompletionBench
from tests.hw.streams import receive


def test_stopping_writes_what_waits_and_then_is_quiet():
    bench = CompletionBench(latency=10).build()

    async def producer(ctx):
        await bench.start(ctx, 0, 1, timeout=60000)
        await bench.reserve(ctx, 0, 3)
        for value in range(3):
            await bench.complete(ctx, 0, value)
        assert ctx.get(bench.dut.control.busy) == 1
        ctx.set(bench.dut.control.enable, 2)
        await bench.idle(ctx)
        assert bench.groups() == [3]
        assert bench.memory.idle
        await bench.start(ctx, 0, timeout=0)
        bench.memory.data[:] = bytes(len(bench.memory.data))
        await bench.reserve(ctx, 0, 16)
        await bench.complete(ctx, 0, 77)
        await bench.idle(ctx)
        assert bench.at(0, 0).rss_hash == 77

    bench.run(producer)


def test_a_write_error_stops_the_queue_alone():
    bench = CompletionBench(latency=(5, 25), seed=2).build()
    bench.memory.fail(range(bench.base(0) + 64, bench.base(0) + 128))

    async def producer(ctx):
        await bench.start(ctx, 0, 1, timeout=5)
        for queue in (0, 1):
            await bench.reserve(ctx, queue, 16)
        for value in range(16):
            await bench.complete(ctx, 0, value)
            await bench.complete(ctx, 1, value)
        await bench.idle(ctx)

    async def faults(ctx):
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.RING_WRITE)
        await ctx.tick().repeat(300)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(producer, faults)
    assert max(producer for _, queue, producer, _ in bench.published if queue == 0) == 4
    assert max(producer for _, queue, producer, _ in bench.published if queue == 1) == 16


def test_a_broken_queue_takes_entries_and_drops_them():
    bench = CompletionBench(latency=2).build()
    bench.memory.fail(range(bench.base(0), bench.base(0) + 64))

    async def producer(ctx):
        await bench.start(ctx, 0)
        await bench.reserve(ctx, 0, 16)
        await bench.complete(ctx, 0, 0)
        await receive(ctx, bench.dut.faults)
        writes = len(bench.memory.writes)
        for value in range(40):
            await bench.complete(ctx, 0, value)
        await bench.idle(ctx)
        assert len(bench.memory.writes) == writes

    bench.run(producer)
    assert not bench.published


@pytest.mark.parametrize("consumer", [5, 16, 0x8000, 1])
def test_a_consumer_index_out_of_range_is_a_fault(consumer):
    """Beyond what was written, far away, and backwards."""
    bench = CompletionBench(latency=2).build()

    async def producer(ctx):
        await bench.start(ctx, 0, 1)
        await bench.reserve(ctx, 0, 8)
        for value in range(4):
            await bench.complete(ctx, 0, value)
        await bench.idle(ctx)
        await bench.consume(ctx, 0, 2)
        await bench.consume(ctx, 0, consumer)
        fault = await receive(ctx, bench.dut.faults)
        assert (fault.queue, fault.error) == (0, QueueError.DOORBELL)
        assert ctx.get(bench.dut.completions.free[0]) == 16 - 8 + 2

    bench.run(producer)


def test_free_counts_reserved_and_unread_slots():
    bench = CompletionBench(8, latency=2).build()

    async def producer(ctx):
        port = bench.dut.completions
        await bench.start(ctx, 0)
        await bench.reserve(ctx, 0, 8)
        assert ctx.get(port.free[0]) == 0
        for value in range(3):
            await bench.complete(ctx, 0, value)
        await bench.idle(ctx)
        assert ctx.get(port.free[0]) == 0
        await bench.consume(ctx, 0, 3)
        assert ctx.get(port.free[0]) == 3

    bench.run(producer)
