# SPDX-License-Identifier: BSD-2-Clause
"""Queues and pools that stop while buffers are everywhere, on the whole NIC: software gets each back, and what was
before is not there after."""

import random

from hw.abi.pools import BufferState, PoolCommand, PoolState, RecycleError
from hw.abi.rings import QueueError, QueueState
from tests.hw.nic.nic_host import QUEUE_BYTES
from tests.hw.nic.pool_host import PATIENCE, TAKEN, PoolHost
from tests.hw.nic.test_nic import make_frame

IDS = 14


class Traffic(PoolHost):
    """Queue 0 has pool 0, whose buffers are everywhere after :meth:`scatter`."""

    def __init__(self, seed, **changes):
        super().__init__(seed=seed, **changes)
        self.rng = random.Random(seed)

    async def ready(self, ctx, *, area=0):
        await self.bring_up(ctx, {0: 0})
        await self.join(ctx, 0, range(IDS), area=area)

    async def scatter(self, ctx):
        """Software has two buffers by completions of queue 0 and one that it took; two are to be sent, and two are
        being filled, until memory answers."""
        for _ in range(4):
            self.play(make_frame(self.rng, 60), gap=10)
        ids = [buffer_id for _, each in await self.frames(ctx, 0, 4) for buffer_id in each]
        taken = await self.command(ctx, 0, PoolCommand.TAKE)
        assert (taken.error, taken.queue) == (RecycleError.NONE, TAKEN)
        self.owned.add((0, taken.id))
        await self.rest(ctx, 60)
        self.memory.delay(range(QUEUE_BYTES), 600)
        await self.forward(ctx, 0, 0, [[(ids[2], 60)], [(ids[3], 60)]])
        await self.rest(ctx, 100)
        self.memory.latency = (600, 600)
        for _ in range(2):
            self.play(make_frame(self.rng, 60), gap=10)
        await self.rest(ctx, 60)
        self.memory.latency = (4, 4)

    async def goes_on(self, ctx, number=0):
        """Frames come and go."""
        sent = [make_frame(self.rng, 60, number) for _ in range(IDS)]
        for frame in sent:
            self.play(frame, gap=20)
        for frame in sent:
            [(got, ids)] = await self.frames(ctx, number, 1)
            assert got == frame
            await self.give_back(ctx, 0, ids)
        await self.rest(ctx, 60)


def test_a_queue_that_stops_gives_all_back_but_what_software_has():
    host = Traffic(31)

    async def bench(ctx):
        await host.ready(ctx)
        await host.scatter(ctx)
        for direction in ("tx", "rx"):
            await host.write(ctx, f"{direction}_control", 0, enable=0)
        for direction in ("tx", "rx"):
            assert await host.stopped(ctx, direction, 0) == (QueueState.DISABLED, 0)
        host.hear(0)
        assert len(host.owned) == 5
        assert await host.counts(ctx, 0) == (IDS - 5, 0, 5, IDS)
        assert await host.recover(ctx, 0) == set()
        await host.start(ctx, 0)
        await host.give_back(ctx, 0, [buffer_id for _, buffer_id in host.owned])
        await host.goes_on(ctx)
        assert await host.misuse(ctx, 0) == (None, 0)

    host.run(bench)


def test_a_queue_that_fails_loses_no_buffer():
    host = Traffic(32)

    async def fail(ctx, error):
        """Let queue 0 fail while frames come."""
        ring = range(host.queues[0].ring(0), host.queues[0].ring(2))
        if error is QueueError.DOORBELL:
            await host.write(ctx, "rx_doorbell", 0, fill_producer=100)
        if error is QueueError.RING_READ:
            host.memory.fail(ring, writes=False)
            for _ in range(6):
                host.play(make_frame(host.rng, 60), gap=10)
            ids = [buffer_id for _ in range(6) for buffer_id in (await host.frames(ctx, 0, 1))[0][1]]
            await host.fill(ctx, 0, ids)
            # They are software's still: their descriptors were not read.
            host.owned |= {(0, buffer_id) for buffer_id in ids}
        if error is QueueError.RING_WRITE:
            host.memory.fail(ring, reads=False)
        for _ in range(6):
            host.play(make_frame(host.rng, 60), gap=20)
        assert await host.stopped(ctx, "rx", 0) == (QueueState.ERROR, error.value)

    async def bench(ctx):
        await host.ready(ctx)
        for error in (QueueError.RING_WRITE, QueueError.RING_READ, QueueError.DOORBELL):
            await fail(ctx, error)
            await host.rest(ctx)
            host.hear(0)
            assert (await host.counts(ctx, 0)).ahead == 0
            lost = await host.recover(ctx, 0)
            assert bool(lost) == (error is QueueError.RING_WRITE)
            await host.give_back(ctx, 0, [buffer_id for _, buffer_id in sorted(host.owned)])
            await host.rest(ctx, 20)
            assert await host.counts(ctx, 0) == (IDS, 0, 0, IDS)
            host.memory.heal()
            await host.stop(ctx, "rx", 0)
            await host.start(ctx, 0, directions=("rx",))
        await host.goes_on(ctx)
        assert await host.misuse(ctx, 0) == (None, 0)

    host.run(bench)


