# SPDX-License-Identifier: BSD-2-Clause
"""The set-associative cache against a model that knows every entry's time, but not which one gives way."""

import random
from typing import Any

import pytest
from amaranth import ClockDomain, Module, Mux, Value
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.config import REPLACEMENTS, CacheConfig
from hw.iommu.cache import Cache, CacheRules

SETS, WAYS = 4, 3


class Key(data.Struct):
    group: 2
    number: 4


class Tag(data.Struct):
    group: 2
    number: 4
    everywhere: 1


class Rules(CacheRules):
    """Numbers of groups; an invalidation is about one number (``page``), or one group (``pscid``), or both."""

    key, tag, content = Key, Tag, 8

    def set_of(self, tag: Any) -> Value:
        return tag.number[:2]

    def matches(self, tag: Any, key: Any) -> Value:
        return (tag.number == key.number) & (tag.everywhere | (tag.group == key.group))

    def overlaps(self, tag: Any, new: Any) -> Value:
        return (tag.number == new.number) & (tag.everywhere | new.everywhere | (tag.group == new.group))

    def concerns(self, invalidation: Any) -> Value:
        return ~invalidation.nonleaf

    def sets(self, invalidation: Any) -> tuple[Value, Value]:
        known = invalidation.page_valid
        return Mux(known, invalidation.page[:2], 0), Mux(known, invalidation.page[:2], SETS - 1)

    def covers(self, tag: Any, invalidation: Any) -> Value:
        return (~invalidation.page_valid | (tag.number == invalidation.page[:4])) & (
            ~invalidation.pscid_valid | ((tag.group == invalidation.pscid[:2]) & ~tag.everywhere)
        )


def covered(tag: tuple[int, int, bool], invalidation: dict[str, int]) -> bool:
    group, number, everywhere = tag
    return (not invalidation.get("page_valid") or number == invalidation["page"]) and (
        not invalidation.get("pscid_valid") or (group == invalidation["pscid"] and not everywhere)
    )


def overlap(tag: tuple[int, int, bool], other: tuple[int, int, bool]) -> bool:
    return tag[1] == other[1] and (tag[2] or other[2] or tag[0] == other[0])


def run(dut: Any, bench: Any) -> None:
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut
    simulator = Simulator(m)
    simulator.add_clock(1e-8)

    async def with_domain(ctx: Any) -> None:
        await bench(ctx, domain)

    simulator.add_testbench(with_domain)
    simulator.run()


def cache(replacement: str = "not_recent", *, sets: int = SETS, ways: int = WAYS, lookups: int = 1) -> Cache:
    return Cache(Rules(), CacheConfig(sets, ways), replacement=replacement, lookups=lookups)


async def fill(ctx: Any, dut: Cache, number: int, content: int, *, group: int = 0, everywhere: bool = False) -> None:
    """One fill, until lookups find it."""
    ctx.set(dut.fill.strobe, 1)
    ctx.set(dut.fill.tag, {"group": group, "number": number, "everywhere": everywhere})
    ctx.set(dut.fill.content, content)
    await ctx.tick()
    ctx.set(dut.fill.strobe, 0)
    await ctx.tick().repeat(3)


async def look(ctx: Any, dut: Cache, number: int, *, group: int = 0, port: int = 0) -> int | None:
    """One lookup: the content, or None."""
    lookup = dut.lookups[port]
    ctx.set(lookup.strobe, 1)
    ctx.set(lookup.set, number % SETS)
    await ctx.tick()
    ctx.set(lookup.strobe, 0)
    ctx.set(lookup.key, {"group": group, "number": number})
    await ctx.tick()
    ctx.set(lookup.key, {"group": ~group & 3, "number": ~number & 15})
    await ctx.tick()
    return ctx.get(lookup.content) if ctx.get(lookup.hit) else None


async def invalidate(ctx: Any, dut: Cache, **payload: int) -> int:
    """One invalidation; the entries that it dropped."""
    ctx.set(dut.invalidation.payload, payload)
    ctx.set(dut.invalidation.valid, 1)
    dropped = 0
    for _ in range(40):
        ready = ctx.get(dut.invalidation.ready)
        dropped += ctx.get(dut.dropped)
        await ctx.tick()
        if ready:
            ctx.set(dut.invalidation.valid, 0)
            return dropped
    raise AssertionError(f"the invalidation {payload} was not taken within 40 cycles")


