# SPDX-License-Identifier: BSD-2-Clause
"""Translation prefetch: leaves come early, nobody waits, nothing is reported."""

from dataclasses import replace
from typing import Any

import pytest

from hw.abi.iommu import NO_WRITE, DirectoryMode, Event
from hw.abi.rings import AddressType
from hw.bus.axi4 import Response
from tests.golden.model import SADE
from tests.golden.paging import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, SV39
from tests.golden.tables import LEAF
from tests.hw.bus.axi_manager import Access
from tests.hw.iommu.bench import DEVICE, SMALL, IommuBench, fence, invalidate

READ_ONLY = PTE_V | PTE_R | PTE_U | PTE_A
PREFETCH_ID = 15


def prefetch(bench: IommuBench, address: int, *, no_write: bool = False, **more: Any) -> Access:
    user = {"address_type": AddressType.PREFETCH} | more.pop("user", {})
    return bench.read(address | no_write << NO_WRITE, **{"id": PREFETCH_ID, "user": user, **more})


def is_silent(access: Access) -> bool:
    return access.response is Response.OKAY and not any(access.result)


async def count(bench: IommuBench, *events: Event) -> None:
    """Let counters count these from now on."""
    for number, event in enumerate(events, 1):
        await bench.registers.set(bench.ctx, f"iohpmevt{number}", eventid=event.value)
        await bench.registers.set(bench.ctx, f"iohpmctr{number}")
    await bench.registers.set(bench.ctx, "iocountinh")


async def counts(bench: IommuBench, number: int) -> list[int]:
    return [await bench.registers.get(bench.ctx, f"iohpmctr{each}", "counter") for each in range(1, number + 1)]


@pytest.mark.parametrize("no_write", [False, True])
def test_the_access_that_it_announces_hits(no_write: bool) -> None:
    """With A and D set as that access would, before it comes."""
    bench = IommuBench()
    root = bench.space(tc=SADE)
    bench.map(root, 0x5000, flags=(READ_ONLY if no_write else LEAF & ~PTE_D) & ~PTE_A)

    async def main(b: IommuBench) -> None:
        await b.open()
        first = prefetch(b, 0x5000, no_write=no_write)
        await b.finish()
        assert is_silent(first)
        await b.ticks(300)
        assert b.tables.find(SV39, root, 0x5000, level=0) & 0xFF == (READ_ONLY if no_write else LEAF)
        walked = len(b.walks.reads)
        access = b.read(0x5008) if no_write else b.write(0x5008, bytes(8))
        await b.finish()
        assert access.response is Response.OKAY
        assert len(b.walks.reads) == walked
        prefetch(b, 0x5000, no_write=no_write)
        await b.finish()
        await b.ticks(100)
        assert len(b.walks.reads) == walked
        assert await b.records(0) == []

    bench.run(main)


def test_a_miss_joins_its_walk() -> None:
    bench = IommuBench()
    root = bench.space()
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        prefetch(b, 0x5000)
        write = b.write(0x5000, bytes(8))
        await b.finish()
        assert write.response is Response.OKAY
        assert len(b.walks.reads) == 1 + 3  # the context, and each level

    bench.run(main)


def test_answers_come_at_once_and_hold_nothing_up() -> None:
    bench = IommuBench(walk_latency=100)
    root = bench.space()
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.read(0x5000)
        await b.finish()
        early = prefetch(b, 0x7000)
        reads = [b.read(0x5000 + 8 * n, id=n % 2 * PREFETCH_ID) for n in range(20)]
        await b.finish()
        assert early.addressed is not None
        assert early.answered is not None
        assert early.answered - early.addressed == 1
        addressed = [read.addressed or 0 for read in reads]
        assert addressed == list(range(early.addressed + 1, early.addressed + 21))
        assert reads[0].answered is not None
        assert reads[0].answered - addressed[0] < 20
        assert all(read.response is Response.OKAY for read in reads)

    bench.run(main)


def test_it_waits_for_earlier_reads_of_its_id() -> None:
    bench = IommuBench(latency=50)
    root = bench.space()
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        reads = [b.read(0x5000, 3, id=PREFETCH_ID)]
        fetches = [prefetch(b, 0x6000)]
        reads.append(b.read(0x5000, id=PREFETCH_ID))
        fetches.append(prefetch(b, 0x7000))
        await b.finish()
        ends = [access.answered or 0 for pair in zip(reads, fetches, strict=True) for access in pair]
        assert ends == sorted(ends)
        assert all(is_silent(access) for access in fetches)

    bench.run(main)


@pytest.mark.parametrize("mode", [DirectoryMode.OFF, DirectoryMode.BARE, DirectoryMode.LVL1])
def test_what_leads_nowhere_is_silent(mode: DirectoryMode) -> None:
    bench = IommuBench()
    root = bench.space()
    bench.map(root, 0x5000, flags=READ_ONLY)

    async def main(b: IommuBench) -> None:
        await b.open(mode)
        accesses = [
            prefetch(b, 0x5000),  # to write, which its leaf does not allow
            prefetch(b, 0x6000),
            prefetch(b, 1 << 60),
            prefetch(b, 0x5000, device=9),
            prefetch(b, 0x5000, device=DEVICE | 1 << 20),
            prefetch(b, 0x5000, user={"process_id_valid": 1}),
        ]
        await b.finish()
        assert all(is_silent(access) for access in accesses)
        await b.ticks(500)
        assert await b.records(0) == []
        assert not b.memory.reads

    bench.run(main)


def test_without_a_free_walk_it_is_dropped_and_counted() -> None:
    bench = IommuBench(replace(SMALL, walks=2), walk_latency=100)
    root = bench.space()
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.write(0x5000, bytes(8))
        await b.finish()
        await count(b, Event.PREFETCH, Event.PREFETCH_DROPPED)
        accesses = [prefetch(b, 0x10_0000 * n) for n in range(1, 7)]
        await b.finish()
        assert all(is_silent(access) for access in accesses)
        await b.ticks(10)
        assert await counts(b, 2) == [6, 4]
        await b.ticks(1000)
        prefetch(b, 0x5000)
        await b.finish()
        await b.ticks(10)
        assert await counts(b, 2) == [7, 4]
        await count(b, Event.TLB_MISS, Event.FAULT)
        prefetch(b, 0x6000)
        await b.finish()
        await b.ticks(1000)
        assert await counts(b, 2) == [0, 0]

    bench.run(main)


def test_a_fence_waits_for_its_walk() -> None:
    """For the walk may still set bits in a table that software gives back."""
    bench = IommuBench(walk_latency=200)
    root = bench.space()
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        prefetch(b, 0x5000)
        await b.finish()
        await b.command(invalidate(), fence())
        cycle = b.walks.cycle
        await b.ticks(2000)
        tables = [each for each in b.walks.reads if each.id < SMALL.walks]
        assert tables
        assert all(each.cycle < cycle for each in tables)
        write = b.write(0x5000, bytes(8))
        await b.finish()
        assert write.response is Response.OKAY
        assert len([each for each in b.walks.reads if each.id < SMALL.walks]) > len(tables), "nothing was filled"

    bench.run(main)
