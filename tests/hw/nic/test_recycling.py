# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the whole NIC: frames land in a pool's buffers, and these go round by every way."""

import random

import pytest

from tests.hw.nic.pool_host import SIZE, PoolHost
from tests.hw.nic.test_nic import make_frame


def test_frames_land_in_buffers_that_joined_and_come_back_by_every_way():
    host = PoolHost(seed=1)
    rng = random.Random(1)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0, 1: 1})
        for pool in range(2):
            await host.join(ctx, pool, range(12))
        await host.rest(ctx, 40)
        assert await host.counts(ctx, 0) == (4, 8, 0, 12)
        host.play(frame := make_frame(rng, 100))
        host.play(long := make_frame(rng, 2 * SIZE + 1, 1), gap=300)
        [(got, ids)] = await host.frames(ctx, 0, 1)
        assert (got, ids) == (frame, [0])
        [(got, ids)] = await host.frames(ctx, 1, 1)
        assert (got, ids) == (long, [0, 1, 2])
        assert await host.counts(ctx, 0) == (3, 8, 1, 12)
        assert await host.counts(ctx, 1) == (1, 8, 3, 12)
        await host.give_back(ctx, 0, [0])
        await host.fill(ctx, 1, ids[:2])
        await host.forward(ctx, 0, 1, [[(ids[2], 60)]], end_of_packet=1)
        await host.rest(ctx)
        assert await host.counts(ctx, 0) == (4, 8, 0, 12)
        assert await host.counts(ctx, 1) == (4, 8, 0, 12)
        for pool in range(2):
            assert await host.misuse(ctx, pool) == (None, 0)

    host.run(bench)
