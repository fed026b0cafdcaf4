# SPDX-License-Identifier: BSD-2-Clause
"""BurstSplitter against its definition: cut at every multiple of the longest burst."""

import random

import pytest
from amaranth.hdl import unsigned
from amaranth.sim import Simulator

from hw.nic.dma.split import BurstSplitter
from tests.hw.streams import send


def split(transfers, *, beat, burst, ready=1.0):
    """The bursts of these transfers as (address, beats, first, last, tag), and the cycles in which they came."""
    dut = BurstSplitter(beat_bytes=beat, max_burst_bytes=burst, tag=unsigned(8))
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    bursts, cycles = [], []
    count = len(expected(transfers, beat=beat, burst=burst))
    random_ = random.Random(1)

    async def source(ctx):
        for tag, (address, length) in enumerate(transfers):
            await send(ctx, dut.transfers, {"address": address, "length": length, "tag": tag & 0xFF})

    async def sink(ctx):
        cycle = 0
        while len(bursts) < count:
            assert cycle < 20000, f"Waited {cycle} cycles for burst {len(bursts)}"
            if random_.random() >= ready:
                await ctx.tick()
                cycle += 1
                continue
            ctx.set(dut.bursts.ready, 1)
            _, _, valid, p = await ctx.tick().sample(dut.bursts.valid, dut.bursts.payload)
            ctx.set(dut.bursts.ready, 0)
            cycle += 1
            if valid:
                bursts.append((p.address, p.beats + 1, p.first, p.last, p.tag))
                cycles.append(cycle)

    sim.add_testbench(source)
    sim.add_testbench(sink)
    sim.run()
    return bursts, cycles


def expected(transfers, *, beat, burst):
    bursts = []
    for tag, (address, length) in enumerate(transfers):
        start, end = address, address + length
        while start < end:
            stop = min(end, (start // burst + 1) * burst)
            beats = (stop - 1) // beat - start // beat + 1
            bursts.append((start // beat * beat, beats, int(start == address), int(stop == end), tag & 0xFF))
            start = stop
    return bursts


@pytest.mark.parametrize(("beat", "burst"), [(8, 64), (8, 512), (8, 2048), (16, 4096), (64, 64), (64, 4096)])
@pytest.mark.parametrize("ready", [1.0, 0.5])
def test_bursts_follow_the_definition(beat, burst, ready):
    random_ = random.Random(beat * burst)
    transfers = [
        (burst - 1, 1),
        (burst - 1, 2),
        (0, burst),
        (1, burst),
        (0, min(65535, 50 * burst)),
        ((1 << 64) - 4096, 4096),
    ]
    for _ in range(30):
        transfers.append((random_.randrange(1 << 63), random_.choice((1, 60, 64, random_.randint(1, 3 * burst)))))
    bursts, _ = split(transfers, beat=beat, burst=burst, ready=ready)
    assert bursts == expected(transfers, beat=beat, burst=burst)
    for address, beats, *_ in bursts:
        assert address // 4096 == (address + beats * beat - 1) // 4096


def test_a_transfer_beyond_the_last_address_does_not_come_round_to_the_first():
    top = 1 << 64
    bursts, _ = split([(top - 80, 64), (top - 80, 80)], beat=8, burst=64)
    assert [address for address, *_ in bursts] == [top - 80, top - 64, top - 80, top - 64]
    # As many bursts as if addresses went on, the third of them at the top again.
    bursts, _ = split([(top - 80, 200)], beat=8, burst=64)
    assert [(address, beats) for address, beats, *_ in bursts] == [
        (top - 80, 2),
        (top - 64, 8),
        (top - 64, 8),
        (top - 64, 7),
    ]
    assert [last for *_, last, _ in bursts] == [0, 0, 0, 1]


def test_one_burst_a_cycle():
    _, cycles = split([(64 * i, 64 if i % 2 else 256) for i in range(40)], beat=8, burst=64)
    assert cycles[-1] - cycles[0] == len(cycles) - 1


@pytest.mark.parametrize(
    ("beat", "burst", "message"),
    [
        (4, 64, "Beat must be 8, 16, 32 or 64 bytes, not 4"),
        (8, 96, "Maximum burst must be a power of two in 8..2048 bytes, not 96"),
        (8, 4096, "Maximum burst must be a power of two in 8..2048 bytes, not 4096"),
        (64, 32, "Maximum burst must be a power of two in 64..4096 bytes, not 32"),
    ],
)
def test_parameters_are_checked(beat, burst, message):
    with pytest.raises(ValueError, match=message):
        BurstSplitter(beat_bytes=beat, max_burst_bytes=burst, tag=unsigned(1))
