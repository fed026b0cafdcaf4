# SPDX-License-Identifier: BSD-2-Clause
"""Invalidations stay behind read data on their way to the device; nothing of them is lost."""

from typing import Any

from amaranth.sim import Simulator

from sim.host.invalidation_path import InvalidationPath

FIELDS = {"tag": 3, "device_id": 0x12, "process_id": 5, "process_id_valid": 1, "size": 1, "address": (1 << 52) - 7}


def simulate(body: Any) -> None:
    path = InvalidationPath()
    sim = Simulator(path)
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        await body(ctx, path)

    sim.add_testbench(bench)
    sim.run()


def test_a_request_waits_for_the_reads_before_it_only() -> None:
    async def body(ctx: Any, path: Any) -> None:
        ctx.set(path.handed, 1)
        await ctx.tick().repeat(2)  # two reads are on their way
        ctx.set(path.handed, 0)
        ctx.set(path.invalidate.payload, FIELDS)
        ctx.set(path.invalidate.valid, 1)
        ctx.set(path.host_message.ready, 1)
        await ctx.tick()
        word = ctx.get(path.host_message.payload)
        ctx.set(path.invalidate.valid, 0)
        ctx.set(path.handed, 1)  # one more
        await ctx.tick()
        ctx.set(path.handed, 0)
        ctx.set(path.device_message.payload, word)
        ctx.set(path.device_message.valid, 1)
        ctx.set(path.device_invalidate.ready, 1)
        for _ in range(2):
            await ctx.tick().repeat(5)
            assert not ctx.get(path.device_invalidate.valid)
            assert not ctx.get(path.device_message.ready)
            ctx.set(path.taken, 1)
            await ctx.tick()
            ctx.set(path.taken, 0)
        assert ctx.get(path.device_invalidate.valid)
        assert ctx.get(path.device_message.ready)
        request = ctx.get(path.device_invalidate.payload)
        assert all(getattr(request, name) == value for name, value in FIELDS.items())

    simulate(body)


def test_completions_pass() -> None:
    async def body(ctx: Any, path: Any) -> None:
        ctx.set(path.device_invalidated.payload, {"tag": 9, "device_id": 0xABCDEF})
        ctx.set(path.device_invalidated.valid, 1)
        assert ctx.get(path.device_answer.valid)
        ctx.set(path.host_answer.payload, ctx.get(path.device_answer.payload))
        ctx.set(path.host_answer.valid, 1)
        completion = ctx.get(path.invalidated.payload)
        assert (completion.tag, completion.device_id) == (9, 0xABCDEF)
        assert not ctx.get(path.device_invalidated.ready)
        ctx.set(path.device_answer.ready, 1)
        ctx.set(path.invalidated.ready, 1)
        assert ctx.get(path.device_invalidated.ready)
        assert ctx.get(path.host_answer.ready)

    simulate(body)
