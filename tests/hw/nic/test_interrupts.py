# SPDX-License-Identifier: BSD-2-Clause
"""No interleaving of arming and completions loses a wake-up; moderation holds interrupts back no longer than said."""

import random

import pytest

from hw.config import preset
from hw.nic.interrupts import Interrupts
from tests.hw.block_bench import BlockBench
from tests.hw.nic.queue_writes import begin_write, end_write

QUEUES = 3


class Bench(BlockBench):
    """Interrupts with what happens in a cycle set by method calls and taken back by :meth:`tick`."""

    def __init__(self, queues=QUEUES):
        self.dut = Interrupts(preset("10g", queues=queues))
        self.sent = []
        self.counted = 0
        self.cycle = 0
        self.failed = {"rx": 0, "tx": 0}

    async def set_up(self):
        self.ctx.set(self.dut.interrupt.ready, 1)

    def write(self, name, queue, **fields):
        begin_write(self.ctx, self.dut.write, name, queue, **fields)

    def arm(self, queue, rx=0, tx=0):
        self.write("arm", queue, rx_consumer=rx % 65536, tx_consumer=tx % 65536)

    def publish(self, direction, queue, producer, count=1):
        port = getattr(self.dut, f"{direction}_published")
        self.ctx.set(port.strobe, 1)
        self.ctx.set(port.queue, queue)
        self.ctx.set(port.producer, producer % 65536)
        self.ctx.set(port.count, count)

    def flag(self, name, mask):
        self.ctx.set(getattr(self.dut, name), mask)

    async def tick(self, cycles=1):
        dut, ctx = self.dut, self.ctx
        for _ in range(cycles):
            for direction, mask in self.failed.items():
                ctx.set(getattr(dut, f"{direction}_failed"), mask)
            _, _, valid, ready, vector, sent, queue = await ctx.tick().sample(
                dut.interrupt.valid, dut.interrupt.ready, dut.interrupt.payload, dut.sent.strobe, dut.sent.queue
            )
            assert sent == (valid and ready)
            if sent:
                self.sent.append((self.cycle, vector, queue))
            self.cycle += 1
            end_write(ctx, dut.write)
            for port in (dut.rx_published, dut.tx_published):
                ctx.set(port.strobe, 0)
            for direction in ("rx", "tx"):
                ctx.set(getattr(dut, f"{direction}_started"), 0)

    async def fired(self, cycles=10):
        """Number of interrupts sent within some cycles from now."""
        before = len(self.sent)
        await self.tick(cycles)
        return len(self.sent) - before


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_armed_pair_fires_once_at_a_completion(bench, direction):
    async def run(b):
        b.write("moderation", 1, vector=0x1234)
        await b.tick()
        b.publish(direction, 1, 1)
        assert await b.fired() == 0
        b.arm(1, **{direction: 1})
        assert await b.fired() == 0
        b.publish(direction, 0, 1)
        assert await b.fired() == 0
        b.publish(direction, 1, 2)
        assert await b.fired() == 1
        assert b.sent[-1][1:] == (0x1234, 1)
        b.publish(direction, 1, 3)
        assert await b.fired() == 0

    bench.run(run)


@pytest.mark.parametrize(("rx", "tx"), [(6, 0), (0, 3), (6, 3), (0xFFFF, 0)])
def test_arming_behind_the_producer_fires_at_once(bench, rx, tx):
    async def run(b):
        b.publish("rx", 2, rx)
        b.publish("tx", 2, tx)
        await b.tick()
        b.arm(2)
        assert await b.fired() == 1
        b.arm(2, rx, tx)
        assert await b.fired() == 0

    bench.run(run)


@pytest.mark.parametrize(("count", "more"), [(100, 0), (100, 3), (9, 3)])
def test_moderation_holds_back_what_came_before_arming(bench, count, more):
    """Otherwise completions that come during each poll would interrupt at each re-arming."""

    async def run(b):
        b.write("moderation", 0, cycles=40, count=count)
        await b.tick()
        b.publish("rx", 0, 4, count=4)
        b.publish("tx", 0, 2, count=2)
        await b.tick()
        first = b.cycle
        b.arm(0)
        await b.tick(10)
        if more:
            b.publish("rx", 0, 4 + more, count=more)
        await b.tick(60)
        assert [cycle - first for cycle, _, _ in b.sent] == [10 + 7 if 6 + more >= count else 40 + 6]

    bench.run(run)


