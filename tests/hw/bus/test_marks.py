# SPDX-License-Identifier: BSD-2-Clause
"""Marks against a set of numbers."""

import random
from typing import Any

import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.sim import Simulator

from hw.bus.marks import Marks


@pytest.mark.parametrize("bits", [1, 6, 7, 8])
def test_against_a_set(bits: int) -> None:
    """Marks stay until reset, and no number has another's."""
    rng = random.Random(bits)
    m = Module()
    m.domains.sync = domain = ClockDomain()
    strobe, index, looked, found = Signal(), Signal(bits), Signal(bits), Signal()
    marks = Marks(m, "marks", bits)
    m.d.comb += found.eq(marks.has(looked))
    marks.mark(strobe, index)
    expected: set[int] = set()

    async def bench(ctx: Any) -> None:
        for cycle in range(600):
            number, marked, reset = rng.randrange(1 << bits), rng.random() < 0.3, cycle == 400
            ctx.set(strobe, marked)
            ctx.set(index, number)
            ctx.set(domain.rst, reset)
            await ctx.tick()
            if marked:
                expected.add(number)
            if reset:
                expected.clear()
            for each in (number, rng.randrange(1 << bits)):
                ctx.set(looked, each)
                assert ctx.get(found) == (each in expected), f"cycle {cycle}, number {each}"

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert expected


@pytest.mark.parametrize("bits", [0, 17, "8"])
def test_refuses(bits: Any) -> None:
    """Numbers of no bits, or of very many."""
    with pytest.raises(ValueError, match=f"not {bits!r}"):
        Marks(Module(), "marks", bits)
