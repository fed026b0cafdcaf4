# SPDX-License-Identifier: BSD-2-Clause
"""First-stage tables: what is mapped is what a walk finds, in the largest pages that fit, from the core's time on."""

import random
from collections.abc import Callable
from struct import unpack
from typing import Any

import pytest

from driver_model.memory.dma.page_table import PAGE_SIZES, PageTable, PageTableError
from tests.driver_model.bench import Bench

K4, K64, M2, G1 = PAGE_SIZES
IOVA = 0x12_4000_0000


def walk(bench: Bench, table: PageTable, iova: int) -> tuple[int, int, str] | None:
    """Physical address, page size and flags, by the specification's own steps."""
    at = table.root
    for level in reversed(range(table.levels)):
        (entry,) = unpack("<Q", bench.platform.read(at + 8 * (iova >> 12 + 9 * level & 511), 8))
        if not entry & 1:
            return None
        flags = "".join(name for bit, name in enumerate("vrwxugad") if entry >> bit & 1)
        ppn = entry >> 10 & (1 << 44) - 1
        if not entry & 0b1110:
            assert flags == "v"
            at = ppn << 12
            continue
        size = K4 << 9 * level
        if entry >> 63:
            assert level == 0
            assert ppn & 15 == 8
            size, ppn = K64, ppn & ~15
        assert not ppn << 12 & size - 1, "misaligned"
        return (ppn << 12) + iova % size, size, flags
    raise AssertionError("no leaf at level 0")


def within(body: Callable[[Bench], Any], **config: Any) -> Any:
    bench = Bench(**config)
    return bench.run(lambda: body(bench))


@pytest.mark.parametrize(("levels", "iova"), [(3, 0x3F_FFFF_F000), (4, 0x7FFF_FFFF_F000), (4, 0)])
def test_one_page(levels: int, iova: int) -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev, levels)
        assert table.map(dev, iova, 0x55000, K4, writable=True) == []
        assert walk(bench, table, iova + 0x123) == (0x55123, K4, "vrwuad")
        assert table.lookup(iova + 0x123) == (0x55123, K4, True)
        assert table.statistics.tables == levels
        assert table.statistics.writes == levels
        table.unmap(dev, iova, K4)
        assert walk(bench, table, iova) is None
        assert table.lookup(iova) is None
        assert table.statistics.tables == levels  # tables stay
        table.free(dev)
        assert bench.host.pages_in_use == 0

    within(body)


def test_what_may_not_be_written() -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        table.map(dev, IOVA, 0x55000, K4, writable=False)
        assert walk(bench, table, IOVA) == (0x55000, K4, "vrua")
        assert table.lookup(IOVA) == (0x55000, K4, False)

    within(body)


@pytest.mark.parametrize(
    ("sizes", "iova", "physical", "size", "expected"),
    [
        ((K4,), IOVA, 0x4000_0000, 2 * M2, [K4] * 1024),
        ((K4, M2), IOVA, 0x4000_0000, 2 * M2, [M2] * 2),
        ((K4, M2), IOVA + K4, 0x4000_1000, 2 * M2, [K4] * 511 + [M2] + [K4]),
        ((K4, M2), IOVA, 0x4000_1000, M2, [K4] * 512),
        ((K4, K64), IOVA + 14 * K4, 0x4000_E000, 3 * K64, [K4] * 2 + [K64] * 2 + [K4] * 14),
        ((K4, K64, M2), IOVA + M2 - K64 - K4, 0x401E_F000, M2 + 2 * K64 + 2 * K4, [K4, K64, M2, K64, K4]),
        ((K4, K64, M2, G1), IOVA, 0x4000_0000, G1, [G1]),
        ((K4, G1), IOVA - K4, 0x3FFF_F000, K4 + G1, [K4, G1]),
    ],
)
def test_the_largest_pages_that_fit(
    sizes: tuple[int, ...], iova: int, physical: int, size: int, expected: list[int]
) -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev, page_sizes=sizes)
        table.map(dev, iova, physical, size, writable=True)
        at, found = 0, []
        while at < size:
            leaf = walk(bench, table, iova + at)
            assert leaf is not None
            assert leaf[0] == physical + at
            found.append(leaf[1])
            at += leaf[1]
        assert found == expected
        assert walk(bench, table, iova - K4) is None
        assert walk(bench, table, iova + size) is None
        table.unmap(dev, iova, size)
        assert all(walk(bench, table, iova + at) is None for at in range(0, min(size, 4 * M2), K4))

    within(body)


def test_a_larger_page_takes_an_empty_tables_place() -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        table.map(dev, IOVA + K4, 0x1000, K4, writable=True)
        with pytest.raises(PageTableError, match="is mapped already, in smaller pages"):
            table.map(dev, IOVA, 0x4000_0000, M2, writable=True)
        table.unmap(dev, IOVA + K4, K4)
        tables = table.statistics.tables
        replaced = table.map(dev, IOVA, 0x4000_0000, M2, writable=True)
        assert replaced is not None
        assert len(replaced) == 1
        assert walk(bench, table, IOVA + K4) == (0x4000_1000, M2, "vrwuad")
        table.release(dev, replaced[0])
        assert table.statistics.tables == tables - 1
        table.free(dev)
        assert bench.host.pages_in_use == 0

    within(body)


