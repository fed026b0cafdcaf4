# SPDX-License-Identifier: BSD-2-Clause
"""Setting A and D: exclusively, for the access that was asked for, and never over what somebody else wrote."""

from typing import Any

import pytest

from hw.abi.iommu import Cause, DirectoryMode
from hw.config import IommuConfig
from hw.iommu.interfaces import Access
from hw.iommu.walk_state import MAX_TRIES
from tests.golden.model import GADE, SADE
from tests.golden.paging import PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W
from tests.golden.tables import LEAF
from tests.hw.iommu.walk_bench import WalkBench, request
from tests.hw.iommu.walk_tables import ADDRESS, DEVICE, Nested, Single

FRESH = LEAF & ~(PTE_A | PTE_D)


def bench_of(world: Any, **arguments: Any) -> WalkBench:
    return WalkBench(world.tables.memory.data, mode=DirectoryMode.LVL1, root=world.directory, **arguments)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("access", "marks"), [(Access.READ, PTE_A), (Access.WRITE, PTE_A | PTE_D)])
def test_marks_follow_the_access(access: Access, marks: int, wide: bool) -> None:
    world = Single(flags=FRESH, wide=wide)
    bench = bench_of(world)
    before = world.tables.read(world.path[-1])
    (result,) = bench.run([request(DEVICE, ADDRESS, access)])
    assert (result.cause, result.ppn) == (Cause.NONE, world.target)
    assert world.tables.read(world.path[-1]) == before | marks
    # Read, read exclusively, written.
    assert [read.exclusive for read in bench.memory.reads[1:]] == [False, False, False, True]
    assert [write.address for write in bench.memory.writes] == [world.path[-1]]
    assert bench.events["read"] == len(bench.memory.reads)


@pytest.mark.parametrize("wide", [False, True])
def test_without_permission_to_mark_it_is_a_fault_and_nothing_is_written(wide: bool) -> None:
    world = Single(flags=FRESH, wide=wide, marks=SADE if wide else GADE)
    bench = bench_of(world)
    results = bench.run([request(DEVICE, ADDRESS), request(DEVICE, ADDRESS, Access.WRITE)])
    faults = (Cause.READ_GUEST_PAGE, Cause.WRITE_GUEST_PAGE) if wide else (Cause.READ_PAGE, Cause.WRITE_PAGE)
    assert tuple(result.cause for result in results) == faults
    assert not bench.memory.writes


@pytest.mark.parametrize("caching", [False, True])
def test_a_guest_s_entry_is_marked_only_where_the_second_stage_lets_it_be_written(caching: bool) -> None:
    """And its page is then marked as written. Where the walk caches hid the entry's guest address, too: the first walk
    warms them with another entry of the same table."""
    for writable in (True, False):
        world = Nested(flags=FRESH)
        other = ADDRESS + 0x1000
        world.tables.map(8, world.first_root, other, world.target)
        table = world.path[-1] >> 12
        leaf = world.leaves[table]
        flags = PTE_V | PTE_R | PTE_U | PTE_A | (PTE_W if writable else 0)
        world.tables.write(leaf, table << 10 | flags)
        before = world.tables.read(world.path[-1])
        bench = bench_of(world, caching=caching)
        warm, result = bench.run([request(DEVICE, other), request(DEVICE, ADDRESS)], at_once=1)
        assert warm.cause is Cause.NONE
        if writable:
            assert (result.cause, result.ppn) == (Cause.NONE, world.target)
            assert world.tables.read(world.path[-1]) == before | PTE_A
            assert world.tables.read(leaf) == table << 10 | flags | PTE_D
        else:
            assert (result.cause, result.iotval2) == (Cause.READ_GUEST_PAGE, world.path[-1] | 0b11)
            assert not bench.memory.writes


def test_an_entry_that_changes_meanwhile_counts_as_it_is_then() -> None:
    """Between the exclusive read and the write: it vanishes, is marked by somebody else, maps another page, or becomes
    read-only."""
    page = LEAF | 0x2711 << 10
    for there, cause, ppn, after in (
        (0, Cause.WRITE_PAGE, None, 0),
        (page, Cause.NONE, 0x2711, page),
        (page & ~PTE_D, Cause.NONE, 0x2711, page),
        (page & ~PTE_W, Cause.WRITE_PAGE, None, page & ~PTE_W),
    ):
        world = Single(flags=FRESH)
        bench = bench_of(world)
        changes = [there]

        def change(address: int, bench: WalkBench = bench, changes: list[int] = changes) -> None:
            if changes:
                bench.memory.store(address, changes.pop())

        bench.memory.on_exclusive = change
        (result,) = bench.run([request(DEVICE, ADDRESS, Access.WRITE)])
        assert result.cause is cause, f"entry {there:#x}"
        assert ppn is None or result.ppn == ppn
        assert world.tables.read(world.path[-1]) == after


def test_a_walk_gives_up_in_the_end() -> None:
    """While somebody else writes the entry each time; where memory knows no exclusive accesses, at once."""
    world = Single(flags=FRESH)
    bench = bench_of(world, latency=(0, 0))
    entry = world.tables.read(world.path[-1])
    bench.memory.on_exclusive = lambda address: bench.memory.store(address, entry)
    (result,) = bench.run([request(DEVICE, ADDRESS, Access.WRITE)])
    assert result.cause is Cause.WRITE_ACCESS
    assert len(bench.memory.writes) == MAX_TRIES

    bench = bench_of(world)
    bench.memory.exclusives = False
    (result,) = bench.run([request(DEVICE, ADDRESS, Access.WRITE)])
    assert result.cause is Cause.WRITE_ACCESS
    assert not bench.memory.writes
    assert world.tables.read(world.path[-1]) == entry


def test_an_error_of_the_write() -> None:
    world = Single(flags=FRESH)
    bench = bench_of(world)
    bench.memory.on_exclusive = lambda address: bench.memory.failing.add(address)
    (result,) = bench.run([request(DEVICE, ADDRESS, Access.READ)])
    assert result.cause is Cause.READ_ACCESS


@pytest.mark.parametrize("seed", range(3))
def test_many_walks_set_one_entry(seed: int) -> None:
    """Walks of eight pages and both accesses meet in one leaf of 2 MiB; all succeed, and it is set once."""
    world = Single(level=1, flags=FRESH)
    bench = bench_of(world, config=IommuConfig(walks=8), latency=(1, 12), stall=0.3, seed=seed)
    accesses = [Access.READ, Access.WRITE] * 4
    results = bench.run([request(DEVICE, ADDRESS + (each << 12), access) for each, access in enumerate(accesses)])
    assert [result.cause for result in results] == [Cause.NONE] * 8
    assert world.tables.read(world.path[-1]) == world.target << 10 | LEAF
