# SPDX-License-Identifier: BSD-2-Clause
"""Tracker and free lists together: every buffer is in one place, whoever claims what."""

import random

import pytest

from hw.abi.pools import RecycleError, RecycleSource
from hw.config import NicConfig
from tests.hw.nic.recycle.fifo_bench import FifoBench, Where


@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_every_buffer_is_in_one_place(seed, pools):
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = FifoBench(NicConfig(pools=pools, pool_buffers=16), seed=seed, lifo=rng.randrange(1 << pools))
    for name in bench.rates:
        bench.rates[name] = rng.choice((0.1, 0.4, 0.9))
    bench.rates["wrong"] = rng.choice((0.0, 0.2, 0.8))
    bench.run(1500)
    errors = [error for _, error in bench.verdicts]
    assert errors.count(RecycleError.NONE) > 20
    assert len(bench.pops) > 50


def test_all_that_can_be_refused_is():
    bench = FifoBench(NicConfig(pools=2, pool_buffers=16), seed=7)
    bench.rates["wrong"] = 0.5
    bench.run(2500)
    seen = {error for _, error in bench.verdicts}
    wanted = {"NONE", "POOL", "RANGE", "UNKNOWN", "NOT_OUT", "SEGMENT"}
    assert {error.name for error in seen} == wanted


class Twice(FifoBench):
    """Software that hands back each buffer as often as it can, by both ways, at once."""

    def _claim(self, name):
        source = RecycleSource.TRANSMIT if name == "tx" else RecycleSource.RETURN
        if self.cycle % 8 == 0:
            self.target = self.some(Where.OUT) or self.target
        return (*self.target, source, RecycleError.NONE)

    target = (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_of_claims_in_consecutive_cycles_one_is_granted(seed):
    print(f"seed {seed}")
    bench = Twice(NicConfig(pools=1, pool_buffers=16), seed=seed)
    bench.rates |= {"tx": 0.9, "claim": 0.9, "pop": 0.9, "deliver": 0.9, "return": 0.9, "command": 0.9}
    bench.run(1500)
    errors = [error for _, error in bench.verdicts]
    assert errors.count(RecycleError.NOT_OUT) > errors.count(RecycleError.NONE) > 50


def test_one_of_each_in_every_cycle():
    bench = FifoBench(NicConfig(pools=1, pool_buffers=256), seed=1)
    bench.rates |= dict.fromkeys(("tx", "pop", "deliver", "return"), 1.0)
    bench.rates |= {"wrong": 0.0, "claim": 0.0, "unused": 0.0, "command": 0.5}
    bench.run(2500)
    granted = sum(error == RecycleError.NONE for _, error in bench.verdicts)
    # Buffers join one in about ten cycles; then all go round as fast as they can.
    assert granted > 1400
