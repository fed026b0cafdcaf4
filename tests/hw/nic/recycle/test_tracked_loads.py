# SPDX-License-Identifier: BSD-2-Clause
"""What a limit that follows the steady state does under load: a modelled wire, queues and consumers around it."""

from collections import deque

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.recycle.interfaces import VISIT_CYCLES
from hw.nic.recycle.limits import PoolLimits
from hw.nic.recycle.steady_state import SteadyState
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

WINDOW = 256
AHEAD = 8
SLACK = 24
BUFFERS = 512


class Load:
    """Frames of one pool, and who consumes them.

    ``every`` so many cycles come ``burst`` frames; each stays ``time`` cycles with a consumer, which is done with one
    in ``service`` cycles at best; ``dead``: it never is.
    """

    def __init__(self, every, service, time, burst=1):
        self.every, self.service, self.time, self.burst = every, service, time, burst
        self.dead = False
        self.next, self.last = 0, 0
        self.waiting, self.ahead = 0, 0
        self.out = deque()
        self.reset_figures()

    def reset_figures(self):
        self.delivered = self.dropped = self.most = self.consumed = 0
        self.limits = []

    def step(self, cycle, opened, refused):
        """Events of one cycle."""
        events = []
        if self.out and not self.dead and self.out[0] <= cycle:
            self.out.popleft()
            self.consumed += 1
            events.append("handed_back")
        if cycle >= self.next:
            self.next = max(self.next, cycle - self.every) + self.every
            self.waiting += self.burst
        if self.waiting and (refused or (not self.ahead and not opened)):
            self.waiting -= 1
            self.dropped += 1
            events.append("dropped")
        elif self.waiting and self.ahead:
            self.waiting -= 1
            self.ahead -= 1
            self.delivered += 1
            self.last = max(cycle + self.time, self.last + self.service)
            self.out.append(self.last)
            events.append("given")
        if opened and self.ahead < AHEAD and len(self.out) + self.ahead < BUFFERS:
            self.ahead += 1
            events.append("granted")
        self.most = max(self.most, len(self.out) + self.ahead)
        return events


class Bench:
    """The loop of two pools with a load each. Pools have their events in turn."""

    def __init__(self, *loads):
        config = preset("10g", pools=2, pool_buffers=BUFFERS)
        self.loads = loads
        self.limits, self.steady = PoolLimits(config), SteadyState(config)
        self.cycle = 0

    def run(self, bench):
        m = Module()
        m.submodules.limits, m.submodules.steady = self.limits, self.steady
        connect(m, self.steady.bounds, self.limits.bounds)
        m.d.comb += [self.steady.counts.eq(self.limits.counts), self.steady.refused.eq(self.limits.refused)]

        async def testbench(ctx):
            self.ctx = ctx
            for pool in range(2):
                await self.write("loop", pool, track=1, window=8, slack=SLACK)
            await ctx.tick().repeat(2 * VISIT_CYCLES)  # limits are known
            await bench(self)

        sim = Simulator(m)
        sim.add_clock(1e-6)
        sim.add_testbench(testbench)
        sim.run()

    async def write(self, name, pool, **fields):
        for port in (self.limits.write, self.steady.write):
            begin_write(self.ctx, port, name, pool, **fields)
        await self.ctx.tick()
        for port in (self.limits.write, self.steady.write):
            end_write(self.ctx, port)

    async def windows(self, count):
        """Runs the loads; their figures are of this time."""
        ctx, limits = self.ctx, self.limits
        for load in self.loads:
            load.reset_figures()
        for _ in range(count * WINDOW):
            pool = self.cycle & 1
            load = self.loads[pool]
            opened, refused = ctx.get(limits.open) >> pool & 1, ctx.get(limits.refused) >> pool & 1
            events = load.step(self.cycle, opened, refused)
            for name in events:
                port = getattr(limits, name)
                ctx.set(port.strobe, 1)
                ctx.set(port.pool, pool)
                ctx.set(port.count, 1)
            if self.cycle % 64 < 2:
                load.limits.append(ctx.get(limits.loop_status[pool].limit))
            await ctx.tick()
            for name in events:
                ctx.set(getattr(limits, name).strobe, 0)
            self.cycle += 1


def steady(burst=1):
    """About forty buffers outstanding, whose consumer could do twice as much."""
    return Load(20 * burst, 10, 800, burst)


