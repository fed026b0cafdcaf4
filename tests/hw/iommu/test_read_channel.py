# SPDX-License-Identifier: BSD-2-Clause
"""The read channel: order within an ID, hits under misses, faults, fences, throughput."""

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.abi.iommu import TransactionType
from hw.bus.axi4 import Response
from hw.iommu.read_channel import ReadChannel
from tests.hw.iommu.channel_bench import PAGE, SMALL, ChannelBench


@pytest.mark.parametrize("ids", [1, 3])
def test_hits_add_four_cycles_and_take_one_each(ids: int) -> None:
    bench = ChannelBench()
    bench.hit(1, 2)

    async def main(b: ChannelBench) -> None:
        reads = [b.manager.read(PAGE * (1 + n % 2) + 8 * n, id=n % ids) for n in range(50)]
        await b.finish()
        # The memory counts cycles from 1.
        assert [out.cycle - 1 - read.addressed for out, read in zip(b.memory.reads, reads, strict=True)] == [4] * 50
        assert reads[-1].answered - reads[0].answered == 49

    bench.run(main)


def test_what_waited_leaves_at_full_rate() -> None:
    """After a miss, reads of one ID leave one a cycle, although all of them have waited."""
    bench = ChannelBench(replace(SMALL, reads=8), latency=4)
    bench.hit(1)
    bench.map(2)

    async def main(b: ChannelBench) -> None:
        b.manager.read(2 * PAGE)
        for n in range(60):
            b.manager.read(PAGE + 8 * n)
        await b.finish()
        cycles = [out.cycle for out in b.memory.reads]
        assert cycles[-1] - cycles[0] == 60

    bench.run(main)


