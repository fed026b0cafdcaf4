# SPDX-License-Identifier: BSD-2-Clause
"""TCP segmentation by the TX path, against scapy's segments."""

import random
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from hw.abi.rings import CompletionError
from hw.config import NicConfig, preset
from tests.hw.nic.tx.bench import TxBench, data
from tests.hw.nic.tx.packets import Placer, padded, random_request, random_stream_packet, segmentation, segments

GOOD = CompletionError.NONE.value
READ_FAULT = CompletionError.READ_FAULT.value
OFFLOAD = CompletionError.OFFLOAD.value


def machine(**changes):
    return preset("10g", tx_offload=True, segmentation=True, **changes)


def headers(request):
    return sum(request.context[name] for name in ("l2_length", "l3_length", "l4_length"))


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize("seed", range(2))
def test_random_requests_among_other_frames_leave_as_scapy_segments_them(width, seed):
    stall = 0.3 * seed
    bench = TxBench(machine(data_width=width, serial_width=16), seed=seed, stall=stall, wire_stall=stall / 2)
    rng = random.Random(f"{width} {seed}")
    placer = Placer(bench, rng)
    requests, expected, posted = 0, [], []
    for _ in range(24):
        if rng.random() < 0.3:
            request = random_request(rng, rng.randrange(200))
            posted.append(placer.put(request))
            expected.append(request.sent)
            continue
        mss = rng.choice((1, 8, 63, 100, 216, 512, 1000))
        packet = random_stream_packet(rng, rng.randrange(1, 5 * mss))
        request = segmentation(rng, packet, mss)
        first = rng.randrange(headers(request), len(request.memory) + 1)
        posted.append(placer.put(request, first=first))
        expected += segments(packet, mss)
        requests += 1

    async def scenario(ctx):
        for entries in posted:
            await bench.post(ctx, entries)
        await bench.settle(ctx, len(posted), more=len(expected) - len(posted))

    bench.run(scenario)
    assert bench.frames == padded(expected)
    assert [c.error for c in bench.completions[0]] == [GOOD] * len(posted)
    assert requests > 5


