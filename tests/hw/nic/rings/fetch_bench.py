# SPDX-License-Identifier: BSD-2-Clause
"""A bench for DescriptorFetch: with the read engine and a memory, rings in it, and an account of what arrives."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import FillDescriptor
from hw.config import preset
from hw.nic.dma.read import DmaReader
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register

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

    def build(self, *, recycling=False, **changes):
        self.config = preset("10g", **changes)
        self.arrived = [[] for _ in range(self.config.queues)]
        self.taken = [0] * self.config.queues
        m = Module()
        m.submodules.fetch = self.dut = DescriptorFetch(self.config, **RX, recycling=recycling)
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

    def post(self, queue, index, value, length=64):
        """Write the descriptor that ring index ``index`` names."""
        at = self.base(queue) + index % self.entries * CODEC.size
        self.memory.data[at : at + CODEC.size] = CODEC.pack(address=value, length=length, buffer_id=value & 0xFFFF)

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
