# SPDX-License-Identifier: BSD-2-Clause
"""ReturnWords: every id of every word is claimed once, in order, and no word is lost that ``full`` let through."""

import random

import pytest

from hw.abi.pools import RecycleError, RecycleSource
from hw.config import preset
from hw.nic.interfaces import WRITE_CYCLES
from hw.nic.recycle.return_words import WORDS, ReturnWords
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import begin_write, end_write

POOLS = 3
LATENCY = 3


class Bench(BlockBench):
    """Writes words; ``claimed`` holds pool and id of what was claimed, with its cycle."""

    def __init__(self):
        self.dut = ReturnWords(preset("10g", pools=POOLS, pool_buffers=16))
        self.claimed = []
        self.cycle = 0

    def begin(self, pool, ids, *, beyond=0xDEAD):
        """The word's ids, and ``beyond`` where the register takes none."""
        fields = {f"id{i}": ids[i] if i < len(ids) else beyond for i in range(4)}
        begin_write(self.ctx, self.dut.write, f"return{len(ids)}", pool, **fields)

    async def tick(self, cycles=1):
        claims = self.dut.claims
        for _ in range(cycles):
            _, _, valid, ready, claim = await self.ctx.tick().sample(claims.valid, claims.ready, claims.payload)
            end_write(self.ctx, self.dut.write)
            if valid and ready:
                assert (claim.source, claim.error) == (RecycleSource.RETURN, RecycleError.NONE)
                self.claimed.append((self.cycle, claim.pool, claim.id))
            self.cycle += 1

    async def write(self, pool, ids):
        self.begin(pool, ids)
        await self.tick()

    def names(self):
        return [(pool, id) for _, pool, id in self.claimed]


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_register_hands_back_as_many_as_its_name_says(bench, count):
    async def run(b):
        b.ctx.set(b.dut.claims.ready, 1)
        ids = [0xFFFF, 0, 7, 7][:count]
        await b.write(2, ids)
        await b.tick(20)
        assert b.claimed == [(LATENCY + i, 2, id) for i, id in enumerate(ids)]

    bench.run(run)


def test_words_follow_each_other_without_a_gap(bench):
    async def run(b):
        words = [(i % POOLS, [4 * i + j for j in range(i % 4 + 1)]) for i in range(WORDS)]
        for pool, ids in words:
            await b.write(pool, ids)
        b.ctx.set(b.dut.claims.ready, 1)
        start = b.cycle
        await b.tick(70)
        assert b.names() == [(pool, id) for pool, ids in words for id in ids]
        assert [cycle - start for cycle, _, _ in b.claimed] == list(range(len(b.claimed)))

    bench.run(run)


def test_other_registers_hand_nothing_back(bench):
    async def run(b):
        b.ctx.set(b.dut.claims.ready, 1)
        for name in ("control", "command", "acknowledge"):
            begin_write(b.ctx, b.dut.write, name, 0)
            await b.tick(10)
        assert b.claimed == []

    bench.run(run)


def test_full_leaves_room_for_the_one_that_was_let_through(bench):
    async def run(b):
        written = []

        async def write():
            written.append((1, len(written)))
            await b.write(*[1, [written[-1][1]]])

        while not b.ctx.get(b.dut.full):
            assert len(written) < WORDS, "full did not rise"
            await write()
        assert len(written) == WORDS - 1
        await write()
        await b.tick(20)
        assert b.ctx.get(b.dut.full)
        b.ctx.set(b.dut.claims.ready, 1)
        await b.tick()
        assert b.ctx.get(b.dut.full)
        await b.tick()
        assert not b.ctx.get(b.dut.full)
        await b.tick(30)
        assert b.names() == written

    bench.run(run)


def test_random_words_are_all_claimed_in_order(bench):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)

    async def run(b):
        expected, waited, write_in, pace = [], 0, None, 0.1
        for _ in range(20000):
            if rng.random() < 0.01:
                pace = rng.choice((0.1, 0.3, 0.6, 1))
            b.ctx.set(b.dut.claims.ready, rng.random() < pace)
            # The registers look at full some cycles before the write is broadcast, which is WRITE_CYCLES apart.
            if write_in is None:
                if b.ctx.get(b.dut.full):
                    waited += 1
                elif rng.random() < 0.5:
                    write_in = WRITE_CYCLES - 1
            elif write_in:
                write_in -= 1
            else:
                pool, ids = rng.randrange(POOLS), [rng.getrandbits(16) for _ in range(rng.randint(1, 4))]
                b.begin(pool, ids, beyond=rng.getrandbits(16))
                expected += [(pool, id) for id in ids]
                write_in = None
            await b.tick()
        b.ctx.set(b.dut.claims.ready, 1)
        await b.tick(5 * WORDS)
        assert waited > 100
        assert b.names() == expected

    bench.run(run)
