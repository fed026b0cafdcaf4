# SPDX-License-Identifier: BSD-2-Clause
"""The beats of frames of every length, with and without a tag."""

import pytest
from amaranth.sim import Simulator

from hw.config import WIDTHS, preset
from hw.nic.tx.frame_beats import BEATS_STAGES, FrameBeats
from hw.nic.tx.layouts import MIN_FRAME


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tag", [None, 0, 4])
def test_beats_are_those_of_the_frame_as_it_is_sent(width, tag):
    size = width // 8
    dut = FrameBeats(preset("10g", data_width=width, max_frame=1600, tx_offload=tag is not None))
    lengths = [*range(MIN_FRAME, 200), *range(1590, 1601)]
    seen = []

    async def scenario(ctx):
        for length in [*lengths, *lengths[:BEATS_STAGES]]:
            seen.append(ctx.get(dut.beats))
            ctx.set(dut.length, length)
            if tag is not None:
                ctx.set(dut.tagged, tag != 0)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(scenario)
    simulator.run()
    for length, beats in zip(lengths, seen[BEATS_STAGES:], strict=True):
        sent = max(60, length + (tag or 0))
        count = -(-sent // size)
        assert beats.last == count - 1
        assert beats.count == sent - size * beats.last
        assert beats.pads == count - -(-length // size)
        if tag is not None:
            assert beats.extra == count - -(-max(60, length) // size)