def test_random_ranges_against_a_dictionary() -> None:
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)

    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev, page_sizes=(K4, K64, M2))
        ranges: dict[int, tuple[int, int]] = {}
        for _ in range(150):
            if ranges and rng.random() < 0.4:
                start = rng.choice(list(ranges))
                table.unmap(dev, start, ranges.pop(start)[1])
                continue
            size = rng.choice((1, 2, 7, 16, 40, 512, 600)) * K4
            start = IOVA + rng.randrange(8 * M2) // size * size
            if any(start < other + length and other < start + size for other, (_, length) in ranges.items()):
                continue
            physical = rng.randrange(1 << 20) * size
            for page in table.map(dev, start, physical, size, writable=True) or ():
                table.release(dev, page)
            ranges[start] = (physical, size)
        for at in range(IOVA, IOVA + 10 * M2, K4):
            inside = [(p + at - s) for s, (p, length) in ranges.items() if s <= at < s + length]
            leaf = walk(bench, table, at)
            assert (leaf and leaf[0]) == (inside[0] if inside else None), hex(at)

    within(body)


def test_an_entry_is_there_from_the_cores_time_on() -> None:
    bench = Bench()
    seen: list[tuple[int, bool]] = []

    def body() -> None:
        core, dev = bench.core, bench.host.devices[0]
        table = PageTable(dev)
        table.map(dev, IOVA, 0x1000, K4, writable=True)
        start = core.time
        for step in range(0, 3000, 100):
            bench.platform.at(
                start + step * 1000, lambda: seen.append((bench.platform.now, table.lookup(IOVA + K4) is not None))
            )
        core.spend(core.op("irq.entry"), 4)  # a microsecond passes before the second page is mapped
        table.map(dev, IOVA + K4, 0x2000, K4, writable=True)
        mapped = core.time
        core.sleep_until(start + 4 * 10**6)
        assert mapped > start + 10**6
        assert seen == [(time, time >= mapped) for time, _ in seen]
        assert {there for _, there in seen} == {False, True}

    bench.run(body)


def test_memory_runs_out() -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        held = []
        while (page := dev.pages.alloc_pages()) is not None:
            held.append(page)
        assert table.map(dev, IOVA, 0x1000, K4, writable=True) is None
        with pytest.raises(MemoryError, match="No page for the root"):
            PageTable(dev)

    within(body, memory=64 * K4)


def test_memory_runs_out_after_a_larger_page_took_a_tables_place() -> None:
    """The table is still known, so that nothing is lost."""

    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        table.map(dev, IOVA + K4, 0x1000, K4, writable=True)
        table.unmap(dev, IOVA + K4, K4)
        held = []
        while (page := dev.pages.alloc_pages()) is not None:
            held.append(page)
        assert table.map(dev, IOVA, 0x4000_0000, M2 + K4, writable=True) is None
        assert walk(bench, table, IOVA) == (0x4000_0000, M2, "vrwuad")
        for page in held:
            dev.pages.put_page(page)
        table.free(dev)
        assert bench.host.pages_in_use == 0

    within(body, memory=64 * K4)


@pytest.mark.parametrize(
    ("iova", "size"), [(IOVA + 1, K4), (IOVA, 100), (IOVA, 0), (IOVA, -K4), (1 << 38, K4), ((1 << 38) - K4, 2 * K4)]
)
def test_a_range_that_cannot_be(iova: int, size: int) -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        with pytest.raises(ValueError, match=r"whole pages within 0\.\.0x3fffffffff, not"):
            table.map(dev, iova, 0, size, writable=True)

    within(body)


def test_mapping_twice_and_unmapping_what_is_not() -> None:
    def body(bench: Bench) -> None:
        dev = bench.host.devices[0]
        table = PageTable(dev)
        table.map(dev, IOVA, 0x4000_0000, M2, writable=True)
        with pytest.raises(PageTableError, match="mapped already, by a page of 2097152 bytes"):
            table.map(dev, IOVA + K4, 0, K4, writable=True)
        with pytest.raises(PageTableError, match="mapped already"):
            table.map(dev, IOVA, 0x4000_0000, M2, writable=True)
        with pytest.raises(PageTableError, match="cannot be unmapped in part"):
            table.unmap(dev, IOVA, K4)
        with pytest.raises(PageTableError, match="is not mapped"):
            table.unmap(dev, IOVA + M2, K4)

    within(body)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"levels": 5}, "levels must be 3 or 4, not 5"), ({"page_sizes": (M2,)}, "4096 among them, not")],
)
def test_bad_parameters(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PageTable(Bench().host.devices[0], **arguments)
