# SPDX-License-Identifier: BSD-2-Clause
"""The RX path with header split: each byte of every frame is where its completions and their slots say."""

import random

import pytest

from hw.abi.rings import CompletionError, DropReason, TransportLayer
from hw.config import preset
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.rx.bench import COMPLETION, END_OF_PACKET, RxBench
from tests.hw.nic.rx.reference import classify, random_frame, strip

SPLIT = COMPLETION.mask("flags", "header_split")
ERROR = (1 << COMPLETION.fields["error"][1]) - 1
QUEUES, ENTRIES = 2, 256
TO_QUEUE = [bytes.fromhex("02000000aa00"), bytes.fromhex("02000000aa01")]
BOUND = 0x40_0000  #: header areas are above it, buffers below


def area_of(queue):
    return BOUND * (1 + queue)


async def set_up(bench, ctx, queue, size):
    """MAC address, size of the completion ring, and header buffers of ``size`` bytes; 0: the queue does not split."""
    await bench.steer(ctx, queue, TO_QUEUE[queue])
    area = {"enable": 1, "size": size.bit_length() - 7, "address": area_of(queue) >> 6} if size else {}
    await write_register(ctx, bench.path.queue_write, "rx_completion_size", queue, entries=ENTRIES)
    await write_register(ctx, bench.path.queue_write, "rx_header", queue, **area)


def splits(frame, size):
    """How many bytes of the frame's headers go to a header buffer of that size."""
    known = classify(frame)
    fits = known.transport in (TransportLayer.TCP, TransportLayer.UDP)
    return known.header_length if fits and known.header_length <= size and known.header_length < len(frame) else 0


def found(bench, queue, buffers, size):
    """Each frame of the queue as memory has it, the bytes of it in a header buffer, and its completions' errors."""
    frames, parts, headers, errors = [], b"", 0, []
    for number, completion in enumerate(bench.completions[queue]):
        if completion.flags & SPLIT:
            assert not parts, "only a frame's first completion tells of headers"
            headers = completion.header_length
            place = area_of(queue) + number % ENTRIES * size
            parts = bytes(bench.memory[place + i] for i in range(headers))
        address, length = buffers[completion.buffer_id]
        assert 0 < completion.length <= length
        parts += bytes(bench.memory[address + i] for i in range(completion.length))
        errors.append(CompletionError(completion.error & ERROR))
        if completion.flags & END_OF_PACKET:
            frames.append((parts, headers, errors))
            parts, headers, errors = b"", 0, []
    assert not parts, "a frame without end"
    return frames


@pytest.mark.parametrize(
    ("width", "seed", "stall", "strips"),
    [
        (64, 0, 0.0, False),
        (64, 1, 0.3, True),
        (256, 2, 0.2, True),
        (512, 3, 0.0, False),
        (512, 4, 0.3, True),
    ],
)
def test_whole_and_split_frames_of_several_queues_arrive_byte_exact(width, seed, stall, strips):
    """Over buffers that are mostly too short; the header buffers of one queue fit all headers, those of another few.
    Tags that are stripped are no part of the headers."""
    config = preset(
        "10g", queues=QUEUES, data_width=width, classify=True, header_split=True, fetch_depth=256, max_burst_bytes=512
    )
    bench, rng = RxBench(config, seed=seed, stall=stall), random.Random(seed)
    sizes = rng.sample((64, 128, 256, 512), QUEUES)
    rings = [
        {
            1000 * queue + i: (0x20_0000 * queue + 0x1000 * i + rng.randrange(64), rng.choice((40, 100, 333, 2048)))
            for i in range(240)
        }
        for queue in range(QUEUES)
    ]
    frames = []
    while len(frames) < 70:
        queue, frame = rng.randrange(QUEUES), random_frame(rng).ljust(60, b"\x5a")
        if splits(frame, sizes[queue]) or rng.random() < 0.5:
            frames.append((queue, TO_QUEUE[queue] + frame[6:]))

    async def scenario(ctx):
        ctx.set(bench.path.rx_enable, 0)
        ctx.set(bench.path.vlan_strip, strips)
        for queue, ring in enumerate(rings):
            await set_up(bench, ctx, queue, sizes[queue])
            await bench.post(ctx, [(address, length, identity) for identity, (address, length) in ring.items()], queue)
        ctx.set(bench.path.rx_enable, 1)
        for _, frame in frames:
            await bench.send(ctx, frame, idle=rng.choice((0, 0, 20)) + 400 * (width == 64 and len(frame) > 500))
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert not any(event["dropped"] for event in bench.frame_events + bench.queue_events)
    split = whole = 0
    for queue in range(QUEUES):
        sent = [frame for target, frame in frames if target == queue]
        left = [strip(frame)[0] if strips else frame for frame in sent]
        assert not strips or sum(map(len, left)) < sum(map(len, sent))
        own = [(frame, splits(frame, sizes[queue])) for frame in left]
        got = found(bench, queue, rings[queue], sizes[queue])
        assert [(frame, headers) for frame, headers, _ in got] == own
        assert all(error is CompletionError.NONE for _, _, errors in got for error in errors)
        delivered = [event["length"] for event in bench.queue_events if event["queue"] == queue]
        assert delivered == [len(frame) for frame in sent], "on the wire"
        split += sum(headers > 0 for _, headers in own)
        whole += sum(headers == 0 for _, headers in own)
    assert min(split, whole) > 10


