# SPDX-License-Identifier: BSD-2-Clause
"""The loop that bounds a pool, on the whole NIC: no more of its buffers are out than the limit, and traffic goes on."""

import random

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from tests.hw.nic.nic_host import balance
from tests.hw.nic.pool_host import TAKEN, PoolHost
from tests.hw.nic.test_nic import make_frame


async def status(host, ctx, pool):
    """Whether the loop is closed, and how often it did."""
    closed = (await host.pool_fields(ctx, "status", pool))["closed"]
    return closed, (await host.pool_fields(ctx, "loop_status", pool))["closings"]


def test_no_more_are_out_than_the_limit_and_other_pools_lose_nothing():
    host = PoolHost(seed=21, stall=0.3, latency=(4, 30))
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


def test_software_closes_and_opens_the_loop_and_may_take_beyond_the_limit():
    host = PoolHost(seed=23)
    rng = random.Random(23)
    settings = {"window": 16, "slack": 64}

    async def frame_arrives(ctx):
        host.play(frame := make_frame(rng, 60))
        await host.rest(ctx, 100)
        return [got for got, _ in host.hear(0)] == [frame]

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0})
        await host.join(ctx, 0, range(12))
        assert await frame_arrives(ctx)
        await host.pool_write(ctx, "loop", 0, close=1, **settings)
        await ctx.tick().repeat(10)
        assert not await frame_arrives(ctx)
        await host.pool_write(ctx, "loop", 0, close=1, open=1, **settings)
        await ctx.tick().repeat(40)
        assert await status(host, ctx, 0) == (1, 1)
        # What is taken counts for the limit, which does not keep software from it.
        await host.pool_write(ctx, "limit", 0, limit=9, resume=2)
        taken = [await host.command(ctx, 0, PoolCommand.TAKE) for _ in range(3)]
        assert {each.error for each in taken} == {RecycleError.NONE}
        assert await host.counts(ctx, 0) == (0, 8, 4, 12)
        await host.give_back(ctx, 0, [each.id for each in taken[1:]])
        await host.pool_write(ctx, "loop", 0, open=1, **settings)
        await ctx.tick().repeat(40)
        assert await status(host, ctx, 0) == (0, 1)
        assert await frame_arrives(ctx)
        assert (await host.command(ctx, 0, PoolCommand.QUERY, taken[0].id)).queue == TAKEN
        assert await host.counts(ctx, 0) == (2, 7, 3, 12)
        counters = await host.counters(ctx)
        assert (counters[0, "rx_packets"], counters[0, "drop_pool_limit"]) == (2, 1)

    host.run(bench)


def test_low_water_interrupts_in_time_for_software_to_add_buffers():
    host = PoolHost(seed=24, latency=(4, 30))
    rng = random.Random(24)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0})
        await host.join(ctx, 0, range(14))
        await host.pool_write(ctx, "low_water", 0, threshold=4, vector=77, arm=1)
        sent = [make_frame(rng, 60) for _ in range(26)]
        for frame in sent[:2]:
            host.play(frame)
        await host.rest(ctx)
        assert 77 not in host.vectors
        for frame in sent[2:]:
            host.play(frame, gap=60)
        await host.until(ctx, lambda: 77 in host.vectors, "the interrupt of a pool that runs low")
        await host.join(ctx, 0, range(14, 30))
        await host.rest(ctx)
        found = host.hear(0)
        assert [frame for frame, _ in found] == sent
        assert sorted(buffer_id for _, ids in found for buffer_id in ids) == list(range(26))
        assert host.vectors == [77]

    host.run(bench)


def test_the_leak_report_names_buffers_and_who_has_them():
    host = PoolHost(seed=25, pool_buffers=16)
    rng = random.Random(25)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0, 1: 0})
        await host.join(ctx, 0, range(16))
        await host.pool_write(ctx, "overdue_bound", 0, bound=1)
        for number in range(2):
            host.play(make_frame(rng, 60, number))
        [(_, [first])], [(_, [second])] = await host.frames(ctx, 0, 1), await host.frames(ctx, 1, 1)
        await ctx.tick().repeat(2 * 1024 + 400)
        assert (await host.pool_fields(ctx, "misuse_count", 0))["overdue"] == 2
        owners = {first: 0, second: 1}
        for buffer_id in sorted(owners):
            result = await host.command(ctx, 0, PoolCommand.OVERDUE, buffer_id)
            assert result[:4] == (buffer_id, RecycleError.NONE, BufferState.OUT, owners[buffer_id])
            assert result.age in (2, 3)
        assert (await host.command(ctx, 0, PoolCommand.OVERDUE, max(owners) + 1)).error is RecycleError.EMPTY
        await host.give_back(ctx, 0, owners)
        assert (await host.command(ctx, 0, PoolCommand.OVERDUE)).error is RecycleError.EMPTY

    host.run(bench)
