# SPDX-License-Identifier: BSD-2-Clause
"""Checksums and tags that the TX path inserts, against scapy's."""

import random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from hw.abi.rings import CompletionError
from hw.config import preset
from tests.hw.nic.tx.bench import TxBench, context, data
from tests.hw.nic.tx.packets import (
    CHECKSUM_OFFSETS,
    Placer,
    Request,
    padded,
    pseudo_header_sum,
    random_packet,
    random_request,
)

GOOD = CompletionError.NONE.value
OFFLOAD = CompletionError.OFFLOAD.value
SIZES = (0, 1, 2, 3, 7, 17, 18, 19, 45, 64, 100, 301)


@pytest.mark.parametrize(("width", "count"), [(64, 60), (128, 60), (256, 60), (512, 80)])
@pytest.mark.parametrize("seed", range(2))
def test_random_frames_leave_as_scapy_makes_them(width, count, seed):
    config = preset("10g", data_width=width, tx_offload=True, serial_width=16)
    stall = 0.3 * seed
    bench, rng = TxBench(config, seed=seed, stall=stall, wire_stall=stall / 2), random.Random(f"{width} {seed}")
    placer = Placer(bench, rng)
    requests = [random_request(rng, rng.choice(SIZES)) for _ in range(count)]

    async def scenario(ctx):
        for request in requests:
            await bench.post(ctx, placer.put(request))
        await bench.settle(ctx, count)

    bench.run(scenario)
    assert bench.frames == padded(request.sent for request in requests)
    assert bench.serials == list(range(count))
    assert [event["length"] for event in bench.frame_events] == [len(frame) for frame in bench.frames]
    assert [c.error for c in bench.completions[0]] == [GOOD] * count


@pytest.mark.parametrize("segmentation", [False, True])
@pytest.mark.parametrize("ask", [("insert_l4_checksum",), ("insert_l4_checksum", "insert_vlan")])
def test_smallest_frames_at_512_bits_take_a_cycle_for_each_descriptor(ask, segmentation):
    config = preset(
        "10g",
        data_width=512,
        queues=1,
        fetch_depth=256,
        outstanding_reads=256,
        tx_offload=True,
        segmentation=segmentation,
    )
    bench = TxBench(config)
    bench.memory[:60] = bytes(Ether(dst="02:00:00:00:00:01") / IP() / UDP() / Raw(bytes(range(18))))
    fields = {"ask": ask, "checksum_start": 34, "checksum_offset": CHECKSUM_OFFSETS[UDP]}
    entries = ([context(vlan=5)] if "insert_vlan" in ask else []) + [data(0, 60, **fields)]
    count = 110

    async def scenario(ctx):
        ctx.set(bench.path.tx_enable, 0)
        for _ in range(count):
            await bench.post(ctx, entries)
        ctx.set(bench.path.tx_enable, 1)
        await bench.settle(ctx, count)

    bench.run(scenario)
    assert len(bench.frames) == count
    assert bench.sent_at[-1] - bench.sent_at[9] <= len(entries) * (count - 10) + 2


