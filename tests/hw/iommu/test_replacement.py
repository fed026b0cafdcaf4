# SPDX-License-Identifier: BSD-2-Clause
"""Which way gives way: each policy by example, and that none forgets its place after a clear."""

from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.config import REPLACEMENTS
from hw.iommu.replacement import Replacement

WAYS = 4


def run(dut: Replacement, bench: Any) -> None:
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.dut = dut
    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


async def touch(ctx: Any, dut: Replacement, way: int, *, port: int = 0, of: int = 0) -> None:
    ctx.set(dut.touches[port].strobe, 1)
    ctx.set(dut.touches[port].set, of)
    ctx.set(dut.touches[port].way, 1 << way)
    await ctx.tick()
    ctx.set(dut.touches[port].strobe, 0)


async def look(ctx: Any, dut: Replacement, of: int = 0) -> int:
    """The way that would give way."""
    ctx.set(dut.look, of)
    await ctx.tick().repeat(2)
    victim = ctx.get(dut.victim)
    assert victim.bit_count() == 1, f"{victim:#b} is not one way"
    return victim.bit_length() - 1


async def replace(ctx: Any, dut: Replacement, of: int = 0) -> int:
    """The way that gave way."""
    way = await look(ctx, dut, of)
    ctx.set(dut.filled, 1)
    ctx.set(dut.evicted, 1)
    ctx.set(dut.way, 1 << way)
    await ctx.tick()
    ctx.set(dut.filled, 0)
    return way


async def clear(ctx: Any, dut: Replacement) -> None:
    ctx.set(dut.clear, 1)
    for index in range(dut.sets):
        ctx.set(dut.clear_set, index)
        await ctx.tick()
    ctx.set(dut.clear, 0)


def test_not_recent_spares_what_was_hit() -> None:
    dut = Replacement("not_recent", sets=2, ways=WAYS, ports=2)

    async def bench(ctx: Any) -> None:
        await clear(ctx, dut)
        await touch(ctx, dut, 0, port=1, of=1)
        await touch(ctx, dut, 1, port=0, of=1)
        assert await replace(ctx, dut, 1) == 2
        assert await look(ctx, dut, 0) == 0, "sets share what was hit"
        # With the last way all are recent: only the new one stays so.
        assert await replace(ctx, dut, 1) == 3
        assert await replace(ctx, dut, 1) == 0
        await touch(ctx, dut, 1, of=1)
        assert await replace(ctx, dut, 1) == 2

    run(dut, bench)


def test_not_recent_by_hits_alone() -> None:
    """Hits may make all ways recent before a fill finds that out."""
    dut = Replacement("not_recent", sets=1, ways=WAYS, ports=1)

    async def bench(ctx: Any) -> None:
        await clear(ctx, dut)
        for way in range(WAYS):
            await touch(ctx, dut, way)
        assert await replace(ctx, dut) == 0
        assert await replace(ctx, dut) == 1

    run(dut, bench)


def test_round_robin_takes_turns_in_each_set() -> None:
    dut = Replacement("round_robin", sets=2, ways=3, ports=1)

    async def bench(ctx: Any) -> None:
        await clear(ctx, dut)
        assert [await replace(ctx, dut, 0) for _ in range(4)] == [0, 1, 2, 0]
        assert [await replace(ctx, dut, 1) for _ in range(2)] == [0, 1]
        await touch(ctx, dut, 1)
        assert await replace(ctx, dut, 0) == 1

    run(dut, bench)


@pytest.mark.parametrize("ways", [3, 4])
def test_random_takes_every_way_about_as_often(ways: int) -> None:
    dut = Replacement("random", sets=1, ways=ways, ports=1)

    async def bench(ctx: Any) -> None:
        counts = [0] * ways
        for _ in range(400):
            counts[await replace(ctx, dut)] += 1
        assert min(counts) > 400 / ways * 0.7, f"victims: {counts}"

    run(dut, bench)


@pytest.mark.parametrize("policy", REPLACEMENTS)
def test_one_way_gives_way_always(policy: str) -> None:
    dut = Replacement(policy, sets=2, ways=1, ports=1)

    async def bench(ctx: Any) -> None:
        assert [await replace(ctx, dut, index % 2) for index in range(4)] == [0] * 4

    run(dut, bench)


@pytest.mark.parametrize("policy", ["not_recent", "round_robin"])
def test_a_clear_begins_anew(policy: str) -> None:
    dut = Replacement(policy, sets=2, ways=WAYS, ports=1)

    async def bench(ctx: Any) -> None:
        await clear(ctx, dut)
        for index in (0, 0, 1):
            await replace(ctx, dut, index)
        await clear(ctx, dut)
        assert [await replace(ctx, dut, index) for index in (0, 1)] == [0, 0]

    run(dut, bench)


def test_policy_is_validated() -> None:
    with pytest.raises(ValueError, match="one of not_recent, round_robin, random, not 'lru'"):
        Replacement("lru", sets=1, ways=1, ports=1)
