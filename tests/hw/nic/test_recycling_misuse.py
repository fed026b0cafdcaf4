# SPDX-License-Identifier: BSD-2-Clause
"""Every misuse of pools on the whole NIC: it is refused, a register explains it, and traffic goes on."""

import random

from hw.abi.pools import BufferState, PoolCommand, PoolState, RecycleError, RecycleSource
from hw.abi.rings import QueueError, QueueState
from hw.bus.axi4 import Response
from tests.hw.nic.nic_host import QUEUE_BYTES
from tests.hw.nic.pool_host import SIZE, TAKEN, Misuse, PoolHost
from tests.hw.nic.test_nic import make_frame

IDS = 12
NO_QUEUE = 255


class MisuseHost(PoolHost):
    """Queue 0 has pool 0, queue 1 pool 1, and each pool ``IDS`` buffers."""

    def __init__(self, seed, **changes):
        super().__init__(seed=seed, **changes)
        self.rng = random.Random(seed)
        self.refused = [0] * self.config.pools

    async def ready(self, ctx):
        await self.bring_up(ctx, {0: 0, 1: 1})
        for pool in range(2):
            await self.join(ctx, pool, range(IDS))

    async def deliver(self, ctx, number=0, count=1):
        """Ids of the buffers of frames that come."""
        sent = [make_frame(self.rng, 60, number) for _ in range(count)]
        for frame in sent:
            self.play(frame)
        found = await self.frames(ctx, number, count)
        assert [frame for frame, _ in found] == sent
        return [buffer_id for _, ids in found for buffer_id in ids]

    async def blamed(self, ctx, pool, *offenders):
        """The first of ``offenders`` is the first that the pool has recorded, and it has counted them; nothing is
        wrong with other pools, buffers are where they were, and frames come and go."""
        sent = [make_frame(self.rng, 60, number) for number in range(2)]
        for frame in sent:
            self.play(frame)
        await self.rest(ctx, 110)
        for each in range(2):
            expected = offenders if each == pool else ()
            self.refused[each] += len(expected)
            first = Misuse(*expected[0]) if expected else None
            assert await self.misuse(ctx, each) == (first, self.refused[each])
            [(got, ids)] = self.hear(each)
            assert got == sent[each]
            await self.ring_rx(ctx, each)
            out = sum(owner == each for owner, _ in self.owned)
            assert (await self.counts(ctx, each)).outstanding == out
            await self.give_back(ctx, each, ids)


def by_return(error, buffer_id):
    return error, RecycleSource.RETURN, buffer_id, NO_QUEUE


def by_fill(error, buffer_id, queue):
    return error, RecycleSource.FILL, buffer_id, queue


def by_transmit(error, buffer_id, queue):
    return error, RecycleSource.TRANSMIT, buffer_id, queue


def by_command(error, buffer_id):
    return error, RecycleSource.COMMAND, buffer_id, NO_QUEUE


def test_return_registers_take_back_only_what_is_out():
    host = MisuseHost(2)

    async def bench(ctx):
        await host.ready(ctx)
        # No buffer can have that id; none has joined with it; another pool has it out.
        await host.give_back(ctx, 0, [IDS + 21, 0xFFFF])
        await host.blamed(ctx, 0, by_return(RecycleError.RANGE, IDS + 21), by_return(RecycleError.RANGE, 0xFFFF))
        await host.give_back(ctx, 0, [IDS])
        await host.blamed(ctx, 0, by_return(RecycleError.UNKNOWN, IDS))
        [first, there] = await host.deliver(ctx, 1, 2)
        [here] = await host.deliver(ctx, 0)
        assert there != here
        await host.give_back(ctx, 1, [first])
        await host.give_back(ctx, 0, [there])
        await host.blamed(ctx, 0, by_return(RecycleError.NOT_OUT, there))
        # Free, and held for the queue.
        counts = await host.counts(ctx, 0)
        assert counts.ahead == 8
        inside = [i for i in range(IDS) if i != here]
        await host.give_back(ctx, 0, inside)
        await host.blamed(ctx, 0, *(by_return(RecycleError.NOT_OUT, i) for i in inside))
        # Twice, in one write, and in two.
        await host.give_back(ctx, 0, [here, here])
        await host.blamed(ctx, 0, by_return(RecycleError.NOT_OUT, here))
        await host.give_back(ctx, 1, [there])
        await host.give_back(ctx, 1, [there])
        await host.blamed(ctx, 1, by_return(RecycleError.NOT_OUT, there))
        # More than can wait: the bus does.
        out = await host.deliver(ctx, 0, 4)
        for buffer_id in out:
            for _ in range(5):
                await host.give_back(ctx, 0, [IDS] * 4)
            await host.give_back(ctx, 0, [buffer_id])
        await host.blamed(ctx, 0, *([by_return(RecycleError.UNKNOWN, IDS)] * 80))

    host.run(bench)