def test_a_checksum_of_zero_is_sent_as_all_ones():
    bench, rng = TxBench(preset("10g", tx_offload=True)), random.Random(0)
    packet = Ether(bytes(Ether(dst="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / Raw(bytes(20))))
    start, offset = 34, CHECKSUM_OFFSETS[UDP]
    without = bytes(packet)
    # A word more in the payload, equal to the checksum without it, makes the sum 0xFFFF.
    frame = bytearray(without)
    frame[50:52] = without[start + offset : start + offset + 2]
    frame[start + offset : start + offset + 2] = pseudo_header_sum(packet, len(packet[UDP]))
    request = Request(bytes(frame), b"", ("insert_l4_checksum",), {"checksum_start": start, "checksum_offset": offset})

    async def scenario(ctx):
        await bench.post(ctx, Placer(bench, rng).put(request))
        await bench.settle(ctx, 1)

    bench.run(scenario)
    assert bench.frames[0][start + offset : start + offset + 2] == b"\xff\xff"


@pytest.mark.parametrize("width", [64, 512])
def test_sums_may_begin_and_end_up_anywhere(width):
    config = preset("10g", data_width=width, tx_offload=True)
    bench, rng = TxBench(config), random.Random(width)
    placer = Placer(bench, rng)
    requests = []
    starts, offsets = (0, 13, 13, 255, 255, 63, 62, 64, 7, 1), (0, 0, 1, 63, 0, 0, 1, 63, 0, 62)
    lengths = (14, 15, 16, 320, 300, 65, 65, 129, 64, 65)
    for start, offset, length in zip(starts, offsets, lengths, strict=True):
        frame = rng.randbytes(length)
        total = sum(byte << (0 if place % 2 else 8) for place, byte in enumerate(frame[start:]))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        sent = bytearray(frame)
        sent[start + offset : start + offset + 2] = ((0xFFFF ^ total) or 0xFFFF).to_bytes(2, "big")
        fields = {"checksum_start": start, "checksum_offset": offset}
        requests.append(Request(frame, bytes(sent), ("insert_l4_checksum",), fields))

    async def scenario(ctx):
        for request in requests:
            await bench.post(ctx, placer.put(request))
        await bench.settle(ctx, len(requests))

    bench.run(scenario)
    assert bench.frames == padded(request.sent for request in requests)


@pytest.mark.parametrize("width", [64, 128, 512])
def test_tagged_frames_of_every_length_keep_all_their_bytes_and_fill_the_buffer(width):
    config = preset("10g", data_width=width, tx_offload=True, tx_buffer_bytes=2048, max_frame=1024)
    bench, rng = TxBench(config), random.Random(width)
    placer = Placer(bench, rng)
    requests = []
    for length in [*range(14, 14 + width // 8 + 4), *range(57, 70), *[64] * 70]:
        frame, vlan = rng.randbytes(length), rng.randrange(1 << 16)
        sent = frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]
        requests.append(Request(frame, sent, ("insert_vlan",), {}, {"vlan": vlan}))

    async def scenario(ctx):
        for request in requests:
            await bench.post(ctx, placer.put(request, first=len(request.memory)))
        await bench.settle(ctx, len(requests))

    async def stall_and_go(ctx):
        while True:
            await ctx.tick()
            bench.wire_stall = float(bench.cycle % 400 < 200)

    bench.run(scenario, stall_and_go)
    assert bench.frames == padded(request.sent for request in requests)


IPV4 = {"l2_length": 14, "l3_length": 20}


@pytest.mark.parametrize(
    ("ask", "fields", "parameters", "length"),
    [
        (("insert_vlan",), {}, None, 60),
        (("insert_ip_checksum",), {}, None, 60),
        (("insert_ip_checksum",), {}, {**IPV4, "l3_length": 16}, 60),
        (("insert_ip_checksum",), {}, {**IPV4, "l3_length": 22}, 60),
        (("insert_ip_checksum",), {}, {**IPV4, "l3_length": 64}, 100),
        (("insert_ip_checksum",), {}, {**IPV4, "l2_length": 13}, 60),
        (("insert_ip_checksum",), {}, {**IPV4, "l2_length": 255}, 274),
        (("insert_ip_checksum",), {}, IPV4, 33),
        (("insert_l4_checksum",), {"checksum_start": 34, "checksum_offset": 16}, None, 51),
        (("insert_l4_checksum",), {"checksum_start": 255, "checksum_offset": 63}, None, 319),
    ],
)
def test_what_cannot_be_done_is_refused_unread_and_gives_back_its_room(ask, fields, parameters, length):
    config = preset("10g", tx_offload=True, tx_buffer_bytes=2048, max_frame=1024)
    bench, rng = TxBench(config), random.Random(0)
    placer = Placer(bench, rng)
    bad = Request(rng.randbytes(length), b"", ask, fields, parameters)
    fine = Request(rng.randbytes(1000), b"")
    count = 2 + 2048 // length

    async def scenario(ctx):
        for _ in range(count):
            await bench.post(ctx, placer.put(bad))
        assert bench.commands == 0
        await bench.post(ctx, placer.put(fine, first=len(fine.memory)))
        await bench.settle(ctx, count + 1)

    bench.run(scenario)
    assert bench.frames == [fine.memory]
    assert bench.commands == 1
    assert [event["error"] for event in bench.queue_events] == [OFFLOAD] * count + [GOOD]
    assert [completion.error for completion in bench.completions[0]] == [OFFLOAD] * count + [GOOD]


def test_a_context_is_of_its_own_frame_alone_and_the_last_one_counts():
    bench, rng = TxBench(preset("10g", tx_offload=True)), random.Random(0)
    frame = rng.randbytes(70)
    bench.memory[:70] = frame

    async def scenario(ctx):
        await bench.post(ctx, [context(vlan=1), data(0, 40, end=False)])
        await bench.post(ctx, [context(vlan=2), data(40, 30, ask=("insert_vlan",))])
        await bench.post(ctx, [context(vlan=3), data(0, 70)])
        await bench.post(ctx, [data(0, 70, ask=("insert_vlan",), report=True)])
        await bench.settle(ctx, 3)

    bench.run(scenario)
    assert bench.frames == [frame[:12] + b"\x81\x00\x00\x02" + frame[12:], frame]
    assert [completion.error for completion in bench.completions[0]] == [OFFLOAD]


def test_without_offloads_built_in_flags_and_contexts_change_nothing():
    bench, rng = TxBench(preset("10g")), random.Random(0)
    frame = bytes(random_packet(rng, 50))
    bench.memory[: len(frame)] = frame

    async def scenario(ctx):
        await bench.post(
            ctx, [context(vlan=1), data(0, len(frame), ask=("insert_vlan", "insert_ip_checksum", "insert_l4_checksum"))]
        )
        await bench.settle(ctx, 1)

    bench.run(scenario)
    assert bench.frames == [frame]


@pytest.mark.parametrize("seed", range(2))
def test_frames_that_cannot_be_read_leave_the_sums_of_others_alone(seed):
    bench, rng = TxBench(preset("10g", tx_offload=True), seed=seed, stall=0.2), random.Random(seed)
    placer = Placer(bench, rng)
    requests = [random_request(rng, rng.choice(SIZES)) for _ in range(40)]
    lost = [rng.random() < 0.4 for _ in requests]
    bench.bad_pages = {31}

    async def scenario(ctx):
        for request, bad in zip(requests, lost, strict=True):
            entries = placer.put(request)
            if bad:
                entries.insert(-1, data(31 << 12, rng.randrange(1, 100), end=False))
            await bench.post(ctx, entries)
        await bench.settle(ctx, len(requests))

    bench.run(scenario)
    assert bench.frames == padded(request.sent for request, bad in zip(requests, lost, strict=True) if not bad)


@pytest.mark.parametrize("cut_at", [1, 9, 40, 55, 70, 90])
def test_after_reset_in_traffic_sums_begin_anew(cut_at):
    bench, rng = TxBench(preset("10g", tx_offload=True), stall=0.1), random.Random(cut_at)
    placer = Placer(bench, rng)
    requests = [random_request(rng, rng.choice(SIZES)) for _ in range(6)]

    async def scenario(ctx):
        for request in requests:
            await bench.post(ctx, placer.put(request))
        await ctx.tick().repeat(cut_at)
        await bench.reset(ctx)
        assert ctx.get(bench.path.control.busy) == 0
        for request in requests:
            await bench.post(ctx, placer.put(request))
        await bench.settle(ctx, len(requests))

    bench.run(scenario)
    assert bench.frames == padded(request.sent for request in requests)
