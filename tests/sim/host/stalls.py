# SPDX-License-Identifier: BSD-2-Clause
"""Setting stalls from a testbench."""

from typing import Any

from amaranth.lib import data

from sim.host.stall import StallSetting, stall_setting


async def set_stalls(ctx: Any, stall: Any, rate: int, seed: int, places: int = 1) -> None:
    """Set places 0 to ``places`` - 1, one a cycle."""
    control = stall.control
    for place in range(places):
        ctx.set(control.strobe, 1)
        ctx.set(control.place, place)
        ctx.set(control.setting, data.Const(StallSetting, stall_setting(rate, seed, place)))
        await ctx.tick()
    ctx.set(control.strobe, 0)
