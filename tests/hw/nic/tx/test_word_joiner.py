# SPDX-License-Identifier: BSD-2-Clause
"""Frames from pieces, as words at their addresses."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.word_joiner import JOIN_STAGES, WordJoiner

BUFFER_BYTES = 2048


def beats_of(frame, size, failed):
    """What comes for a frame's pieces, and whether in the cycle after each beat nothing may come."""
    filled = 0
    for number, piece in enumerate(frame):
        end = number == len(frame) - 1
        offset, rest = filled % size, (len(piece) - 1) % size + 1
        spills = end and offset + rest > size
        placement = {"offset": offset, "fills": offset + rest >= size, "spills": spills}
        for place in range(0, len(piece), size):
            last = place + size >= len(piece)
            beat = {
                "data": int.from_bytes(piece[place : place + size], "little"),
                "count": min(size, len(piece) - place),
                "last": last,
                "placement": placement,
                "ends": last and end,
                "failed": last and end and failed,
            }
            yield beat, last and spills
        filled += len(piece)


@pytest.mark.parametrize("width", [64, 128, 512])
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_words_hold_the_frames_bytes_one_behind_the_other_without_those_given_up(width, pause):
    print("seed 1")
    rng, size = random.Random(1), width // 8
    dut = WordJoiner(preset("10g", data_width=width, tx_buffer_bytes=BUFFER_BYTES, max_frame=1024))
    lengths = (1, 2, size - 1, size, size + 1, 3 * size, 100)
    frames = [[rng.randbytes(rng.choice(lengths)) for _ in range(rng.randint(1, 5))] for _ in range(80)]
    lost = [rng.random() < 0.2 for _ in frames]
    expected, start = [], 0
    for frame, failed in zip(frames, lost, strict=True):
        whole = b"".join(frame)
        words = [whole[place : place + size].ljust(size, b"\0") for place in range(0, len(whole), size)]
        for number, word in enumerate(words):
            last = number == len(words) - 1
            expected.append(((start + number) % (BUFFER_BYTES // size), word, number == 0, last and not failed))
        start += 0 if failed else len(words)
    seen = []

    async def scenario(ctx):
        for frame, failed in zip(frames, lost, strict=True):
            for beat, spills in beats_of(frame, size, failed):
                while rng.random() < pause:
                    await ctx.tick()
                for name, value in beat.items():
                    ctx.set(getattr(dut, name), value)
                ctx.set(dut.data, beat["data"] | (rng.getrandbits(width) >> 8 * beat["count"] << 8 * beat["count"]))
                ctx.set(dut.strobe, 1)
                await ctx.tick()
                ctx.set(dut.strobe, 0)
                assert ctx.get(dut.spilling) == spills
                if spills:
                    await ctx.tick()
        await ctx.tick().repeat(JOIN_STAGES + 1)

    async def watch(ctx):
        async for _, _, strobe, address, word, first, last in ctx.tick().sample(
            dut.word.strobe, dut.address, dut.word.data, dut.word.first, dut.word.last
        ):
            if strobe:
                seen.append((address, word.to_bytes(size, "little"), first, last))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(scenario)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert seen == expected