def test_a_tx_queue_that_fails_hands_back_what_it_claimed():
    host = Traffic(33)

    async def bench(ctx):
        await host.ready(ctx)
        for _ in range(6):
            host.play(make_frame(host.rng, 60), gap=10)
        ids = [buffer_id for _, each in await host.frames(ctx, 0, 6) for buffer_id in each]
        host.memory.fail(range(QUEUE_BYTES), writes=False)
        await host.forward(ctx, 0, 0, [[(each, 60)] for each in ids[:2]])
        await host.reclaimed(ctx, 0, 2)
        host.memory.fail(range(host.queues[1].ring(2), host.queues[1].ring(3)))
        await host.forward(ctx, 1, 0, [[(each, 60)] for each in ids[2:4]])
        host.owned |= {(0, each) for each in ids[2:4]}
        assert await host.stopped(ctx, "tx", 1) == (QueueState.ERROR, QueueError.RING_READ.value)
        # A frame of one descriptor that has no end: it is cut off when its queue stops.
        await host.forward(ctx, 0, 0, [[(ids[4], 60)]], end_of_packet=0)
        await host.rest(ctx)
        await host.stop(ctx, "tx", 0)
        await host.rest(ctx)
        host.owned |= {(0, each) for each in ids[4:5] if await host.query(ctx, 0, each) is BufferState.OUT}
        assert host.sent == []
        assert (await host.counts(ctx, 0)).outstanding == len(host.owned)
        host.memory.heal()
        await host.give_back(ctx, 0, [buffer_id for _, buffer_id in sorted(host.owned)])
        await host.goes_on(ctx)
        assert await host.misuse(ctx, 0) == (None, 0)

    host.run(bench)


def test_a_pool_drains_when_its_queues_have_stopped_and_begins_anew():
    host = Traffic(34)

    async def bench(ctx):
        await host.ready(ctx)
        await host.scatter(ctx)
        await host.pool_write(ctx, "control", 0, enable=0)
        # Queues keep what they hold in advance, and frames come until it is used.
        await host.pool_state(ctx, 0, PoolState.DRAINING)
        assert (await host.command(ctx, 0, PoolCommand.JOIN, IDS, 64)).error is RecycleError.POOL
        await host.stop(ctx, "rx", 0)
        await host.rest(ctx, 700)
        host.hear(0)
        assert await host.counts(ctx, 0) == (IDS - 5, 0, 5, IDS)
        await host.pool_state(ctx, 0, PoolState.DRAINING)
        kept = sorted(buffer_id for _, buffer_id in host.owned)
        await host.give_back(ctx, 0, kept[:3])
        for buffer_id in kept[3:]:
            await host.pool_state(ctx, 0, PoolState.DRAINING)
            assert (await host.command(ctx, 0, PoolCommand.REMOVE, buffer_id)).error is RecycleError.NONE
        await host.pool_state(ctx, 0, PoolState.DISABLED)
        assert (await host.misuse(ctx, 0))[1] == 1
        await host.enable(ctx, 0, lifo=1)
        assert (await host.pool_fields(ctx, "buffers", 0)) == {"free": 0, "joined": 0}
        # Those of before are unknown, also those that were never handed back; others have their ids now.
        await host.give_back(ctx, 0, kept[:1])
        await host.rest(ctx, 60)
        assert (await host.misuse(ctx, 0))[0].error is RecycleError.UNKNOWN
        await host.join(ctx, 0, range(IDS), area=1)
        await host.start(ctx, 0, directions=("rx",))
        await host.rest(ctx, 60)
        await host.goes_on(ctx)
        assert await host.counts(ctx, 0) == (IDS - 8, 8, 0, IDS)
        assert await host.misuse(ctx, 0) == (None, 1)

    host.run(bench)


