# SPDX-License-Identifier: BSD-2-Clause
"""TxFramer: what it tells of frames is what their descriptors say, whatever arrives between them."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.framer import TxFramer
from tests.hw.nic.tx.bench import data
from tests.hw.nic.tx.frames import BAD, expected_frames, random_frame

DELAY = 4
NOISE = bytes(range(1, 17))


def framed_by(dut, scenario):
    """Run ``scenario(ctx, arrive)``, where ``arrive(queue, entry)`` takes a cycle, and return what is told of: (cycle,
    queue, record, place, frames, reports)."""
    told = []
    cycle = 0

    async def bench(ctx):
        async def arrive(queue, entry=None):
            ctx.set(dut.arrived.strobe, entry is not None)
            ctx.set(dut.arrived.queue, queue)
            ctx.set(dut.arrived.entry, int.from_bytes(entry or NOISE, "little"))
            await ctx.tick()
            ctx.set(dut.arrived.strobe, 0)
            note(ctx)

        await scenario(ctx, arrive)
        for _ in range(DELAY):
            await arrive(0)

    def note(ctx):
        nonlocal cycle
        cycle += 1
        framed = dut.framed
        if ctx.get(framed.strobe):
            record = ctx.get(framed.record)
            fields = {name: record[name] for name in record.shape().members} | {"error": record.error.value}
            counts = (ctx.get(framed.place), ctx.get(framed.frames), ctx.get(framed.reports))
            told.append((cycle, ctx.get(framed.queue), fields, *counts))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return told


def expected_fields(frame, config):
    words = -(-max(frame.length, 60) // config.beat_bytes)
    return {
        "first": frame.first,
        "extra": len(frame.pieces) - 1,
        "length": frame.length,
        "unsent": frame.wrong,
        "words": 0 if frame.wrong else words,
        "end": frame.end,
        "error": frame.error,
    }


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("seed", range(4))
def test_each_frame_is_told_of_four_cycles_after_its_last_descriptor(width, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = preset("10g", data_width=width, queues=4, fetch_depth=8)
    dut = TxFramer(config)
    rings = [[] for _ in range(4)]
    for ring in rings:
        while len(ring) < 120:
            ring += random_frame(rng, config, len(ring))
    arrivals = []  # (cycle, queue) of each

    async def scenario(ctx, arrive):
        ctx.set(dut.enable, 0xF)
        left = [list(ring) for ring in rings]
        queue = 0
        cycle = 0
        while any(left):
            if rng.random() < 0.5 or not left[queue]:
                queue = rng.choice([q for q in range(4) if left[q]])
            entry = left[queue].pop(0) if rng.random() < 0.9 else None
            if entry:
                arrivals.append((cycle, queue))
            await arrive(queue, entry)
            cycle += 1

    told = framed_by(dut, scenario)
    for queue, ring in enumerate(rings):
        frames = expected_frames(ring, config)
        cycles = [cycle for cycle, of in arrivals if of == queue]
        reports = 0
        assert [t[2] for t in told if t[1] == queue] == [expected_fields(frame, config) for frame in frames]
        for number, (frame, (cycle, _, _, place, count, asked)) in enumerate(
            zip(frames, [t for t in told if t[1] == queue], strict=True)
        ):
            reports += sum(report for *_, report in frame.pieces)
            assert cycle == cycles[frame.first + len(frame.pieces) - 1] + DELAY
            assert (place, count, asked) == (number % 8, (number + 1) % 16, reports % 16)


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_descriptor_ends_all_until_the_queue_is_cleared(bad):
    config = preset("10g")
    dut = TxFramer(config)

    async def scenario(ctx, arrive):
        ctx.set(dut.enable, 3)
        for entry in (data(0, 60), data(0, 20, end=False), bad, data(0, 60), data(0, 60)):
            await arrive(1, entry)
            await arrive(0, data(0, 61))
        ctx.set(dut.enable, 1)
        await arrive(1, data(0, 62))
        await arrive(0)
        ctx.set(dut.clear, 2)
        await arrive(0)
        ctx.set(dut.clear, 0)
        ctx.set(dut.enable, 3)
        await arrive(1, data(0, 63))

    told = framed_by(dut, scenario)
    assert [t[2]["length"] for t in told if t[1] == 0] == [61] * 5
    first, error, restarted = (t for t in told if t[1] == 1)
    assert first[2]["error"] == restarted[2]["error"] == 0
    assert error[2]["error"] == expected_frames([bad], config)[0].error
    assert error[2]["words"] == 0
    assert (restarted[2]["first"], restarted[2]["length"], restarted[3:]) == (0, 63, (0, 1, 0))


def test_a_request_for_segmentation_may_be_long_but_not_longer_than_can_be_counted():
    dut = TxFramer(preset("10g", tx_offload=True, segmentation=True))

    async def scenario(ctx, arrive):
        ctx.set(dut.enable, 3)
        for last, ask in ((5535, ("segment",)), (5536, ("segment",)), (5535, ())):
            await arrive(0, data(0, 60000, end=False))
            await arrive(0, data(0, last, ask=ask))

    told = framed_by(dut, scenario)
    assert [(t[2]["length"], t[2]["unsent"]) for t in told] == [(65535, 0), (65535, 1), (65535, 1)]
