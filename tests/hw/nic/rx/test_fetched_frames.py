# SPDX-License-Identifier: BSD-2-Clause
"""RxPlanner behind DescriptorFetch: no frame is dropped for want of a descriptor that is posted."""

import random

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


def base(queue):
    return 0x40 + 0x4000 * queue


@pytest.mark.parametrize(("width", "depth", "latency"), [(64, 8, 5), (512, 8, 3), (512, 16, 40), (256, 64, 25)])
@pytest.mark.parametrize("lengths", [(60,), (60, 60, 60, 350)])
def test_no_frame_is_dropped_while_descriptors_are_posted(width, depth, latency, lengths):
    """Frames without a pause, small caches, buffers of 100 bytes: the cache runs dry again and again."""
    rng = random.Random(depth)
    queues, total = 2, 120
    config = preset("10g", data_width=width, fetch_depth=depth, queues=queues)
    planner, slots = RxPlanner(config), SlotCounter(config)
    fetch = DescriptorFetch(
        config, base="rx_fill_base", size="rx_fill_size", doorbell="rx_doorbell", producer="fill_producer"
    )
    memory = AxiMemory(1 << 16, latency=latency)
    m = Module()
    m.submodules.planner, m.submodules.fetch, m.submodules.slots = planner, fetch, slots
    m.submodules.reader = reader = DmaReader(config, [1])
    connect(m, planner.descriptors, fetch.descriptors)
    connect(m, planner.slots, slots.port)
    connect(m, fetch.read, reader.clients[0])
    frames = [(rng.choice(lengths), rng.randrange(queues)) for _ in range(total)]
    for queue in range(queues):
        for index in range(ENTRIES):
            at = base(queue) + index * FILL.size
            memory.data[at : at + FILL.size] = FILL.pack(address=index, length=100, buffer_id=index)
    used = [[] for _ in range(queues)]

    async def offer(ctx):
        for queue in range(queues):
            await write_register(ctx, fetch.queue_write, "rx_fill_base", queue, address=base(queue))
            await write_register(ctx, fetch.queue_write, "rx_fill_size", queue, entries=ENTRIES)
        ctx.set(planner.starvation, 1000)
        ctx.set(planner.enable, (1 << queues) - 1)
        ctx.set(fetch.control.enable, (1 << queues) - 1)
        for queue in range(queues):
            await write_register(ctx, fetch.queue_write, "rx_doorbell", queue, fill_producer=ENTRIES)
        await ctx.tick().repeat(12)
        for length, queue in frames:
            ctx.set(planner.input.payload, {"length": length, "queue": queue, "routed": 1})
            ctx.set(planner.input.valid, 1)
            await ctx.tick().until(planner.input.ready)
        ctx.set(planner.input.valid, 0)

    async def take(ctx):
        ctx.set(planner.output.ready, 1)
        port, decided = planner.output, 0
        for _ in range(30_000):
            _, _, valid, segment = await ctx.tick().sample(port.valid, port.payload)
            if valid:
                assert not segment.drop, f"frame {decided} was dropped"
                used[segment.queue].append(segment.buffer_id)
                decided += segment.end_of_packet
            if decided == total:
                return
        raise AssertionError(f"Waited 30000 cycles for {total} frames: {decided} came")

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    memory.attach_read(simulator, reader.axi_ar, reader.axi_r)
    simulator.add_testbench(offer, background=True)
    simulator.add_testbench(take)
    simulator.run()
    for queue in range(queues):
        assert used[queue] == list(range(len(used[queue])))
