# SPDX-License-Identifier: BSD-2-Clause
"""The whole IOMMU: what devices, memory and software see of it."""

import random
from dataclasses import replace

import pytest
from amaranth import ClockDomain

from hw.abi.iommu import Cause, DirectoryMode, TransactionType
from hw.abi.rings import AddressType
from hw.bus.axi4 import Response
from tests.golden.model import EN_ATS
from tests.golden.paging import PTE_A, PTE_R, PTE_U, PTE_V
from tests.golden.tables import PAGE
from tests.hw.iommu.bench import DEVICE, QUEUE_LOG2, SMALL, IommuBench, fence, invalidate, invalidate_directory

READ_ONLY = PTE_V | PTE_R | PTE_U | PTE_A
ADDED = 4  #: cycles that a hit adds


def test_reads_and_writes_reach_the_pages_that_the_table_names() -> None:
    bench = IommuBench()
    root = bench.space()
    pages = {address: bench.map(root, address) for address in (0x5000, 0x6000, 0x40_0000_0000 - PAGE)}
    written = {}

    async def main(b: IommuBench) -> None:
        await b.open()
        for round in range(3):
            for index, (address, ppn) in enumerate(pages.items()):
                data = bytes([16 * round + index]) * 24
                b.write(address + 64 * round, data, id=index)
                written[ppn * PAGE + 64 * round] = data
        await b.finish()
        for address, data in written.items():
            assert b.data[address : address + 24] == data
        reads = [(b.read(address + 64, 3, id=index), ppn) for index, (address, ppn) in enumerate(pages.items())]
        await b.finish()
        for read, ppn in reads:
            assert (read.response, read.result) == (Response.OKAY, written[ppn * PAGE + 64])
        assert await b.records(0) == []

    bench.run(main)


def test_hits_add_four_cycles_and_take_one_each() -> None:
    bench = IommuBench()
    root = bench.space()
    bench.map(root, 0x5000)
    bench.map(root, 0x6000)

    async def main(b: IommuBench) -> None:
        await b.open()
        for address in (0x5000, 0x6000):
            b.read(address)
            b.write(address, bytes(8))
        await b.finish()
        b.memory.reads.clear()
        b.memory.writes.clear()
        reads = [b.read(0x5000 + PAGE * (n % 2) + 8 * n, id=n % 5) for n in range(100)]
        writes = [b.write(0x5000 + PAGE * (n % 2) + 8 * n, bytes(8), id=n % 5) for n in range(100)]
        await b.finish()
        # The memory counts cycles from 1.
        assert [out.cycle - 1 - read.addressed for out, read in zip(b.memory.reads, reads, strict=True)] == [
            ADDED
        ] * 100
        added = [out.cycle - 1 - write.addressed for out, write in zip(b.memory.writes, writes, strict=True)]
        assert added == [ADDED] * 100
        for accesses in (reads, writes):
            assert accesses[-1].addressed - accesses[0].addressed == 99
            assert accesses[-1].answered - accesses[0].answered == 99

    bench.run(main)


def test_a_write_that_hits_does_not_pass_one_that_misses() -> None:
    """Data on a page that must be walked for, then the completion of it on one that hits, under another ID."""
    bench = IommuBench(walk_latency=60)
    root = bench.space()
    data, completion = bench.map(root, 0x5000), bench.map(root, 0x6000)
    order: list[int] = []
    bench.memory.on_write = lambda address, _: order.append(address)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.write(0x6000, bytes(8))
        await b.finish()
        order.clear()
        b.write(0x5000, bytes(16), id=1)
        b.write(0x6000, bytes(8), id=2)
        await b.finish()
        assert order == [data * PAGE, data * PAGE + 8, completion * PAGE]

    bench.run(main)


def test_a_read_that_hits_passes_misses_of_other_ids_only() -> None:
    bench = IommuBench(walk_latency=60)
    root = bench.space()
    for address in (0x5000, 0x6000):
        bench.map(root, address)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.read(0x6000)
        await b.finish()
        miss = b.read(0x5000, id=1)
        behind, other = b.read(0x6000, id=1), b.read(0x6000, id=2)
        await b.finish()
        assert other.answered < miss.answered < behind.answered
        assert other.answered - other.addressed < 20

    bench.run(main)