class Model:
    """What may be in the cache: everything filled and not covered since. Of what must be there it knows the newest
    alone, because that may have taken the place of any other."""

    def __init__(self) -> None:
        self.present: list[tuple[tuple[int, int, bool], int]] = []
        self.newest: tuple[tuple[int, int, bool], int] | None = None
        self.offered: dict[str, int] | None = None
        self.filling = 0  # cycles left of a fill; with the last but one it has replaced what it overlaps
        self.sweep = SETS + 3  # cycles left of that after reset

    def offer(self, invalidation: dict[str, int]) -> None:
        self.offered = invalidation
        if self.filling > 1 or (self.newest and covered(self.newest[0], invalidation)):
            self.newest = None
        self.filling = 0

    def fill(self, tag: tuple[int, int, bool], content: int) -> None:
        if not self.filling and self.offered is None and not self.sweep:
            self.filling = 4
            self.newest = tag, content
            self.present.append(self.newest)

    def look(self, group: int, number: int) -> tuple[set[int], bool]:
        """The contents that a lookup may find, and whether it must find one."""

        def matches(tag: tuple[int, int, bool]) -> bool:
            return tag[1] == number and (tag[2] or tag[0] == group)

        if self.newest and matches(self.newest[0]):
            return {self.newest[1]}, True
        return {content for tag, content in self.present if matches(tag)}, False

    def cycle(self, taken: bool) -> None:
        """A clock edge, with which an offered invalidation may be taken."""
        self.sweep = max(0, self.sweep - 1)
        if self.filling:
            self.filling -= 1
            if self.filling == 1:
                assert self.newest is not None
                self.present = [each for each in self.present if not overlap(each[0], self.newest[0])] + [self.newest]
        if self.offered is not None and taken:
            self.present = [each for each in self.present if not covered(each[0], self.offered)]
            self.offered = None


class Made:
    """A lookup under way: it may find what was there when it was presented, or a cycle later."""

    def __init__(self, model: Model, group: int, number: int):
        self.key = group, number
        self.before, _ = model.look(group, number)
        self.usable = not model.sweep

    def read(self, model: Model) -> None:
        """A cycle later."""
        self.after, must = model.look(*self.key)
        self.must = must and self.usable

    def check(self, hit: int, content: int) -> None:
        group, number = self.key
        allowed = self.after if self.must else self.before | self.after
        assert hit or not self.must, f"{number} of group {group} was filled and is not found"
        assert not hit or content in allowed, f"{number} of group {group} gave {content}, filled were {allowed}"


@pytest.mark.parametrize("seed", range(6))
def test_random_fills_lookups_and_invalidations(seed: int) -> None:
    """Every lookup of two ports is checked against what was filled and dropped before it. Sometimes reset comes in
    between."""
    rng = random.Random(seed)
    dut = cache(REPLACEMENTS[seed % 3], lookups=2)
    outcomes = [0, 0]

    async def bench(ctx: Any, domain: Any) -> None:
        model = Model()
        under_way: list[list[Made | None]] = [[None] * 3, [None] * 3]
        for _ in range(1500):
            if model.offered is None and rng.random() < 0.03:
                payload = {"page_valid": rng.getrandbits(1), "page": rng.randrange(16)}
                model.offer(payload | {"pscid_valid": rng.getrandbits(1), "pscid": rng.randrange(4)})
                ctx.set(dut.invalidation.payload, model.offered)
            ctx.set(dut.invalidation.valid, model.offered is not None)

            strobe = rng.random() < 0.3
            tag, content = (rng.randrange(4), rng.randrange(16), rng.random() < 0.2), rng.randrange(256)
            ctx.set(dut.fill.strobe, strobe)
            ctx.set(dut.fill.tag, {"group": tag[0], "number": tag[1], "everywhere": tag[2]})
            ctx.set(dut.fill.content, content)
            if strobe:
                model.fill(tag, content)

            for port, lookups in zip(dut.lookups, under_way):
                hit = ctx.get(port.hit)
                if made := lookups.pop(0):
                    made.check(hit, ctx.get(port.content))
                    outcomes[hit] += 1
                else:
                    assert not hit, "a hit without a lookup"
                if made := lookups[-1]:
                    made.read(model)
                    ctx.set(port.key, {"group": made.key[0], "number": made.key[1]})
                group, number = rng.randrange(4), rng.randrange(16)
                if model.newest and rng.random() < 0.3:
                    group, number, _ = model.newest[0]
                lookups.append(Made(model, group, number) if rng.random() < 0.8 else None)
                ctx.set(port.strobe, lookups[-1] is not None)
                ctx.set(port.set, number % SETS)

            reset = rng.random() < 0.002
            ctx.set(domain.rst, reset)
            taken = ctx.get(dut.invalidation.ready)
            await ctx.tick()
            model.cycle(taken)
            if reset:
                offered, model = model.offered, Model()
                model.offered = offered
                under_way = [[None] * 3, [None] * 3]

    run(dut, bench)
    assert min(outcomes) > 300, f"misses and hits: {outcomes}"


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(("sets", "ways"), [(4, 1), (4, 3), (1, 8)])
def test_holds_as_many_as_there_are_ways(replacement: str, sets: int, ways: int) -> None:
    dut = Cache(_Low(sets), CacheConfig(sets, ways), replacement=replacement, lookups=1)

    async def bench(ctx: Any, domain: Any) -> None:
        await ctx.tick().repeat(sets + 3)
        numbers = [sets * step for step in range(ways)]
        for number in numbers:
            await fill(ctx, dut, number, number + 1)
        for number in numbers:
            ctx.set(dut.lookups[0].set, 0)
            assert await look_in_first(ctx, dut, number) == number + 1
        await fill(ctx, dut, 15 - 15 % sets, 99)
        assert await look_in_first(ctx, dut, 15 - 15 % sets) == 99
        left = [number for number in numbers if await look_in_first(ctx, dut, number) is not None]
        assert len(left) == ways - 1

    run(dut, bench)


