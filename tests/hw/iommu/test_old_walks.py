# SPDX-License-Identifier: BSD-2-Clause
"""Walks that were begun before software changed something, and are still under way when it has."""

from dataclasses import replace

from hw.abi.iommu import DirectoryMode
from hw.bus.axi4 import Response
from tests.golden.model import SADE
from tests.golden.paging import PTE_A
from tests.golden.tables import LEAF, PAGE
from tests.hw.iommu.bench import SMALL, IommuBench, fence, invalidate

WORD = 8


def test_no_access_from_after_a_change_of_ddtp_shares_a_walk_from_before_it() -> None:
    """The device is cut off while a walk of it is under way. A long refused read holds back one that would share that
    walk, until ddtp has not been busy for a while: memory must not see it."""
    bench = IommuBench(walk_latency=60)
    root = bench.space()
    page = bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        before = b.read(0x5000, id=0)
        await b.ticks(20)
        await b.registers.set(b.ctx, "ddtp", iommu_mode=DirectoryMode.OFF.value)
        refused = b.read(0x9000, 256, id=1)
        after = b.read(0x5000, id=1)
        await b.registers.wait(b.ctx, "ddtp", "busy", 0)
        idle_since = b.memory.cycle
        await b.finish()
        assert (before.response, refused.response, after.response) == (Response.OKAY, Response.SLVERR, Response.SLVERR)
        late = [read for read in b.memory.reads if read.cycle > idle_since and read.address // PAGE == page]
        assert not late, f"{late} after ddtp was not busy any more in cycle {idle_since}"

    bench.run(main)


def test_a_fence_waits_for_a_walk_that_nobody_claims_any_more() -> None:
    """A young read is given a walk while older ones wait for theirs, so it gives it back and asks again later. Before
    the walk is over, its table is replaced: by the time of the fence the walk must have ended, or it would set the A
    bit in a page that software has put to another use."""
    bench = IommuBench(replace(SMALL, walks=2, reads=20))
    root = bench.space(tc=SADE)
    for page in range(5):
        bench.map(root, PAGE * page, flags=LEAF & ~PTE_A)

    def entry(table: int) -> int:
        return int.from_bytes(bench.data[table * PAGE :][:WORD], "little") >> 10

    above = entry(root)
    old, new = entry(above), bench.tables.take()

    async def main(b: IommuBench) -> None:
        await b.open()
        b.read(0)
        await b.finish()
        b.walks.latency = (40, 40)
        b.read(PAGE, id=0)
        await b.ticks(20)
        for page in (2, 3):
            b.read(PAGE * page, id=page)
        # The first of the two walks is about to end: whoever asks in that moment is given it.
        await b.ticks(112)
        b.walks.latency = (400, 400)
        for number in range(16):
            b.read(PAGE * 4, id=4 + number)
            await b.ticks(2)
        assert b.walks.reads[-1].address == old * PAGE + 4 * WORD, "the young read was given no walk before its turn"
        b.walks.latency = (4, 4)
        b.data[new * PAGE : (new + 1) * PAGE] = b.data[old * PAGE : (old + 1) * PAGE]
        b.data[above * PAGE : above * PAGE + WORD] = (new << 10 | 1).to_bytes(WORD, "little")
        await b.command(invalidate(), fence())
        cycle = b.walks.cycle
        await b.finish()
        await b.ticks(500)
        accesses = b.walks.reads + b.walks.writes
        late = [access for access in accesses if access.address // PAGE == old and access.cycle > cycle]
        assert not late, f"{late} after the fence of cycle {cycle}"

    bench.run(main)
