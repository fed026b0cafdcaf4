# SPDX-License-Identifier: BSD-2-Clause
"""A completion writer with write engine and memory under it, and software that remembers what it was told."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import RxCompletion
from hw.config import preset
from hw.nic.dma.write import DmaWriter
from hw.nic.rings.completion_writer import CompletionWriter
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register
from tests.hw.streams import send, until

CODEC = Codec(RxCompletion)
PHASE = CODEC.mask("flags", "phase")
DOORBELL_CYCLES = 5  #: from a doorbell's write until its slots are free
RX = {"base": "rx_completion_base", "size": "rx_completion_size", "doorbell": "rx_doorbell"}


class CompletionBench:
    """Completion writer, write engine and memory; software that remembers what it was told."""

    def __init__(self, entries=16, **memory):
        self.entries = entries
        self.memory = AxiMemory(1 << 16, **memory)
        self.published: list[tuple[int, int, int, int]] = []  # cycle, queue, producer, count

    def build(self, **changes):
        self.config = preset("10g", **changes)
        m = Module()
        m.submodules.completions = self.dut = CompletionWriter(self.config, **RX)
        m.submodules.writer = writer = DmaWriter(self.config, 1)
        wiring.connect(m, self.dut.write, writer.clients[0])
        self.sim = Simulator(m)
        self.sim.add_clock(1e-6)
        self.memory.attach_write(self.sim, writer.axi_aw, writer.axi_w, writer.axi_b)
        port = self.dut.published

        async def listen(ctx):
            async for _, _, strobe, queue, producer, count in ctx.tick().sample(
                port.strobe, port.queue, port.producer, port.count
            ):
                if strobe:
                    self.published.append((self.memory.cycle, queue, producer, count))

        self.sim.add_process(listen)
        return self

    def base(self, queue):
        return 0x40 + 0x1040 * queue

    def at(self, queue, index):
        """The entry of a ring index, if its phase says that it is there."""
        start = self.base(queue) + index % self.entries * CODEC.size
        entry = CODEC.unpack(self.memory.data[start : start + CODEC.size])
        return entry if bool(entry.flags & PHASE) == (index // self.entries % 2 == 0) else None

    async def start(self, ctx, *queues, timeout=0):
        ctx.set(self.dut.timeout, timeout)
        for queue in queues:
            await write_register(ctx, self.dut.queue_write, RX["base"], queue, address=self.base(queue))
            await write_register(ctx, self.dut.queue_write, RX["size"], queue, entries=self.entries)
        mask = sum(1 << queue for queue in queues)
        ctx.set(self.dut.control.clear, mask)
        await ctx.tick()
        ctx.set(self.dut.control.clear, 0)
        ctx.set(self.dut.control.enable, ctx.get(self.dut.control.enable) | mask)
        for queue in queues:
            await until(ctx, self.dut.completions.free[queue] == self.entries, name="the ring to be free", bound=30)

    async def reserve(self, ctx, queue, count):
        port = self.dut.completions
        assert ctx.get(port.free[queue]) >= count
        ctx.set(port.reserve, 1)
        ctx.set(port.reserve_queue, queue)
        ctx.set(port.reserve_count, count)
        await ctx.tick()
        ctx.set(port.reserve, 0)

    async def complete(self, ctx, queue, value):
        raw = CODEC.pack(rss_hash=value, buffer_id=value & 0xFFFF, flags=value & 1)
        await send(
            ctx, self.dut.completions.entry, {"queue": queue, "entry": int.from_bytes(raw, "little")}, name="entry"
        )

    async def consume(self, ctx, queue, index):
        await write_register(ctx, self.dut.queue_write, "rx_doorbell", queue, completion_consumer=index & 0xFFFF)
        await ctx.tick().repeat(DOORBELL_CYCLES - 1)

    async def idle(self, ctx):
        await until(ctx, self.dut.control.busy == 0, name="busy to fall")
        await ctx.tick().repeat(3)

    def run(self, *testbenches):
        for testbench in testbenches:
            self.sim.add_testbench(testbench)
        self.sim.run()

    def groups(self):
        """How many entries each write carried."""
        sizes, size = [], 0
        for beat in self.memory.write_beats:
            size += beat.strobe.bit_count()
            if beat.last:
                sizes.append(size // CODEC.size)
                size = 0
        return sizes
