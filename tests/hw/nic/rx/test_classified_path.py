# SPDX-License-Identifier: BSD-2-Clause
"""Completions say what each frame is, whatever happens to others."""

import random

import pytest

from hw.abi.codec import Codec
from hw.abi.rings import ChecksumStatus, DropReason, NetworkLayer, RxCompletion, TransportLayer
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench
from tests.hw.nic.rx.reference import Expected, classify, classify_stripped, random_frame, strip

COMPLETION = Codec(RxCompletion)


def field(value: int, *path: str) -> int:
    mask = COMPLETION.mask(*path)
    return (value & mask) // (mask & -mask)


def said(completion) -> Expected:
    """A completion, but for the flow, which it does not tell."""
    has_vlan = field(completion.flags, "flags", "vlan_valid")
    assert has_vlan or not completion.vlan
    return Expected(
        NetworkLayer(field(completion.packet_type, "packet_type", "network")),
        TransportLayer(field(completion.packet_type, "packet_type", "transport")),
        completion.header_length,
        completion.vlan if has_vlan else None,
        completion.checksum,
        ChecksumStatus(field(completion.flags, "flags", "checksum_status")),
    )


def meant(expected: Expected) -> Expected:
    return Expected(*list(vars(expected).values())[:6])


def is_stripped(completion) -> int:
    return field(completion.flags, "flags", "vlan_stripped")


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize(("width", "seed"), [(64, 0), (256, 3), (512, 1), (512, 2)])
def test_every_completion_of_a_frame_says_what_it_is_among_drops_of_every_kind(width, seed, strips):
    small = {"rx_buffer_bytes": 2048, "max_frame": 1024, "fetch_depth": 256, "max_burst_bytes": 512}
    bench, rng = RxBench(preset("10g", data_width=width, classify=True, **small), seed=seed), random.Random(seed)
    buffers = {i: (0x1_0000 + 0x1000 * i, rng.choice((64, 300, 2048))) for i in range(200)}
    frames = [random_frame(rng).ljust(60, b"\x5a") for _ in range(60)]
    frames[7], frames[8] = frames[7][:59], frames[8].ljust(1100, b"\xa5")

    async def scenario(ctx):
        ctx.set(bench.path.vlan_strip, strips)
        await bench.post(ctx, [(address, length, identity) for identity, (address, length) in buffers.items()])
        for i, frame in enumerate(frames):
            bench.frozen = 15 <= i < 45
            ctx.set(bench.path.carrier, int(i % 13 != 12))
            await bench.send(ctx, frame, error=int(i % 11 == 10), idle=rng.choice((0, 0, 0, 30)))
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    happened = {DropReason(event["reason"]) for event in bench.frame_events if event["dropped"]}
    reasons = {DropReason.LINK_DOWN, DropReason.BAD_FCS, DropReason.RUNT, DropReason.OVERSIZE, DropReason.OVERFLOW}
    assert happened == reasons
    delivered = [frame for frame, event in zip(frames, bench.frame_events) if not event["dropped"]]
    assert [event["length"] for event in bench.frame_events] == [len(frame) for frame in frames]
    assert [event["length"] for event in bench.queue_events] == [len(frame) for frame in delivered], "of the wire"
    kept = [strip(frame) if strips else (frame, None) for frame in delivered]
    assert bench.received(buffers) == [left for left, _ in kept]
    assert not strips or sum(tag is not None for _, tag in kept) > 3
    completions = iter(bench.completions[0])
    for frame, (left, tag) in zip(delivered, kept):
        length, expected = 0, classify_stripped(frame) if strips else classify(frame)
        while length < len(left):
            completion = next(completions)
            length += completion.length
            assert said(completion) == meant(expected), frame.hex()
            assert is_stripped(completion) == (tag is not None)


@pytest.mark.parametrize("width", [64, 256, 512])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_tags_of_frames_of_every_length_go_back_to_back(width, stall):
    """Around the edges of beats, tagged and not, with tags that stay and such that are switched off meanwhile."""
    config = preset("10g", data_width=width, classify=True, fetch_depth=512, outstanding_writes=256)
    bench, rng = RxBench(config, seed=width, stall=stall), random.Random(width)
    buffers = {i: (0x1_0000 + 0x1000 * i + rng.randrange(64), rng.choice((100, 2048))) for i in range(400)}
    tags = (b"\x81\0", b"\x81\0", b"\x81\0", b"\x88\xa8", b"\x08\x06")
    lengths = [*range(60, 73), *(60 + 64 * k + around for k in range(1, 5) for around in (-8, -1, 0, 4, 5, 8))]
    rng.shuffle(lengths)
    frames = [
        rng.randbytes(12) + rng.choice(tags) + rng.choice((rng.randbytes(2), b"\xe0\0")) + rng.randbytes(length - 16)
        for length in (*lengths, *lengths)
    ]
    half = len(lengths)

    async def scenario(ctx):
        await bench.post(ctx, [(address, length, identity) for identity, (address, length) in buffers.items()])
        ctx.set(bench.path.vlan_strip, 1)
        for i, frame in enumerate(frames):
            if i == half:
                await ctx.tick().repeat(20)
                ctx.set(bench.path.vlan_strip, 0)
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    kept = [strip(frame) for frame in frames[:half]] + [(frame, None) for frame in frames[half:]]
    assert bench.received(buffers) == [left for left, _ in kept]
    told = [(is_stripped(c), c.vlan) for c in bench.completions[0] if field(c.flags, "flags", "end_of_packet")]
    for (was, vlan), frame, (_, tag) in zip(told, frames, kept, strict=True):
        assert was == (tag is not None)
        assert not was or vlan == tag, frame.hex()
    assert [event["length"] for event in bench.queue_events] == [len(frame) for frame in frames]


@pytest.mark.parametrize(
    ("width", "length"), [(64, 60), (64, 68), (256, 60), (256, 65), (512, 60), (512, 64), (512, 66)]
)
def test_tagged_frames_take_their_beats_on_the_wire_and_no_cycle_more(width, length):
    config = preset("10g", data_width=width, classify=True, fetch_depth=256, outstanding_writes=256)
    bench, rng, count = RxBench(config), random.Random(9), 150
    buffers = {i: (0x1_0000 + 0x1000 * i, 2048) for i in range(count)}
    frames = [rng.randbytes(12) + b"\x81\0" + rng.randbytes(length - 14) for _ in range(count)]

    async def scenario(ctx):
        await bench.post(ctx, [(address, size, identity) for identity, (address, size) in buffers.items()])
        ctx.set(bench.path.vlan_strip, 1)
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, count)

    bench.run(scenario)
    assert bench.received(buffers) == [strip(frame)[0] for frame in frames]
    beats = -(-length // config.beat_bytes)
    assert bench.completed_at[-1] - bench.completed_at[9] <= beats * (count - 10) + 4


def test_without_a_classifier_completions_say_nothing_of_their_frames():
    bench, rng = RxBench(preset("10g", classify=False)), random.Random(3)
    frames = [random_frame(rng).ljust(60, b"\0") for _ in range(10)]

    async def scenario(ctx):
        await bench.post(ctx, [(0x1_0000 + 0x1000 * i, 2048, i) for i in range(10)])
        for frame in frames:
            await bench.send(ctx, frame)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    nothing = Expected(NetworkLayer.OTHER, TransportLayer.OTHER, 0, None, 0, ChecksumStatus.NOT_CHECKED)
    assert [said(completion) for completion in bench.completions[0]] == [nothing] * len(frames)