class _Low(Rules):
    def __init__(self, sets: int):
        self._bits = (sets - 1).bit_length()

    def set_of(self, tag: Any) -> Value:
        return tag.number[: self._bits]


async def look_in_first(ctx: Any, dut: Cache, number: int) -> int | None:
    lookup = dut.lookups[0]
    ctx.set(lookup.strobe, 1)
    ctx.set(lookup.set, 0)
    ctx.set(lookup.key, {"group": 0, "number": number})
    await ctx.tick().repeat(3)
    ctx.set(lookup.strobe, 0)
    return ctx.get(lookup.content) if ctx.get(lookup.hit) else None


def test_a_fill_takes_the_place_of_all_that_it_overlaps() -> None:
    dut = cache()

    async def bench(ctx: Any, domain: Any) -> None:
        await ctx.tick().repeat(SETS + 3)
        await fill(ctx, dut, 5, 11, group=1)
        await fill(ctx, dut, 5, 12, group=2)
        await fill(ctx, dut, 1, 13, group=1)
        await fill(ctx, dut, 5, 20, group=3, everywhere=True)
        for group in range(4):
            assert await look(ctx, dut, 5, group=group) == 20
        assert await look(ctx, dut, 1, group=1) == 13
        assert await invalidate(ctx, dut) == 2

    run(dut, bench)


def test_invalidations_sweep_where_they_must_and_count() -> None:
    dut = cache()

    async def bench(ctx: Any, domain: Any) -> None:
        await ctx.tick().repeat(SETS + 3)
        for number in range(8):
            await fill(ctx, dut, number, 100 + number, group=number % 2)
        assert await invalidate(ctx, dut, page_valid=1, page=6) == 1
        assert await look(ctx, dut, 6) is None
        assert await invalidate(ctx, dut, pscid_valid=1, pscid=1) == 4
        assert [await look(ctx, dut, number, group=number % 2) for number in range(8)] == [
            *(100, None, 102, None, 104, None, None, None)
        ]
        assert await invalidate(ctx, dut, nonleaf=1) == 0
        assert await look(ctx, dut, 4) == 104

    run(dut, bench)


@pytest.mark.parametrize("distance", range(3))
def test_a_fill_that_meets_an_invalidation_is_dropped(distance: int) -> None:
    """Whether it comes with it, or is under way."""
    dut = cache()

    async def bench(ctx: Any, domain: Any) -> None:
        await ctx.tick().repeat(SETS + 3)
        ctx.set(dut.fill.strobe, 1)
        ctx.set(dut.fill.tag, {"group": 0, "number": 7, "everywhere": 0})
        ctx.set(dut.fill.content, 1)
        for _ in range(distance):
            await ctx.tick()
            ctx.set(dut.fill.strobe, 0)
        ctx.set(dut.invalidation.payload, {"page_valid": 1, "page": 7})
        ctx.set(dut.invalidation.valid, 1)
        for _ in range(20):
            ready = ctx.get(dut.invalidation.ready)
            await ctx.tick()
            ctx.set(dut.fill.strobe, 0)
            if ready:
                break
        ctx.set(dut.invalidation.valid, 0)
        assert ready, "the invalidation was not taken within 20 cycles"
        assert await look(ctx, dut, 7) is None

    run(dut, bench)


def test_reset_forgets_everything() -> None:
    dut = cache()

    async def bench(ctx: Any, domain: Any) -> None:
        await ctx.tick().repeat(SETS + 3)
        await fill(ctx, dut, 3, 33)
        assert await look(ctx, dut, 3) == 33
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        assert await look(ctx, dut, 3) is None  # while the sweep is under way
        assert await invalidate(ctx, dut, page_valid=1, page=2) == 0
        assert await look(ctx, dut, 3) is None

    run(dut, bench)


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match="at least one lookup port, not 0"):
        cache(lookups=0)
    with pytest.raises(ValueError, match="one of not_recent, round_robin, random, not 'lru'"):
        cache("lru").elaborate(None)
