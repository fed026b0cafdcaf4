# SPDX-License-Identifier: BSD-2-Clause
"""The whole NIC splits headers off, as registers say."""

import random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from hw.abi.rings import CompletionError
from hw.bus.axi4 import Response
from tests.hw.nic.nic_host import ENTRIES, HEADER_SPLIT, RX_COMPLETION, NicHost

HEADERS = 54
ERROR = (1 << RX_COMPLETION.fields["error"][1]) - 1


def packet(rng, queue, length):
    """A TCP packet, of which so many bytes follow its headers."""
    to = f"02:00:00:00:00:{queue:02x}"
    return bytes(Ether(dst=to) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2) / rng.randbytes(length))


async def received(host, ctx, queue, count):
    """So many frames of a queue with their last completions, waited for; buffers are posted anew."""
    frames = []
    for _ in range(20_000):
        before = host.queues[queue].received
        frames += host.poll(queue)
        if host.queues[queue].received > before:
            await host.post(ctx, queue, host.queues[queue].received - before)
        if len(frames) >= count:
            return frames
        await ctx.tick()
    raise AssertionError(f"waited 20000 cycles for {count} frames of queue {queue}, got {len(frames)}")


@pytest.mark.parametrize(("width", "stall", "size", "count"), [(64, 0.0, 64, 24), (512, 0.2, 256, ENTRIES + 8)])
def test_one_queue_splits_and_another_does_not_round_the_ring_and_until_it_is_set_anew(width, stall, size, count):
    host, rng = NicHost(seed=9, stall=stall, data_width=width, classify=True, header_split=True), random.Random(9)
    frames = [[packet(rng, queue, rng.choice((6, 10, 300))) for _ in range(count)] for queue in range(2)]

    async def bench(ctx):
        capabilities = await host.registers.read(ctx, "capabilities")
        assert host.registers.map.port["capabilities"].get(capabilities, "header_split") == 1
        await host.bring_up(ctx)
        assert await host.registers.write(ctx, "rx_header", 1, enable=1) is Response.SLVERR
        assert await host.registers.read(ctx, "rx_header", 1) == 0
        await host.write(ctx, "rx_control", 1, enable=0)
        await host.stopped(ctx, "rx", 1)
        await host.start(ctx, 1, directions=("rx",), header_bytes=size)
        host.writes.clear()
        got = [[], []]
        for start in range(0, len(frames[0]), 8):
            for pair in zip(*(own[start : start + 8] for own in frames)):
                for frame in pair:
                    host.play(frame)
            for queue in range(2):
                got[queue] += await received(host, ctx, queue, len(frames[queue][start : start + 8]))
        for queue in range(2):
            assert [frame for frame, _ in got[queue]] == frames[queue]
            assert all(bool(entry.flags & HEADER_SPLIT) == queue for _, entry in got[queue])
            assert all(entry.header_length == HEADERS for _, entry in got[queue])
            lengths = [len(frame) - HEADERS * queue for frame in frames[queue]]
            assert [entry.length for _, entry in got[queue]] == lengths
        first, behind = host.queues[1].header(), host.queues[1].header() + ENTRIES * size
        to_headers = [(address, len(data)) for _, address, data in host.writes if first <= address < behind]
        assert sum(length for _, length in to_headers) == HEADERS * len(frames[1])
        assert {(address - first) // size for address, _ in to_headers} == set(range(min(count, ENTRIES)))

        await host.write(ctx, "rx_control", 1, enable=0)
        await host.stopped(ctx, "rx", 1)
        await host.start(ctx, 1, directions=("rx",))
        host.play(frames[1][0])
        [(frame, entry)] = await received(host, ctx, 1, 1)
        assert (frame, entry.flags & HEADER_SPLIT, entry.length) == (frames[1][0], 0, len(frame))
        counters = await host.counters(ctx)
        assert counters[1, "rx_bytes"] == sum(map(len, frames[1])) + len(frame)
        assert counters[1, "rx_write_fault"] == 0

    host.run(bench)


def test_headers_that_memory_refuses_fault_their_frame_and_no_other():
    host, rng = NicHost(seed=3, classify=True, header_split=True), random.Random(3)
    frames = [packet(rng, 0, 200) for _ in range(6)]

    async def bench(ctx):
        await host.bring_up(ctx, buffers=0)
        await host.write(ctx, "rx_control", 0, enable=0)
        await host.stopped(ctx, "rx", 0)
        await host.start(ctx, 0, directions=("rx",), header_bytes=128)
        bad = host.queues[0].header(2)
        host.memory.fail(range(bad, bad + 128), reads=False)
        for frame in frames:
            host.play(frame)
        got = await received(host, ctx, 0, len(frames))
        errors = [CompletionError(entry.error & ERROR) for _, entry in got]
        assert errors == [CompletionError.WRITE_FAULT if i == 2 else CompletionError.NONE for i in range(len(frames))]
        assert all(frame == sent for i, ((frame, _), sent) in enumerate(zip(got, frames)) if i != 2)
        counters = await host.counters(ctx)
        assert (counters[0, "rx_packets"], counters[0, "rx_write_fault"]) == (len(frames), 1)

    host.run(bench)
