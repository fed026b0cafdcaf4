# SPDX-License-Identifier: BSD-2-Clause
"""What a request costs in reads on the walk port of the whole IOMMU, cold and warm."""

from typing import Any

import pytest

from hw.abi.iommu import DirectoryMode
from hw.bus.axi4 import Response
from tests.golden import model
from tests.golden.paging import PTE_V, SV39
from tests.golden.tables import LEAF, PAGE, Context, table_entry
from tests.hw.iommu.bench import DEVICE, IommuBench

SIZE = 1 << 23
MEGA = 2 << 20
ADDRESS = 5 * MEGA + 3 * PAGE  #: of the device
TARGET = 2 * MEGA  #: where its page of either size is
CONTEXT, ENTRY = 32, 8  #: bytes read


def lengths(bench: IommuBench) -> list[int]:
    """Bytes of the reads on the walk port that were not seen yet."""
    found = [ENTRY * read.beats for read in bench.walks.reads]
    bench.walks.reads.clear()
    return found


async def access(bench: IommuBench, address: int, *, write: bool = False, device: int = DEVICE) -> list[int]:
    """Reads on the walk port for an access that finds its page."""
    one = bench.write(address, bytes(8), device=device) if write else bench.read(address, device=device)
    await bench.finish()
    assert one.response is Response.OKAY
    return lengths(bench)


async def start(bench: IommuBench, mode: DirectoryMode = DirectoryMode.LVL1) -> None:
    await bench.open(mode)
    lengths(bench)


class Stages:
    """A bench whose device has a first stage, a second, or both; ``first`` and ``second`` are levels of leaves.

    Where both are, each table of the first stage, and the pages, are in a GiB of their own for the guest: so no walk of
    the second stage finds anything that another one left in the walk caches.
    """

    def __init__(self, first: int | None, second: int | None, *, pages: int = 2):
        self.bench = bench = IommuBench(size=SIZE)
        self.tables = tables = bench.tables
        self.second = second
        fields: dict[str, Any] = {"gscid": 3, "pscid": 1}
        if second is not None:
            self.wide = tables.take_root()
            fields["second"] = (SV39, self.wide)
        targets = [TARGET // PAGE + (0 if first else page) for page in range(pages)]
        if first is None:
            for page, target in enumerate(targets):
                address = ADDRESS + page * PAGE
                tables.map(SV39, self.wide, address, target & -(1 << 9 * second), level=second, wide=True)
        else:
            path = [tables.take() for _ in range(first, 3)]
            guests = [self.guest(number, page) for number, page in enumerate(path)]
            fields["first"] = (SV39, guests[0])
            for level, (table, below) in enumerate(zip(path, guests[1:])):
                tables.write(self.entry(table, 2 - level, 0), table_entry(below, PTE_V))
            for page, target in enumerate(targets):
                tables.write(self.entry(path[-1], first, page), table_entry(self.guest(len(path), target), LEAF))
        tables.put_context(model.DirectoryMode.LVL1, bench.directory, DEVICE, Context.of(**fields))

    @staticmethod
    def entry(table: int, level: int, page: int) -> int:
        """Address of the first stage's entry of a level."""
        return table * PAGE + ((ADDRESS // PAGE + page) >> 9 * level & 0x1FF) * ENTRY

    def guest(self, gigabyte: int, page: int) -> int:
        """Where a guest sees a page."""
        if self.second is None:
            return page
        place, step = gigabyte << 18 | page, 1 << 9 * self.second
        self.tables.map(SV39, self.wide, (place & -step) * PAGE, page & -step, level=self.second, wide=True)
        return place


@pytest.mark.parametrize(
    ("first", "second", "count", "write"),
    [
        (0, None, 3, False),
        (0, None, 3, True),
        (1, None, 2, False),
        (None, 0, 3, True),
        (None, 1, 2, False),
        (0, 0, 15, False),
        (0, 1, 11, True),
        (1, 1, 8, False),
    ],
)
def test_a_cold_access_reads_so_many_entries(first: int | None, second: int | None, count: int, write: bool) -> None:
    """Sv39 and Sv39x4 with leaves of 4 KiB and 2 MiB, alone and nested; before them the device's context."""
    stages = Stages(first, second)

    async def main(b: IommuBench) -> None:
        await start(b)
        assert await access(b, ADDRESS, write=write) == [CONTEXT] + [ENTRY] * count
        assert await access(b, ADDRESS + 8, write=write) == [], "a hit reads nothing"

    stages.bench.run(main)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_cold_device_reads_an_entry_for_each_directory_above_its_context(levels: int) -> None:
    device = {1: 0x55, 2: 0xAB55, 3: 0xCDAB55}[levels]
    mode = {1: DirectoryMode.LVL1, 2: DirectoryMode.LVL2, 3: DirectoryMode.LVL3}[levels]
    bench = IommuBench()
    root = bench.tables.take()
    bench.map(root, ADDRESS)
    bench.map(root, ADDRESS + PAGE)
    context = Context.of(first=(SV39, root), pscid=1)
    bench.tables.put_context(model.DirectoryMode(mode.value), bench.directory, device, context)

    async def main(b: IommuBench) -> None:
        await start(b, mode)
        assert await access(b, ADDRESS, device=device) == [ENTRY] * (levels - 1) + [CONTEXT] + [ENTRY] * 3
        assert await access(b, ADDRESS + PAGE, device=device) == [ENTRY], "the context is known"

    bench.run(main)


@pytest.mark.parametrize(("first", "second", "count"), [(0, None, 1), (None, 0, 1), (0, 0, 2), (0, 1, 2)])
def test_a_miss_with_warm_walk_caches_reads_one_entry_for_each_stage(
    first: int | None, second: int | None, count: int
) -> None:
    stages = Stages(first, second, pages=6)

    async def main(b: IommuBench) -> None:
        await start(b)
        await access(b, ADDRESS)
        for page in range(1, 6):
            assert await access(b, ADDRESS + page * PAGE, write=bool(page % 2)) == [ENTRY] * count

    stages.bench.run(main)