@pytest.mark.parametrize("walks", [1, 3])
def test_as_many_walks_at_once_as_configured(walks: int) -> None:
    """With warm walk caches each miss is one read; memory sees as many at once as there are walks."""
    bench = IommuBench(replace(SMALL, walks=walks, reads=8), walk_latency=100)
    root = bench.space()
    pages = [0x5000 + PAGE * n for n in range(9)]
    for address in pages:
        bench.map(root, address)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.read(pages[0])
        await b.finish()
        b.walks.reads.clear()
        for address in pages[1:]:
            b.read(address)
        await b.finish()
        cycles = [read.cycle for read in b.walks.reads]
        assert len(cycles) == 8
        assert max(sum(begin <= cycle < begin + 100 for begin in cycles) for cycle in cycles) == walks

    bench.run(main)


def test_a_faulting_access_changes_nothing_and_is_reported() -> None:
    bench = IommuBench()
    root = bench.space()
    bench.map(root, 0x5000)
    ppn = bench.map(root, 0x6000, flags=READ_ONLY)

    async def main(b: IommuBench) -> None:
        await b.open()
        before = bytes(b.data)
        accesses = [
            (b.write(0x6010, bytes([1]) * 16), Cause.WRITE_PAGE, TransactionType.UNTRANSLATED_WRITE),
            (b.write(0x9000, bytes([2]) * 8), Cause.WRITE_PAGE, TransactionType.UNTRANSLATED_WRITE),
            (b.read(0x9008, 3), Cause.READ_PAGE, TransactionType.UNTRANSLATED_READ),
            (b.read(0x9008, device=9), Cause.DIRECTORY_INVALID, TransactionType.UNTRANSLATED_READ),
        ]
        after = b.write(0x5000, bytes([7]) * 8)
        good = b.read(0x6000)
        await b.finish()
        assert (after.response, good.response) == (Response.OKAY, Response.OKAY)
        found = {(record.cause, record.iotval, record.ttyp, record.did) for record in await b.records(len(accesses))}
        expected = {
            (cause.value, access.address, ttyp.value, access.user["device_id"]) for access, cause, ttyp in accesses
        }
        assert found == expected
        for access, *_ in accesses:
            assert access.response is Response.SLVERR
            assert access.result == bytes(8 * access.beats if access.data is None else 0)
        changed = [
            page for page in range(len(before) // PAGE) if before[page * PAGE :][:PAGE] != b.data[page * PAGE :][:PAGE]
        ]
        assert ppn not in changed

    bench.run(main)


def test_a_storm_of_faults_overflows_its_queue_and_stops_nobody() -> None:
    """More faults than the queue has room for, nobody reads it: the flag stands, and another device goes on."""
    bench = IommuBench()
    root = bench.space()
    bench.map(root, 0x5000)
    room = (1 << QUEUE_LOG2) - 1

    async def main(b: IommuBench) -> None:
        await b.open()
        storm, good = [], []
        for number in range(room):
            storm += [b.read(0x9000, device=9, id=1), b.write(0x9000, bytes(8), device=9, id=1)]
            good += [b.read(0x5000, id=2), b.write(0x5000 + 8 * number, b"goes on.", id=2)]
        await b.finish()
        assert {access.response for access in storm} == {Response.SLVERR}
        assert {access.response for access in good} == {Response.OKAY}
        await b.registers.wait(b.ctx, "fqcsr", "fqof", 1)
        assert await b.registers.get(b.ctx, "fqt", "index") == room
        assert {record.did for record in await b.records(room)} == {9}

    bench.run(main)


def test_kinds_of_addresses() -> None:
    """By ddtp's mode and the context's EN_ATS. Twice each: the second time there is a context in the cache."""
    bench = IommuBench()
    plain, trusted = 3, DEVICE
    bench.space(plain)
    bench.space(trusted, tc=EN_ATS, pscid=2)
    target = bench.tables.take() * PAGE
    refused = Cause.TYPE_DISALLOWED
    cases = (
        (DirectoryMode.OFF, plain, AddressType.UNTRANSLATED, Cause.ALL_DISALLOWED),
        (DirectoryMode.BARE, plain, AddressType.UNTRANSLATED, Cause.NONE),
        (DirectoryMode.BARE, plain, AddressType.TRANSLATED, refused),
        (DirectoryMode.LVL1, plain, AddressType.TRANSLATED, refused),
        (DirectoryMode.LVL1, trusted, AddressType.TRANSLATED, Cause.NONE),
        (DirectoryMode.LVL1, trusted, AddressType.TRANSLATION_REQUEST, refused),
        (DirectoryMode.LVL1, trusted, AddressType.PREFETCH, refused),
    )

    async def main(b: IommuBench) -> None:
        await b.open(DirectoryMode.OFF)
        for number, (mode, device, kind, cause) in enumerate(cases):
            await b.set_mode(mode)
            for turn in range(2):
                value = 1 + 2 * number + turn
                before = b.data[target]
                write = b.write(target, bytes([value]) * 8, device=device, user={"address_type": kind})
                await b.finish()
                good = cause is Cause.NONE
                assert write.response is (Response.OKAY if good else Response.SLVERR)
                assert b.data[target] == (value if good else before)
            assert [record.cause for record in await b.records(0 if good else 2)] == ([] if good else [cause.value] * 2)

    bench.run(main)


@pytest.mark.parametrize("seed", range(3))
def test_after_a_fence_nothing_uses_the_old_translation(seed: int) -> None:
    """Pages move while a device reads and writes them; each move ends with an invalidation and a fence."""
    rng = random.Random(seed)
    bench = IommuBench(seed=seed, stall=0.2, latency=(1, 40), walk_latency=(1, 40))
    root = bench.space()
    addresses = [0x5000 + PAGE * n for n in range(4)]
    where = {address: bench.map(root, address) for address in addresses}
    spare = [bench.tables.take() for _ in range(4)]

    async def main(b: IommuBench) -> None:
        await b.open()
        for _ in range(12):
            for _ in range(12):
                at = rng.choice(addresses) + 8 * rng.randrange(512)
                if rng.random() < 0.5:
                    b.read(at, id=rng.randrange(3))
                else:
                    b.write(at, b"\xa5" * 8, id=rng.randrange(3))
            await b.ticks(rng.randrange(60))
            address = rng.choice(addresses)
            old = where[address]
            where[address] = spare.pop(0)
            b.map(root, address, where[address])
            await b.command(invalidate(address), fence())
            b.data[old * PAGE : (old + 1) * PAGE] = bytes(PAGE)
            cycle = b.memory.cycle
            await b.ticks(rng.randrange(60))
            late = [
                each for each in b.memory.reads + b.memory.writes if each.address >> 12 == old and each.cycle > cycle
            ]
            assert not late, f"seed {seed}: {late} after the fence of cycle {cycle}"
            assert not any(b.data[old * PAGE : (old + 1) * PAGE]), (
                f"seed {seed}: page {old} was written after the fence"
            )
            spare.append(old)
        await b.finish()
        assert await b.records(0) == []

    bench.run(main)


def test_a_changed_context_counts_after_its_invalidation() -> None:
    bench = IommuBench()
    first = bench.space()
    bench.map(first, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.write(0x5000, bytes([1]) * 8)
        await b.finish()
        second = b.space(pscid=2)
        page = b.map(second, 0x5000)
        await b.command(invalidate_directory(dv=1, did=DEVICE), fence())
        b.write(0x5000, bytes([2]) * 8)
        await b.finish()
        assert b.data[page * PAGE] == 2

    bench.run(main)


def test_reset_in_the_middle_of_everything() -> None:
    """As after power-on: walks, reads, commands and caches are forgotten, and nothing of them comes back."""
    domain = ClockDomain("sync")
    bench = IommuBench(walk_latency=30, domain=domain)
    root = bench.space()
    pages = [0x5000 + PAGE * n for n in range(6)]
    moved = [bench.map(root, address) for address in pages]

    async def main(b: IommuBench) -> None:
        await b.open()
        b.write(pages[0], bytes([1]) * 8)
        await b.finish()
        for address in pages:
            b.read(address, id=1)
            b.write(address + 8, bytes([3]) * 8, id=2)
        await b.ticks(50)
        b.ctx.set(domain.rst, 1)
        b.manager.forget()
        await b.ctx.tick()
        b.ctx.set(domain.rst, 0)
        # Tables change without an invalidation: nothing may remember them.
        for address, ppn in zip(pages, reversed(moved), strict=True):
            b.map(root, address, ppn)
        refused = b.read(pages[0])
        await b.finish()
        assert refused.response is Response.SLVERR
        await b.open()
        for index, address in enumerate(pages):
            b.write(address + 16, bytes([0x40 + index]) * 8, id=2)
        await b.finish()
        assert [b.data[ppn * PAGE + 16] for ppn in reversed(moved)] == [0x40 + index for index in range(6)]
        assert await b.records(0) == []

    bench.run(main)


def test_a_leaf_of_2_mib_serves_all_its_pages_with_one_walk() -> None:
    bench = IommuBench(size=1 << 23)
    root = bench.space()
    bench.map(root, 0x4000_0000, 0x400, level=1)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.write(0x4000_0000, b"first...")
        await b.finish()
        count = len(b.walks.reads)
        b.write(0x4000_0000 + 0x1FF008, b"last....")
        await b.finish()
        assert b.data[0x400000:0x400008] == b"first..."
        assert b.data[0x5FF008:0x5FF010] == b"last...."
        assert len(b.walks.reads) == count

    bench.run(main)
