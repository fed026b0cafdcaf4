# SPDX-License-Identifier: BSD-2-Clause
"""Completions say what each frame is, whatever happens to others."""

import random

import pytest

from hw.abi.codec import Codec
from hw.abi.rings import ChecksumStatus, DropReason, NetworkLayer, RxCompletion, TransportLayer
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench
from tests.hw.nic.rx.reference import Expected, classify, random_frame

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


def meant(frame: bytes) -> Expected:
    expected = classify(frame)
    return Expected(*list(vars(expected).values())[:6])


@pytest.mark.parametrize(("width", "seed"), [(64, 0), (512, 1), (512, 2)])
def test_every_completion_of_a_frame_says_what_it_is_among_drops_of_every_kind(width, seed):
    small = {"rx_buffer_bytes": 2048, "max_frame": 1024, "fetch_depth": 256, "max_burst_bytes": 512}
    bench, rng = RxBench(preset("10g", data_width=width, classify=True, **small), seed=seed), random.Random(seed)
    buffers = {i: (0x1_0000 + 0x1000 * i, rng.choice((64, 300, 2048))) for i in range(200)}
    frames = [random_frame(rng).ljust(60, b"\x5a") for _ in range(60)]
    frames[7], frames[8] = frames[7][:59], frames[8].ljust(1100, b"\xa5")

    async def scenario(ctx):
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
    assert bench.received(buffers) == delivered
    completions = iter(bench.completions[0])
    for frame in delivered:
        length = 0
        while length < len(frame):
            completion = next(completions)
            length += completion.length
            assert said(completion) == meant(frame), frame.hex()


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
