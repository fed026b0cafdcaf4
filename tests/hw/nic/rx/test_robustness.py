# SPDX-License-Identifier: BSD-2-Clause
"""The RX path under what its neighbours seldom do: a full completion writer, ragged beats, registers that move."""

import random

import pytest

from hw.abi.rings import DropReason
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench
from tests.hw.nic.rx.test_path import buffers_of, descriptors, frame_of


@pytest.mark.parametrize("width", [64, 512])
def test_responses_of_memory_never_wait_for_the_completion_writer(width):
    bench, rng = RxBench(preset("10g", data_width=width)), random.Random(14)
    buffers = buffers_of(20, 2048)
    frames = [frame_of(rng, 64) for _ in buffers]

    async def scenario(ctx):
        bench.full = True
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame)
        await ctx.tick().repeat(300)
        assert all(buffers[identity][0] in bench.memory for identity in buffers), "a frame was not written"
        assert not bench.done, "a response waits"
        bench.full = False
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.received(buffers) == frames


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("counts", ["empty end", "gap", "empty start"])
def test_a_frame_with_a_beat_of_too_few_bytes_is_damaged_and_leaves_those_after_it_whole(width, counts):
    bench, rng = RxBench(preset("10g", data_width=width)), random.Random(15)
    buffers = buffers_of(4, 2048)
    frames = [frame_of(rng, 300) for _ in range(3)]
    full = bench.config.beat_bytes
    beats = {
        "empty end": [full] * 8 + [0],
        "gap": [full] * 4 + [full - 1] + [full] * 4,
        "empty start": [0] + [full] * 8,
    }[counts]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        await bench.send(ctx, frames[0])
        wire = bench.path.wire
        for i, count in enumerate(beats):
            ctx.set(wire.payload, {"count": count, "first": i == 0, "last": i == len(beats) - 1})
            ctx.set(wire.valid, 1)
            await ctx.tick()
        for frame in frames[1:]:
            await bench.send(ctx, frame)
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert bench.received(buffers) == frames
    assert bench.drops(DropReason.BAD_FCS) == 1
    assert bench.frame_events[1]["length"] == sum(beats)


def test_a_limit_that_rises_inside_a_frame_too_long_does_not_let_it_in():
    bench, rng = RxBench(preset("10g")), random.Random(16)
    buffers = buffers_of(4, 2048)
    frames = [frame_of(rng, 200), frame_of(rng, 300), frame_of(rng, 300)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        ctx.set(bench.path.max_length, 200)
        for frame in frames:
            await bench.send(ctx, frame, idle=2)
        await bench.settle(ctx, len(frames))

    async def raise_limit(ctx):
        await ctx.tick().until(bench.path.frame_event.strobe)
        await ctx.tick().repeat(33)
        assert ctx.get(bench.path.wire.valid), "the second frame is on the wire"
        ctx.set(bench.path.max_length, 9216)

    bench.run(scenario, raise_limit)
    assert bench.drops(DropReason.OVERSIZE) == 1
    assert bench.received(buffers) == [frames[0], frames[2]]


def test_a_starvation_bound_that_falls_below_the_time_waited_ends_the_wait():
    bench, rng = RxBench(preset("10g")), random.Random(17)
    frame = frame_of(rng, 60)

    async def scenario(ctx):
        ctx.set(bench.cache.fetching, 1)
        ctx.set(bench.path.starvation, 5000)
        await bench.send(ctx, frame)
        await ctx.tick().repeat(100)
        assert not bench.queue_events
        ctx.set(bench.path.starvation, 50)
        await bench.settle(ctx, 1, bound=50)

    bench.run(scenario)
    assert bench.drops(DropReason.NO_BUFFER) == 1
