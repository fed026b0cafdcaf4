# SPDX-License-Identifier: BSD-2-Clause
"""Messages of pools come once each and in order, in turn with those of the queue pairs, and count for none of those."""

import random

import pytest

from hw.config import preset
from hw.nic.interrupts import Interrupts
from tests.hw.block_bench import BlockBench
from tests.hw.nic.queue_writes import begin_write, end_write

POOL = 0x8000  #: vectors from here on are pools'


class Bench(BlockBench):
    """Interrupts with a list of vectors that pools have, and all messages that the host took: ``messages`` has cycle,
    vector, and queue for which it was counted."""

    def __init__(self, queues):
        self.queues = queues
        self.dut = Interrupts(preset("10g", queues=queues, pools=2))
        self.vectors, self.messages = [], []
        self.cycle = 0

    async def set_up(self):
        self.ctx.set(self.dut.interrupt.ready, 1)
        for queue in range(self.queues):
            begin_write(self.ctx, self.dut.write, "moderation", queue, vector=queue)
            await self.tick()

    def arm(self, queue):
        """Arm such that the pair fires at once."""
        begin_write(self.ctx, self.dut.write, "arm", queue, rx_consumer=0xFFFF)

    async def tick(self, cycles=1):
        dut, ctx = self.dut, self.ctx
        pool, out = dut.pool_interrupt, dut.interrupt
        for _ in range(cycles):
            ctx.set(pool.valid, bool(self.vectors))
            ctx.set(pool.payload, self.vectors[0] if self.vectors else 0)
            _, _, taken, valid, vector, counted, queue = await ctx.tick().sample(
                pool.valid & pool.ready, out.valid & out.ready, out.payload, dut.sent.strobe, dut.sent.queue
            )
            if taken:
                self.vectors.pop(0)
            assert valid or not counted, "counted without a message"
            if valid:
                self.messages.append((self.cycle, vector, queue if counted else None))
            self.cycle += 1
            end_write(ctx, dut.write)


@pytest.mark.parametrize("queues", [1, 3, 4])
def test_each_vector_is_sent_a_cycle_later_and_counted_for_no_pair(queues):
    b = Bench(queues)

    async def run(b):
        first = b.cycle
        b.vectors = [POOL, POOL + 7, POOL]
        await b.tick(10)
        assert b.messages == [(first + 1, POOL, None), (first + 2, POOL + 7, None), (first + 3, POOL, None)]
        b.arm(queues - 1)
        await b.tick(10)
        assert [message[1:] for message in b.messages[3:]] == [(queues - 1, queues - 1)]

    b.run(run)


@pytest.mark.parametrize("queues", [1, 3, 4])
def test_pools_have_a_turn_as_each_pair_has(queues):
    b = Bench(queues)

    async def run(b):
        b.ctx.set(b.dut.interrupt.ready, 0)
        b.vectors = [POOL + number for number in range(100)]
        for _ in range(10):
            for queue in range(queues):
                b.arm(queue)
                await b.tick()
            await b.tick(8)
            b.ctx.set(b.dut.interrupt.ready, 1)
            await b.tick(queues + 1)
            b.ctx.set(b.dut.interrupt.ready, 0)
        senders = [POOL if vector >= POOL else vector for _, vector, _ in b.messages]
        for start in range(0, len(senders), queues + 1):
            assert sorted(senders[start : start + queues + 1]) == [*range(queues), POOL]

    b.run(run)


def test_on_hold_no_pool_is_heard():
    b = Bench(2)

    async def run(b):
        b.ctx.set(b.dut.hold, 1)
        b.vectors = [POOL, POOL + 1]
        await b.tick(20)
        assert (b.messages, len(b.vectors)) == ([], 2)
        b.ctx.set(b.dut.hold, 0)
        await b.tick(5)
        assert [vector for _, vector, _ in b.messages] == [POOL, POOL + 1]

    b.run(run)


@pytest.mark.parametrize("seed", range(4))
def test_no_message_is_lost_or_changed_whatever_the_host_does(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    b = Bench(rng.randint(1, 5))

    async def run(b):
        fired, given = dict.fromkeys(range(b.queues), False), []
        for _ in range(600):
            if rng.random() < 0.2:
                given.append(POOL + rng.randrange(64))
                b.vectors.append(given[-1])
            if rng.random() < 0.2:
                queue = rng.randrange(b.queues)
                b.arm(queue)
                fired[queue] = True
            b.ctx.set(b.dut.interrupt.ready, rng.random() < 0.5)
            b.ctx.set(b.dut.hold, rng.random() < 0.2)
            await b.tick()
        b.ctx.set(b.dut.interrupt.ready, 1)
        b.ctx.set(b.dut.hold, 0)
        await b.tick(20 + 2 * len(b.vectors))
        assert [vector for _, vector, queue in b.messages if queue is None] == given
        pairs = [(vector, queue) for _, vector, queue in b.messages if queue is not None]
        assert all(vector == queue for vector, queue in pairs)
        assert {queue for _, queue in pairs} == {queue for queue, was in fired.items() if was}

    b.run(run)
