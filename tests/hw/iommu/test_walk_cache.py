# SPDX-License-Identifier: BSD-2-Clause
"""The caches of non-leaf entries: the lowest level answers, and what invalidations keep."""

from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import CacheConfig, IommuConfig
from hw.iommu.interfaces import InvalidationKind
from hw.iommu.walk_cache import WalkCaches

CONFIG = IommuConfig(walk_cache_1=CacheConfig(4, 2), walk_cache_2=CacheConfig(2, 2), walk_cache_3=CacheConfig(1, 2))
HOST = {"first": 1, "pscid": 3, "second": 0, "gscid": 0}
OTHER = {"first": 1, "pscid": 4, "second": 0, "gscid": 0}
NESTED = {"first": 1, "pscid": 3, "second": 1, "gscid": 9}
GUEST = {"first": 0, "pscid": 0, "second": 1, "gscid": 9}
NEIGHBOUR = {"first": 0, "pscid": 0, "second": 1, "gscid": 10}
SPACES = (HOST, OTHER, NESTED, GUEST, NEIGHBOUR)
PAGE = 0x7_1234_5678

VMA, GVMA, CONTEXT = ({"kind": kind} for kind in InvalidationKind)
HERE = {"page_valid": 1, "page": PAGE, "nonleaf": 1}
NEAR = {"page_valid": 1, "page": PAGE ^ 0x1FF, "nonleaf": 1}  # another page, the same tables
FAR = {"page_valid": 1, "page": PAGE ^ 1 << 50, "nonleaf": 1}
LEAF = {"page_valid": 1, "page": PAGE}
ALL = {0, 1, 2, 3, 4}


