# SPDX-License-Identifier: BSD-2-Clause
"""PoolLimits with what happens in a cycle set by method calls."""

from hw.config import preset
from hw.nic.recycle.interfaces import VISIT_CYCLES
from hw.nic.recycle.limits import PoolLimits
from hw.nic.recycle.pool_counter import SINGLE_EVENTS
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

POOLS = 3
EVENTS = (*SINGLE_EVENTS, "given", "dropped")


class Bench(BlockBench):
    """PoolLimits, visited as :class:`SteadyState` does, with events set by calls and taken back by :meth:`tick`."""

    def __init__(self, pools=POOLS, **parameters):
        self.dut = PoolLimits(preset("10g", pools=pools, **parameters))
        self.limit, self.resume = [0] * pools, [0] * pools
        self.cycle = 0

    async def set_up(self):
        self._visit()

    def event(self, name, pool, count=1):
        port = getattr(self.dut, name)
        self.ctx.set(port.strobe, 1)
        self.ctx.set(port.pool, pool)
        self.ctx.set(port.count, count)

    def loop(self, pool, **fields):
        begin_write(self.ctx, self.dut.write, "loop", pool, **fields)

    def bit(self, name, pool=0):
        return self.ctx.get(getattr(self.dut, name)) >> pool & 1

    def counts(self, pool=0):
        counts = self.ctx.get(self.dut.counts)[pool]
        return counts.outstanding, counts.ahead

    def status(self, pool=0):
        status = self.ctx.get(self.dut.loop_status)[pool]
        return status.limit, status.closings

    def _visit(self):
        pool = self.cycle % VISIT_CYCLES
        bounds = self.dut.bounds
        self.ctx.set(bounds.strobe, pool < len(self.limit))
        if pool < len(self.limit):
            self.ctx.set(bounds.pool, pool)
            self.ctx.set(bounds.limit, self.limit[pool])
            self.ctx.set(bounds.resume, self.resume[pool])

    async def tick(self, cycles=1):
        for _ in range(cycles):
            await self.ctx.tick()
            self.cycle += 1
            for name in EVENTS:
                self.ctx.set(getattr(self.dut, name).strobe, 0)
            self.ctx.set(self.dut.clear, 0)
            end_write(self.ctx, self.dut.write)
            self._visit()

    async def settle(self):
        """Until all that was told of has come into effect."""
        await self.tick(VISIT_CYCLES + 4)

    async def put_out(self, count, pool=0):
        """So many buffers go out to frames."""
        for _ in range(count):
            assert self.bit("open", pool)
            self.event("granted", pool)
            await self.tick()
            self.event("given", pool)
            await self.tick()
        await self.settle()

    async def hand_back(self, count, pool=0):
        for _ in range(count):
            self.event("handed_back", pool)
            await self.tick()

    async def opening(self, pool=0, bound=2 * VISIT_CYCLES):
        """Cycles until the loop opens."""
        for cycles in range(bound):
            if not self.bit("refused", pool):
                return cycles
            await self.tick()
        raise AssertionError(f"the loop of pool {pool} is closed after {bound} cycles")