def test_a_refused_write_of_headers_is_told_by_the_frames_first_completion():
    bench, rng = RxBench(preset("10g", classify=True, header_split=True)), random.Random(7)
    buffers = {i: (0x1000 * i, 100) for i in range(40)}
    frames = [frame for frame in (random_frame(rng).ljust(60, b"\0")[:280] for _ in range(400)) if splits(frame, 128)][
        :12
    ]
    frames = [TO_QUEUE[0] + frame[6:] for frame in frames]
    # All 32 header buffers of a page of memory are refused, and no more are used.
    bench.bad_pages = {area_of(0) >> 12}

    async def scenario(ctx):
        await set_up(bench, ctx, 0, 128)
        await bench.post(ctx, [(address, length, identity) for identity, (address, length) in buffers.items()])
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    got = found(bench, 0, buffers, 128)
    assert [frame for frame, _, _ in got] == frames
    for _, _, errors in got:
        assert errors == [CompletionError.WRITE_FAULT] + [CompletionError.NONE] * (len(errors) - 1)
    assert any(len(errors) > 1 for _, _, errors in got)
    assert [event["fault"] for event in bench.queue_events] == [1] * len(frames)


def test_a_frame_without_buffers_for_what_is_behind_its_headers_is_dropped_whole_and_writes_nothing():
    bench, rng = RxBench(preset("10g", classify=True, header_split=True)), random.Random(8)
    long = next(frame for frame in (random_frame(rng) for _ in range(400)) if splits(frame, 512) and len(frame) > 600)
    short = next(frame for frame in (random_frame(rng) for _ in range(400)) if splits(frame, 512) and len(frame) < 200)
    long, short = TO_QUEUE[0] + long[6:], TO_QUEUE[0] + short[6:]

    async def scenario(ctx):
        await set_up(bench, ctx, 0, 512)
        await bench.post(ctx, [(0x1000, 250, 1)])
        for frame in (long, short):
            await bench.send(ctx, frame)
        await bench.settle(ctx, 2)

    bench.run(scenario)
    assert bench.drops(DropReason.NO_BUFFER) == 1
    assert [(event["dropped"], event["length"]) for event in bench.queue_events] == [(1, len(long)), (0, len(short))]
    assert [frame for frame, _, _ in found(bench, 0, {1: (0x1000, 250)}, 512)] == [short]
    assert len(bench.memory) == len(short)


@pytest.mark.parametrize(("width", "budget"), [(64, 10.5), (512, 2)])
def test_smallest_frames_that_are_split_keep_pace_with_two_writes_each(width, budget):
    """At 512 bits two beats, so two cycles; at 64 bits a frame takes longer on the wire than its eight beats."""
    config = preset(
        "10g",
        data_width=width,
        max_burst_bytes=512,
        fetch_depth=256,
        outstanding_writes=256,
        classify=True,
        header_split=True,
    )
    bench, rng = RxBench(config), random.Random(1)
    shortest = next(frame for frame in (random_frame(rng) for _ in range(4000)) if splits(frame, 64) == 54)
    frame = (TO_QUEUE[0] + shortest[6:])[:54]
    frame = frame[:16] + (46).to_bytes(2) + frame[18:] + bytes(6)
    assert (splits(frame, 64), len(frame)) == (54, 60)
    count = 200
    buffers = {i: (0x800 * i, 2048) for i in range(count)}

    async def scenario(ctx):
        await set_up(bench, ctx, 0, 64)
        await bench.post(ctx, [(address, length, identity) for identity, (address, length) in buffers.items()])
        beats, sent = -(-60 // config.beat_bytes), 0.0
        for _ in range(count):
            idle = int(sent + budget) - int(sent) - beats
            sent += budget
            await bench.send(ctx, frame, idle=idle)
        await bench.settle(ctx, count)

    bench.run(scenario)
    assert [got[:2] for got in found(bench, 0, buffers, 64)] == [(frame, 54)] * count
    assert bench.completed_at[-1] - bench.completed_at[9] <= budget * (count - 10) + 4