def test_a_buffer_that_is_being_filled_or_sent_is_not_out():
    host = MisuseHost(3)

    async def bench(ctx):
        await host.ready(ctx)
        [sent] = await host.deliver(ctx)
        await host.rest(ctx)
        host.memory.delay(range(QUEUE_BYTES), 900)  # of what is sent, then of what is received
        await host.forward(ctx, 0, 0, [[(sent, 60)]])
        await host.rest(ctx, 100)
        host.memory.latency = (900, 900)
        host.play(make_frame(host.rng, 60))
        await host.until(ctx, lambda: len(host.filled) == 1, "a frame's bytes")
        [(_, being_filled)] = host.filled
        assert await host.query(ctx, 0, sent) is BufferState.NIC
        await host.give_back(ctx, 0, [being_filled, sent])
        await ctx.tick().repeat(20)
        offender, _ = await host.misuse(ctx, 0)
        assert offender == Misuse(*by_return(RecycleError.NOT_OUT, being_filled))
        host.refused[0] += 2
        assert not host.sent
        host.memory.latency = (4, 4)
        [(_, ids)] = await host.frames(ctx, 0, 1)
        assert ids == [being_filled]
        await host.reclaimed(ctx, 0, 1)
        await host.blamed(ctx, 0)

    host.run(bench)


def test_of_two_ways_back_one_is_taken():
    host = MisuseHost(4)

    async def bench(ctx):
        await host.ready(ctx)
        [first, second, third] = await host.deliver(ctx, 0, 3)
        # A return register, then a TX descriptor; a TX descriptor, then another, and then a return register.
        await host.give_back(ctx, 0, [first])
        await host.forward(ctx, 0, 0, [[(first, 60)]])
        await host.reclaimed(ctx, 0, 1)
        await host.blamed(ctx, 0, by_transmit(RecycleError.NOT_OUT, first, 0))
        await host.forward(ctx, 1, 0, [[(second, 60)], [(second, 60)]])
        await host.reclaimed(ctx, 1, 2)
        assert len(host.sent) == 3, "frames are sent, whatever becomes of their buffers"
        await host.give_back(ctx, 0, [second])
        await host.blamed(ctx, 0, by_transmit(RecycleError.NOT_OUT, second, 1), by_return(RecycleError.NOT_OUT, second))
        # A fill descriptor and a return register: fills are fetched when few are free.
        rest = await host.deliver(ctx, 0, IDS - 9)
        await host.give_back(ctx, 0, [third])
        await host.fill(ctx, 0, [third, *rest, rest[0], IDS, 40])
        await host.blamed(
            ctx,
            0,
            by_fill(RecycleError.NOT_OUT, third, 0),
            by_fill(RecycleError.NOT_OUT, rest[0], 0),
            by_fill(RecycleError.UNKNOWN, IDS, 0),
            by_fill(RecycleError.RANGE, 40, 0),
        )

    host.run(bench)


def test_tx_descriptors_hand_back_only_to_pools_that_their_queue_may():
    host = MisuseHost(5, tx_offload=True, segmentation=True)

    async def bench(ctx):
        await host.ready(ctx)
        await host.stop(ctx, "tx", 1)
        await host.write(ctx, "tx_pools", 1, pools=1)
        await host.write(ctx, "tx_control", 1, enable=1)
        host.queues[1].sent = host.queues[1].reclaimed = 0
        [out] = await host.deliver(ctx, 1)
        for pool, error, queue, more in (
            (1, RecycleError.POOL, 1, {}),
            (5, RecycleError.POOL, 0, {}),
            (0, RecycleError.UNKNOWN, 1, {}),
            (1, RecycleError.SEGMENT, 0, {"segment": 1}),
        ):
            name = out if pool == 1 else IDS
            await host.forward(ctx, queue, pool, [[(name, 60)]], **more)
            await host.reclaimed(ctx, queue, 1)
            if pool == 1:
                host.owned.add((1, out))
            await host.blamed(ctx, 0 if pool == 5 else pool, by_transmit(error, name, queue))
        assert len(host.sent) == 3, "all but the one that no segments can be made of"
        await host.forward(ctx, 0, 1, [[(out, 60)]])
        await host.reclaimed(ctx, 0, 1)
        await host.blamed(ctx, 0)

    host.run(bench)


