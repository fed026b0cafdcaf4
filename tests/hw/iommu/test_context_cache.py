# SPDX-License-Identifier: BSD-2-Clause
"""The cache of device contexts."""

import random
from typing import Any

from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.config import IommuConfig
from hw.iommu.context_cache import ContextCache
from hw.iommu.interfaces import InvalidationKind

ENTRIES = 3


def run(dut: ContextCache, bench: Any) -> None:
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut

    async def with_domain(ctx: Any) -> None:
        await bench(ctx, domain)

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(with_domain)
    simulator.run()


async def fill(ctx: Any, dut: ContextCache, device_id: int, ppn: int) -> None:
    ctx.set(dut.fill.strobe, 1)
    ctx.set(dut.fill.device_id, device_id)
    ctx.set(dut.fill.context, {"first_ppn": ppn})
    await ctx.tick()
    ctx.set(dut.fill.strobe, 0)


async def look(ctx: Any, dut: ContextCache, device_id: int, port: int = 0) -> int | None:
    """first_ppn of a device's context."""
    ctx.set(dut.lookups[port].device_id, device_id)
    await ctx.tick()
    ctx.set(dut.lookups[port].device_id, ~device_id & 0xFFFFFF)
    return ctx.get(dut.lookups[port].context.first_ppn) if ctx.get(dut.lookups[port].hit) else None


async def invalidate(ctx: Any, dut: ContextCache, **payload: Any) -> None:
    ctx.set(dut.invalidation.payload, payload)
    ctx.set(dut.invalidation.valid, 1)
    assert ctx.get(dut.invalidation.ready), f"{payload} is not taken at once"
    await ctx.tick()
    ctx.set(dut.invalidation.valid, 0)


def test_every_port_finds_every_context_in_the_next_cycle() -> None:
    dut = ContextCache(IommuConfig(contexts=ENTRIES))

    async def bench(ctx: Any, domain: Any) -> None:
        for device in range(ENTRIES):
            await fill(ctx, dut, device << 8, 100 + device)
        for port in range(3):
            assert [await look(ctx, dut, device << 8, port) for device in range(4)] == [100, 101, 102, None]

    run(dut, bench)


def test_the_oldest_gives_way_and_a_device_has_one_context() -> None:
    dut = ContextCache(IommuConfig(contexts=ENTRIES))

    async def bench(ctx: Any, domain: Any) -> None:
        for device, ppn in ((1, 1), (2, 2), (1, 11), (3, 3), (4, 4)):
            await fill(ctx, dut, device, ppn)
        assert [await look(ctx, dut, device) for device in range(1, 5)] == [None, 2, 3, 4]
        await fill(ctx, dut, 5, 5)
        assert [await look(ctx, dut, device) for device in range(1, 6)] == [None, None, 3, 4, 5]

    run(dut, bench)


def test_invalidations_are_about_a_device_or_all() -> None:
    dut = ContextCache(IommuConfig(contexts=ENTRIES))

    async def bench(ctx: Any, domain: Any) -> None:
        for device in range(ENTRIES):
            await fill(ctx, dut, device, device + 1)
        for kind in (InvalidationKind.VMA, InvalidationKind.GVMA):
            await invalidate(ctx, dut, kind=kind)
        assert [await look(ctx, dut, device) for device in range(3)] == [1, 2, 3]
        await invalidate(ctx, dut, kind=InvalidationKind.CONTEXT, device_valid=1, device_id=1)
        assert [await look(ctx, dut, device) for device in range(3)] == [1, None, 3]
        await fill(ctx, dut, 7, 8)
        assert [await look(ctx, dut, device) for device in (0, 7, 2)] == [1, 8, 3], "an invalid entry is filled first"
        await invalidate(ctx, dut, kind=InvalidationKind.CONTEXT)
        assert [await look(ctx, dut, device) for device in (0, 7, 2)] == [None] * 3

    run(dut, bench)


def test_a_fill_beside_an_invalidation_is_dropped() -> None:
    dut = ContextCache(IommuConfig(contexts=ENTRIES))

    async def bench(ctx: Any, domain: Any) -> None:
        ctx.set(dut.invalidation.payload, {"kind": InvalidationKind.VMA})
        ctx.set(dut.invalidation.valid, 1)
        await fill(ctx, dut, 1, 1)
        ctx.set(dut.invalidation.valid, 0)
        assert await look(ctx, dut, 1) is None

    run(dut, bench)


def test_three_lookups_every_cycle_among_fills_invalidations_and_resets() -> None:
    """With as many devices as entries, so that what must be there is known."""
    seed = 5
    rng = random.Random(seed)
    dut = ContextCache(IommuConfig(contexts=ENTRIES))
    hits = 0

    async def bench(ctx: Any, domain: Any) -> None:
        nonlocal hits
        model: dict[int, int] = {}
        expected: list[int | None] = [None] * 3
        for cycle in range(1500):
            for port, wanted in zip(dut.lookups, expected):
                assert ctx.get(port.hit) == (wanted is not None), f"seed {seed}, cycle {cycle}"
                if wanted is not None:
                    assert ctx.get(port.context.second_ppn) == wanted, f"seed {seed}, cycle {cycle}"
                    hits += 1
            looked = [rng.randrange(ENTRIES) for _ in range(3)]
            expected = [model.get(device) for device in looked]
            for port, device in zip(dut.lookups, looked):
                ctx.set(port.device_id, device)
            strobe, invalid, reset = rng.random() < 0.2, rng.random() < 0.05, cycle % 400 == 399
            device = rng.randrange(ENTRIES)
            ctx.set(dut.fill.strobe, strobe)
            ctx.set(dut.fill.device_id, device)
            ctx.set(dut.fill.context, {"second_ppn": cycle})
            payload = {"kind": InvalidationKind.CONTEXT, "device_valid": 1, "device_id": device}
            ctx.set(dut.invalidation.payload, payload)
            ctx.set(dut.invalidation.valid, invalid)
            ctx.set(domain.rst, reset)
            await ctx.tick()
            if invalid:
                model.pop(device, None)
            elif strobe:
                model[device] = cycle
            if reset:
                model, expected = {}, [None] * 3

    run(dut, bench)
    assert hits > 500
