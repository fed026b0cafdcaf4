# SPDX-License-Identifier: BSD-2-Clause
"""The bench for DescriptorFetch with queues that have a pool: who claims fills, and who supplies buffers."""

import random

from tests.hw.nic.rings.fetch_bench import CODEC, Bench, address


class PooledBench(Bench):
    """A bench whose queues of the mask ``pooled`` have a pool; all of their fills are wanted.

    What leaves by ``fills`` is taken with the chance ``drains`` in each cycle, and kept by queue in ``fills`` since the
    queue was started.
    """

    def __init__(self, pooled, entries=16, *, drains=1.0, seed=0, **memory):
        print(f"seed {seed}")
        super().__init__(entries, seed=seed, **memory)
        self.pooled, self.drains, self.random = pooled, drains, random.Random(seed)
        self.fills: list[list[int]] = []
        self.filled_at: list[int] = []  #: cycles
        self.commands: list[tuple[int, int]] = []  #: of fetches: cycle and queue

    def build(self, **changes):
        super().build(**{"recycling": True, "pools": 2, "recycle_ahead": 8} | changes)
        self.fills = [[] for _ in range(self.config.queues)]
        self.sim.add_testbench(self._claim, background=True)
        return self

    async def _listen(self, ctx):
        port = self.dut.descriptors.arrived
        while True:
            _, _, strobe, queue, entry = await ctx.tick().sample(port.strobe, port.queue, port.entry)
            if strobe:
                self.arrived[queue].append(address(entry))
                self.arrivals.append(self.memory.cycle)

    async def _claim(self, ctx):
        port, command = self.dut.fills, self.dut.read.command
        ctx.set(self.dut.pooled, self.pooled)
        ctx.set(self.dut.wanted, self.pooled)
        while True:
            ctx.set(port.ready, int(self.random.random() < self.drains))
            _, _, moves, fill, commanded, queue = await ctx.tick().sample(
                port.valid & port.ready, port.payload, command.valid & command.ready, command.payload.queue
            )
            if commanded:
                self.commands.append((self.memory.cycle, queue))
            if moves:
                self.fills[fill.queue].append(fill.buffer_id)
                self.filled_at.append(self.memory.cycle)

    async def start(self, ctx, *queues):
        for queue in queues:
            self.fills[queue] = []
        await super().start(ctx, *queues)

    async def returned(self, ctx, queue, count, bound=2000):
        """Wait until ``count`` fills of the queue have left."""
        for _ in range(bound):
            if len(self.fills[queue]) == count:
                return
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for {count} fills of queue {queue}: {len(self.fills[queue])} left")

    async def quiet(self, ctx, queue, bound=2000):
        """Wait until the queue is not busy."""
        for _ in range(bound):
            if not ctx.get(self.dut.control.busy) >> queue & 1:
                return
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for queue {queue} not to be busy")

    def offer(self, ctx, queue, value):
        """Offer a buffer to the cache, until :meth:`withdraw`."""
        raw = CODEC.pack(address=value, length=64, buffer_id=value & 0xFFFF)
        supply = self.dut.supply
        ctx.set(supply.valid, 1)
        ctx.set(supply.payload, {"queue": queue, "entry": CODEC.unpack(raw)._asdict()})

    def withdraw(self, ctx):
        ctx.set(self.dut.supply.valid, 0)

    async def supply(self, ctx, queue, *values, bound=200):
        """Put buffers into the cache, one a cycle."""
        for value in values:
            self.offer(ctx, queue, value)
            for _ in range(bound):
                *_, ready = await ctx.tick().sample(self.dut.supply.ready)
                if ready:
                    break
            else:
                raise AssertionError(f"Waited {bound} cycles for a buffer of queue {queue} to be taken")
        self.withdraw(ctx)
