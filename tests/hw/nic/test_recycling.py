# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the whole NIC: frames land in a pool's buffers, and these go round by every way."""

import random
from collections import Counter

import pytest

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from hw.nic.tx.framer import max_descriptors
from tests.hw.nic.nic_host import ENTRIES, balance
from tests.hw.nic.pool_host import SIZE, PoolHost
from tests.hw.nic.test_header_split import HEADERS, packet
from tests.hw.nic.test_nic import make_frame


def test_buffers_come_back_by_every_way():
    host, rng = PoolHost(seed=1, classify=True, header_split=True), random.Random(1)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0, 1: 1})
        for pool in range(2):
            await host.join(ctx, pool, range(12))
        await host.rest(ctx, 40)
        assert await host.counts(ctx, 0) == (4, 8, 0, 12)
        host.play(frame := make_frame(rng, 100))
        host.play(long := make_frame(rng, 2 * SIZE + 1, 1), gap=300)
        assert await host.frames(ctx, 0, 1) == [(frame, [0])]
        assert await host.frames(ctx, 1, 1) == [(long, [0, 1, 2])]
        assert await host.counts(ctx, 0) == (3, 8, 1, 12)
        assert await host.counts(ctx, 1) == (1, 8, 3, 12)
        await host.give_back(ctx, 0, [0])
        await host.fill(ctx, 1, [0, 1])
        await host.forward(ctx, 0, 1, [[(2, 60)]])
        await host.reclaimed(ctx, 0, 1)
        # Headers that are split off leave the rest in the pool.
        await host.stop(ctx, "rx", 1)
        await host.start(ctx, 1, directions=("rx",), header_bytes=64)
        for length in (6, SIZE + 1, 300):
            host.play(frame := packet(rng, 1, length))
            [(got, ids)] = await host.frames(ctx, 1, 1)
            assert (got, len(ids)) == (frame, 1 + length // SIZE)
            await host.give_back(ctx, 1, ids)
        await host.rest(ctx, 60)
        headers = range(host.queues[1].header(), host.queues[1].header() + ENTRIES * 64)
        assert sum(len(data) for _, address, data in host.writes if address in headers) == 3 * HEADERS
        for pool in range(2):
            assert await host.counts(ctx, pool) == (4, 8, 0, 12)
            assert await host.misuse(ctx, pool) == (None, 0)

    host.run(bench)


@pytest.mark.parametrize(
    ("lifo", "order"),
    [(0, [*range(12), 2, 0, 1, 3]), (1, [*range(8), 11, 10, 9, 1, 3, 4, 5, 6])],
)
def test_in_steady_state_no_descriptor_is_read_and_buffers_come_in_the_order_of_the_pool(lifo, order):
    host = PoolHost(seed=2)
    rng = random.Random(2)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0}, lifo=lifo)
        await host.join(ctx, 0, range(12))
        seen, kept = [], []
        for count in range(16):
            host.play(frame := make_frame(rng, 60))
            [(got, ids)] = await host.frames(ctx, 0, 1)
            assert got == frame
            seen += ids
            kept += ids
            if count == 2:
                await host.give_back(ctx, 0, [kept[2], kept[0], kept[1]])
                kept = []
            if count > 2:
                await host.give_back(ctx, 0, [kept.pop(0)])
            await host.rest(ctx, 20)
        assert seen == order
        ring = range(host.queues[0].ring(0), host.queues[0].ring(1))
        assert not [burst for burst in host.memory.reads if burst.address in ring]

    host.run(bench)


