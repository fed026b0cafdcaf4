# SPDX-License-Identifier: BSD-2-Clause
"""The loop of a pool closes at drops for its limit, and opens again when it should."""

import pytest

from hw.nic.recycle.interfaces import VISIT_CYCLES
from tests.hw.nic.recycle.limits_bench import POOLS, Bench


@pytest.fixture
def bench():
    return Bench()


def test_a_drop_for_the_limit_closes_the_loop_until_few_are_out(bench):
    async def run(b):
        b.limit, b.resume = [10] * POOLS, [4] * POOLS
        await b.settle()
        await b.put_out(10)
        assert (b.bit("limited"), b.bit("refused")) == (1, 0)
        b.event("dropped", 0)
        await b.tick(2)
        assert (b.bit("refused"), b.status()[1]) == (1, 1)
        await b.hand_back(5)
        await b.tick(3 * VISIT_CYCLES)
        assert (b.bit("refused"), b.bit("open")) == (1, 0), "five are out, four may be"
        await b.hand_back(1)
        assert await b.opening() <= VISIT_CYCLES + 7
        assert b.bit("open")
        await b.put_out(6)
        assert b.status() == (10, 1)
        assert b.bit("refused", 1) == b.bit("limited", 1) == 0, "others know nothing of it"

    bench.run(run)


@pytest.mark.parametrize("resume", [0, 1, 3, 4, 63])
def test_the_loop_opens_whatever_the_resume_level_is(bench, resume):
    """At or above the limit it opens when one is back; of which nothing is out, always."""

    async def run(b):
        b.limit, b.resume = [4] * POOLS, [resume] * POOLS
        await b.settle()
        await b.put_out(4)
        b.event("dropped", 0)
        await b.settle()
        for left in range(4, min(resume, 3), -1):
            assert b.bit("refused"), f"{left} are out"
            await b.hand_back(1)
            await b.settle()
        assert not b.bit("refused")

    bench.run(run)


def test_frames_refused_by_a_closed_loop_do_not_close_it_again(bench):
    """They are told of when it is open already. One that is told of later does."""

    async def run(b):
        b.limit = [2] * POOLS
        await b.settle()
        b.event("dropped", 0)
        await b.tick(2)
        await b.opening()
        for _ in range(VISIT_CYCLES - 1):
            b.event("dropped", 0)
            await b.tick()
        await b.tick(2)
        assert (b.bit("refused"), b.status()[1]) == (0, 1)
        b.event("dropped", 0)
        await b.tick(2)
        assert (b.bit("refused"), b.status()[1]) == (1, 2)

    bench.run(run)


@pytest.mark.parametrize("offset", range(VISIT_CYCLES))
def test_software_closes_and_opens(bench, offset):
    async def run(b):
        b.limit = [3] * POOLS
        await b.settle()
        await b.put_out(3)
        await b.tick(offset)
        b.loop(0, close=1)
        await b.tick(2)
        assert b.bit("refused")
        b.loop(0, close=1, open=1)
        await b.settle()
        assert b.bit("refused"), "close is set"
        b.loop(0)
        await b.settle()
        assert b.bit("refused"), "three are out, and it opens at none"
        b.loop(0, open=1)
        assert await b.opening() <= VISIT_CYCLES + 3
        await b.tick(VISIT_CYCLES)
        b.event("dropped", 0)
        await b.settle()
        assert (b.bit("refused"), b.status()[1]) == (1, 2), "it was opened once"
        b.loop(1, open=1)
        await b.settle()
        assert b.bit("refused"), "another pool's was opened"

    bench.run(run)


def test_opening_an_open_loop_is_forgotten(bench):
    async def run(b):
        b.limit = [1] * POOLS
        await b.settle()
        await b.put_out(1)
        b.loop(0, open=1)
        await b.tick()
        b.event("dropped", 0)
        await b.settle()
        assert b.bit("refused")

    bench.run(run)


def test_close_outlasts_clear(bench):
    async def run(b):
        b.loop(0, close=1)
        await b.settle()
        b.ctx.set(b.dut.clear, 1)
        await b.settle()
        assert (b.bit("refused"), b.status()[1]) == (1, 1)

    bench.run(run)
