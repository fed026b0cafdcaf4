# SPDX-License-Identifier: BSD-2-Clause
"""The release-time queue, and lanes that share a rate."""

import random
from fractions import Fraction
from typing import Any

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from sim.host.delay import MIN_DELAY, TIME_BITS, DelayFifo
from sim.host.lane import Lane

TIMEOUT = 3000


def clocked(dut: DelayFifo | Lane) -> Simulator:
    m = Module()
    now = Signal(TIME_BITS)
    m.d.sync += now.eq(now + 1)
    m.submodules.dut = dut
    m.d.comb += dut.now.eq(now)
    sim = Simulator(m)
    sim.add_clock(1e-8)
    return sim


def delay(releases: list[tuple[int, int]], depth: int, busy: float = 0.0) -> list[tuple[int, int]]:
    """Offer an item from each cycle on, with its release time; when each was taken and when it came out."""
    dut = DelayFifo(16, depth)
    sim = clocked(dut)
    entered: list[int] = []
    left: list[int] = []

    async def source(ctx: Any) -> None:
        cycle = 0
        for item, (offer, release) in enumerate(releases):
            while cycle < offer:
                await ctx.tick()
                cycle += 1
            ctx.set(dut.input.payload, item)
            ctx.set(dut.release, release)
            ctx.set(dut.input.valid, 1)
            taken = False
            while not taken:
                _, _, taken = await ctx.tick().sample(dut.input.ready)
                cycle += 1
            entered.append(cycle - 1)
            ctx.set(dut.input.valid, 0)

    async def sink(ctx: Any) -> None:
        rng = random.Random(1)
        for cycle in range(TIMEOUT):
            ready = rng.random() >= busy
            ctx.set(dut.output.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.output.valid, dut.output.payload)
            if valid and ready:
                assert payload == len(left)
                left.append(cycle)
                if len(left) == len(releases):
                    return
        raise AssertionError(f"{len(left)} of {len(releases)} items came out within {TIMEOUT} cycles")

    sim.add_testbench(source)
    sim.add_testbench(sink)
    sim.run()
    return list(zip(entered, left, strict=True))


def test_release_times_are_exact() -> None:
    releases = [(5 * n, 5 * n + 20 + n % 3) for n in range(20)]
    assert delay(releases, 8) == releases


def test_no_item_is_faster_than_the_queue() -> None:
    assert delay([(3, 0), (10, 11), (20, 22)], 4) == [(3, 3 + MIN_DELAY), (10, 10 + MIN_DELAY), (20, 22)]


def test_an_item_waits_for_those_ahead() -> None:
    assert delay([(0, 50), (1, 10), (2, 10)], 4) == [(0, 50), (1, 51), (2, 52)]


def test_one_item_a_cycle() -> None:
    releases = [(n, n + 30) for n in range(60)]
    assert delay(releases, 40) == releases


def test_depth_holds_the_input_back() -> None:
    passed = delay([(0, 100)] * 6, 4)
    assert [entered for entered, _ in passed] == [0, 1, 2, 3, 101, 102]


def test_backpressure_loses_nothing() -> None:
    passed = delay([(n, n + 3) for n in range(50)], 4, busy=0.5)
    assert all(left >= entered + 3 for entered, left in passed)


def send_packets(dut: Lane, packets: list[list[int]]) -> list[list[int]]:
    """Bytes that enter at each sender, cycle by cycle; the release times given."""
    sim = clocked(dut)
    releases: list[list[int]] = []

    async def bench(ctx: Any) -> None:
        for sizes in packets:
            for entry, size in zip(dut.entries, sizes, strict=True):
                ctx.set(entry.enter, size > 0)
                ctx.set(entry.size, size)
            releases.append([ctx.get(entry.release) for entry in dut.entries])
            await ctx.tick()

    sim.add_testbench(bench)
    sim.run()
    return releases


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(463, 10), Fraction(1, 3)])
def test_a_lane_against_exact_arithmetic(rate: Fraction) -> None:
    """Never early, and late by no more than the rounding of its durations."""
    seed = 3
    rng = random.Random(seed)
    packets = [[rng.choice((0, 0, 0, 24, rng.randint(1, 4000))) for _ in range(3)] for _ in range(200)]
    latency = 17
    busy = Fraction(0)
    for cycle, (sizes, releases) in enumerate(zip(packets, send_packets(Lane(rate, latency, 3), packets), strict=True)):
        busy = max(busy, Fraction(cycle))
        for size, release in zip(sizes, releases, strict=True):
            busy += size / rate
            if size:
                exact = latency + busy
                assert exact <= release <= exact + 1 + busy / 1000, f"packet of cycle {cycle} (seed {seed})"


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match="Depth of a delay must be an integer of 2 or more, not 1"):
        DelayFifo(8, 1)
    with pytest.raises(ValueError, match=r"A lane's rate must be positive, not Fraction\(0, 1\)"):
        Lane(Fraction(0), 1, 1)
    with pytest.raises(ValueError, match="A lane's latency must be 0 or more cycles, not -1"):
        Lane(Fraction(1), -1, 1)