def run(dut: WalkCaches, bench: Any) -> None:
    async def started(ctx: Any) -> None:
        await ctx.tick().repeat(8)  # the sweep after reset
        await bench(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(started)
    simulator.run()


async def fill(ctx: Any, dut: WalkCaches, space: dict[str, int], page: int, level: int, ppn: int) -> None:
    for name, value in {"strobe": 1, "space": space, "page": page, "level": level, "ppn": ppn}.items():
        ctx.set(getattr(dut.fill, name), value)
    await ctx.tick()
    ctx.set(dut.fill.strobe, 0)
    await ctx.tick().repeat(4)


async def look(ctx: Any, dut: WalkCaches, space: dict[str, int], page: int) -> tuple[int, int] | None:
    """Level and page of the table found; presented for one cycle."""
    ctx.set(dut.lookup.strobe, 1)
    ctx.set(dut.lookup.space, space)
    ctx.set(dut.lookup.page, page)
    await ctx.tick()
    ctx.set(dut.lookup.strobe, 0)
    ctx.set(dut.lookup.space, {})
    ctx.set(dut.lookup.page, 0)
    await ctx.tick().repeat(2)
    return (ctx.get(dut.lookup.level), ctx.get(dut.lookup.ppn)) if ctx.get(dut.lookup.found) else None


async def invalidate(ctx: Any, dut: WalkCaches, payload: dict[str, Any]) -> int:
    """Cycles until it is taken."""
    ctx.set(dut.invalidation.payload, payload)
    ctx.set(dut.invalidation.valid, 1)
    for cycle in range(20):
        taken = ctx.get(dut.invalidation.ready)
        await ctx.tick()
        if taken:
            ctx.set(dut.invalidation.valid, 0)
            return cycle
    raise AssertionError(f"{payload} was not taken within 20 cycles")


def test_the_lowest_level_answers() -> None:
    dut = WalkCaches(CONFIG)

    async def bench(ctx: Any) -> None:
        for level in (2, 1, 0):
            await fill(ctx, dut, HOST, PAGE, level, 100 + level)
            for other in range(3):
                # A page that shares no table lower than that of ``other``.
                page = PAGE ^ (1 << 9 * other)
                expected = max(level, other)
                assert await look(ctx, dut, HOST, page) == (expected, 100 + expected)
        assert await look(ctx, dut, HOST, PAGE ^ 1 << 27) is None
        for space in (OTHER, NESTED, GUEST):
            assert await look(ctx, dut, space, PAGE) is None

    run(dut, bench)


def test_three_levels_have_no_cache_for_roots() -> None:
    dut = WalkCaches(IommuConfig(first_levels=3, second_levels=3))

    async def bench(ctx: Any) -> None:
        await fill(ctx, dut, HOST, PAGE, 2, 1)
        assert await look(ctx, dut, HOST, PAGE) is None
        await fill(ctx, dut, HOST, PAGE, 1, 2)
        assert await look(ctx, dut, HOST, PAGE) == (1, 2)

    run(dut, bench)


#: Invalidations, and the spaces whose pointers they drop.
DROPPED: list[tuple[dict[str, Any], set[int]]] = [
    (VMA, {0, 1}),
    (VMA | {"pscid_valid": 1, "pscid": 4}, {1}),
    (VMA | {"gscid_valid": 1, "gscid": 9}, {2}),
    (VMA | {"gscid_valid": 1, "gscid": 9, "pscid_valid": 1, "pscid": 4}, set()),
    (VMA | LEAF, set()),
    (VMA | HERE, {0, 1}),
    (VMA | NEAR, {0, 1}),
    (VMA | FAR, set()),
    (VMA | FAR | {"mask": (1 << 51) - 1}, {0, 1}),
    (GVMA, {2, 3, 4}),
    (GVMA | {"gscid_valid": 1, "gscid": 9}, {2, 3}),
    (GVMA | {"gscid_valid": 1, "gscid": 9} | LEAF, {2}),
    (GVMA | {"gscid_valid": 1, "gscid": 9} | HERE, {2, 3}),
    (GVMA | {"gscid_valid": 1, "gscid": 9} | FAR, {2}),
    (CONTEXT, set()),
]


@pytest.mark.parametrize("level", range(3))
def test_invalidations_drop_what_they_cover(level: int) -> None:
    """A pointer of each space to a table of one level. Guest pages tell nothing about first-stage pointers of a guest,
    so those always go."""
    dut = WalkCaches(IommuConfig(**{f"walk_cache_{each}": CacheConfig(1, 5) for each in (1, 2, 3)}))

    async def bench(ctx: Any) -> None:
        for invalidation, dropped in DROPPED:
            for index, space in enumerate(SPACES):
                await fill(ctx, dut, space, PAGE, level, index)
            await invalidate(ctx, dut, invalidation)
            kept = {index for index, space in enumerate(SPACES) if await look(ctx, dut, space, PAGE) == (level, index)}
            assert kept == ALL - dropped, f"after {invalidation}"

    run(dut, bench)


def test_an_invalidation_of_leaves_alone_is_taken_at_once() -> None:
    dut = WalkCaches(CONFIG)

    async def bench(ctx: Any) -> None:
        assert await invalidate(ctx, dut, VMA | LEAF) == 0
        assert await invalidate(ctx, dut, VMA | HERE) > 0

    run(dut, bench)


def test_sets_are_told_apart_and_swept_as_needed() -> None:
    """Four tables of level 0 in four sets: one goes by its page, two by a range, all by their space."""
    dut = WalkCaches(CONFIG)

    async def bench(ctx: Any) -> None:
        pages = [index << 9 for index in range(4)]
        for invalidation, kept in (
            (VMA | {"page_valid": 1, "page": pages[1], "nonleaf": 1}, [0, 2, 3]),
            (VMA | {"page_valid": 1, "page": pages[2], "mask": 0x3FF, "nonleaf": 1}, [0, 1]),
            (VMA, []),
        ):
            for index, page in enumerate(pages):
                await fill(ctx, dut, HOST, page, 0, index)
            await invalidate(ctx, dut, invalidation)
            assert [index for index, page in enumerate(pages) if await look(ctx, dut, HOST, page)] == kept

    run(dut, bench)
