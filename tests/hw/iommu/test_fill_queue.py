# SPDX-License-Identifier: BSD-2-Clause
"""Fills on their way to a cache: paced, in order, none lost but to an invalidation."""

import random
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.iommu.fill_queue import FILL_CYCLES, FillQueue

FILL = wiring.Signature({"strobe": Out(1), "low": Out(8), "high": Out(8)})


def play(come: dict[int, int], invalidating: frozenset[int] = frozenset(), *, depth: int = 4) -> dict[int, int]:
    """Fills by the cycle in which they come, and those handed on by theirs."""
    dut = FillQueue(FILL, depth=depth)
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    gone: dict[int, int] = {}

    async def bench(ctx: Any) -> None:
        for cycle in range(max(come) + FILL_CYCLES * (depth + 2)):
            ctx.set(dut.input.strobe, cycle in come)
            ctx.set(dut.input.low, come.get(cycle, 0) & 0xFF)
            ctx.set(dut.input.high, come.get(cycle, 0) >> 8)
            ctx.set(dut.invalidating, cycle in invalidating)
            if ctx.get(dut.output.strobe):
                gone[cycle] = ctx.get(dut.output.low) | ctx.get(dut.output.high) << 8
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return gone


def test_the_first_goes_at_once_and_the_others_keep_their_distance() -> None:
    assert play({3: 0x1122, 4: 2, 5: 3, 30: 4}) == {3: 0x1122, 7: 2, 11: 3, 30: 4}
    assert play({0: 1, 4: 2, 8: 3}) == {0: 1, 4: 2, 8: 3}


def test_more_than_the_depth_are_dropped() -> None:
    assert list(play({cycle: cycle + 1 for cycle in range(4)}, depth=2).values()) == [1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_all_come_out_in_order_and_an_invalidation_forgets_what_waits(seed: int) -> None:
    rng = random.Random(seed)
    come = {cycle: rng.randrange(1 << 16) for cycle in range(200) if rng.random() < 0.22}
    assert list(play(come, depth=50).values()) == list(come.values())
    cycle = 100
    gone = play(come, frozenset({cycle}), depth=50)
    before = play({at: value for at, value in come.items() if at <= cycle}, depth=50)
    after = play({at: value for at, value in come.items() if at > cycle}, depth=50)
    assert {at: value for at, value in gone.items() if at <= cycle} == {
        at: value for at, value in before.items() if at <= cycle
    }
    assert [value for at, value in gone.items() if at > cycle] == list(after.values())


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="must be a positive integer, not 0"):
        FillQueue(FILL, depth=0)
