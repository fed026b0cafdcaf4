# SPDX-License-Identifier: BSD-2-Clause
"""Buffers of stopped queues, given back."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.unused import UnusedBuffers

CONFIG = NicConfig(queues=3, pools=2, pool_buffers=64, recycle_ahead=8)
POOLS = (1, 0, 1)
BOUND = 2000


@pytest.mark.parametrize("seed", range(6))
def test_a_stopping_queue_gives_back_what_no_frame_took(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = UnusedBuffers(CONFIG)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    held = [[] for _ in POOLS]
    stopping = [False] * 3
    expected, told = [[], [], []], [0, 0, 0]

    async def testbench(ctx):
        for queue, pool in enumerate(POOLS):
            ctx.set(dut.pools[queue], pool)
        for cycle in range(BOUND):
            draining = cycle > BOUND // 2
            ctx.set(dut.held.strobe, 0)
            ctx.set(dut.given.strobe, 0)
            # Buffers of a stopping queue may still come for a while.
            queue = rng.randrange(3)
            if not draining and len(held[queue]) < 8 and rng.random() < 0.6:
                buffer = rng.randrange(64)
                for name, value in (("strobe", 1), ("queue", queue), ("id", buffer)):
                    ctx.set(getattr(dut.held, name), value)
                held[queue].append(buffer)
                if stopping[queue]:
                    expected[queue].append(buffer)
            queue = rng.randrange(3)
            if not stopping[queue] and len(held[queue]) > 2 and rng.random() < 0.5:
                count = rng.randint(1, len(held[queue]) - 1)
                for name, value in (("strobe", 1), ("queue", queue), ("count", count)):
                    ctx.set(getattr(dut.given, name), value)
                del held[queue][:count]
            for queue in range(3):
                if not stopping[queue] and (draining or rng.random() < 0.01):
                    stopping[queue] = True
                    expected[queue] += held[queue]
                elif stopping[queue] and not held[queue] and not draining:
                    stopping[queue] = False
            ctx.set(dut.stopping, sum(stops << queue for queue, stops in enumerate(stopping)))
            ctx.set(dut.unused.ready, rng.random() < 0.7)
            if ctx.get(dut.unused.valid) and ctx.get(dut.unused.ready):
                queue = ctx.get(dut.left.queue)
                assert ctx.get(dut.left.strobe)
                name = (ctx.get(dut.unused.payload.pool), ctx.get(dut.unused.payload.id))
                assert stopping[queue]
                assert name == (POOLS[queue], held[queue].pop(0)), f"queue {queue} in cycle {cycle}"
                told[queue] += 1
            else:
                assert not ctx.get(dut.left.strobe)
            await ctx.tick()
        assert not any(held), f"Waited {BOUND} cycles for all to come back: {held}"
        assert told == [len(each) for each in expected]
        assert sum(told) > 20

    sim.add_testbench(testbench)
    sim.run()