def test_commands_that_make_no_sense_are_refused():
    host = MisuseHost(6)

    async def bench(ctx):
        await host.ready(ctx)
        host.refused = [0, 0]
        for command, buffer_id, length, error, state in (
            (PoolCommand.JOIN, 3, SIZE, RecycleError.JOINED, BufferState.NIC),
            (PoolCommand.JOIN, IDS, 0, RecycleError.LENGTH, BufferState.NONE),
            (PoolCommand.JOIN, 32, SIZE, RecycleError.RANGE, BufferState.NONE),
            (PoolCommand.REMOVE, 3, 0, RecycleError.NOT_OUT, BufferState.NIC),
            (PoolCommand.REMOVE, IDS, 0, RecycleError.UNKNOWN, BufferState.NONE),
            (PoolCommand.QUERY, 0x8003, 0, RecycleError.RANGE, BufferState.NONE),
            (PoolCommand.OVERDUE, 32, 0, RecycleError.RANGE, BufferState.NONE),
            (0, 3, 0, RecycleError.COMMAND, BufferState.NONE),
            (9, 3, 0, RecycleError.COMMAND, BufferState.NONE),
        ):
            assert await host.command(ctx, 0, command, buffer_id, length) == (buffer_id, error, state, 0, 0), command
            await host.blamed(ctx, 0, by_command(error, buffer_id))
        [out] = await host.deliver(ctx)
        result = await host.command(ctx, 0, PoolCommand.JOIN, out, SIZE)
        assert (result.error, result.state) == (RecycleError.JOINED, BufferState.OUT)
        await host.blamed(ctx, 0, by_command(RecycleError.JOINED, out))
        # What none is there for is no misuse.
        assert (await host.command(ctx, 0, PoolCommand.QUERY, IDS)).state is BufferState.NONE
        taken = [await host.command(ctx, 1, PoolCommand.TAKE) for _ in range(IDS - 8)]
        assert {(each.error, each.state, each.queue) for each in taken} == {(RecycleError.NONE, BufferState.OUT, TAKEN)}
        assert (await host.command(ctx, 1, PoolCommand.TAKE)).error is RecycleError.EMPTY
        assert (await host.command(ctx, 1, PoolCommand.OVERDUE)).error is RecycleError.EMPTY
        host.owned |= {(1, each.id) for each in taken}
        await host.blamed(ctx, 1)
        await host.give_back(ctx, 1, [each.id for each in taken])
        await host.blamed(ctx, 1)

    host.run(bench)


def test_a_pool_that_is_not_enabled_takes_nothing():
    host = MisuseHost(7)

    async def bench(ctx):
        await host.ready(ctx)
        kept = await host.deliver(ctx, 1, 2)
        await host.stop(ctx, "rx", 1)
        await host.pool_write(ctx, "control", 1, enable=0)
        assert await host.registers.write(ctx, "control", of_pool=1, enable=1) is Response.SLVERR
        for command in (PoolCommand.TAKE, PoolCommand.JOIN):
            assert (await host.command(ctx, 1, command, IDS, SIZE)).error is RecycleError.POOL, command
        assert await host.query(ctx, 1, kept[0]) is BufferState.OUT
        assert await host.misuse(ctx, 1) == (Misuse(*by_command(RecycleError.POOL, IDS)), 2)
        await host.give_back(ctx, 1, kept[:1])
        assert (await host.command(ctx, 1, PoolCommand.REMOVE, kept[1])).error is RecycleError.NONE
        await host.pool_state(ctx, 1, PoolState.DISABLED)
        host.forget(1)
        await host.give_back(ctx, 1, [kept[0]])
        await ctx.tick().repeat(20)  # for which commands do not wait
        for command in (PoolCommand.TAKE, PoolCommand.JOIN, PoolCommand.REMOVE, PoolCommand.QUERY, PoolCommand.OVERDUE):
            assert (await host.command(ctx, 1, command, kept[0], SIZE)).error is RecycleError.POOL, command
        await host.forward(ctx, 0, 1, [[(kept[0], 60)]])
        await host.reclaimed(ctx, 0, 1)
        assert await host.misuse(ctx, 1) == (Misuse(*by_return(RecycleError.POOL, kept[0])), 2 + 7)
        await host.enable(ctx, 1)
        assert await host.misuse(ctx, 1) == (None, 0)
        await host.join(ctx, 1, range(IDS), area=1)
        await host.start(ctx, 1, directions=("rx",))
        await host.blamed(ctx, 0)

    host.run(bench)


def test_queues_that_cannot_have_their_pool_get_nothing():
    host = MisuseHost(8)

    async def bench(ctx):
        await host.ready(ctx)
        await host.stop(ctx, "rx", 1)
        # Completions in place: there is no place, as fill descriptors are none.
        await host.write(ctx, "rx_completion_base", 1, address=host.queues[1].ring(0))
        await host.write(ctx, "rx_control", 1, enable=1)
        assert await host.state(ctx, "rx", 1) == (QueueState.ERROR, 1, QueueError.IN_PLACE.value)
        await host.stop(ctx, "rx", 1)
        # A pool that does not exist: its frames find no buffer, and its fill descriptors are none of another pool.
        host.pool_of = {0: 0, 1: 3}
        await host.start(ctx, 1, directions=("rx",))
        [out] = await host.deliver(ctx)
        await host.fill(ctx, 1, [out])
        host.play(make_frame(host.rng, 60, 1))
        await host.rest(ctx, 400)
        counters = await host.counters(ctx)
        assert counters[1, "drop_no_buffer"] == 1
        for pool in range(2):
            assert await host.misuse(ctx, pool) == (None, 0)
        await host.give_back(ctx, 0, [out])
        host.pool_of = {0: 0, 1: 1}
        await host.stop(ctx, "rx", 1)
        await host.start(ctx, 1, directions=("rx",))
        await host.blamed(ctx, 0)

    host.run(bench)
