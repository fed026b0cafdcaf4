# SPDX-License-Identifier: BSD-2-Clause
"""RxHeaderSplit: headers go to the buffer of their frame's first completion, and nothing else changes."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rx.header_split import RxHeaderSplit
from tests.hw.nic.queue_writes import write_register

QUEUES = 3


async def set_up(ctx, dut, queue, entries, address, size):
    """Write the registers of a queue and clear it."""
    area = {"enable": 1, "size": size.bit_length() - 7, "address": address >> 6}
    await write_register(ctx, dut.queue_write, "rx_completion_size", queue, entries=entries)
    await write_register(ctx, dut.queue_write, "rx_header", queue, **area)
    ctx.set(dut.clear, 1 << queue)
    await ctx.tick()
    ctx.set(dut.clear, 0)


def random_segments(rng, count):
    """As they come in: frames of one to three segments, some split, some dropped."""
    segments = []
    while len(segments) < count:
        queue, parts, info = rng.randrange(QUEUES), rng.randint(1, 3), {"header_length": rng.randint(14, 255)}
        if rng.random() < 0.2:
            segments.append({"queue": queue, "drop": 1, "length": rng.randint(1, 9000), "info": info})
            continue
        split = rng.random() < 0.6
        for part in range(parts):
            segments.append(
                {
                    "queue": queue,
                    "split": int(split and part == 0),
                    "address": rng.getrandbits(64),
                    "length": rng.randint(1, 2048),
                    "buffer_id": rng.randrange(1 << 16),
                    "end_of_packet": int(part == parts - 1),
                    "info": info,
                }
            )
    return segments


def expected(segments, areas, indices):
    """Segments as they go out; ``indices`` are each queue's, and go on."""
    out = []
    for segment in segments:
        queue, whole = segment["queue"], {"header": 0, "drop": 0, "address": 0, "buffer_id": 0, "end_of_packet": 0}
        if segment.get("split"):
            entries, address, size = areas[queue]
            place = (address + indices[queue] % entries * size) % (1 << 64)
            length = segment["info"]["header_length"]
            out.append(segment | {"header": 1, "drop": 0, "address": place, "length": length, "end_of_packet": 0})
        out.append(whole | segment)
        indices[queue] += not segment.get("drop")
    return out


def same(segment, wanted):
    names = ["queue", "length", "drop"]
    names += [] if wanted["drop"] else ["header", "address", "end_of_packet"]
    names += [] if wanted["drop"] or wanted["header"] else ["buffer_id"]
    return (
        all(getattr(segment, name) == wanted[name] for name in names)
        and segment.info.header_length == wanted["info"]["header_length"]
    )


@pytest.mark.parametrize(("seed", "pause", "stall"), [(0, 0.0, 0.0), (1, 0.3, 0.0), (2, 0.0, 0.5), (3, 0.4, 0.4)])
def test_headers_go_to_the_buffer_of_their_slot_round_after_round_and_start_after_start(seed, pause, stall):
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = RxHeaderSplit(preset("10g", queues=QUEUES, classify=True, header_split=True))
    rounds = [random_segments(rng, 120) for _ in range(2)]
    areas = {
        queue: (rng.choice((8, 16)), rng.getrandbits(58) << 6, rng.choice((64, 128, 256, 512))) for queue in range(3)
    }
    areas[2] = (8, (1 << 64) - 64, 64)  # over the end of the address space
    indices = [0] * QUEUES
    wanted = []

    async def offer(ctx):
        for number, segments in enumerate(rounds):
            for queue in range(QUEUES) if not number else (1,):
                await set_up(ctx, dut, queue, *areas[queue])
                indices[queue] = 0
            wanted.extend(expected(segments, areas, indices))
            for segment in segments:
                while rng.random() < pause:
                    await ctx.tick()
                ctx.set(dut.input.payload, segment)
                ctx.set(dut.input.valid, 1)
                await ctx.tick().until(dut.input.ready)
                ctx.set(dut.input.valid, 0)
            await ctx.tick().repeat(60)

    async def take(ctx):
        taken = cycles = 0
        while len(wanted) < 1 or taken < len(wanted) or cycles < 400:
            assert cycles < 5000, f"Waited 5000 cycles for {len(wanted)} segments, got {taken}"
            ctx.set(dut.output.ready, int(rng.random() >= stall))
            _, _, valid, ready, segment = await ctx.tick().sample(
                dut.output.valid, dut.output.ready, dut.output.payload
            )
            cycles += 1
            if valid and ready:
                assert same(segment, wanted[taken]), taken
                taken += 1
        assert len(wanted) > 250

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(offer)
    sim.add_testbench(take)
    sim.run()


def test_pace_and_latency_are_as_stated():
    dut = RxHeaderSplit(preset("10g", queues=QUEUES, classify=True, header_split=True))
    came = []

    async def bench(ctx):
        await set_up(ctx, dut, 0, 8, 0x1000, 64)
        ctx.set(dut.output.ready, 1)
        ctx.set(dut.input.valid, 1)
        ctx.set(dut.input.payload, {"length": 9})
        for cycle in range(40):
            if cycle == 20:
                ctx.set(dut.input.payload, {"length": 9, "split": 1})
            _, _, valid, ready = await ctx.tick().sample(dut.output.valid, dut.input.ready)
            came.append((valid, ready))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert [valid for valid, _ in came] == [0] * 4 + [1] * 36
    assert all(ready for _, ready in came[:23])
    assert [ready for _, ready in came[23:39]] == [0, 1] * 8


def test_after_reset_in_traffic_it_is_as_after_power_on():
    reset = Signal()
    dut = RxHeaderSplit(preset("10g", queues=QUEUES, classify=True, header_split=True))
    places = []

    async def bench(ctx):
        for start in range(2):
            await set_up(ctx, dut, 1, 8, 0x1000, 64)
            ctx.set(dut.input.payload, {"queue": 1, "length": 9, "split": 1})
            ctx.set(dut.input.valid, 1)
            ctx.set(dut.output.ready, 1)
            for _ in range(13):
                _, _, valid, header, address = await ctx.tick().sample(
                    dut.output.valid, dut.output.payload.header, dut.output.payload.address
                )
                if valid and header:
                    places.append((start, address))
            ctx.set(dut.input.valid, 0)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert places == [(start, 0x1000 + 64 * slot) for start in range(2) for slot in range(5)]
