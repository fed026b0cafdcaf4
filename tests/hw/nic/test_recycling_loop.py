# SPDX-License-Identifier: BSD-2-Clause
"""The loop that bounds a pool, on the whole NIC: memory sees no more buffers out than its limit, and traffic goes on."""

import random

import pytest

from hw.abi.pools import PoolCommand, RecycleError
from tests.hw.nic.nic_host import balance
from tests.hw.nic.pool_host import PoolHost
from tests.hw.nic.test_nic import make_frame


async def status(host, ctx, pool):
    """Whether the loop is closed, and how often it did."""
    closed = (await host.pool_fields(ctx, "status", pool))["closed"]
    return closed, (await host.pool_fields(ctx, "loop_status", pool))["closings"]


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_no_more_are_out_than_the_limit_and_other_pools_lose_nothing(stall):
    host = PoolHost(seed=21, stall=stall, latency=(4, 30))
    rng = random.Random(21)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0, 1: 1})
        for pool in range(2):
            await host.join(ctx, pool, range(24))
        await host.pool_write(ctx, "limit", 0, limit=12, resume=4)
        host.limits[0] = 12
        await ctx.tick().repeat(32)
        # Software of queue 0 takes what comes and gives nothing back.
        sent = [make_frame(rng, rng.choice((60, 300)), number % 2) for number in range(40)]
        for frame in sent:
            host.play(frame, gap=60)
        ids = [buffer_id for _, each in await host.frames(ctx, 0, 12) for buffer_id in each]
        while host.queues[1].received < 20:
            [(_, used)] = await host.frames(ctx, 1, 1)
            await host.give_back(ctx, 1, used)
        await host.rest(ctx)
        assert await host.counts(ctx, 0) == (12, 0, 12, 24)
        assert await status(host, ctx, 0) == (1, 1)
        # It stays closed until no more than 4 are out.
        await host.give_back(ctx, 0, ids[:7])
        await ctx.tick().repeat(60)
        assert await host.counts(ctx, 0) == (19, 0, 5, 24)
        assert (await status(host, ctx, 0))[0] == 1
        await host.give_back(ctx, 0, ids[7:8])
        await ctx.tick().repeat(60)
        assert await host.counts(ctx, 0) == (12, 8, 4, 24)
        assert await status(host, ctx, 0) == (0, 1)
        host.play(frame := make_frame(rng, 60))
        assert [got for got, _ in await host.frames(ctx, 0, 1)] == [frame]
        counters = await host.counters(ctx)
        assert counters[0, "drop_pool_limit"] == 8
        assert counters[1, "rx_packets"] == 20
        assert balance(counters, 2) == (41, 41)

    host.run(bench)


def test_fill_descriptors_open_a_loop_that_closed_with_buffers_left():
    host = PoolHost(seed=22)
    rng = random.Random(22)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0})
        await host.join(ctx, 0, range(24))
        await host.pool_write(ctx, "limit", 0, limit=10, resume=4)
        await ctx.tick().repeat(32)
        for _ in range(12):
            host.play(make_frame(rng, 60), gap=30)
        ids = [buffer_id for _, each in await host.frames(ctx, 0, 10) for buffer_id in each]
        await host.rest(ctx)
        assert await host.counts(ctx, 0) == (14, 0, 10, 24)
        await host.fill(ctx, 0, ids)
        await host.rest(ctx)
        assert (await host.counts(ctx, 0)).outstanding <= 4
        assert (await status(host, ctx, 0))[0] == 0
        host.play(frame := make_frame(rng, 60))
        assert [got for got, _ in await host.frames(ctx, 0, 1)] == [frame]

    host.run(bench)