def test_a_pool_drains_and_begins_anew_under_a_queue_that_goes_on():
    host = Traffic(38)

    async def bench(ctx):
        await host.ready(ctx)
        await host.pool_write(ctx, "control", 0, enable=0)
        for _ in range(9):
            host.play(make_frame(host.rng, 60))
        await host.rest(ctx)
        ids = [buffer_id for _, each in host.hear(0) for buffer_id in each]
        assert ids == list(range(8)), "the queue keeps what it holds in advance, and gets no more"
        await host.give_back(ctx, 0, ids)
        await host.pool_state(ctx, 0, PoolState.DISABLED)
        host.forget(0)
        host.play(make_frame(host.rng, 60))
        await host.pool_write(ctx, "control", 0, enable=1)
        assert (await host.command(ctx, 0, PoolCommand.JOIN, 0, 64)).error is RecycleError.POOL, "it is being cleared"
        await host.pool_state(ctx, 0, PoolState.ENABLED)
        await host.join(ctx, 0, range(IDS), area=1)
        await host.ring_rx(ctx, 0)
        await host.goes_on(ctx)
        assert await host.counts(ctx, 0) == (IDS - 8, 8, 0, IDS)
        counters = await host.counters(ctx)
        assert (counters[0, "drop_no_buffer"], counters[0, "drop_pool_limit"]) == (2, 0)

    host.run(bench)


def test_a_queue_may_have_another_pool_while_buffers_of_the_one_before_are_out():
    host = Traffic(36)

    async def bench(ctx):
        await host.ready(ctx)
        await host.join(ctx, 1, range(10))
        await host.scatter(ctx)
        await host.stop(ctx, "rx", 0)
        host.hear(0)
        old = sorted(buffer_id for pool, buffer_id in host.owned if pool == 0)
        host.pool_of = {0: 1}
        await host.start(ctx, 0, directions=("rx",))
        frame = make_frame(host.rng, 60)
        host.play(frame)
        assert await host.frames(ctx, 0, 1) == [(frame, [0])]
        # A fill descriptor names a buffer of the queue's pool, which that of the same number is.
        await host.give_back(ctx, 0, old[:2])
        await host.fill(ctx, 0, [0, *old[2:]])
        await host.rest(ctx, 700)
        assert await host.counts(ctx, 1) == (2, 8, 0, 10)
        assert await host.counts(ctx, 0) == (IDS - 3, 0, 3, IDS)
        assert (await host.misuse(ctx, 1))[0].error in (RecycleError.NOT_OUT, RecycleError.UNKNOWN)
        assert await host.misuse(ctx, 0) == (None, 0)
        await host.give_back(ctx, 0, old[2:])
        await host.pool_write(ctx, "control", 0, enable=0)
        await host.pool_state(ctx, 0, PoolState.DISABLED)

    host.run(bench)


def test_a_function_reset_forgets_all_pools():
    host = Traffic(35)

    async def bench(ctx):
        await host.ready(ctx)
        await host.pool_write(ctx, "limit", 0, limit=9, resume=5)
        await host.pool_write(ctx, "overdue_bound", 0, bound=1)
        await host.scatter(ctx)
        # In the middle of returns, and of a command.
        for _ in range(8):
            await host.pool_write(ctx, "return4", 0, id0=30, id1=31, id2=29, id3=28)
        await host.pool_write(ctx, "command", 0, command=PoolCommand.OVERDUE.value)
        await host.write(ctx, "control", rx_enable=1, tx_enable=1, reset=1)
        for _ in range(PATIENCE):
            if not await host.registers.field(ctx, "status", "resetting"):
                break
        else:
            raise AssertionError(f"{PATIENCE} reads of STATUS did not see the end of the reset")
        for pool in range(2):
            host.forget(pool)
        for name in ("status", "buffers", "outstanding", "limit", "misuse", "misuse_count", "result", "control"):
            assert not any((await host.pool_fields(ctx, name, 0)).values()), name
        await host.ready(ctx, area=1)
        await host.rest(ctx, 60)
        await host.goes_on(ctx)
        assert await host.counts(ctx, 0) == (IDS - 8, 8, 0, IDS)
        assert await host.misuse(ctx, 0) == (None, 0)

    host.run(bench)
