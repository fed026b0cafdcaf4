# SPDX-License-Identifier: BSD-2-Clause
"""RxPath tells of each buffer that it took, once, when its completion entry has been handed over."""

import random

import pytest

from hw.abi.rings import CompletionError, DropReason
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench
from tests.hw.nic.rx.reference import random_frame
from tests.hw.nic.rx.test_split_path import QUEUES, TO_QUEUE, found, set_up, splits

ERROR = (1 << 4) - 1


class DeliveryBench:
    """An RX path over which ``delivered`` and what leaves the cache are watched, with their cycles."""

    def __init__(self, config, **timing):
        self.path = RxBench(config, **timing)
        self.delivered: list[tuple[int, int, int]] = []  #: cycle, queue, buffer id
        self.taken = [0] * config.queues
        self.busy_until = [0] * config.queues
        self.cycle = 0

    def run(self, scenario):
        self.path.run(scenario, self._watch)

    async def _watch(self, ctx):
        rx = self.path.path
        event, take = rx.delivered, rx.descriptors.take
        while True:
            _, _, strobe, queue, identity, taken, taker, count, busy = await ctx.tick().sample(
                event.strobe, event.queue, event.buffer_id, take.strobe, take.queue, take.count, rx.control.busy
            )
            self.cycle += 1
            if strobe:
                self.delivered.append((self.cycle, queue, identity))
            if taken:
                self.taken[taker] += count
            for queue in range(len(self.taken)):
                if busy >> queue & 1:
                    self.busy_until[queue] = self.cycle

    def check(self):
        """Delivered is what completions name, in their order, the cycle after each, and all that was taken."""
        for queue, completions in enumerate(self.path.completions):
            own = [identity for _, at, identity in self.delivered if at == queue]
            assert own == [completion.buffer_id for completion in completions]
            assert len(own) == self.taken[queue]
            assert all(cycle < self.busy_until[queue] for cycle, at, _ in self.delivered if at == queue)
        assert [cycle for cycle, _, _ in self.delivered] == [cycle + 1 for cycle in self.path.completed_at]


def bytes_of(rng, queue, length):
    return TO_QUEUE[queue] + rng.randbytes(length - 6)


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("seed", range(3))
def test_each_buffer_is_delivered_once_also_if_memory_refuses_its_bytes(width, seed):
    """Frames over one buffer and over many, of two queues, under stalls; too many for the buffers there are."""
    bench = DeliveryBench(preset("10g", data_width=width, max_burst_bytes=512, pools=2), seed=seed, stall=0.3)
    rng, path = random.Random(seed), bench.path
    path.bad_pages = set(range(0x100, 0x200, 3))

    async def scenario(ctx):
        for queue in range(2):
            await path.steer(ctx, queue, TO_QUEUE[queue])
            ring = [(0x10_0000 + 0x1000 * i, rng.choice((61, 100, 1000)), 500 * queue + i) for i in range(30)]
            await path.post(ctx, ring, queue)
        for _ in range(60):
            await path.send(ctx, bytes_of(rng, rng.randrange(2), rng.choice((60, 64, 301))), idle=rng.randrange(30))
        await path.settle(ctx, 60)

    bench.run(scenario)
    bench.check()
    errors = [CompletionError(completion.error & ERROR) for own in path.completions for completion in own]
    assert {CompletionError.NONE, CompletionError.WRITE_FAULT} == set(errors)
    assert path.drops(DropReason.NO_BUFFER)


@pytest.mark.parametrize("seed", range(2))
def test_header_buffers_are_not_delivered(seed):
    config = preset("10g", queues=QUEUES, data_width=512, classify=True, header_split=True, pools=1)
    bench, rng = DeliveryBench(config, seed=seed, stall=0.2), random.Random(seed)
    path = bench.path
    ring = {i: (0x1000 * i, rng.choice((100, 2048))) for i in range(60)}
    frames = []
    while len(frames) < 20:
        frame = TO_QUEUE[0] + random_frame(rng).ljust(60, b"\x5a")[6:]
        if splits(frame, 128) and len(frame) < 1000:
            frames.append(frame)

    async def scenario(ctx):
        await set_up(path, ctx, 0, 128)
        await path.post(ctx, [(address, length, identity) for identity, (address, length) in ring.items()])
        for frame in frames:
            await path.send(ctx, frame, idle=20)
        await path.settle(ctx, len(frames))

    bench.run(scenario)
    bench.check()
    got = found(path, 0, ring, 128)
    assert [frame for frame, _, _ in got] == frames[: len(got)]
    assert any(headers for _, headers, _ in got)


@pytest.mark.parametrize("seed", range(4))
def test_buffers_of_a_queue_that_stops_are_delivered_before_it_is_quiet(seed):
    bench, rng = DeliveryBench(preset("10g", pools=1), seed=seed, stall=0.2), random.Random(seed)
    path = bench.path

    async def scenario(ctx):
        await path.post(ctx, [(0x1000 * i, 200, i) for i in range(60)])
        for position in range(24):
            if position == 12:
                ctx.set(path.path.control.enable, 2)
            await path.send(ctx, bytes_of(rng, 0, rng.choice((60, 150, 450))))
        await path.settle(ctx, 24)

    bench.run(scenario)
    bench.check()
    assert path.drops(DropReason.QUEUE_DISABLED)


def test_refused_and_limited_queues_drop_and_deliver_nothing():
    """Through the whole path; queue 0 is refused, then limited without a buffer, and queue 1 goes on."""
    bench, rng = DeliveryBench(preset("10g", pools=2)), random.Random(5)
    path = bench.path

    async def scenario(ctx):
        for queue in range(2):
            await path.steer(ctx, queue, TO_QUEUE[queue])
        await path.post(ctx, [(0x1000, 2048, 1)])
        await path.post(ctx, [(0x2000 + 0x1000 * i, 2048, 10 + i) for i in range(8)], 1)
        ctx.set(path.path.pool_refused, 0b01)
        for count in (1, 2, 3):
            for queue in range(2):
                await path.send(ctx, bytes_of(rng, queue, 60))
            await path.settle(ctx, 2 * count)
            ctx.set(path.path.pool_refused, 0)
            ctx.set(path.path.pool_limited, 0b01)

    bench.run(scenario)
    bench.check()
    reasons = [(event["queue"], event["reason"]) for event in path.queue_events if event["dropped"]]
    assert reasons == [(0, DropReason.POOL_LIMIT.value)] * 2
    assert [(queue, identity) for _, queue, identity in bench.delivered] == [(1, 10), (0, 1), (1, 11), (1, 12)]
