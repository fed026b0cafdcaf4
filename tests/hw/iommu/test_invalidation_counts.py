# SPDX-License-Identifier: BSD-2-Clause
"""What invalidations leave in the caches, as the performance counters tell it over the registers."""

from dataclasses import replace

from hw.abi.iommu import Event
from hw.bus.axi4 import Response
from hw.config import CacheConfig
from tests.golden.tables import PAGE
from tests.hw.iommu.bench import SMALL, IommuBench, fence, invalidate

EVENTS = (Event.TLB_MISS, Event.TABLE_READ, Event.WALK_CACHE_HIT, Event.INVALIDATED)
ADDRESS = 0x4321_0000  #: the first of PAGES, aligned to their size
PAGES = 8
BENCH = replace(SMALL, counters=len(EVENTS), tlb_4k=CacheConfig(8, 4))


async def count(bench: IommuBench) -> None:
    """Count from 0."""
    for number, event in enumerate(EVENTS, 1):
        await bench.registers.set(bench.ctx, f"iohpmevt{number}", eventid=event.value)
        await bench.registers.set(bench.ctx, f"iohpmctr{number}", counter=0)


async def counted(bench: IommuBench) -> dict[str, int]:
    """What was counted since the last call."""
    await bench.ticks(8)  # an event is counted some cycles after it
    found = {
        event.name: await bench.registers.get(bench.ctx, f"iohpmctr{number}", "counter")
        for number, event in enumerate(EVENTS, 1)
    }
    await count(bench)
    return found


async def access(bench: IommuBench, pages: range) -> dict[str, int]:
    """Read one page after the other; what was counted meanwhile."""
    for page in pages:
        one = bench.read(ADDRESS + page * PAGE)
        await bench.finish()
        assert one.response is Response.OKAY
    return await counted(bench)


async def warm(bench: IommuBench) -> None:
    """All pages, and the tables that lead to them, are in the caches."""
    await bench.open()
    await count(bench)
    cold = await access(bench, range(PAGES))
    assert cold["TLB_MISS"] == PAGES
    assert await access(bench, range(PAGES)) == dict.fromkeys(cold, 0)


def bench_of() -> IommuBench:
    bench = IommuBench(BENCH)
    root = bench.space(pscid=1)
    for page in range(PAGES):
        bench.map(root, ADDRESS + page * PAGE)
    return bench


def test_with_av_and_without_nl_the_walk_caches_stay() -> None:
    """The leaf is gone, and only it is read again."""

    async def main(b: IommuBench) -> None:
        await warm(b)
        await b.command(invalidate(ADDRESS, pscv=1, pscid=1), fence())
        assert (await counted(b))["INVALIDATED"] == 1
        assert await access(b, range(1)) == {"TLB_MISS": 1, "TABLE_READ": 1, "WALK_CACHE_HIT": 1, "INVALIDATED": 0}
        assert (await access(b, range(1, PAGES)))["TLB_MISS"] == 0

    bench_of().run(main)


def test_with_av_and_nl_the_entries_that_lead_there_go_as_well() -> None:
    """All three levels are read again; other leaves stay."""

    async def main(b: IommuBench) -> None:
        await warm(b)
        await b.command(invalidate(ADDRESS, nl=1, pscv=1, pscid=1), fence())
        assert (await counted(b))["INVALIDATED"] == 1
        assert await access(b, range(1)) == {"TLB_MISS": 1, "TABLE_READ": 3, "WALK_CACHE_HIT": 0, "INVALIDATED": 0}
        assert (await access(b, range(1, PAGES)))["TLB_MISS"] == 0

    bench_of().run(main)


def test_with_s_one_command_is_about_a_range() -> None:
    """Four pages, then eight: the address ends in as many ones as say how long the range is."""

    async def main(b: IommuBench) -> None:
        await warm(b)
        await b.command(invalidate(ADDRESS + 5 * PAGE, s=1, pscv=1, pscid=1), fence())  # 0b101: pages 4..7
        assert (await counted(b))["INVALIDATED"] == 4
        assert (await access(b, range(4)))["TLB_MISS"] == 0
        gone = await access(b, range(4, PAGES))
        assert gone == {"TLB_MISS": 4, "TABLE_READ": 4, "WALK_CACHE_HIT": 4, "INVALIDATED": 0}
        await b.command(invalidate(ADDRESS + 3 * PAGE, s=1, pscv=1, pscid=1), fence())  # 0b011: pages 0..7
        assert (await counted(b))["INVALIDATED"] == PAGES
        assert (await access(b, range(PAGES)))["TLB_MISS"] == PAGES

    bench_of().run(main)
