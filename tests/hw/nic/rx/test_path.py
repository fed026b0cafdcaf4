# SPDX-License-Identifier: BSD-2-Clause
"""The RX path as a whole: bytes, order, pace, drops, and stopping."""

import random

import pytest

from hw.abi.rings import CompletionError, DropReason, QueueError
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench

BROADCAST = b"\xff" * 6
TO_ONE = bytes.fromhex("020000000001")


def frame_of(rng, length, destination=TO_ONE):
    return (destination + rng.randbytes(max(length - 6, 0)))[:length]


def buffers_of(count, size, *, base=0x1_0000, step=0x4000, misalign=0):
    """Buffer id to (address, length)."""
    return {0x100 + i: (base + i * step + (i * misalign) % 64, size) for i in range(count)}


def descriptors(buffers):
    return [(address, length, identity) for identity, (address, length) in buffers.items()]


@pytest.mark.parametrize(("width", "budget"), [(64, 10.5), (512, 1.68)])
def test_smallest_frames_keep_pace_with_the_wire(width, budget):
    config = preset("10g", data_width=width, max_burst_bytes=512, fetch_depth=256, outstanding_writes=256)
    bench, rng = RxBench(config), random.Random(1)
    buffers = buffers_of(220, 2048)
    frames = [frame_of(rng, 60) for _ in buffers]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        beats = -(-60 // config.beat_bytes)
        sent = 0.0
        for frame in frames:
            idle = int(sent + budget) - int(sent) - beats
            sent += budget
            await bench.send(ctx, frame, idle=idle)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.received(buffers) == frames
    steady = bench.completed_at[-1] - bench.completed_at[9]
    assert steady <= budget * (len(frames) - 10) + 4


@pytest.mark.parametrize("width", [64, 128, 512])
@pytest.mark.parametrize("seed", range(4))
def test_frames_of_any_length_over_buffers_of_any_size_arrive_byte_exact_under_stalls(width, seed):
    config = preset("10g", data_width=width, max_burst_bytes=512)
    bench, rng = RxBench(config, seed=seed, stall=0.3), random.Random(seed)
    buffers = {i: (0x1_0000 + 0x1000 * i + rng.randrange(64), rng.choice((61, 64, 100, 333, 1000))) for i in range(60)}
    frames = [frame_of(rng, rng.choice((60, 61, 64, 65, 127, 200, 301))) for _ in range(25)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame, idle=rng.randrange(20))
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.received(buffers) == frames
    used = [completion.buffer_id for completion in bench.completions[0]]
    assert used == list(buffers)[: len(used)], "buffers are used in the order of the ring"
    assert [event["length"] for event in bench.queue_events] == [len(frame) for frame in frames]


def test_a_jumbo_frame_fills_buffer_after_buffer_and_only_its_last_completion_ends_it():
    bench, rng = RxBench(preset("10g")), random.Random(2)
    buffers = buffers_of(12, 1000, misalign=3)
    frames = [frame_of(rng, 9216), frame_of(rng, 60)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, 2)

    bench.run(scenario)
    assert bench.received(buffers) == frames
    assert [c.length for c in bench.completions[0]] == [1000] * 9 + [216, 60]


def test_port_drops_name_their_reason_and_every_frame_is_counted_with_its_length():
    bench, rng = RxBench(preset("10g")), random.Random(3)
    buffers = buffers_of(4, 16384)
    lengths = [59, 60, 9216, 9217, 80, 1, 64]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for length in lengths[:4]:
            await bench.send(ctx, frame_of(rng, length))
        await bench.send(ctx, frame_of(rng, 80), error=1)
        await bench.send(ctx, frame_of(rng, 1))
        ctx.set(bench.path.carrier, 0)
        await bench.send(ctx, frame_of(rng, 64))
        await bench.settle(ctx, len(lengths))

    bench.run(scenario)
    assert [event["length"] for event in bench.frame_events] == lengths
    reasons = [DropReason(event["reason"]) if event["dropped"] else None for event in bench.frame_events]
    too_short, too_long = DropReason.RUNT, DropReason.OVERSIZE
    assert reasons == [too_short, None, None, too_long, DropReason.BAD_FCS, too_short, DropReason.LINK_DOWN]
    assert [len(frame) for frame in bench.received(buffers)] == [60, 9216]


def test_kinds_of_destination_are_told_apart():
    bench, rng = RxBench(preset("10g")), random.Random(4)

    async def scenario(ctx):
        for destination in (TO_ONE, BROADCAST, bytes.fromhex("01005e000001")):
            await bench.send(ctx, frame_of(rng, 60, destination))
        await bench.settle(ctx, 3)

    bench.run(scenario)
    assert [(e["multicast"], e["broadcast"]) for e in bench.frame_events] == [(0, 0), (0, 1), (1, 0)]
    assert bench.drops(DropReason.NO_BUFFER) == 3


def test_a_full_packet_buffer_drops_whole_frames_and_forgets_nothing_that_was_stored():
    config = preset("10g", rx_buffer_bytes=2048, max_frame=1024)
    bench, rng = RxBench(config), random.Random(5)
    buffers = buffers_of(16, 2048)
    frames = [frame_of(rng, 500) for _ in range(8)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        bench.frozen = True
        await ctx.tick()
        for frame in frames:
            await bench.send(ctx, frame)
        bench.frozen = False
        await bench.settle(ctx, len(frames))
        await bench.send(ctx, frames[0])
        await bench.settle(ctx, len(frames) + 1)

    bench.run(scenario)
    kept = len(frames) - bench.drops(DropReason.OVERFLOW)
    assert kept == 4
    assert bench.received(buffers) == [*frames[:kept], frames[0]]


def test_steering_by_destination_to_the_lowest_enabled_queue_else_the_default_else_nowhere():
    bench, rng = RxBench(preset("10g")), random.Random(6)
    other = bytes.fromhex("020000000002")
    buffers = buffers_of(4, 2048), buffers_of(4, 2048, base=0x10_0000)
    frames = [frame_of(rng, 60, other), frame_of(rng, 61), frame_of(rng, 62, other), frame_of(rng, 63)]

    async def scenario(ctx):
        for queue in (0, 1):
            await bench.post(ctx, descriptors(buffers[queue]), queue)
        await bench.steer(ctx, 1, other)
        for frame in frames[:2]:
            await bench.send(ctx, frame)
        await bench.settle(ctx, 2)
        await bench.steer(ctx, 1, other, enable=0)
        ctx.set(bench.path.default_queue, 1)
        await bench.send(ctx, frames[2])
        await bench.settle(ctx, 3)
        ctx.set(bench.path.default_queue, 2)
        await bench.send(ctx, frames[3])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert bench.received(buffers[0], 0) == [frames[1]]
    assert bench.received(buffers[1], 1) == [frames[0], frames[2]]
    assert bench.drops(DropReason.QUEUE_DISABLED) == 1


def test_a_frame_waits_for_buffers_only_while_a_fetch_is_under_way_and_not_for_ever():
    bench, rng = RxBench(preset("10g")), random.Random(7)
    buffers = buffers_of(2, 100)
    frames = [frame_of(rng, 150) for _ in range(3)]

    async def scenario(ctx):
        await bench.send(ctx, frames[0])
        await bench.settle(ctx, 1)
        assert bench.drops(DropReason.NO_BUFFER) == 1

        ctx.set(bench.cache.fetching, 1)
        await bench.send(ctx, frames[1])
        await ctx.tick().repeat(60)
        assert len(bench.queue_events) == 1
        await bench.settle(ctx, 2, bound=80)
        assert bench.drops(DropReason.NO_BUFFER) == 2

        await bench.post(ctx, descriptors(buffers)[:1])
        await bench.send(ctx, frames[2])
        await ctx.tick().repeat(50)
        assert ctx.get(bench.cache.level[0]) == 1, "nothing is taken before all is there"
        await bench.post(ctx, descriptors(buffers)[1:])
        ctx.set(bench.cache.fetching, 0)
        await bench.settle(ctx, 3)

    bench.run(scenario)
    assert bench.received(buffers) == [frames[2]]


def test_too_few_completion_slots_for_the_whole_frame_drop_it_at_once_and_take_nothing():
    bench, rng = RxBench(preset("10g"), slots=2), random.Random(8)
    buffers = buffers_of(8, 100)
    frames = [frame_of(rng, length) for length in (250, 150, 60)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, 3)
        assert ctx.get(bench.cache.level[0]) == 6

    bench.run(scenario)
    assert bench.received(buffers) == [frames[1]]
    assert bench.drops(DropReason.COMPLETION_FULL) == 2


def test_a_write_that_memory_refuses_is_reported_in_its_buffers_completion_and_counted_once():
    bench, rng = RxBench(preset("10g")), random.Random(9)
    buffers = buffers_of(4, 100)
    bench.bad_pages = {buffers[0x101][0] >> 12}

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for _ in range(2):
            await bench.send(ctx, frame_of(rng, 150))
        await bench.settle(ctx, 2)

    bench.run(scenario)
    fault, good = CompletionError.WRITE_FAULT.value, CompletionError.NONE.value
    assert [completion.error for completion in bench.completions[0]] == [good, fault, good, good]
    assert [event["fault"] for event in bench.queue_events] == [1, 0]


def test_a_descriptor_of_length_zero_stops_its_queue_alone_until_it_is_started_again():
    bench, rng = RxBench(preset("10g")), random.Random(10)
    buffers = buffers_of(4, 2048), buffers_of(4, 2048, base=0x10_0000)
    frames = [frame_of(rng, 60 + i) for i in range(4)]

    async def scenario(ctx):
        await bench.post(ctx, [(0x1000, 0, 1)])
        await bench.post(ctx, descriptors(buffers[1]), 1)
        await bench.send(ctx, frames[0])
        await bench.send(ctx, frames[1])
        await bench.settle(ctx, 2)
        ctx.set(bench.path.default_queue, 1)
        await bench.send(ctx, frames[2])
        await bench.settle(ctx, 3)
        ctx.set(bench.path.control.enable, 2)
        for clear in (1, 0):
            ctx.set(bench.path.control.clear, clear)
            ctx.set(bench.cache.clear, clear)
            await ctx.tick()
        ctx.set(bench.path.control.enable, 3)
        ctx.set(bench.path.default_queue, 0)
        await bench.post(ctx, descriptors(buffers[0]))
        await bench.send(ctx, frames[3])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert bench.faults == [(0, QueueError.DESCRIPTOR_LENGTH.value)]
    assert bench.drops(DropReason.QUEUE_DISABLED) == 2
    assert bench.received(buffers[1], 1) == [frames[2]]
    assert bench.received(buffers[0], 0) == [frames[3]]


@pytest.mark.parametrize("seed", range(4))
def test_a_queue_that_stops_in_traffic_finishes_what_it_took_and_nothing_moves_afterwards(seed):
    bench, rng = RxBench(preset("10g"), seed=seed, stall=0.2), random.Random(seed)
    buffers = buffers_of(60, 200)
    frames = [frame_of(rng, rng.choice((60, 150, 450))) for _ in range(24)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for position, frame in enumerate(frames):
            if position == 12:
                ctx.set(bench.path.control.enable, 2)
            await bench.send(ctx, frame)
            if position > 12 and not ctx.get(bench.path.control.busy):
                still = len(bench.completions[0]), len(bench.memory)
        await bench.settle(ctx, len(frames))
        assert still == (len(bench.completions[0]), len(bench.memory))

    bench.run(scenario)
    received = bench.received(buffers)
    assert received == frames[: len(received)]
    assert len(received) + bench.drops(DropReason.QUEUE_DISABLED) == len(frames)
    assert 0 < len(received) < len(frames)


@pytest.mark.parametrize("cut", [3, 9, 40, 75, 110, 151])
def test_after_reset_in_traffic_the_path_is_as_after_power_on(cut):
    bench, rng = RxBench(preset("10g"), stall=0.2), random.Random(cut)
    buffers = buffers_of(12, 100)
    frames = [frame_of(rng, length) for length in (60, 250, 61, 99)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        await bench.steer(ctx, 1, TO_ONE)
        for frame in frames:
            await bench.send(ctx, frame)
            if bench.cycle >= cut:
                break
        # A frame is cut off by the reset, and its rest is no frame.
        await bench.send(ctx, frames[1])
        await bench.reset(ctx)
        ctx.set(bench.path.wire.payload.first, 0)
        ctx.set(bench.path.wire.payload.last, 1)
        ctx.set(bench.path.wire.valid, 1)
        await ctx.tick()
        ctx.set(bench.path.wire.valid, 0)
        assert ctx.get(bench.path.control.busy) == 0
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.received(buffers) == frames
    assert len(bench.frame_events) == len(frames)


def test_trace_points_follow_a_frame_by_its_serial():
    bench, rng = RxBench(preset("10g", serial_width=8)), random.Random(11)
    buffers = buffers_of(3, 100)
    seen = {name: [] for name in ("accepted", "refused", "taken", "dropped", "completed")}

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for serial, length in ((5, 150), (6, 59), (7, 60), (8, 60)):
            await bench.send(ctx, frame_of(rng, length), serial=serial)
        await bench.settle(ctx, 4)

    async def watch(ctx):
        while True:
            await ctx.tick()
            for name, log in seen.items():
                point = getattr(bench.path, name)
                if ctx.get(point.strobe):
                    log.append((ctx.get(point.serial), ctx.get(point.detail)))

    bench.run(scenario, watch)
    assert seen == {
        "accepted": [(5, 0), (7, 0), (8, 0)],
        "refused": [(6, DropReason.RUNT.value)],
        "taken": [(5, 0x100), (5, 0x101), (7, 0x102)],
        "dropped": [(8, DropReason.NO_BUFFER.value)],
        "completed": [(5, 0x100), (5, 0x101), (7, 0x102)],
    }


@pytest.mark.parametrize("outstanding", [1, 3])
def test_few_outstanding_writes_only_slow_it_down(outstanding):
    bench, rng = RxBench(preset("10g", outstanding_writes=outstanding), latency=60), random.Random(12)
    buffers = buffers_of(20, 70)
    frames = [frame_of(rng, 130) for _ in range(10)]

    async def scenario(ctx):
        await bench.post(ctx, descriptors(buffers))
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.received(buffers) == frames


def test_more_short_frames_than_can_be_noted_overflow_too():
    bench, rng = RxBench(preset("10g", rx_buffer_bytes=2048, max_frame=1024, fetch_depth=8)), random.Random(13)
    frames = [frame_of(rng, 16) for _ in range(80)]

    async def scenario(ctx):
        ctx.set(bench.path.min_length, 14)
        ctx.set(bench.cache.fetching, 1)
        ctx.set(bench.path.starvation, 2000)
        for frame in frames:
            await bench.send(ctx, frame)
        ctx.set(bench.cache.fetching, 0)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert 26 <= bench.drops(DropReason.OVERFLOW) <= 36
    assert bench.drops(DropReason.OVERFLOW) + bench.drops(DropReason.NO_BUFFER) == len(frames)
