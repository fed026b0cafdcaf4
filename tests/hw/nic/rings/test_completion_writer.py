# SPDX-License-Identifier: BSD-2-Clause
"""CompletionWriter: every completion once, in order, with its phase, in as few writes as time allows."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rings.completion_writer import CompletionWriter
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.rings.completion_bench import PHASE, RX, CompletionBench
from tests.hw.streams import send


@pytest.mark.parametrize(
    ("width", "entries", "timeout", "stall", "seed"),
    [
        (64, 16, 20, 0.3, 1),
        (64, 8, 0, 0.0, 2),
        (128, 64, 64, 0.2, 3),
        (256, 8, 7, 0.2, 4),
        (512, 16, 30, 0.4, 5),
    ],
)
def test_every_completion_is_seen_once_and_in_order(width, entries, timeout, stall, seed):
    """Several laps of three rings; software polls memory for the phase alone, and publishes what it consumed."""
    queues, total = 3, 120
    bench = CompletionBench(entries, seed=seed, stall=stall, latency=(1, 40)).build(data_width=width, queues=queues)
    random_ = random.Random(seed)
    reserved, given, seen = [0] * queues, [0] * queues, [0] * queues

    async def producer(ctx):
        await bench.start(ctx, *range(queues), timeout=timeout)
        port, idle = bench.dut.completions, 0
        while min(given) < total:
            idle += 1
            assert idle < 3000, f"No slot: reserved {reserved}, seen {seen}"
            queue = random_.randrange(queues)
            free = ctx.get(port.free[queue])
            assert free <= entries - (reserved[queue] - seen[queue])
            count = min(random_.choice((1, 2, 5)), free)
            if not count:
                await ctx.tick()
                continue
            idle = 0
            await bench.reserve(ctx, queue, count)
            reserved[queue] += count
            for _ in range(count):
                await bench.complete(ctx, queue, (queue << 24) + given[queue])
                given[queue] += 1

    async def software(ctx):
        idle = 0
        while min(seen) < total:
            idle += 1
            assert idle < 3000, f"Nothing came: given {given}, seen {seen}"
            queue = random_.randrange(queues)
            before = seen[queue]
            while entry := bench.at(queue, seen[queue]):
                assert entry.rss_hash == (queue << 24) + seen[queue]
                assert entry.flags & ~PHASE == entry.rss_hash & 1
                seen[queue] += 1
                idle = 0
            if seen[queue] != before:
                await bench.consume(ctx, queue, seen[queue])
            else:
                await ctx.tick()
        await bench.idle(ctx)

    async def no_fault(ctx):
        await ctx.tick().repeat(500)
        assert not ctx.get(bench.dut.faults.valid)

    bench.run(producer, software, no_fault)
    for queue in range(queues):
        news = [(producer, count) for _, q, producer, count in bench.published if q == queue]
        index = 0
        for producer_index, count in news:
            index += count
            assert producer_index == index
        assert index >= total
    assert max(bench.groups()) > 1 or timeout == 0


def test_full_lines_go_at_once_and_the_rest_after_the_timeout():
    bench = CompletionBench(latency=3).build()
    cycles = []

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=100)
        await bench.reserve(ctx, 0, 6)
        for value in range(6):
            cycles.append(bench.memory.cycle)
            await bench.complete(ctx, 0, value)
        await bench.idle(ctx)

    bench.run(producer)
    assert bench.groups() == [4, 2]
    first, second = bench.memory.writes
    assert first.address == bench.base(0)
    # 7 cycles to the command, 7 from there to the address on the bus, and those of the bench.
    assert first.cycle - cycles[3] < 16
    assert 100 < second.cycle - cycles[4] < 118
    assert [(producer, count) for _, _, producer, count in bench.published] == [(4, 4), (6, 2)]


def test_later_parts_of_a_line_go_in_later_writes():
    bench = CompletionBench(latency=3).build()

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=10)
        await bench.reserve(ctx, 0, 5)
        for value in range(5):
            await bench.complete(ctx, 0, value)
            if value in (0, 2):
                await bench.idle(ctx)
        await bench.idle(ctx)

    bench.run(producer)
    assert bench.groups() == [1, 2, 1, 1]
    assert [burst.address - bench.base(0) for burst in bench.memory.writes] == [0, 16, 48, 64]


def test_the_bound_on_waiting_holds_for_every_entry():
    """From being taken to AW: the timeout, and a few cycles of pipeline."""
    timeout = 24
    bench = CompletionBench(64, latency=2).build()
    random_ = random.Random(11)
    taken, written = [], {}

    def visible(address, data):
        end = address + len(data) - bench.base(0)
        if end % 16 == 0:
            written[end // 16 - 1] = bench.memory.cycle

    bench.memory.on_write = visible

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=timeout)
        await bench.reserve(ctx, 0, 60)
        for value in range(60):
            await bench.complete(ctx, 0, value)
            taken.append(bench.memory.cycle)
            await ctx.tick().repeat(random_.choice((1, 3, 12, 40)))
        await bench.idle(ctx)

    bench.run(producer)
    assert sorted(written) == list(range(60))
    waits = [written[i] - taken[i] for i in range(60)]
    assert max(waits) <= timeout + 20
    assert max(waits) > timeout


def test_a_new_line_has_its_own_bound():
    """Three entries wait for long; the fourth completes their line, and the fifth begins to wait only then."""
    bench = CompletionBench(latency=3).build()
    taken = []

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=100)
        await bench.reserve(ctx, 0, 5)
        for value in range(5):
            await bench.complete(ctx, 0, value)
            taken.append(bench.memory.cycle)
            if value == 2:
                await ctx.tick().repeat(80)
        await bench.idle(ctx)

    bench.run(producer)
    assert bench.groups() == [4, 1]
    assert bench.memory.writes[1].cycle - taken[4] > 100


def test_a_line_that_waits_for_dma_does_not_prolong_the_bound_of_the_next():
    config = preset("10g")
    dut = CompletionWriter(config, **RX)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def producer(ctx):
        await write_register(ctx, dut.queue_write, RX["size"], 0, entries=16)
        ctx.set(dut.timeout, 50)
        ctx.set(dut.control.enable, 1)
        # The first write's command occupies the port, the second line waits behind it, and an entry behind that.
        for _ in range(9):
            await send(ctx, dut.completions.entry, {"queue": 0, "entry": 0})
        await ctx.tick().repeat(200)
        lengths = []
        ctx.set(dut.write.command.ready, 1)
        for _ in range(10):
            _, _, valid, command = await ctx.tick().sample(dut.write.command.valid, dut.write.command.payload)
            if valid:
                lengths.append(command.length)
        assert lengths == [64, 64, 16]

    sim.add_testbench(producer)
    sim.run()


def test_a_line_is_commanded_seven_cycles_after_its_last_entry_and_published_three_after_its_response():
    """And the queue is busy from the cycle after its first entry was taken until its line is published."""
    dut = CompletionWriter(preset("10g"), **RX)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def wait(ctx, signal, value, bound):
        """Cycles until then; the queue is busy in all of them."""
        for cycles in range(bound):
            if ctx.get(signal) == value:
                return cycles
            assert ctx.get(dut.control.busy) == 0b10
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for {signal.name} to be {value}")

    async def testbench(ctx):
        await write_register(ctx, dut.queue_write, RX["size"], 1, entries=16)
        ctx.set(dut.timeout, 100)
        ctx.set(dut.control.enable, 0b11)
        ctx.set(dut.write.command.ready, 1)
        ctx.set(dut.write.data.ready, 1)
        await ctx.tick().repeat(3)
        for entries, cycles in ((4, 7), (1, 100 + 8)):
            assert ctx.get(dut.control.busy) == 0
            for _ in range(entries):
                await send(ctx, dut.completions.entry, {"queue": 1, "entry": 0})
            assert 1 + await wait(ctx, dut.write.command.valid, 1, 200) == cycles
            await ctx.tick().repeat(20)
            await send(ctx, dut.write.done, {"error": 0})
            assert 1 + await wait(ctx, dut.published.strobe, 1, 10) == 3
            assert ctx.get(dut.published.count) == entries
            assert await wait(ctx, dut.control.busy, 0, 10) == 1
            await ctx.tick()
            assert not ctx.get(dut.published.strobe)

    sim.add_testbench(testbench)
    sim.run()


def test_a_slow_memory_loses_nothing():
    """Far more entries than can be staged, offered without a pause."""
    bench = CompletionBench(64, seed=6, stall=0.9, latency=(1, 60)).build(outstanding_writes=2)

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=30)
        await bench.reserve(ctx, 0, 64)
        for value in range(64):
            await bench.complete(ctx, 0, value)
        await bench.idle(ctx)

    bench.run(producer)
    assert [bench.at(0, index).rss_hash for index in range(64)] == list(range(64))


@pytest.mark.parametrize("width", [64, 512])
def test_one_entry_a_cycle_is_accepted(width):
    """A burst of 16 entries goes in without a pause; at 512 bits the flow of whole lines never pauses."""
    bench = CompletionBench(128, latency=10).build(data_width=width)
    total = 16 if width == 64 else 100
    cycles = []

    async def producer(ctx):
        await bench.start(ctx, 0, timeout=50)
        await bench.reserve(ctx, 0, total)
        for value in range(total):
            await bench.complete(ctx, 0, value)
            cycles.append(bench.memory.cycle)
        await bench.idle(ctx)

    bench.run(producer)
    assert cycles[-1] - cycles[0] == total - 1
    assert set(bench.groups()) == {4}


def test_completions_over_their_own_fill_ring_touch_nothing_else():
    """In-place writeback: the neighbours in a line keep their bytes."""
    bench = CompletionBench(16, latency=3).build()
    bench.memory.data[:] = b"\x5a" * len(bench.memory.data)

    async def producer(ctx):
        await bench.start(ctx, 0)
        await bench.reserve(ctx, 0, 6)
        for value in range(6):
            await bench.complete(ctx, 0, value)
            await bench.idle(ctx)

    bench.run(producer)
    start = bench.base(0)
    assert [bench.at(0, index).rss_hash for index in range(6)] == list(range(6))
    del bench.memory.data[start : start + 6 * 16]
    assert set(bench.memory.data) == {0x5A}


def test_field_names_are_checked():
    with pytest.raises(ValueError, match="Register rx_doorbell has no field 'tail'; it has fill_producer, completion"):
        CompletionWriter(preset("10g"), consumer="tail", **RX)


@pytest.mark.parametrize("width", [64, 512])
def test_a_line_picked_before_its_queue_broke_keeps_the_queue_busy_until_it_is_answered(width):
    dut = CompletionWriter(preset("10g", data_width=width, queues=3), **RX)
    commands = []

    async def stage(ctx, queue, count):
        for _ in range(count):
            await send(ctx, dut.completions.entry, {"queue": queue, "entry": 1}, name="entry")

    async def answer(ctx, error):
        ctx.set(dut.write.done.payload.error, error)
        ctx.set(dut.write.done.valid, 1)
        await ctx.tick()
        ctx.set(dut.write.done.valid, 0)

    async def testbench(ctx):
        ctx.set(dut.timeout, 3000)
        for queue in range(3):
            await write_register(ctx, dut.queue_write, RX["base"], queue, address=0x1000 * (queue + 1))
            await write_register(ctx, dut.queue_write, RX["size"], queue, entries=16)
        ctx.set(dut.control.clear, 0b111)
        await ctx.tick()
        ctx.set(dut.control.clear, 0)
        ctx.set(dut.control.enable, 0b111)
        await ctx.tick().repeat(20)
        for queue in range(3):
            ctx.set(dut.completions.reserve, 1)
            ctx.set(dut.completions.reserve_queue, queue)
            ctx.set(dut.completions.reserve_count, 12)
            await ctx.tick()
        ctx.set(dut.completions.reserve, 0)
        ctx.set(dut.write.data.ready, 1)
        ctx.set(dut.write.command.ready, 1)
        await stage(ctx, 0, 4)
        await ctx.tick().repeat(20)
        # Queue 0's first line is under way. DMA stalls, with those of others before queue 0's second, which is picked.
        ctx.set(dut.write.command.ready, 0)
        for queue, count in ((1, 4), (2, 3), (0, 3), (2, 1), (0, 1)):
            await stage(ctx, queue, count)
        await ctx.tick().repeat(20)
        await answer(ctx, 1)
        await ctx.tick().repeat(4)
        ctx.set(dut.control.enable, 0b110)
        for _ in range(20):
            await ctx.tick()
            assert ctx.get(dut.control.busy) & 1
        ctx.set(dut.write.command.ready, 1)
        await ctx.tick().repeat(20)
        assert sorted(commands) == [(0x1000, 64, 0), (0x1040, 64, 0), (0x2000, 64, 1), (0x3000, 64, 2)]
        assert ctx.get(dut.control.busy) & 1
        for _ in commands[1:]:
            await answer(ctx, 0)
        await ctx.tick().repeat(8)
        assert ctx.get(dut.control.busy) == 0

    async def listen(ctx):
        port = dut.write.command
        async for _, _, valid, ready, command in ctx.tick().sample(port.valid, port.ready, port.payload):
            if valid and ready:
                commands.append((command.address, command.length, command.queue))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.add_testbench(listen, background=True)
    sim.run()
