# SPDX-License-Identifier: BSD-2-Clause
"""The IOTLB: which entry answers which space and page, and what invalidations drop, against a list of leaves."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import CacheConfig, IommuConfig
from hw.iommu.interfaces import PAGE_BITS, SIZE_BITS, InvalidationKind, PageSize
from hw.iommu.tlb import Iotlb

CONFIG = IommuConfig(
    tlb_4k=CacheConfig(8, 6), tlb_64k=CacheConfig(4, 6), tlb_2m=CacheConfig(2, 6), tlb_1g=CacheConfig(1, 6)
)
HASHED = replace(CONFIG, tlb_index="hashed")
HOST = {"first": 1, "pscid": 3, "second": 0, "gscid": 0}
OTHER = {"first": 1, "pscid": 4, "second": 0, "gscid": 0}
GUEST = {"first": 0, "pscid": 0, "second": 1, "gscid": 9}
NESTED = {"first": 1, "pscid": 3, "second": 1, "gscid": 9}
NEIGHBOUR = {"first": 1, "pscid": 3, "second": 1, "gscid": 10}
SPACES = (HOST, OTHER, GUEST, NESTED, NEIGHBOUR)


@dataclass(frozen=True)
class Leaf:
    """An entry. ``page`` is its first 4 KiB."""

    space: int  #: of SPACES
    page: int
    size: PageSize = PageSize.SIZE_4K
    everywhere: bool = False
    ppn: int = 0

    def translates(self, space: dict[str, int], page: int) -> bool:
        ours = SPACES[self.space]
        same = [name for name in ours if name != "pscid" or not self.everywhere]
        return all(ours[name] == space[name] for name in same) and self.page == page & -(1 << SIZE_BITS[self.size])

    def dropped_by(self, invalidation: dict[str, Any]) -> bool:
        """The rules of :class:`hw.iommu.interfaces.Invalidation`, and that an invalidation of guest pages drops all
        entries of both stages."""
        space = SPACES[self.space]
        unknown = invalidation.get("mask", 0) | ((1 << SIZE_BITS[self.size]) - 1)
        within = not invalidation.get("page_valid") or not (self.page ^ invalidation["page"]) & ~unknown
        guest = not invalidation.get("gscid_valid") or (space["second"] and space["gscid"] == invalidation["gscid"])
        process = not invalidation.get("pscid_valid") or (
            space["pscid"] == invalidation["pscid"] and not self.everywhere
        )
        if invalidation["kind"] == InvalidationKind.VMA:
            return bool(
                space["first"]
                and space["second"] == invalidation.get("gscid_valid", 0)
                and guest
                and process
                and within
            )
        if invalidation["kind"] == InvalidationKind.GVMA:
            return bool(space["second"] and guest and (space["first"] or within))
        return False


def run(dut: Iotlb, bench: Any) -> None:
    async def started(ctx: Any) -> None:
        await ctx.tick().repeat(12)  # the sweep after reset
        await bench(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(started)
    simulator.run()


async def fill(ctx: Any, dut: Iotlb, leaf: Leaf, *, writable: bool = True) -> None:
    fields = {"space": SPACES[leaf.space], "everywhere": leaf.everywhere, "page": leaf.page, "size": leaf.size}
    for name, value in fields.items():
        ctx.set(getattr(dut.fill, name), value)
    ctx.set(dut.fill.translation, {"ppn": leaf.ppn, "readable": 1, "writable": writable})
    ctx.set(dut.fill.strobe, 1)
    await ctx.tick()
    ctx.set(dut.fill.strobe, 0)
    await ctx.tick().repeat(4)


async def look(ctx: Any, dut: Iotlb, space: dict[str, int], page: int, port: int = 0) -> Any:
    """The answer's size and translation, or None; the space comes a cycle after the page, for that cycle only."""
    lookup = dut.lookups[port]
    ctx.set(lookup.strobe, 1)
    ctx.set(lookup.page, page)
    ctx.set(lookup.space, {})
    await ctx.tick()
    ctx.set(lookup.strobe, 0)
    ctx.set(lookup.page, 0)
    ctx.set(lookup.space, space)
    await ctx.tick()
    ctx.set(lookup.space, {})
    await ctx.tick()
    if not ctx.get(lookup.hit):
        return None
    found = ctx.get(lookup.translation)
    return ctx.get(lookup.size), found.ppn, bool(found.readable), bool(found.writable)


async def invalidate(ctx: Any, dut: Iotlb, invalidation: dict[str, Any]) -> int:
    """The entries that it dropped."""
    ctx.set(dut.invalidation.payload, invalidation)
    ctx.set(dut.invalidation.valid, 1)
    dropped = 0
    for _ in range(40):
        taken = ctx.get(dut.invalidation.ready)
        dropped += ctx.get(dut.invalidated)
        await ctx.tick()
        if taken:
            ctx.set(dut.invalidation.valid, 0)
            return dropped
    raise AssertionError(f"{invalidation} was not taken within 40 cycles")


