# SPDX-License-Identifier: BSD-2-Clause
"""MisuseRecord: everything that was refused is counted, and the first offender of each pool is kept."""

import random

import pytest

from hw.abi.pools import RecycleError, RecycleSource
from hw.config import preset
from hw.nic.recycle.misuse import MisuseRecord
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import REGISTERS, begin_write, end_write

POOLS = 3
LATENCY = 2


class Bench(BlockBench):
    """MisuseRecord with what happens in a cycle set by method calls and taken back by :meth:`tick`."""

    def __init__(self):
        self.dut = MisuseRecord(preset("10g", pools=POOLS, pool_buffers=16, queues=8))

    def verdict(self, pool, id, error, source=RecycleSource.TRANSMIT, queue=0):
        claim = {"pool": pool, "id": id, "queue": queue, "source": source, "error": RecycleError.NONE}
        self.ctx.set(self.dut.verdict.strobe, 1)
        self.ctx.set(self.dut.verdict.claim, claim)
        self.ctx.set(self.dut.verdict.error, error)

    def command(self, pool, id, error):
        for name, value in {"strobe": 1, "pool": pool, "id": id, "error": error}.items():
            self.ctx.set(getattr(self.dut.command, name), value)

    def acknowledge(self, pool, misuse=1):
        begin_write(self.ctx, self.dut.write, "acknowledge", pool, misuse=misuse)

    async def tick(self, cycles=1):
        for _ in range(cycles):
            await self.ctx.tick()
            end_write(self.ctx, self.dut.write)
            self.ctx.set(self.dut.verdict.strobe, 0)
            self.ctx.set(self.dut.command.strobe, 0)
            self.ctx.set(self.dut.clear, 0)

    def first(self, pool):
        """The fields of register MISUSE that tell of an offender, None if there is none."""
        word = self.ctx.get(self.dut.offender[pool].as_value())
        fields = {name: REGISTERS["misuse"].get(word, name) for name in REGISTERS["misuse"].fields}
        return tuple(fields[name] for name in ("error", "source", "id", "queue")) if fields["valid"] else None

    def counts(self):
        return [self.ctx.get(self.dut.refused[pool]) for pool in range(POOLS)]


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize(
    ("source", "queue"), [(RecycleSource.RETURN, 255), (RecycleSource.FILL, 5), (RecycleSource.TRANSMIT, 5)]
)
def test_a_refused_claim_is_kept_as_software_reads_it(bench, source, queue):
    async def run(b):
        b.verdict(1, 0xABCD, RecycleError.RANGE, source, queue=5)
        await b.tick(LATENCY)
        assert b.first(1) == (RecycleError.RANGE.value, source.value, 0xABCD, queue)
        assert [b.first(0), b.first(2), *b.counts()] == [None, None, 0, 1, 0]
        b.verdict(1, 3, RecycleError.NOT_OUT, source)
        await b.tick(LATENCY)
        assert b.first(1)[2] == 0xABCD
        assert b.counts() == [0, 2, 0]

    bench.run(run)


def test_a_granted_claim_is_no_misuse(bench):
    async def run(b):
        b.verdict(1, 3, RecycleError.NONE)
        await b.tick(LATENCY)
        assert [b.first(1), *b.counts()] == [None, 0, 0, 0]

    bench.run(run)


@pytest.mark.parametrize("pool", [POOLS, 15])
def test_pool_0_answers_for_pools_that_do_not_exist(bench, pool):
    async def run(b):
        b.verdict(pool, 3, RecycleError.POOL)
        await b.tick(LATENCY)
        assert b.first(0) == (RecycleError.POOL.value, RecycleSource.TRANSMIT.value, 3, 0)
        assert b.counts() == [1, 0, 0]

    bench.run(run)


def test_a_command_and_a_claim_of_one_cycle_are_both_counted(bench):
    async def run(b):
        b.verdict(2, 7, RecycleError.UNKNOWN, queue=4)
        b.command(2, 8, RecycleError.LENGTH)
        await b.tick(LATENCY)
        assert b.counts() == [0, 0, 2]
        assert b.first(2) == (RecycleError.UNKNOWN.value, RecycleSource.TRANSMIT.value, 7, 4)
        b.acknowledge(2)
        await b.tick(LATENCY)
        b.command(2, 8, RecycleError.LENGTH)
        await b.tick(LATENCY)
        assert b.first(2) == (RecycleError.LENGTH.value, RecycleSource.COMMAND.value, 8, 255)

    bench.run(run)


def test_the_trackers_verdict_about_a_command_is_not_counted_with_the_command(bench):
    async def run(b):
        b.verdict(1, 7, RecycleError.NOT_OUT, RecycleSource.COMMAND)
        await b.tick(5)
        b.command(1, 7, RecycleError.NOT_OUT)
        await b.tick(LATENCY)
        assert b.counts() == [0, 1, 0]

    bench.run(run)


def test_acknowledge_empties_the_register_for_what_software_has_not_seen(bench):
    """Also for what was refused in the cycle before; the next cycle's read tells."""

    async def run(b):
        b.verdict(1, 1, RecycleError.NOT_OUT)
        await b.tick(LATENCY)
        b.acknowledge(1, misuse=0)
        await b.tick()
        assert b.first(1)[2] == 1
        b.acknowledge(0)
        await b.tick()
        assert b.first(1)[2] == 1
        b.acknowledge(1)
        await b.tick()
        assert b.first(1) is None
        for id in (2, 3):
            b.verdict(1, id, RecycleError.NOT_OUT)
            await b.tick(LATENCY)
        b.verdict(1, 4, RecycleError.NOT_OUT)
        await b.tick()
        b.verdict(1, 5, RecycleError.NOT_OUT)
        b.acknowledge(1)
        await b.tick()
        assert b.first(1)[2] == 4
        await b.tick(LATENCY)
        assert (b.first(1)[2], b.counts()) == (4, [0, 5, 0])

    bench.run(run)


def test_random_misuse_is_recorded(bench):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)

    async def run(b):
        first, counts = [None] * POOLS, [0] * POOLS
        found, cleared = [], None  # in the cycle before
        for _ in range(4000):
            if rng.random() < 0.2:
                pool = rng.randrange(POOLS)
                b.acknowledge(pool)
                first[pool] = None
            for pool, offender in found:
                counts[pool] += 1
                first[pool] = first[pool] or offender
            if cleared is not None:
                first[cleared], counts[cleared] = None, 0
            found, cleared = [], None
            if rng.random() < 0.6:
                pool, queue, id = rng.randrange(5), rng.randrange(8), rng.getrandbits(16)
                error, source = rng.choice(list(RecycleError)), rng.choice(list(RecycleSource))
                b.verdict(pool, id, error, source, queue)
                if error != RecycleError.NONE and source != RecycleSource.COMMAND:
                    queue = 255 if source == RecycleSource.RETURN else queue
                    found.append((pool if pool < POOLS else 0, (error.value, source.value, id, queue)))
            if rng.random() < 0.3:
                pool, id, error = rng.randrange(POOLS), rng.getrandbits(16), rng.choice(list(RecycleError)[1:])
                b.command(pool, id, error)
                found.append((pool, (error.value, RecycleSource.COMMAND.value, id, 255)))
            if rng.random() < 0.02:
                cleared = rng.randrange(POOLS)
                b.ctx.set(b.dut.clear, 1 << cleared)
            await b.tick()
            assert ([b.first(pool) for pool in range(POOLS)], b.counts()) == (first, counts)

    bench.run(run)
