# SPDX-License-Identifier: BSD-2-Clause
"""Register accesses across the chip: when they arrive, in which order, and that a read never overtakes a write."""

import random
from typing import Any

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from sim.host.delay import TIME_BITS
from sim.host.register_path import RegisterPath

LIMIT = 3000  #: cycles that a bench may take
ANSWER = 0x1234


def run(latency: int, accesses: str, *, stall: float = 0.0, seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Offer accesses (``w`` or ``r``) one after the other, as fast as they are taken. Returns, with cycles, what the
    subordinate saw (accesses and its own answers), and what the manager did (entries and answers)."""
    dut = RegisterPath(8, latency)
    m = Module()
    now = Signal(TIME_BITS)
    m.d.sync += now.eq(now + 1)
    m.submodules.dut = dut
    m.d.comb += dut.cycle.eq(now)
    sim = Simulator(m)
    sim.add_clock(1e-8)
    below: list[Any] = []
    above: list[Any] = []

    async def subordinate(ctx: Any) -> None:
        rng = random.Random(f"{seed} below")
        bus, b = dut.subordinate, 0
        addresses: list[int] = []
        words: list[int] = []
        r: list[int] = []
        while True:
            cycle = ctx.get(now)
            moves = [rng.random() >= stall for _ in range(5)]
            for channel, move in zip((bus.aw, bus.w, bus.ar), moves, strict=False):
                ctx.set(channel.ready, move)
            if not ctx.get(bus.b.valid):
                ctx.set(bus.b.valid, b > 0 and moves[3])
            if not ctx.get(bus.r.valid):
                ctx.set(bus.r.valid, bool(r) and moves[4])
                ctx.set(bus.r.payload.data, r[0] + ANSWER if r else 0)
            _, _, *done, write, word, address = await ctx.tick().sample(
                *(c.valid & c.ready for c in (bus.aw, bus.w, bus.b, bus.ar, bus.r)),
                bus.aw.payload.addr,
                bus.w.payload.data,
                bus.ar.payload.addr,
            )
            aw, w, answered, ar, told = done
            if answered:
                b -= 1
                below.append(("b", cycle))
                ctx.set(bus.b.valid, 0)
            if told:
                r.pop(0)
                ctx.set(bus.r.valid, 0)
            if aw:
                addresses.append(write)
            if w:
                words.append(word)
            if addresses and words:
                assert addresses[0] == words[0] & 0xFF
                below.append(("w", cycle, addresses.pop(0)))
                words.pop(0)
                b += 1
            if ar:
                below.append(("r", cycle, address))
                r.append(address)

    async def manager(ctx: Any) -> None:
        bus = dut.manager
        for number, kind in enumerate(accesses):
            channels = (bus.aw, bus.w) if kind == "w" else (bus.ar,)
            ctx.set(channels[0].payload.addr, number)
            if kind == "w":
                ctx.set(bus.w.payload.data, 0xAB00 | number)
            for channel in channels:
                ctx.set(channel.valid, 1)
            taken = False
            while not taken:
                cycle = ctx.get(now)
                assert cycle < LIMIT, f"access {number} of {len(accesses)} was not taken in {LIMIT} cycles"
                _, _, taken = await ctx.tick().sample(channels[0].ready)
            above.append((kind, cycle, number))
            for channel in channels:
                ctx.set(channel.valid, 0)

    async def answers(ctx: Any) -> None:
        rng = random.Random(f"{seed} above")
        bus, count = dut.manager, 0
        while count < len(accesses):
            cycle = ctx.get(now)
            assert cycle < LIMIT, f"answer {count} of {len(accesses)} did not come in {LIMIT} cycles"
            ctx.set(bus.b.ready, rng.random() >= stall)
            ctx.set(bus.r.ready, rng.random() >= stall)
            _, _, b, r, value = await ctx.tick().sample(
                bus.b.valid & bus.b.ready, bus.r.valid & bus.r.ready, bus.r.payload.data
            )
            if b:
                above.append(("b", cycle))
            if r:
                above.append(("read", cycle, value - ANSWER))
            count += b + r

    sim.add_testbench(subordinate, background=True)
    sim.add_testbench(manager)
    sim.add_testbench(answers)
    sim.run()
    return below, above


def times(events: list[Any], kind: str) -> list[int]:
    return [event[1] for event in events if event[0] == kind]


@pytest.mark.parametrize("latency", [2, 9])
def test_an_access_takes_the_latency_each_way(latency: int) -> None:
    for kind, answer in (("w", "b"), ("r", "read")):
        below, above = run(latency, kind)
        assert times(below, kind)[0] - times(above, kind)[0] == latency
        given = times(below, "b")[0] if kind == "w" else times(below, "r")[0] + 1
        assert times(above, answer)[0] - given == latency


def test_writes_do_not_wait_for_answers_and_reads_do_not_wait_for_reads() -> None:
    for kind in "wr":
        below, above = run(20, kind * 10)
        start = times(above, kind)[0]
        assert times(above, kind) == list(range(start, start + 10))
        assert times(below, kind) == list(range(start + 20, start + 30))


@pytest.mark.parametrize("seed", range(4))
def test_order_is_kept_and_a_read_waits_until_writes_before_it_are_answered(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    accesses = "".join(rng.choice("wwr") for _ in range(60))
    below, above = run(rng.randrange(2, 12), accesses, stall=0.3 * (seed % 3), seed=seed)
    seen = [event for event in below if event[0] in "wr"]
    assert [(kind, number) for kind, _, number in seen] == [(kind, number) for number, kind in enumerate(accesses)]
    assert [event[2] for event in above if event[0] == "read"] == [n for n, kind in enumerate(accesses) if kind == "r"]
    for kind, cycle, number in seen:
        if kind == "r":
            answered = sum(event[0] == "b" and event[1] < cycle for event in below)
            assert answered == accesses[:number].count("w")


@pytest.mark.parametrize("latency", [1, True, 2.5])
def test_bad_latency(latency: Any) -> None:
    with pytest.raises(ValueError, match="latency must be an integer of 2 cycles or more, not"):
        RegisterPath(8, latency)
