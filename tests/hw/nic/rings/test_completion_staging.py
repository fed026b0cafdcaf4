# SPDX-License-Identifier: BSD-2-Clause
"""CompletionStaging: what was staged leaves as it was, in lines, a beat a cycle."""

import random

import pytest
from amaranth.sim import Simulator

from hw.abi.rings import ENTRY_BYTES
from hw.config import preset
from hw.nic.rings.completion_staging import CompletionStaging
from tests.hw.streams import send, until

QUEUES = 3
PHASE = 1 << 127


class StagingBench:
    """A staging memory; what was put in, what may leave, and the transfers that left."""

    def __init__(self, width, seed=0, stall=0.0):
        print("seed", seed)
        self.random = random.Random(seed)
        self.stall, self.width = stall, width
        self.wide = max(1, width // 128)
        self.parts = max(1, 128 // width)
        self.dut = CompletionStaging(preset("10g", queues=QUEUES, data_width=width))
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        self.cycle = 0
        self.staged = [[] for _ in range(QUEUES)]
        self.expected = []  # entries of each line, with their phase
        self.transfers = []  # entries that came
        self.beats = []  # cycles

    async def put(self, ctx, queue):
        entry = self.random.getrandbits(128)
        await send(ctx, self.dut.entry, {"queue": queue, "entry": entry}, name="entry")
        self.staged[queue].append(entry)

    async def line(self, ctx, queue, first, count):
        phase = self.random.randrange(2)
        entries = self.staged[queue][first : first + count]
        self.expected.append([entry & ~PHASE | phase * PHASE for entry in entries])
        line = {"queue": queue, "first": first % 32, "count": count, "phase": phase}
        await send(ctx, self.dut.lines, line, name="line")

    async def take(self, ctx):
        """Take beats for ever."""
        port = self.dut.data
        value, size = 0, 0
        ready = True
        ctx.set(port.ready, ready)
        async for _, _, valid, beat in ctx.tick().sample(port.valid, port.payload):
            self.cycle += 1
            if valid and ready:
                assert beat.count == self.width // 8 or beat.last
                value |= (beat.data & ((1 << 8 * beat.count) - 1)) << 8 * size
                size += beat.count
                self.beats.append(self.cycle)
                if beat.last:
                    assert size % ENTRY_BYTES == 0
                    self.transfers.append([value >> 128 * i & ((1 << 128) - 1) for i in range(size // ENTRY_BYTES)])
                    value, size = 0, 0
            ready = self.random.random() >= self.stall
            ctx.set(port.ready, ready)

    def run(self, testbench):
        self.sim.add_process(self.take)
        self.sim.add_testbench(testbench)
        self.sim.run()


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_lines_carry_what_was_staged(width, stall):
    bench = StagingBench(width, seed=width, stall=stall)

    async def testbench(ctx):
        sent = [0] * QUEUES
        for _ in range(200):
            queue = bench.random.randrange(QUEUES)
            for _ in range(bench.random.randint(1, 6)):
                await bench.put(ctx, queue)
            await ctx.tick().repeat(2)
            assert ctx.get(bench.dut.accepted[queue]) == len(bench.staged[queue]) % 64
            while (rest := len(bench.staged[queue]) - sent[queue]) and bench.random.random() < 0.9:
                count = min(rest, 4 - sent[queue] % 4)
                await bench.line(ctx, queue, sent[queue], count)
                sent[queue] += count
            for other in range(QUEUES):
                assert len(bench.staged[other]) - sent[other] < 24
        await ctx.tick().repeat(400)

    bench.run(testbench)
    assert bench.transfers == bench.expected
    assert len(bench.transfers) > 150


@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_a_beat_a_cycle_the_first_after_four(width):
    bench = StagingBench(width)

    async def testbench(ctx):
        for _ in range(16):
            await bench.put(ctx, 1)
        await ctx.tick().repeat(3)
        begin = bench.cycle
        for line in range(4):
            await bench.line(ctx, 1, 4 * line, 4)
        await ctx.tick().repeat(60)
        # A beat is taken at the edge that ends its cycle, as is the line.
        assert bench.beats[0] - begin == 1 + 4

    bench.run(testbench)
    beats = 16 * bench.parts // bench.wide
    assert bench.beats == list(range(bench.beats[0], bench.beats[0] + beats))
    assert bench.transfers == bench.expected


def test_a_full_queue_waits_and_loses_nothing():
    """Up to 30 entries go in without a pause; no more than fit go in before a line leaves."""
    bench = StagingBench(512)

    async def testbench(ctx):
        port = bench.dut.entry
        cycles = []
        for _ in range(30):
            await bench.put(ctx, 0)
            cycles.append(bench.cycle)
        assert cycles[-1] - cycles[0] == 29
        late = 0
        ctx.set(port.payload, {"queue": 0, "entry": 77})
        ctx.set(port.valid, 1)
        for _ in range(20):
            _, _, ready = await ctx.tick().sample(port.ready)
            late += ready
            bench.staged[0] += [77] * ready
        ctx.set(port.valid, 0)
        # Two of them are in the skid buffer.
        assert ctx.get(bench.dut.accepted[0]) <= 32
        assert ctx.get(bench.dut.accepted[0]) == len(bench.staged[0]) - 2
        for line in range(8):
            await bench.line(ctx, 0, 4 * line, 4)
        await until(ctx, bench.dut.accepted[0] == len(bench.staged[0]), name="the others to be staged")
        await ctx.tick().repeat(10)

    bench.run(testbench)
    assert bench.transfers == bench.expected


def test_dropped_entries_are_taken_and_forgotten_until_the_queue_is_cleared():
    bench = StagingBench(64)

    async def testbench(ctx):
        for _ in range(5):
            await bench.put(ctx, 2)
        await ctx.tick()
        ctx.set(bench.dut.drop, 0b100)
        for _ in range(50):
            await bench.put(ctx, 2)
        await ctx.tick().repeat(3)
        assert ctx.get(bench.dut.accepted[2]) == 5
        assert not ctx.get(bench.dut.coming)
        ctx.set(bench.dut.clear, 0b100)
        ctx.set(bench.dut.drop, 0)
        await ctx.tick()
        ctx.set(bench.dut.clear, 0)
        bench.staged[2].clear()
        for _ in range(4):
            await bench.put(ctx, 2)
        await ctx.tick().repeat(2)
        assert ctx.get(bench.dut.accepted[2]) == 4
        await bench.line(ctx, 2, 0, 4)
        await ctx.tick().repeat(30)

    bench.run(testbench)
    assert bench.transfers == bench.expected


@pytest.mark.parametrize("width", [64, 512])
def test_what_is_dropped_leaves_the_lines_of_a_full_queue_alone(width):
    bench = StagingBench(width)

    async def testbench(ctx):
        for _ in range(32):
            await bench.put(ctx, 1)
        await until(ctx, bench.dut.accepted[1] == 32, name="32 entries to be staged")
        ctx.set(bench.dut.drop, 0b10)
        for _ in range(8):
            await send(ctx, bench.dut.entry, {"queue": 1, "entry": 77}, name="entry")
        await ctx.tick().repeat(4)
        assert ctx.get(bench.dut.accepted[1]) == 32
        for line in range(8):
            await bench.line(ctx, 1, 4 * line, 4)
        await ctx.tick().repeat(100)

    bench.run(testbench)
    assert bench.transfers == bench.expected
    assert len(bench.transfers) == 8
