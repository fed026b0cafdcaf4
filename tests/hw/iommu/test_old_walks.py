# SPDX-License-Identifier: BSD-2-Clause
"""Walks that were begun before software changed something, and are still under way when it has."""

from hw.abi.iommu import DirectoryMode
from hw.bus.axi4 import Response
from tests.golden.tables import PAGE
from tests.hw.iommu.bench import IommuBench

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