class Mix:
    """Traffic, and everything that software may do to the buffers of two pools, at random."""

    def __init__(self, host, seed, ids):
        self.host, self.random, self.ids = host, random.Random(seed), ids
        self.played = [[], []]
        self.forwarded = Counter()
        self.serial = 0

    def offer(self):
        """Frames to both queues."""
        for _ in range(self.random.randrange(1, 6)):
            queue = self.random.randrange(2)
            length = self.random.choice((60, 64, 65, 300, SIZE, SIZE + 1, 2500))
            frame = make_frame(self.random, length, queue)
            self.played[queue].append(frame)
            self.host.play(frame, gap=self.random.choice((0, 20, length // 4)))

    def hear(self, number):
        """Frames come in order, each whole, but for those that were dropped."""
        for frame, _ in self.host.hear(number):
            assert frame in self.played[number], "a frame came that was not sent, or not in order"
            del self.played[number][: self.played[number].index(frame) + 1]

    def some(self, pool):
        """Some buffers that software has."""
        mine = sorted(buffer_id for owner, buffer_id in self.host.owned if owner == pool)
        return self.random.sample(mine, min(len(mine), self.random.randrange(1, 7)))

    async def act(self, ctx):
        """One thing."""
        host, pool = self.host, self.random.randrange(2)
        numbers = [number for number in range(2) if host.pool_of[number] == pool]
        action = self.random.choice(("offer", "offer", "return", "fill", "send", "take", "remove", "ask"))
        if action == "offer":
            self.offer()
        if action == "return":
            await host.give_back(ctx, pool, self.some(pool))
        if action == "fill" and numbers and host.queues[numbers[0]].posted < ENTRIES:
            await host.fill(ctx, numbers[0], self.some(pool))
        if action == "send" and (some := self.some(pool)):
            queue = self.random.randrange(2)
            host.reclaim(queue)
            if len(some) <= ENTRIES - host.queues[queue].sent + host.queues[queue].reclaimed:
                pieces = [(buffer_id, self.random.randrange(60, 400)) for buffer_id in some]
                places = [host.joined[pool, buffer_id] for buffer_id in some]
                bytes_of = [host.memory.data[at : at + length] for at, (_, length) in zip(places, pieces)]
                self.forwarded[b"".join(bytes_of)] += len(some) <= max_descriptors(host.config)  # no others are sent
                await host.forward(ctx, queue, pool, [pieces])
        if action == "take":
            result = await host.command(ctx, pool, PoolCommand.TAKE)
            if result.error is RecycleError.NONE:
                host.owned.add((pool, result.id))
        if action == "remove" and (some := self.some(pool)):
            assert (await host.command(ctx, pool, PoolCommand.REMOVE, some[0])).error is RecycleError.NONE
            host.disown(pool, some[:1])
            await host.join(ctx, pool, some[:1])
        if action == "ask":
            for buffer_id in self.some(pool):
                assert await host.query(ctx, pool, buffer_id) is BufferState.OUT
        for number in range(2):
            self.hear(number)
            await host.ring_rx(ctx, number)

    async def finish(self, ctx):
        """Everything comes to rest; all buffers are somewhere, and come back."""
        host = self.host
        await host.rest(ctx, 400)
        for number in range(2):
            self.hear(number)
            host.reclaim(number)
        for pool in range(2):
            await host.recover(ctx, pool)  # fills that were not wanted yet are out
            await host.give_back(ctx, pool, sorted(each for owner, each in host.owned if owner == pool))
        await host.rest(ctx, 60)
        for pool in range(2):
            ahead = 8 * list(host.pool_of.values()).count(pool)
            assert await host.counts(ctx, pool) == (self.ids - ahead, ahead, 0, self.ids)
            assert await host.misuse(ctx, pool) == (None, 0)
        assert Counter(host.sent) == +self.forwarded
        received, accounted = balance(await host.counters(ctx), 2)
        assert received == accounted == host.offered


@pytest.mark.parametrize(
    ("seed", "stall", "pools", "changes"),
    [(51, 0.0, {0: 0, 1: 1}, {}), (52, 0.3, {0: 1, 1: 1}, {"data_width": 512, "pool_buffers": 64, "fetch_depth": 16})],
)
def test_random_mixes_lose_nothing_and_double_nothing(seed, stall, pools, changes):
    print(f"seed {seed}")
    host = PoolHost(seed=seed, stall=stall, latency=(2, 40), **changes)
    mix = Mix(host, seed, 18)

    async def bench(ctx):
        await host.bring_up(ctx, pools, lifo=seed % 2)
        for pool in range(2):
            await host.join(ctx, pool, range(18))
        for _ in range(24):
            await mix.act(ctx)
        await mix.finish(ctx)

    host.run(bench)