@pytest.mark.parametrize("seed", range(16))
def test_each_id_keeps_its_order(seed: int) -> None:
    """Random hits, misses, refusals of walks, faults, lengths, IDs and stalls. The manager checks that data come in the
    order of each ID and that beats are counted; the data tell which read they belong to."""
    rng = random.Random(seed)
    config = replace(SMALL, reads=rng.randint(1, 9), walks=rng.randint(1, 4), outstanding=rng.choice((1, 4, 16)))
    stall = rng.choice((0.0, 0.1, 0.5))
    bench = ChannelBench(config, seed=seed, stall=stall, latency=(1, 30), retry=rng.choice((0.0, 0.4)))
    bench.reads.latency = rng.choice((1, 10, 60))
    bench.reads.keep = rng.random() < 0.7
    bench.hit(1, 2)
    bench.map(3, 4, 5, 6, 7, 8)
    bench.memory.data[:] = rng.randbytes(len(bench.memory.data))

    async def main(b: ChannelBench) -> None:
        reads = []
        for n in range(60):
            page = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9 if n % 3 else 1))
            beats = rng.choice((1, 1, 2, 5))
            reads.append(b.manager.read(page * PAGE + 8 * rng.randrange(512 - beats), beats, id=rng.randrange(3)))
        await b.finish()
        for read in reads:
            b.check(read)
            expected = b.memory.data[read.address :][: 8 * read.beats]
            assert read.result == (expected if read.response is Response.OKAY else bytes(8 * read.beats))
        faulty = [read.address for read in reads if read.address // PAGE == 9]
        assert sorted(report.iotval for _, _, report in b.faults) == sorted(faulty)
        assert b.faulted == len(faulty)

    bench.run(main)


def test_hits_pass_misses_of_other_ids() -> None:
    """However many wait: hits of other IDs take a cycle each meanwhile."""
    bench = ChannelBench(replace(SMALL, reads=4, walks=2))
    bench.reads.latency = 100
    bench.hit(1)
    bench.map(2, 3, 4, 5)

    async def main(b: ChannelBench) -> None:
        misses = [b.manager.read(page * PAGE, id=0) for page in (2, 3)]
        misses += [b.manager.read(PAGE, id=0), b.manager.read(4 * PAGE, id=1)]  # the last finds no free walk
        hits = [b.manager.read(PAGE + 8 * n, id=2) for n in range(40)]
        await b.finish()
        assert max(hit.answered for hit in hits) < min(miss.answered for miss in misses)
        # Another lookup of the one that found no walk takes the place of at most one in four.
        assert hits[-1].addressed - hits[0].addressed <= 40 * 4 // 3
        assert misses[2].answered > misses[1].answered > misses[0].answered

    bench.run(main)


@pytest.mark.parametrize("retry", [0.0, 0.5])
def test_walks_are_given_to_the_oldest_first(retry: float) -> None:
    """Whenever a walk becomes free, nobody is given it before those who came earlier; and none is done for nobody."""
    b = ChannelBench(replace(SMALL, walks=2, reads=12), retry=retry)
    b.reads.latency = 7
    pages = range(60)
    b.map(*pages)

    async def main(b: ChannelBench) -> None:
        for page in pages:
            b.manager.read(page * PAGE, id=page % 16)
            await b.ctx.tick().repeat(1 + page % 5)
        await b.finish()
        assert b.reads.walked == list(pages)

    b.run(main)


def test_what_waits_is_not_starved_by_hits() -> None:
    bench = ChannelBench()
    bench.hit(1)
    bench.map(2)

    async def main(b: ChannelBench) -> None:
        miss = b.manager.read(2 * PAGE, id=1)
        for n in range(150):
            b.manager.read(PAGE + 8 * n, id=2)
        await b.finish()
        walk = b.reads.latency
        (out,) = [out for out in b.memory.reads if out.id == 1]
        assert out.cycle - miss.addressed <= 4 + walk + 2 + SMALL.reads + 4

    bench.run(main)


def test_a_fault_waits_for_the_data_before_it_and_other_ids_do_not() -> None:
    bench = ChannelBench(latency=100)
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        before = b.manager.read(PAGE, 2, id=1)
        fault = b.manager.read(9 * PAGE + 0x18, 3, id=1)
        other = b.manager.read(PAGE, id=2)
        after = b.manager.read(PAGE, id=1)
        await b.finish()
        assert fault.response is Response.SLVERR
        assert len(fault.moved) == 3
        assert before.answered < fault.moved[0]
        assert fault.answered < after.answered
        assert other.answered < after.answered
        ((name, cycle, report),) = b.faults
        assert (name, report.ttyp, report.iotval) == ("read", TransactionType.UNTRANSLATED_READ, 9 * PAGE + 0x18)
        assert cycle < fault.moved[0]

    bench.run(main)


def test_long_faults_share_r_with_data() -> None:
    """Error beats take every second cycle while memory has beats of other IDs, and every cycle otherwise."""
    bench = ChannelBench(latency=1)
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        fault = b.manager.read(9 * PAGE, 200, id=1)
        await b.ctx.tick().repeat(60)
        good = [b.manager.read(PAGE, 16, id=2) for _ in range(4)]
        await b.finish()
        assert fault.answered - fault.moved[0] == 200 + 64 - 1
        beats = [cycle for read in good for cycle in read.moved]
        assert max(beats) - min(beats) <= 2 * 64 + 8

    bench.run(main)


def test_a_storm_of_faults_leaves_others_their_share() -> None:
    bench = ChannelBench(latency=4)
    bench.reads.latency = 10
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        storm, good = [], []
        for n in range(60):
            storm.append(b.manager.read((9 + n) * PAGE, id=1))
            good.append(b.manager.read(PAGE, id=2))
        await b.finish()
        assert all(read.response is Response.OKAY for read in good)
        assert all(read.response is Response.SLVERR for read in storm)
        assert len(b.faults) == 60
        assert good[-1].answered <= storm[-1].answered

    bench.run(main)


def test_exclusive_reads_pass() -> None:
    bench = ChannelBench()
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        read = b.manager.read(PAGE, lock=True)
        await b.finish()
        assert b.memory.reads[0].lock
        assert read.response is Response.EXOKAY

    bench.run(main)


def test_a_fence_sees_accesses_until_their_last_beat() -> None:
    bench = ChannelBench(latency=30)
    bench.map(1, 2)

    async def main(b: ChannelBench) -> None:
        await b.check_fence(
            b.read_channel.fence,
            lambda: [b.manager.read(PAGE * page, 3, id=1) for page in (1, 2, 9)],
            lambda: [b.manager.read(PAGE, 2, id=identifier) for identifier in (1, 2, 1)],
        )

    bench.run(main)


@pytest.mark.parametrize("config", [None, 3])
def test_parameters(config: Any) -> None:
    with pytest.raises(TypeError, match=f"must be an IommuConfig, not {config!r}"):
        ReadChannel(config)
