# SPDX-License-Identifier: BSD-2-Clause
"""DescriptorFetch: every posted descriptor once, in order, never one that is not posted, and clean ends."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import FillDescriptor, QueueError
from hw.config import preset
from hw.nic.dma.read import DmaReader
from hw.nic.interfaces import FETCHING_DELAY
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register
from tests.hw.streams import receive, until

CODEC = Codec(FillDescriptor)
RX = {"base": "rx_fill_base", "size": "rx_fill_size", "doorbell": "rx_doorbell", "producer": "fill_producer"}


def address(entry):
    return CODEC.unpack(entry.to_bytes(16, "little")).address


class Bench:
    """Descriptor fetch, read engine and memory; rings of ``entries`` at 4 KiB + 64 from each other."""

    def __init__(self, entries=16, **memory):
        self.entries = entries
        self.memory = AxiMemory(1 << 16, **memory)
        self.arrived: list[list[int]] = []  # of each queue since it was started
        self.arrivals: list[int] = []  # cycles
        self.taken: list[int] = []

    def build(self, **changes):
        self.config = preset("10g", **changes)
        self.arrived = [[] for _ in range(self.config.queues)]
        self.taken = [0] * self.config.queues
        m = Module()
        m.submodules.fetch = self.dut = DescriptorFetch(self.config, **RX)
        m.submodules.reader = reader = DmaReader(self.config, [1])
        wiring.connect(m, self.dut.read, reader.clients[0])
        self.sim = Simulator(m)
        self.sim.add_clock(1e-6)
        self.memory.attach_read(self.sim, reader.axi_ar, reader.axi_r)
        self.sim.add_testbench(self._listen, background=True)
        return self

    async def _listen(self, ctx):
        port = self.dut.descriptors.arrived
        while True:
            if ctx.get(port.strobe):
                self.arrived[ctx.get(port.queue)].append(address(ctx.get(port.entry)))
                self.arrivals.append(self.memory.cycle)
            await ctx.tick()

    def base(self, queue):
        return 0x40 + 0x1040 * queue

    def post(self, queue, index, value):
        """Write the descriptor that ring index ``index`` names."""
        at = self.base(queue) + index % self.entries * CODEC.size
        self.memory.data[at : at + CODEC.size] = CODEC.pack(address=value, length=64, buffer_id=value & 0xFFFF)

    async def start(self, ctx, *queues):
        for queue in queues:
            await write_register(ctx, self.dut.queue_write, "rx_fill_base", queue, address=self.base(queue))
            await write_register(ctx, self.dut.queue_write, "rx_fill_size", queue, entries=self.entries)
        mask = sum(1 << queue for queue in queues)
        for queue in queues:
            self.arrived[queue], self.taken[queue] = [], 0
        ctx.set(self.dut.control.clear, mask)
        await ctx.tick()
        ctx.set(self.dut.control.clear, 0)
        ctx.set(self.dut.control.enable, ctx.get(self.dut.control.enable) | mask)

    async def ring(self, ctx, queue, producer):
        await write_register(ctx, self.dut.queue_write, "rx_doorbell", queue, fill_producer=producer & 0xFFFF)

    async def available(self, ctx, queue, count, bound=1000):
        """Wait until ``count`` descriptors have arrived that were not taken, and no more."""
        for _ in range(bound):
            if len(self.arrived[queue]) - self.taken[queue] == count:
                return await ctx.tick()
            await ctx.tick()
        raise AssertionError(
            f"Waited {bound} cycles for {count} descriptors of queue {queue}: {len(self.arrived[queue])} arrived, "
            f"{self.taken[queue]} taken"
        )

    async def take(self, ctx, count=1, queue=0):
        take = self.dut.descriptors.take
        ctx.set(take.strobe, 1)
        ctx.set(take.queue, queue)
        ctx.set(take.count, count)
        await ctx.tick()
        ctx.set(take.strobe, 0)
        self.taken[queue] += count

    async def read(self, ctx, queue, index):
        """Address of a descriptor in the cache."""
        port = self.dut.descriptors
        ctx.set(port.read_queue, queue)
        ctx.set(port.read_index, index % self.config.fetch_depth)
        ctx.set(port.read_enable, 1)
        await ctx.tick().repeat(2)
        ctx.set(port.read_enable, 0)
        return address(ctx.get(port.entry))

    def run(self, *testbenches):
        for testbench in testbenches:
            self.sim.add_testbench(testbench)
        self.sim.run()


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
    assert bench.arrivals[0] < 60 + 35


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