@pytest.mark.parametrize("size", PageSize)
def test_every_page_of_a_leaf_hits_and_its_neighbours_do_not(size: PageSize) -> None:
    dut = Iotlb(CONFIG)
    pages = 1 << SIZE_BITS[size]

    async def bench(ctx: Any) -> None:
        page, ppn = 0xF_FFFF_4000_0000 & -pages, 0x123_4567_8000 & -pages
        await fill(ctx, dut, Leaf(0, page, size, ppn=ppn), writable=False)
        for port in range(2):
            for offset in {0, pages // 2, pages - 1}:
                assert await look(ctx, dut, HOST, page + offset, port) == (size, ppn, True, False)
            for outside in (page - 1, page + pages, page ^ 1 << 51):
                assert await look(ctx, dut, HOST, outside, port) is None
        for space in (OTHER, GUEST, NESTED, NEIGHBOUR):
            assert await look(ctx, dut, space, page) is None

    run(dut, bench)


def test_the_smallest_of_several_leaves_answers() -> None:
    dut = Iotlb(CONFIG)

    async def bench(ctx: Any) -> None:
        for size in PageSize:
            await fill(ctx, dut, Leaf(0, 0, size, ppn=0x40000 * (size.value + 1)))
        for size, page in zip(PageSize, (0, 15, 511, 262143)):
            assert await look(ctx, dut, HOST, page) == (size, 0x40000 * (size.value + 1), True, True)

    run(dut, bench)


def test_a_global_leaf_is_one_entry_of_all_processes() -> None:
    dut = Iotlb(CONFIG)

    async def bench(ctx: Any) -> None:
        await fill(ctx, dut, Leaf(0, 7, ppn=1))
        await fill(ctx, dut, Leaf(1, 7, everywhere=True, ppn=2))
        for space in (HOST, OTHER):
            assert (await look(ctx, dut, space, 7))[1] == 2
        assert await look(ctx, dut, NESTED, 7) is None
        vma = {"kind": InvalidationKind.VMA}
        assert await invalidate(ctx, dut, vma | {"pscid_valid": 1, "pscid": 4}) == 0, "global leaves are spared"
        assert await invalidate(ctx, dut, vma) == 1

    run(dut, bench)


@pytest.mark.parametrize("config", [CONFIG, HASHED], ids=["low", "hashed"])
@pytest.mark.parametrize("seed", range(4))
def test_invalidations_drop_exactly_what_they_cover(config: IommuConfig, seed: int) -> None:
    """Random leaves, all of which fit, and random invalidations; every leaf is looked up after each."""
    rng = random.Random(seed)
    dut = Iotlb(config)

    async def bench(ctx: Any) -> None:
        present: list[Leaf] = []
        for _ in range(8):
            for _ in range(5):
                size = rng.choice(list(PageSize))
                # Few pages of each size, so that ranges meet several.
                page = (rng.randrange(4) << SIZE_BITS[size]) + (rng.randrange(2) << 50)
                leaf = Leaf(rng.randrange(5), page, size, ppn=rng.randrange(1 << 25) << 18)
                clash = [each for each in present if (each.space, each.page, each.size) == (leaf.space, page, size)]
                in_set = [each for each in present if each.size == size]
                if not clash and len(in_set) < 6:
                    await fill(ctx, dut, leaf)
                    present.append(leaf)
            kind = rng.choice(list(InvalidationKind))
            invalidation: dict[str, Any] = {"kind": kind}
            if rng.random() < 0.7:
                mask = (1 << rng.choice([0, 0, 1, 2, 4, 9, 10, 18, 19, PAGE_BITS])) - 1
                page = rng.choice(present).page if present else 0
                invalidation |= {"page_valid": 1, "page": page, "mask": mask, "nonleaf": rng.getrandbits(1)}
            if rng.random() < 0.5:
                invalidation |= {"pscid_valid": 1, "pscid": rng.choice([3, 4])}
            if rng.random() < 0.5:
                invalidation |= {"gscid_valid": 1, "gscid": rng.choice([9, 10])}
            dropped = [leaf for leaf in present if leaf.dropped_by(invalidation)]
            assert await invalidate(ctx, dut, invalidation) == len(dropped), f"{invalidation} of {present}"
            present = [leaf for leaf in present if leaf not in dropped]
            for leaf in present + dropped:
                space, page = SPACES[leaf.space], leaf.page
                answers = [each for each in present if each.translates(space, page)]
                expected = min(answers, key=lambda each: each.size.value, default=None)
                found = await look(ctx, dut, space, page)
                assert (found and found[1]) == (expected and expected.ppn), f"{leaf} after {invalidation}"

    run(dut, bench)