@pytest.mark.parametrize(("unseen", "fires"), [(5, 0), (6, 1), (7, 1)])
def test_arming_fires_at_once_where_the_count_waits(bench, unseen, fires):
    async def run(b):
        b.write("moderation", 0, cycles=1000, count=6)
        await b.tick()
        b.publish("rx", 0, 3, count=3)
        await b.tick()
        b.arm(0, rx=3 - unseen & 0xFFFF)
        assert await b.fired() == fires

    bench.run(run)


@pytest.mark.parametrize("offset", range(-4, 5))
def test_completion_around_the_cycle_of_arming_is_never_lost(bench, offset):
    async def run(b):
        for cycle in range(-5, 6):
            if cycle == 0:
                b.arm(0)
            if cycle == offset:
                b.publish("rx", 0, 1)
            await b.tick()
        await b.tick(6)
        assert len(b.sent) == 1

    bench.run(run)


@pytest.mark.parametrize("cycles", [1, 2, 7, 50])
def test_delay_runs_from_the_first_completion(bench, cycles):
    async def run(b):
        b.write("moderation", 0, cycles=cycles, count=100)
        await b.tick()
        b.arm(0)
        await b.tick(3)
        first = b.cycle
        for index in range(cycles + 10):
            if index % 3 == 0:
                b.publish("rx", 0, 1 + index // 3)
            await b.tick()
        assert [cycle - first for cycle, _, _ in b.sent] == [cycles + 6]

    bench.run(run)


def test_count_of_both_directions_ends_the_delay(bench):
    async def run(b):
        b.write("moderation", 0, cycles=1000, count=6)
        await b.tick()
        b.arm(0)
        await b.tick()
        b.publish("rx", 0, 3, count=3)
        assert await b.fired(20) == 0
        b.publish("rx", 0, 4)
        b.publish("tx", 0, 1)
        assert await b.fired(20) == 0
        b.publish("tx", 0, 2)
        assert await b.fired() == 1

    bench.run(run)


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_delay_one_completion_interrupts_at_once(bench, count):
    async def run(b):
        b.write("moderation", 0, count=count)
        await b.tick()
        b.arm(0)
        await b.tick()
        b.publish("rx", 0, 1)
        assert await b.fired() == 1

    bench.run(run)


@pytest.mark.parametrize("before", [True, False])
def test_a_delay_without_a_count_holds_back_however_many_come(bench, before):
    async def run(b):
        b.write("moderation", 0, cycles=200)
        await b.tick()
        if before:
            b.publish("rx", 0, 4, count=4)
            await b.tick()
        first = b.cycle
        b.arm(0)
        await b.tick()
        for index in range(50):
            first = b.cycle if not before and not index else first
            b.publish("rx", 0, 4 * (index + 2), count=4)
            await b.tick()
        await b.tick(200)
        assert [cycle - first for cycle, _, _ in b.sent] == [206]

    bench.run(run)


@pytest.mark.parametrize("before", [True, False])
def test_a_count_without_a_delay_waits_for_all_of_them(bench, before):
    async def run(b):
        b.write("moderation", 0, count=500)
        await b.tick()
        if before:
            b.publish("rx", 0, 4, count=4)
            await b.tick()
        b.arm(0)
        await b.tick()
        for index in range(before, 124):
            b.publish("rx", 0, 4 * (index + 1), count=4)
            await b.tick()
        b.publish("tx", 0, 3, count=3)
        assert await b.fired(70_000) == 0, "longer than any delay"
        b.publish("tx", 0, 4, count=1)
        assert await b.fired() == 1

    bench.run(run)


def test_a_restart_of_one_direction_leaves_the_other_armed(bench):
    async def run(b):
        b.arm(0)
        await b.tick()
        b.flag("rx_started", 0b001)
        assert await b.fired() == 0
        b.publish("tx", 0, 1)
        assert await b.fired() == 1

    bench.run(run)


def test_restarted_direction_counts_from_zero(bench):
    async def run(b):
        b.publish("rx", 0, 9)
        await b.tick()
        b.flag("rx_started", 0b001)
        await b.tick()
        b.arm(0, rx=0)
        assert await b.fired() == 0

    bench.run(run)


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_a_failed_direction_interrupts_at_once_and_at_every_arm_until_it_is_left(bench, direction):
    async def run(b):
        b.write("moderation", 0, cycles=1000, count=1000)
        await b.tick()
        b.arm(0)
        await b.tick()
        b.failed[direction] = 0b001
        assert await b.fired() == 1
        b.publish("rx", 0, 1)
        assert await b.fired() == 0
        for _ in range(2):
            b.arm(0, rx=1)
            assert await b.fired() == 1
        b.arm(1)
        assert await b.fired() == 0
        b.failed[direction] = 0
        b.arm(0, rx=1)
        assert await b.fired() == 0

    bench.run(run)


def test_message_holds_until_taken_and_pairs_take_turns(bench):
    async def run(b):
        b.ctx.set(b.dut.interrupt.ready, 0)
        for queue in range(QUEUES):
            b.write("moderation", queue, vector=10 + queue)
            await b.tick()
        for _ in range(2):
            for queue in range(QUEUES):
                b.arm(queue, rx=0xFFFF)
                await b.tick(5)
            assert b.ctx.get(b.dut.interrupt.payload) == 10
        b.ctx.set(b.dut.interrupt.ready, 1)
        await b.tick(12)
        assert [vector for _, vector, _ in b.sent] == [10, 11, 12, 10]

    bench.run(run)


def test_on_hold_what_was_put_up_is_sent_and_nothing_else(bench):
    async def run(b):
        b.ctx.set(b.dut.interrupt.ready, 0)
        b.arm(0, rx=0xFFFF)
        await b.tick(10)
        b.ctx.set(b.dut.hold, 1)
        b.arm(1, rx=0xFFFF)
        await b.tick(10)
        b.ctx.set(b.dut.interrupt.ready, 1)
        assert await b.fired(20) == 1
        b.ctx.set(b.dut.hold, 0)
        assert await b.fired() == 1
        assert [queue for _, _, queue in b.sent] == [0, 1]

    bench.run(run)


@pytest.mark.parametrize("seed", range(12))
def test_no_wake_up_is_lost_in_any_interleaving(seed):
    """The driver's loop: sleep armed, wake, consume up to some index, arm with it. Whenever it sleeps and completions
    lie beyond its index, an interrupt comes within the moderation's delay.
    """
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench(1)
    delay, count = rng.choice(((0, 0), (0, 1), (9, 0), (5, 3), (20, 4), (9, 100)))

    async def run(b):
        b.write("moderation", 0, cycles=delay, count=count)
        await b.tick()
        producer = {"rx": 0, "tx": 0}
        consumer = dict(producer)
        asleep_behind = 0
        armed, handled, rearm = False, 0, 0
        for _ in range(1500):
            for direction in producer:
                if rng.random() < 0.08:
                    new = rng.randint(1, 4)
                    producer[direction] += new
                    b.publish(direction, 0, producer[direction], new)
            if not armed and b.cycle >= rearm:
                b.arm(0, consumer["rx"], consumer["tx"])
                armed = True
            b.ctx.set(b.dut.interrupt.ready, rng.random() < 0.7)
            seen_before = dict(producer)
            await b.tick()
            if len(b.sent) > handled:
                handled = len(b.sent)
                armed, rearm = False, b.cycle + rng.randrange(6)
                consumer = {side: rng.choice((seen_before[side], consumer[side])) for side in consumer}
            asleep_behind = asleep_behind + 1 if armed and consumer != producer else 0
            assert asleep_behind < delay + 24, "slept although completions were waiting"
        assert handled > 10

    bench.run(run)
