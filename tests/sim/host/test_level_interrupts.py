# SPDX-License-Identifier: BSD-2-Clause
"""Interrupt wires: a message for each rising edge, among messages that come anyway."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from sim.host.level_interrupts import LevelInterrupts

FIRST = 0x8000


def run(bench: Any, dut: LevelInterrupts) -> None:
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_a_rising_edge_is_one_message() -> None:
    dut = LevelInterrupts(3, FIRST)
    seen = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.output.ready, 1)
        for cycle in range(20):
            ctx.set(dut.wires, {2: 0b101, 3: 0b100, 10: 0b101, 11: 0b101}.get(cycle, 0b100 if cycle > 3 else 0))
            _, _, valid, vector = await ctx.tick().sample(dut.output.valid, dut.output.payload)
            if valid:
                seen.append((cycle, vector))

    run(bench, dut)
    assert seen == [(4, FIRST), (5, FIRST + 2), (12, FIRST)]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_what_is_offered_stays(seed: int) -> None:
    """Messages and wires at random, and a slow receiver: messages in their order, and after each edge of a wire at
    least one of its own."""
    rng = random.Random(seed)
    dut = LevelInterrupts(4, FIRST)
    sent: list[int] = []
    seen: list[int] = []
    owed = set()

    async def bench(ctx: Any) -> None:
        nonlocal owed
        wires, offered, held, number = 0, False, None, 0
        for cycle in range(600):
            if not offered and cycle < 500 and rng.random() < 0.5:
                offered, number = True, number + 1
                ctx.set(dut.messages.payload, number)
            ctx.set(dut.messages.valid, offered)
            before = wires
            wires = rng.getrandbits(4) if cycle < 500 and rng.random() < 0.2 else wires
            ctx.set(dut.wires, wires)
            ctx.set(dut.output.ready, rng.random() < 0.4 or cycle > 500)
            _, _, taken, valid, vector, ready = await ctx.tick().sample(
                dut.messages.ready & dut.messages.valid, dut.output.valid, dut.output.payload, dut.output.ready
            )
            if held is not None:
                assert (valid, vector) == (1, held)
            held = vector if valid and not ready else None
            if taken:
                sent.append(number)
                offered = False
            if valid and ready:
                seen.append(vector)
                owed.discard(vector - FIRST)
            owed |= {wire for wire in range(4) if (wires & ~before) >> wire & 1}

    run(bench, dut)
    assert [vector for vector in seen if vector < FIRST] == sent
    assert not owed
    assert {vector for vector in seen if vector >= FIRST} == {FIRST + wire for wire in range(4)}


def test_a_storm_of_messages_does_not_starve_a_wire() -> None:
    dut = LevelInterrupts(1, FIRST)
    seen = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.output.ready, 1)
        ctx.set(dut.messages.valid, 1)
        ctx.set(dut.wires, 1)
        for _ in range(8):
            _, _, vector = await ctx.tick().sample(dut.output.payload)
            seen.append(vector)

    run(bench, dut)
    assert seen.count(FIRST) == 1


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match="count must be in 1..65535, not 0"):
        LevelInterrupts(0, FIRST)
    with pytest.raises(ValueError, match="last vector must be below 65536, not 65536"):
        LevelInterrupts(2, 65535)
    with pytest.raises(TypeError, match="first must be an integer, not True"):
        LevelInterrupts(2, True)
