# SPDX-License-Identifier: BSD-2-Clause
"""The walk table: sharing, poison, claims, results and turns; and random use against a model."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.abi.iommu import Cause
from hw.config import IommuConfig
from hw.iommu.interfaces import Access
from hw.iommu.walk_table import ASK_CYCLES, WalkTable


def wanted(page: int, access: Access = Access.READ, device: int = 1) -> dict[str, Any]:
    return {"requester": {"device_id": device}, "page": page, "access": access}


class Bench:
    """A table of two walks (or as many as asked for) and two askers, cycle by cycle."""

    def __init__(self, walks: int = 2, askers: int = 2):
        self.dut = WalkTable(IommuConfig(walks=walks), askers)
        m = Module()
        m.domains.sync = self.domain = ClockDomain()
        m.submodules.dut = self.dut
        self.sim = Simulator(m)
        self.sim.add_clock(1e-8)

    def run(self, bench: Any) -> None:
        self.sim.add_testbench(bench)
        self.sim.run()

    async def ask(self, ctx: Any, asker: int, **fields: Any) -> int | None:
        """One miss; the walk that was claimed."""
        port = self.dut.askers[asker]
        ctx.set(port.wanted, wanted(**fields))
        ctx.set(port.request, 1)
        walk = ctx.get(port.walk) if ctx.get(port.taken) else None
        await ctx.tick()
        ctx.set(port.request, 0)
        return walk

    async def finish(self, ctx: Any, walk: int, ppn: int = 0) -> None:
        ctx.set(self.dut.finish.result, {"cause": Cause.NONE, "ppn": ppn})
        ctx.set(self.dut.finish.walk, walk)
        ctx.set(self.dut.finish.strobe, 1)
        await ctx.tick()
        ctx.set(self.dut.finish.strobe, 0)

    async def release(self, ctx: Any, claim: int, walk: int) -> None:
        port = self.dut.claims[claim]
        ctx.set(port.look, walk)
        ctx.set(port.release, 1)
        await ctx.tick()
        ctx.set(port.release, 0)

    def result(self, ctx: Any, claim: int, walk: int) -> int | None:
        """The page that was found; None while the walk goes on."""
        port = self.dut.claims[claim]
        ctx.set(port.look, walk)
        return ctx.get(port.result.ppn) if ctx.get(port.finished) >> walk & 1 else None


def test_equal_misses_share_a_walk() -> None:
    """Equal in requester, page and access; and only while it has not ended."""
    bench = Bench(walks=4)

    async def check(ctx: Any) -> None:
        walk = await bench.ask(ctx, 0, page=7)
        assert walk is not None
        assert await bench.ask(ctx, 1, page=7) == walk
        others = [
            await bench.ask(ctx, 0, page=8),
            await bench.ask(ctx, 0, page=7, access=Access.WRITE),
            await bench.ask(ctx, 1, page=7, device=2),
        ]
        assert len({walk, *others}) == 4
        assert None not in others
        assert await bench.ask(ctx, 1, page=9) is None, "there were four walks only"
        assert await bench.ask(ctx, 1, page=8) == others[0]
        await bench.finish(ctx, walk, 0x77)
        assert await bench.ask(ctx, 1, page=7) is None, "what has been found may be out of date for who asks now"

    bench.run(check)


def test_results_stay_until_the_last_claim_is_given_back() -> None:
    bench = Bench()

    async def check(ctx: Any) -> None:
        walk = await bench.ask(ctx, 0, page=7)
        assert await bench.ask(ctx, 1, page=7) == walk
        assert bench.result(ctx, 0, walk) is None
        await bench.finish(ctx, walk, 0x55)
        other = await bench.ask(ctx, 0, page=8)
        assert other not in (None, walk)
        await bench.finish(ctx, other, 0x66)
        await bench.release(ctx, 0, walk)
        for _ in range(5):
            assert (bench.result(ctx, 0, other), bench.result(ctx, 1, walk)) == (0x66, 0x55)
            assert await bench.ask(ctx, 0, page=9) is None
        await bench.release(ctx, 1, walk)
        await ctx.tick()
        assert await bench.ask(ctx, 0, page=9) == walk

    bench.run(check)


@pytest.mark.parametrize("late", [0, 1, 2])
def test_nobody_joins_a_walk_that_an_invalidation_met(late: int) -> None:
    """Whether it was offered before, in or after the cycle of the miss that began the walk; only the walk that begins
    after it may be shared."""
    bench = Bench()

    async def check(ctx: Any) -> None:
        for cycle in range(3):
            ctx.set(bench.dut.invalidating, cycle == late)
            if cycle == 1:
                first = await bench.ask(ctx, 0, page=7)
            else:
                await ctx.tick()
        ctx.set(bench.dut.invalidating, 0)
        second = await bench.ask(ctx, 1, page=7)
        assert (first == second) == (late == 0)
        assert await bench.ask(ctx, 0, page=7) == second

    bench.run(check)


def test_nobody_joins_in_the_cycle_of_an_invalidation() -> None:
    bench = Bench()

    async def check(ctx: Any) -> None:
        first = await bench.ask(ctx, 0, page=7)
        ctx.set(bench.dut.invalidating, 1)
        assert await bench.ask(ctx, 1, page=7) not in (None, first)

    bench.run(check)


def test_turns_rotate_among_those_who_ask() -> None:
    bench = Bench(walks=8, askers=3)

    async def check(ctx: Any) -> None:
        taken = [0, 0, 0]
        for cycle in range(9):
            for asker in bench.dut.askers:
                ctx.set(asker.wanted, wanted(7))
                ctx.set(asker.request, 1)
            answers = [ctx.get(asker.taken) for asker in bench.dut.askers]
            assert sum(answers) == 1, f"cycle {cycle}"
            taken[answers.index(1)] += 1
            await ctx.tick()
        assert taken == [3, 3, 3]

    bench.run(check)


def test_who_was_not_taken_gets_the_last_walk_before_who_was() -> None:
    """One asks in every fourth cycle, always just after the walk is gone; the other, as soon as it is free."""
    bench = Bench(walks=1)

    async def check(ctx: Any) -> None:
        eager = patient = 0
        for page in range(10):
            walk = await bench.ask(ctx, 0, page=page)
            eager += walk is not None
            if walk is None:
                await ctx.tick()
                walk = await bench.ask(ctx, 1, page=100 + page)
                patient += walk is not None
            else:
                assert await bench.ask(ctx, 1, page=100 + page) is None
            assert walk is not None
            await bench.finish(ctx, walk)
            await bench.release(ctx, 0, walk)
            await ctx.tick()
        assert (eager, patient) == (5, 5)

    bench.run(check)


def test_who_does_not_ask_again_leaves_the_last_walk_to_others() -> None:
    bench = Bench(walks=1)

    async def check(ctx: Any) -> None:
        walk = await bench.ask(ctx, 0, page=7)
        for _ in range(2 * ASK_CYCLES):
            assert await bench.ask(ctx, 1, page=8) is None
        await bench.finish(ctx, walk)
        await bench.release(ctx, 0, walk)
        tries = 1
        while await bench.ask(ctx, 0, page=9) is None:
            tries += 1
            assert tries <= 2 * ASK_CYCLES, "the last walk was kept for nobody"

    bench.run(check)


def test_a_prefetch_goes_last_and_claims_nothing() -> None:
    """A miss of the same cycle goes first; one that comes later joins its walk; the fence sees it to its end."""
    bench = Bench()

    async def check(ctx: Any) -> None:
        port, fence = bench.dut.askers[0], bench.dut.fence
        ctx.set(port.prefetch, 1)
        ctx.set(port.request, 1)
        ctx.set(port.wanted, wanted(page=7))
        first = await bench.ask(ctx, 1, page=8)
        assert first is not None
        walk = await bench.ask(ctx, 0, page=7)
        assert walk not in (None, first)
        assert ctx.get(fence.busy) == 1
        assert await bench.ask(ctx, 0, page=9) is None, "a walk that there is not"
        assert await bench.ask(ctx, 1, page=7) == walk
        await bench.finish(ctx, walk, ppn=3)
        assert bench.result(ctx, 1, walk) == 3
        await ctx.tick().repeat(3)
        assert ctx.get(fence.busy) == 1, "its claim is held"
        await bench.release(ctx, 1, walk)
        await ctx.tick()
        assert ctx.get(fence.busy) == 0
        # Without a claim it is free as soon as it is finished; of the color in which it began.
        ctx.set(fence.color, 1)
        walk = await bench.ask(ctx, 0, page=7)
        assert walk is not None
        ctx.set(fence.color, 0)
        assert ctx.get(fence.busy) == 2
        await bench.finish(ctx, walk)
        await ctx.tick()
        assert ctx.get(fence.busy) == 0

    bench.run(check)


def test_walks_are_started_in_order_of_their_misses() -> None:
    bench = Bench(walks=4)

    async def check(ctx: Any) -> None:
        start = bench.dut.start
        for page in (5, 6, 5, 7):
            await bench.ask(ctx, 0, page=page, access=Access.WRITE, device=page)
        for page in (5, 6, 7):
            assert ctx.get(start.valid)
            new = ctx.get(start.payload.request)
            assert (new.page, new.access, new.requester.device_id) == (page, Access.WRITE, page)
            ctx.set(start.ready, 1)
            await ctx.tick()
            ctx.set(start.ready, 0)
        assert not ctx.get(start.valid)

    bench.run(check)


@dataclass
class Walk:
    """A walk of the model."""

    key: tuple[int, int]
    claims: list[int]  #: ports that hold one
    poisoned: bool
    ppn: int | None = None


def test_random_use_against_a_model() -> None:
    """Claims never see another walk's result, no walk is given twice, and all walks become free again; with a reset."""
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench(walks=3, askers=3)
    dut = bench.dut
    walks: dict[int, Walk] = {}
    joined = 0

    async def check(ctx: Any) -> None:
        nonlocal joined
        started: list[int] = []
        for cycle in range(3000):
            resets, invalidates = cycle == 1500, rng.random() < 0.1
            ctx.set(bench.domain.rst, resets)
            ctx.set(dut.invalidating, invalidates)
            keys = []
            for asker in dut.askers:
                keys.append((rng.randrange(3), rng.randrange(2)))
                ctx.set(asker.request, rng.random() < 0.4)
                ctx.set(asker.wanted, wanted(keys[-1][0], Access(keys[-1][1])))
            released = []
            for port, claim in enumerate(dut.claims):
                held = [walk for walk, each in walks.items() if port in each.claims]
                look = rng.choice(held) if held else 0
                ctx.set(claim.look, look)
                if held:
                    assert (ctx.get(claim.finished) >> look & 1) == (walks[look].ppn is not None), f"cycle {cycle}"
                    if walks[look].ppn is not None:
                        assert ctx.get(claim.result.ppn) == walks[look].ppn, f"cycle {cycle}"
                gives = bool(held) and walks[look].ppn is not None and rng.random() < 0.5
                ctx.set(claim.release, gives)
                if gives:
                    released.append((port, look))
            ctx.set(dut.start.ready, rng.random() < 0.7)
            begins = ctx.get(dut.start.payload.walk) if ctx.get(dut.start.valid) and ctx.get(dut.start.ready) else None
            ends = rng.choice(started) if started and rng.random() < 0.3 else None
            ctx.set(dut.finish.strobe, ends is not None)
            found = rng.randrange(1 << 44)
            if ends is not None:
                ctx.set(dut.finish.walk, ends)
                ctx.set(dut.finish.result, {"ppn": found})
            taken = [(port, ctx.get(asker.walk)) for port, asker in enumerate(dut.askers) if ctx.get(asker.taken)]
            assert len(taken) <= 1
            await ctx.tick()
            if resets:
                walks.clear()
                started.clear()
                continue
            for each in walks.values():
                each.poisoned |= invalidates
            for port, walk in taken:
                if walk in walks and walks[walk].claims:
                    old = walks[walk]
                    assert (old.key, old.poisoned, old.ppn) == (keys[port], False, None), f"cycle {cycle}: {old}"
                    old.claims.append(port)
                    joined += 1
                else:
                    walks[walk] = Walk(keys[port], [port], invalidates)
            for port, walk in released:
                walks[walk].claims.remove(port)
            if begins is not None:
                started.append(begins)
            if ends is not None:
                started.remove(ends)
                walks[ends].ppn = found
        assert joined > 50
        # With everything given back, all walks are free.
        ctx.set(dut.start.ready, 1)
        ctx.set(dut.invalidating, 0)
        for asker in dut.askers:
            ctx.set(asker.request, 0)
        for claim in dut.claims:
            ctx.set(claim.release, 0)
        ctx.set(dut.finish.strobe, 0)
        for _ in range(8):
            if ctx.get(dut.start.valid):
                started.append(ctx.get(dut.start.payload.walk))
            await ctx.tick()
        for walk in started:
            await bench.finish(ctx, walk)
        for walk, each in walks.items():
            for port in each.claims:
                await bench.release(ctx, port, walk)
        await ctx.tick()
        assert len({await bench.ask(ctx, 0, page=100 + page) for page in range(3)} - {None}) == 3

    bench.run(check)


def test_parameters_are_validated() -> None:
    with pytest.raises(TypeError, match=r"Number of askers must be an integer, not 'x'"):
        WalkTable(IommuConfig(), "x")
    with pytest.raises(ValueError, match="Number of askers must be at least 1, not 0"):
        WalkTable(IommuConfig(), 0)
