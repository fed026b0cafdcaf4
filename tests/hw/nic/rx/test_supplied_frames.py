# SPDX-License-Identifier: BSD-2-Clause
"""RxPlanner behind DescriptorFetch, whose queues are supplied with recycled buffers: full rate, and nothing dropped."""

import random
from collections import deque

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import FillDescriptor
from hw.config import preset
from hw.nic.dma.read import DmaReader
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from hw.nic.rx.planner import RxPlanner
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.standins import SlotCounter

FILL = Codec(FillDescriptor)
ENTRIES = 512
BUFFER = 100  #: bytes


class SuppliedBench:
    """Frames into a planner whose queues of ``pooled`` hold ``ahead`` buffers in advance; a buffer that is due is
    supplied ``latency`` cycles later. The other queues fetch theirs from rings."""

    def __init__(self, config, pooled, *, ahead, latency):
        self.config, self.pooled, self.ahead, self.latency = config, pooled, ahead, latency
        self.used = [[] for _ in range(config.queues)]
        self.decided_at = []
        self.planner, slots = RxPlanner(config), SlotCounter(config)
        self.fetch = DescriptorFetch(
            config,
            base="rx_fill_base",
            size="rx_fill_size",
            doorbell="rx_doorbell",
            producer="fill_producer",
            recycling=True,
        )
        self.memory = AxiMemory(1 << 16, latency=20)
        m = Module()
        m.submodules.planner, m.submodules.fetch, m.submodules.slots = self.planner, self.fetch, slots
        m.submodules.reader = reader = DmaReader(config, [1])
        connect(m, self.planner.descriptors, self.fetch.descriptors)
        connect(m, self.planner.slots, slots.port)
        connect(m, self.fetch.read, reader.clients[0])
        self.simulator = Simulator(m)
        self.simulator.add_clock(1e-6)
        self.memory.attach_read(self.simulator, reader.axi_ar, reader.axi_r)
        for index in range(ENTRIES):
            at = 0x40 + index * FILL.size
            self.memory.data[at : at + FILL.size] = FILL.pack(address=index, length=BUFFER, buffer_id=index)

    def run(self, frames, bound=30_000):
        """Offer ``frames``, (length, queue), one a cycle, and wait until all are decided."""

        async def offer(ctx):
            planner, fetch, everything = self.planner, self.fetch, (1 << self.config.queues) - 1
            ctx.set(planner.starvation, 1000)
            ctx.set(fetch.pooled, self.pooled)
            ctx.set(planner.enable, everything)
            ctx.set(fetch.control.enable, everything)
            for queue in range(self.config.queues):
                if not self.pooled >> queue & 1:
                    await write_register(ctx, fetch.queue_write, "rx_fill_base", queue, address=0x40)
                    await write_register(ctx, fetch.queue_write, "rx_fill_size", queue, entries=ENTRIES)
                    await write_register(ctx, fetch.queue_write, "rx_doorbell", queue, fill_producer=ENTRIES)
            # All that is held in advance is there.
            await ctx.tick().repeat(40 + self.ahead * self.config.queues)
            for length, queue in frames:
                ctx.set(planner.input.payload, {"length": length, "queue": queue, "routed": 1})
                ctx.set(planner.input.valid, 1)
                await ctx.tick().until(planner.input.ready)
            ctx.set(planner.input.valid, 0)

        async def watch(ctx):
            port = self.planner.output
            ctx.set(port.ready, 1)
            for cycle in range(bound):
                _, _, valid, segment = await ctx.tick().sample(port.valid, port.payload)
                if valid:
                    assert not segment.drop, f"frame {len(self.decided_at)} was dropped"
                    self.used[segment.queue].append(segment.buffer_id)
                    if segment.end_of_packet:
                        self.decided_at.append(cycle)
                if len(self.decided_at) == len(frames):
                    return
            raise AssertionError(f"Waited {bound} cycles for {len(frames)} frames: {len(self.decided_at)} came")

        self.simulator.add_testbench(offer, background=True)
        self.simulator.add_testbench(self._supply, background=True)
        self.simulator.add_testbench(watch)
        self.simulator.run()
        for own in self.used:
            assert own == list(range(len(own)))

    async def _supply(self, ctx):
        """Count what leaves the cache, and let as much follow."""
        supply, take = self.fetch.supply, self.fetch.descriptors.take
        due = deque(
            (0, queue) for queue in range(self.config.queues) if self.pooled >> queue & 1 for _ in range(self.ahead)
        )
        ids, cycle = [0] * self.config.queues, 0
        while True:
            offers = bool(due) and due[0][0] <= cycle
            ctx.set(supply.valid, int(offers))
            if offers:
                queue = due[0][1]
                entry = {"address": ids[queue], "length": BUFFER, "buffer_id": ids[queue]}
                ctx.set(supply.payload, {"queue": queue, "entry": entry})
            ctx.set(self.fetch.supplying, sum({1 << queue for _, queue in due}))
            _, _, ready, taken, taker, count = await ctx.tick().sample(
                supply.ready, take.strobe, take.queue, take.count
            )
            cycle += 1
            if offers and ready:
                ids[due.popleft()[1]] += 1
            if taken and self.pooled >> taker & 1:
                due.extend([(cycle + self.latency, taker)] * count)


@pytest.mark.parametrize(("queues", "ahead"), [(1, 32), (4, 16), (16, 16)])
def test_one_frame_a_cycle_into_supplied_buffers(queues, ahead):
    """Of one queue, and of several in no order. A buffer of theirs is supplied nine cycles after one was taken."""
    config = preset("100g", queues=queues, pools=1)
    bench, rng = SuppliedBench(config, (1 << queues) - 1, ahead=ahead, latency=8), random.Random(queues)
    bench.run([(60, rng.randrange(queues)) for _ in range(400)])
    assert bench.decided_at[-1] - bench.decided_at[0] == 399
    assert not bench.memory.reads, "no descriptor is read"


@pytest.mark.parametrize(("latency", "ahead"), [(0, 8), (8, 8), (40, 16)])
@pytest.mark.parametrize("lengths", [(60,), (60, 60, 60, 350)])
def test_no_frame_is_dropped_that_a_buffer_is_on_the_way_for(latency, ahead, lengths):
    """Frames without a pause, of two queues that are supplied and one that fetches: the cache runs dry again and
    again, and where it is supplied, waits for what is fetched."""
    config = preset("10g", data_width=512, queues=3, pools=2, fetch_depth=16, recycle_ahead=8)
    bench, rng = SuppliedBench(config, 0b011, ahead=ahead, latency=latency), random.Random(latency)
    bench.run([(rng.choice(lengths), rng.randrange(3)) for _ in range(300)])
    assert min(map(len, bench.used)) > 50