@pytest.mark.parametrize(("width", "network", "length"), [(64, IP, 12000), (512, IP, 65535), (512, IPv6, 65535)])
def test_the_greatest_requests_flow_through_a_buffer_smaller_than_themselves_at_the_wires_pace(width, network, length):
    config = machine(
        data_width=width, tx_buffer_bytes=8192 if width == 64 else 16384, max_frame=1514, outstanding_reads=64
    )
    bench, rng = TxBench(config), random.Random(width)
    placer = Placer(bench, rng)
    template = Ether(dst="02:00:00:00:00:01") / network() / TCP(seq=(1 << 32) - 5000, flags="PA")
    packet = Ether(bytes(template / Raw(rng.randbytes(length - len(template)))))
    request = segmentation(rng, packet, 1440, vlan=7)
    expected = [frame[:12] + b"\x81\x00\x00\x07" + frame[12:] for frame in segments(packet, 1440)]

    async def scenario(ctx):
        await bench.post(ctx, placer.put(request, first=200))
        await bench.post(ctx, [data(0, 70, 9, report=True)])
        await bench.settle(ctx, 2, more=len(expected) - 1)

    bench.run(scenario)
    assert bench.frames[:-1] == expected
    assert [event["length"] for event in bench.queue_events] == [length, 70]
    assert [c.error for c in bench.completions[0]] == [GOOD, GOOD]
    beats = sum(-(-len(frame) // config.beat_bytes) for frame in expected[1:])
    assert bench.sent_at[-2] - bench.sent_at[0] <= 1.05 * beats


FRAME = Ether(bytes(Ether(dst="02:00:00:00:00:01") / IP(flags="DF") / TCP() / Raw(bytes(300))))
FRAME6 = Ether(bytes(Ether(dst="02:00:00:00:00:01") / IPv6() / TCP() / Raw(bytes(300))))


def spoilt(frame, place, value):
    raw = bytearray(bytes(frame))
    raw[place] = value
    return bytes(raw)


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize(
    ("packet", "spoilt_bytes"),
    [
        (FRAME, [(12, 0x86), (14, 0x65), (14, 0x46), (20, 0x20), (21, 0x01), (23, 17), (46, 0x60)]),
        (FRAME6, [(13, 0x00), (14, 0x40), (20, 44), (66, 0x60)]),
    ],
)
def test_headers_that_are_not_what_the_request_says_are_refused(width, packet, spoilt_bytes):
    bench = TxBench(machine(data_width=width, tx_buffer_bytes=2048, max_frame=1024))
    placer = Placer(bench, random.Random(0))
    good = segmentation(random.Random(0), packet, 100)

    async def scenario(ctx):
        for place, value in spoilt_bytes:
            await bench.post(ctx, placer.put(replace(good, memory=spoilt(good.memory, place, value)), first=100))
            await bench.post(ctx, placer.put(good, first=100))
        await bench.settle(ctx, 2 * len(spoilt_bytes), more=2 * len(spoilt_bytes))

    bench.run(scenario)
    assert bench.frames == segments(packet, 100) * len(spoilt_bytes)
    assert [c.error for c in bench.completions[0]] == [OFFLOAD, GOOD] * len(spoilt_bytes)
    assert [event["error"] for event in bench.queue_events] == [OFFLOAD, GOOD] * len(spoilt_bytes)


@pytest.mark.parametrize("width", [64, 512])
def test_a_request_of_one_byte_is_judged_before_it_completes(width):
    bench, rng = TxBench(machine(data_width=width)), random.Random(0)
    placer = Placer(bench, rng)
    packet = Ether(bytes(Ether() / IP() / TCP() / Raw(b"x")))
    good = segmentation(rng, packet, 1)
    bad = segmentation(rng, packet, 1)
    bad.memory = spoilt(bad.memory, 23, 17)

    async def scenario(ctx):
        for request in (good, bad) * 5:
            await bench.post(ctx, placer.put(request, first=55))
        await bench.settle(ctx, 10)

    bench.run(scenario)
    assert bench.frames == padded(segments(packet, 1) * 5)
    assert [c.error for c in bench.completions[0]] == [GOOD, OFFLOAD] * 5


@pytest.mark.parametrize(
    "changes",
    [
        {"mss": 0},
        {"mss": 971},
        {"mss": 65535},
        {"l2_length": 15},
        {"l2_length": 12},
        {"l3_length": 44},
        {"l3_length": 16},
        {"l3_length": 22},
        {"l4_length": 16},
        {"l4_length": 22},
        {"l4_length": 64},
        {"l2_length": 254},
        None,
    ],
)
def test_impossible_requests_are_refused_unread(changes):
    bench, rng = TxBench(machine(tx_buffer_bytes=2048, max_frame=1024)), random.Random(0)
    placer = Placer(bench, rng)
    packet = FRAME6 if changes == {"l3_length": 44} else FRAME
    bad, good = segmentation(rng, packet, 100), segmentation(rng, packet, 100)
    bad.context = None if changes is None else bad.context | changes

    async def scenario(ctx):
        await bench.post(ctx, placer.put(bad, first=200))
        await bench.settle(ctx, 1)
        assert bench.commands == 0
        await bench.post(ctx, placer.put(good, first=200))
        await bench.settle(ctx, 2, more=2)

    bench.run(scenario)
    assert bench.frames == segments(packet, 100)
    assert [c.error for c in bench.completions[0]] == [OFFLOAD, GOOD]


def test_headers_in_two_descriptors_no_payload_early_reports_and_too_many_bytes_are_refused():
    bench, rng = TxBench(machine()), random.Random(0)
    placer = Placer(bench, rng)
    packet = FRAME
    request = segmentation(rng, packet, 100)
    empty = segmentation(rng, packet, 100)
    empty.memory = empty.memory[:54]
    early = placer.put(request, first=100)
    early[1] = data(0, 100, end=False, report=True)
    long = placer.put(request, first=100)
    long[1:-1] = [data(0, 60000, end=False), data(0, 60000, end=False)]

    async def scenario(ctx):
        await bench.post(ctx, placer.put(request, first=53))
        await bench.post(ctx, placer.put(empty, first=54))
        await bench.post(ctx, early)
        await bench.post(ctx, long)
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert bench.frames == []
    assert bench.commands == 0
    errors = [OFFLOAD, OFFLOAD, OFFLOAD, CompletionError.FRAME_LENGTH.value]
    assert [event["error"] for event in bench.queue_events] == errors
    assert [c.error for c in bench.completions[0]] == [OFFLOAD, OFFLOAD, OFFLOAD, *errors[2:]]


@pytest.mark.parametrize("seed", range(3))
def test_a_request_that_cannot_be_read_ends_with_the_segment_before(seed):
    bench = TxBench(machine(tx_buffer_bytes=2048, max_frame=1024), seed=seed, stall=0.2 * seed)
    rng = random.Random(seed)
    placer = Placer(bench, rng)
    packet = FRAME
    request = segmentation(rng, packet, 60)
    bench.bad_pages = {31}
    lost = placer.put(request, first=200)
    lost[2:] = [data(31 << 12, 154, report=True, ask=request.ask)]

    async def scenario(ctx):
        for _ in range(4):
            await bench.post(ctx, lost)
            await bench.post(ctx, placer.put(request, first=200))
        await bench.settle(ctx, 8, more=4 * 4 + 4 * 2)

    bench.run(scenario)
    assert bench.frames == (segments(packet, 60)[:2] + segments(packet, 60)) * 4
    assert [c.error for c in bench.completions[0]] == [READ_FAULT, GOOD] * 4


@pytest.mark.parametrize("cut_at", [30, 60, 75, 110, 180, 260])
def test_after_reset_in_a_request_the_path_is_as_after_power_on(cut_at):
    bench, rng = TxBench(machine()), random.Random(cut_at)
    placer = Placer(bench, rng)
    packet = FRAME
    request = segmentation(rng, packet, 70)
    spoilt_request = segmentation(rng, packet, 70)
    spoilt_request.memory = spoilt(spoilt_request.memory, 23, 17)

    async def scenario(ctx):
        for which in (request, spoilt_request, request):
            await bench.post(ctx, placer.put(which, first=100))
        await ctx.tick().repeat(cut_at)
        await bench.reset(ctx)
        assert ctx.get(bench.path.control.busy) == 0
        await bench.post(ctx, placer.put(request, first=100))
        await bench.settle(ctx, 1, more=4)

    bench.run(scenario)
    assert bench.frames == segments(packet, 70)


def test_segmentation_needs_the_offloads_it_rests_on():
    with pytest.raises(ValueError, match="segmentation needs tx_offload, which is False"):
        NicConfig(segmentation=True)
    for name in ("tx_offload", "segmentation"):
        with pytest.raises(TypeError, match=f"{name} must be a bool, not 1"):
            NicConfig(**{name: 1})