def test_limit_settles_above_a_steady_load():
    b = Bench(steady(), Load(40, 10, 400))

    async def run(b):
        await b.windows(20)
        await b.windows(20)
        for load, average in zip(b.loads, (40, 10)):
            assert load.dropped == 0
            assert all(abs(limit - (1.5 * average + SLACK)) <= 3 for limit in load.limits)

    b.run(run)


def test_bursts_within_the_slack_lose_nothing():
    b = Bench(steady(burst=12), steady())

    async def run(b):
        await b.windows(20)
        assert sum(load.dropped for load in b.loads) == 0
        await b.windows(40)
        assert sum(load.dropped for load in b.loads) == 0

    b.run(run)


def test_overload_at_twice_the_rate_does_not_raise_the_limit():
    """The consumer is kept busy, and the other pool knows nothing of it."""
    b = Bench(steady(), steady())

    async def run(b):
        slow, other = b.loads
        await b.windows(20)
        in_force = slow.limits[-1]
        slow.every, slow.service = 10, 20
        await b.windows(100)
        print(f"limit {in_force}, then {min(slow.limits)} to {max(slow.limits)}; {slow.consumed} consumed")
        assert max(slow.limits) <= 1.1 * in_force
        assert min(slow.limits) >= 0.9 * in_force
        assert slow.most <= max(slow.limits)
        assert slow.consumed >= 0.97 * 100 * WINDOW / 20
        assert slow.dropped > 0.45 * 100 * WINDOW / 10
        assert other.dropped == 0
        assert abs(other.limits[-1] - in_force) <= 2

        slow.every, slow.service = 20, 10
        await b.windows(20)
        await b.windows(20)
        assert slow.dropped == 0
        assert abs(slow.limits[-1] - in_force) <= 2

    b.run(run)


def test_gentle_rise_and_fall_are_followed_without_loss():
    b = Bench(steady(), steady())

    async def run(b):
        load = b.loads[0]
        load.service = 1
        await b.windows(20)
        found = []
        for every in (18, 16, 14, 12, 10, 8, 10, 12, 16, 20, 40):
            load.every = every
            await b.windows(16)
            assert load.dropped == 0
            found.append(load.limits[-1])
        assert found[:6] == sorted(found[:6])
        assert found[5:] == sorted(found[5:], reverse=True)
        assert found[5] >= 1.8 * found[-2] - SLACK

    b.run(run)


def test_dead_consumer_has_its_limit_and_no_more():
    b = Bench(steady(), steady())

    async def run(b):
        dead, other = b.loads
        await b.windows(20)
        in_force = dead.limits[-1]
        dead.dead = True
        await b.windows(40)
        assert dead.most <= 1.1 * in_force
        assert b.ctx.get(b.limits.refused) == 0b01
        assert b.ctx.get(b.limits.loop_status[0].closings) == 1
        assert other.dropped == 0
        dead.dead = False
        await b.windows(10)
        await b.windows(10)
        assert dead.dropped == 0
        assert b.ctx.get(b.limits.refused) == 0

    b.run(run)


def test_what_rises_over_many_windows_is_followed_to_the_register_and_taken_back():
    """A limit that takes longer than eight windows to fill looks like a load that grows: LIMIT bounds it."""
    b = Bench(Load(100, 50, 4000), steady())

    async def run(b):
        slow = b.loads[0]
        await b.write("limit", 0, limit=120, resume=60)
        await b.windows(60)
        before = slow.limits[-1]
        slow.every, slow.service = 50, 100
        await b.windows(150)
        assert before < 100
        assert max(slow.limits) <= 120
        assert slow.dropped > 0
        assert slow.most <= 120
        assert min(slow.limits[-200:]) <= 1.1 * before

    b.run(run)


@pytest.mark.parametrize("pool", range(2))
def test_without_tracking_the_registers_bound_an_overload(pool):
    b = Bench(steady(), steady())

    async def run(b):
        load = b.loads[pool]
        await b.write("loop", pool, track=0)
        await b.write("limit", pool, limit=80, resume=48)
        load.every, load.service = 10, 20
        await b.windows(60)
        assert load.most == 80
        assert b.ctx.get(b.limits.loop_status[pool].closings) > 5
        await b.windows(40)
        assert load.consumed >= 0.97 * 40 * WINDOW / 20
        assert b.loads[1 - pool].dropped == 0

    b.run(run)
