# SPDX-License-Identifier: BSD-2-Clause
"""Fork: every branch takes every transfer once."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.iommu.fork import Fork


@pytest.mark.parametrize("seed", range(3))
def test_every_branch_takes_every_transfer_once(seed: int) -> None:
    rng = random.Random(seed)
    dut = Fork(8, 3)
    sent, taken = [], [[], [], []]

    async def bench(ctx: Any) -> None:
        valid = False
        for _ in range(600):
            if not valid and rng.random() < 0.7:
                valid = True
                sent.append(rng.randrange(256))
                ctx.set(dut.source.payload, sent[-1])
            ctx.set(dut.source.valid, valid)
            for branch, values in zip(dut.branches, taken):
                ready = rng.random() < 0.4
                ctx.set(branch.ready, ready)
                if ctx.get(branch.valid) and ready:
                    values.append(ctx.get(branch.payload))
            if valid and ctx.get(dut.source.ready):
                assert taken == [sent] * 3, "the source's transfer came before a branch's"
                valid = False
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(sent) > 60


def test_number_of_branches_is_validated() -> None:
    with pytest.raises(ValueError, match="at least one branch, not 0"):
        Fork(8, 0)
