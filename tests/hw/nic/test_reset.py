# SPDX-License-Identifier: BSD-2-Clause
"""A function reset waits for everything, then comes once."""

import pytest
from amaranth.sim import Simulator

from hw.nic.reset import QUIET_CYCLES, FunctionReset


def simulate(bench):
    reset = FunctionReset()

    async def testbench(ctx):
        await bench(ctx, reset)

    sim = Simulator(reset)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def outputs(ctx, reset):
    return ctx.get(reset.resetting), ctx.get(reset.hold), ctx.get(reset.reset)


def test_reset_waits_for_dma_then_for_quiet():
    async def bench(ctx, reset):
        ctx.set(reset.quiet, 1)
        ctx.set(reset.request, 1)
        await ctx.tick()
        ctx.set(reset.request, 0)
        for _ in range(10):
            assert outputs(ctx, reset) == (1, 0, 0)
            await ctx.tick()
        ctx.set(reset.quiet, 0)
        ctx.set(reset.drained, 1)
        await ctx.tick()
        for _ in range(10):
            assert outputs(ctx, reset) == (1, 1, 0)
            await ctx.tick()
        for quiet in (QUIET_CYCLES - 1, QUIET_CYCLES - 1):
            ctx.set(reset.quiet, 1)
            for _ in range(quiet):
                assert outputs(ctx, reset) == (1, 1, 0)
                await ctx.tick()
            ctx.set(reset.quiet, 0)
            assert outputs(ctx, reset) == (1, 1, 0)
            await ctx.tick()
        ctx.set(reset.quiet, 1)
        for _ in range(QUIET_CYCLES + 1):
            assert outputs(ctx, reset) == (1, 1, 0)
            await ctx.tick()
        assert outputs(ctx, reset) == (1, 1, 1)
        for _ in range(5):
            await ctx.tick()
            assert outputs(ctx, reset) == (0, 0, 0)

    simulate(bench)


async def request(ctx, reset):
    """Ask for a reset; in the first cycle of ``resetting`` when it returns."""
    ctx.set(reset.request, 1)
    await ctx.tick()
    ctx.set(reset.request, 0)


def test_what_was_drained_already_is_held_in_the_third_cycle():
    async def bench(ctx, reset):
        ctx.set(reset.drained, 1)
        await request(ctx, reset)
        for hold in (0, 0, 1, 1):
            assert outputs(ctx, reset) == (1, hold, 0)
            await ctx.tick()

    simulate(bench)


def test_a_queue_started_as_the_reset_was_asked_for_is_waited_for():
    async def bench(ctx, reset):
        ctx.set(reset.quiet, 1)
        ctx.set(reset.drained, 1)  # as before the start, a cycle late
        await request(ctx, reset)
        await ctx.tick()
        ctx.set(reset.drained, 0)
        for _ in range(2 * QUIET_CYCLES):
            assert outputs(ctx, reset) == (1, 0, 0)
            await ctx.tick()
        ctx.set(reset.drained, 1)
        await ctx.tick()
        assert outputs(ctx, reset) == (1, 1, 0)

    simulate(bench)


def test_dma_after_all_begins_the_wait_anew():
    async def bench(ctx, reset):
        ctx.set(reset.quiet, 1)
        ctx.set(reset.drained, 1)
        await request(ctx, reset)
        await ctx.tick().repeat(2 + QUIET_CYCLES // 2)
        assert outputs(ctx, reset) == (1, 1, 0)
        ctx.set(reset.drained, 0)
        await ctx.tick()
        ctx.set(reset.drained, 1)
        assert outputs(ctx, reset) == (1, 0, 0)
        await ctx.tick()
        for _ in range(QUIET_CYCLES + 1):
            assert outputs(ctx, reset) == (1, 1, 0)
            await ctx.tick()
        assert outputs(ctx, reset) == (1, 1, 1)

    simulate(bench)


@pytest.mark.parametrize("late", range(3 * QUIET_CYCLES))
def test_what_is_taken_before_the_closing_cycles_is_waited_for(late):
    """Something is offered from then on; it is taken unless ``closing``, and keeps the NIC from being quiet a while."""

    async def bench(ctx, reset):
        ctx.set(reset.drained, 1)
        await request(ctx, reset)
        taken, busy = False, 0
        for cycle in range(6 * QUIET_CYCLES):
            ctx.set(reset.quiet, busy == 0)
            busy = max(0, busy - 1)
            if ctx.get(reset.reset):
                assert ctx.get(reset.closing)
                assert busy == 0, "reset while something that was taken is under way"
                break
            if cycle >= late and not taken and not ctx.get(reset.closing):
                taken, busy = True, 5
            await ctx.tick()
        else:
            raise AssertionError("no reset")
        assert taken or late > QUIET_CYCLES

    simulate(bench)


def test_power_on_resets_two_cycles_later_and_as_long():
    async def bench(ctx, reset):
        seen = []
        for power_on in (1, 1, 1, 0, 0, 0, 0):
            ctx.set(reset.power_on, power_on)
            seen.append(ctx.get(reset.reset))
            await ctx.tick()
        assert seen == [0, 0, 1, 1, 1, 0, 0]

    simulate(bench)


def test_nothing_happens_without_a_request():
    async def bench(ctx, reset):
        ctx.set(reset.drained, 1)
        ctx.set(reset.quiet, 1)
        for _ in range(5):
            await ctx.tick()
            assert outputs(ctx, reset) == (0, 0, 0)

    simulate(bench)
