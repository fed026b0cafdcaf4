# SPDX-License-Identifier: BSD-2-Clause
"""What walks read, how long they take, what they leave in caches. What they find is compared in test_walker_golden."""

import random
from itertools import pairwise
from typing import Any

import pytest

from hw.abi.iommu import Cause, DirectoryMode
from hw.config import IommuConfig
from hw.iommu.interfaces import Access, Context, PageSize, Space, Translation
from tests.golden import model
from tests.golden.paging import PTE_D, PTE_G, SV39
from tests.golden.tables import LEAF, PAGE, Tables
from tests.golden.tables import Context as Words
from tests.hw.iommu.walk_bench import WalkBench, request
from tests.hw.iommu.walk_tables import ADDRESS, DEVICE, Nested, Single

#: Cycles from an answer to the next address.
STEP = 4
LOOK = 4  #: more, where the walk caches are asked in between


def bench_of(world: Any, **arguments: Any) -> WalkBench:
    mode = arguments.pop("mode", DirectoryMode.LVL1)
    return WalkBench(world.tables.memory.data, mode=mode, root=world.directory, **arguments)


def reads(bench: WalkBench) -> list[tuple[int, int]]:
    return [(read.address, 8 * read.beats) for read in bench.memory.reads]


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_directory_costs_one_read_a_level(levels: int) -> None:
    device = {1: 0x55, 2: 0xAB55, 3: 0xCDAB55}[levels]
    world = Single(mode=model.DirectoryMode(levels + 1), device=device)
    bench = bench_of(world, mode=DirectoryMode(levels + 1))
    (result,) = bench.run([request(device, ADDRESS)])
    assert result.cause is Cause.NONE
    expected = [(address, 8) for address in world.context_path[:-1]] + [(world.context_path[-1], 32)]
    assert reads(bench)[:levels] == expected
    assert bench.events["directory"] == 1


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("level", "count"), [(0, 3), (1, 2), (2, 1)])
def test_one_stage_costs_one_read_a_level(level: int, count: int, wide: bool) -> None:
    world = Single(level=level, wide=wide)
    bench = bench_of(world)
    (result,) = bench.run([request(DEVICE, ADDRESS)])
    inside = ADDRESS >> 12 & (1 << 9 * level) - 1
    assert (result.cause, result.ppn) == (Cause.NONE, world.target | inside)
    assert reads(bench)[1:] == [(address, 8) for address in world.path]
    assert len(world.path) == count
    assert (bench.events["first"], bench.events["second"]) == (not wide, wide)
    assert bench.events["read"] == count + 1


@pytest.mark.parametrize(("first_level", "second_level", "count"), [(0, 0, 15), (0, 1, 11), (1, 1, 8)])
def test_nested_stages_cost_a_second_walk_for_each_first_stage_entry(
    first_level: int, second_level: int, count: int
) -> None:
    world = Nested(first_level=first_level, second_level=second_level)
    bench = bench_of(world)
    (result,) = bench.run([request(DEVICE, ADDRESS)])
    assert (result.cause, result.ppn) == (Cause.NONE, world.target | (ADDRESS >> 12 & 0x1FF if first_level else 0))
    assert len(bench.memory.reads) == count + 1
    assert bench.events == {
        "directory": 1,
        "first": 1,
        "second": len(world.path) + 1,
        "read": count + 1,
        "cache_hit": 0,
    }


def test_with_warm_walk_caches_a_miss_reads_one_entry_for_each_stage() -> None:
    for world, count in ((Single(), 1), (Single(wide=True), 1), (Nested(), 2)):
        bench = bench_of(world, caching=True)
        wanted = [request(DEVICE, ADDRESS), request(DEVICE, ADDRESS + 8)]
        cold, warm = bench.run(wanted, at_once=1)
        assert (cold.cause, cold.ppn) == (warm.cause, warm.ppn) == (Cause.NONE, world.target)
        assert len(bench.memory.reads[-count:]) == count
        taken = [read for read in bench.memory.reads if read.cycle > cold.cycle]
        assert len(taken) == count
        assert bench.events["cache_hit"] >= count
        assert bench.events["directory"] == 1


def test_steps_take_as_long_as_the_contract_says() -> None:
    """From the cycle in which data are taken to the one in which the next address is; memory is always ready."""
    world = Nested(second_level=1)
    bench = bench_of(world)
    bench.run([request(DEVICE, ADDRESS)])
    taken = bench.memory.reads
    # A context's four words come STEP cycles apart.
    assert [after - before for before, after in pairwise(taken[0].answered)] == [STEP] * 3
    gaps = [after.cycle - before.answered[-1] for before, after in pairwise(taken)]
    # Two second-stage reads and one of the first; then, having a pointer or a leaf, the caches are asked.
    assert gaps[1:] == [STEP, STEP, STEP + LOOK] * 3 + [STEP]
    # After the context both stages' caches are.
    assert gaps[0] == STEP + 2 * LOOK


def test_an_answer_a_cycle() -> None:
    """Many walks in fast memory: each cycle takes up another answer, so walks overlap and end one after the other."""
    world = Single()
    walks = 16
    bench = bench_of(world, config=IommuConfig(walks=walks), caching=True, latency=(0, 0))
    results = bench.run([request(DEVICE, ADDRESS)] + [request(DEVICE, ADDRESS + 8)] * 200)
    last = [result.cycle for result in results[-100:]]
    # A warm walk is taken up three times: at its start, after the lookup, with its entry.
    assert last[-1] - last[0] <= 99 * 3 + 3


@pytest.mark.parametrize("walks", [1, 3, 8])
def test_as_many_walks_at_once_as_configured(walks: int) -> None:
    world = Single()
    bench = bench_of(world, config=IommuConfig(walks=walks), caching=True, latency=(200, 200))
    bench.run([request(DEVICE, ADDRESS + 8 * each) for each in range(1 + 2 * walks)])
    taken = bench.memory.reads
    together = max(sum(each.cycle <= read.cycle < each.cycle + 200 for each in taken) for read in taken)
    assert together == walks


def leaf(found: tuple[Any, ...]) -> tuple[Any, ...]:
    space, everywhere, page, size, translation = found
    space, translation = Space.from_bits(space), Translation.from_bits(translation)
    where = (space.first, space.pscid, space.second, space.gscid)
    return where, everywhere, page, size, translation.ppn, translation.readable, translation.writable


def test_leaves_for_the_iotlb() -> None:
    """The smaller of both sizes, what both allow, and D where nothing is left to set."""
    clean = LEAF & ~PTE_D
    page = ADDRESS >> 12
    for world, access, expected in (
        (Single(), Access.READ, ((1, 9, 0, 0), 0, page, PageSize.SIZE_4K, 0x2600, 1, 1)),
        (Single(flags=LEAF | PTE_G), Access.READ, ((1, 9, 0, 0), 1, page, PageSize.SIZE_4K, 0x2600, 1, 1)),
        (Single(level=1), Access.READ, ((1, 9, 0, 0), 0, page, PageSize.SIZE_2M, 0x2600, 1, 1)),
        (Single(level=2, wide=True), Access.READ, ((0, 0, 1, 3), 0, page, PageSize.SIZE_1G, 0, 1, 1)),
        (Single(flags=clean), Access.READ, ((1, 9, 0, 0), 0, page, PageSize.SIZE_4K, 0x2600, 1, 0)),
        (Single(flags=clean), Access.WRITE, ((1, 9, 0, 0), 0, page, PageSize.SIZE_4K, 0x2600, 1, 1)),
        (Nested(first_level=1, second_level=1), Access.READ, ((1, 9, 1, 3), 0, page, PageSize.SIZE_2M, 0, 1, 1)),
        (Nested(first_level=1), Access.READ, ((1, 9, 1, 3), 0, page, PageSize.SIZE_4K, page & 0x1FF, 1, 1)),
        (Nested(flags=clean), Access.READ, ((1, 9, 1, 3), 0, page, PageSize.SIZE_4K, 0x7F, 1, 0)),
    ):
        bench = bench_of(world)
        (result,) = bench.run([request(DEVICE, ADDRESS, access)])
        found = [leaf(fill) for kind, fill in bench.fills if kind == "leaf"]
        assert result.cause is Cause.NONE
        assert found == [expected], f"{world.path} {access}"


def test_64k_pages_and_512_gib_leaves() -> None:
    world = Single()
    world.tables.map_64k(SV39, world.root, ADDRESS, 0x3000)
    (result,) = (bench := bench_of(world)).run([request(DEVICE, ADDRESS)])
    assert (result.ppn, result.size) == (0x3005, PageSize.SIZE_64K.value)
    assert leaf(bench.fills[-1][1])[3:5] == (PageSize.SIZE_64K, 0x3000)

    tables = Tables.empty()
    directory, root = tables.take(), tables.take()
    address = 3 << 39 | 7 << 30 | 0x1234 << 12
    tables.map(9, root, address, 1 << 27, level=3)
    tables.put_context(model.DirectoryMode.LVL1, directory, DEVICE, Words.of(first=(9, root)))
    bench = WalkBench(tables.memory.data, mode=DirectoryMode.LVL1, root=directory)
    (result,) = bench.run([request(DEVICE, address)])
    assert (result.ppn, result.size) == (1 << 27 | 7 << 18 | 0x1234, PageSize.SIZE_1G.value)
    assert leaf(bench.fills[-1][1])[3:5] == (PageSize.SIZE_1G, 1 << 27 | 7 << 18)


def test_pointers_under_a_second_stage_are_kept_as_physical_pages() -> None:
    """The first stage's, but not its root; and the second stage's, for guest pages, without the first's tag."""
    world = Nested()
    bench = bench_of(world)
    bench.run([request(DEVICE, ADDRESS)])
    found = []
    for kind, fill in bench.fills:
        if kind == "pointer":
            space = Space.from_bits(fill[0])
            found.append((space.first, space.pscid, space.second, space.gscid, *fill[1:]))
    first = [each for each in found if each[0]]
    page = ADDRESS >> 12
    assert first == [(1, 9, 1, 3, page, 1, world.path[1] >> 12), (1, 9, 1, 3, page, 0, world.path[2] >> 12)]
    second = [each for each in found if not each[0]]
    guests = [world.first_root, world.path[1] >> 12, world.path[2] >> 12, world.target]
    assert [(each[4], each[5]) for each in second] == [(guest, level) for guest in guests for level in (1, 0)]
    assert {each[:4] for each in second} == {(0, 0, 1, 3)}


def test_the_context_is_kept() -> None:
    world = Nested(marks=model.DTF | model.SADE)
    bench = bench_of(world)
    bench.run([request(DEVICE, ADDRESS)])
    ((device, raw),) = [fill for kind, fill in bench.fills if kind == "context"]
    context = Context.from_bits(raw)
    assert device == DEVICE
    assert (context.quiet, context.sade, context.gade, context.enable_ats) == (1, 1, 0, 0)
    assert (context.first_ppn, context.second_ppn) == (world.first_root, world.second_root)
    space = context.space
    assert (space.first, space.pscid, space.second, space.gscid) == (1, 9, 1, 3)


def test_a_walk_under_way_while_an_invalidation_is_offered_fills_nothing() -> None:
    """Offered for one cycle, at every point of a walk: nothing is filled from that cycle on, and the result is there.
    The next walk fills again."""
    whole = bench_of(Nested(second_level=1), latency=(1, 1))
    (result,) = whole.run([request(DEVICE, ADDRESS)])
    for cycle in range(0, result.cycle, 7):
        world = Nested(second_level=1)
        bench = bench_of(world, latency=(1, 1))
        counts: list[int] = []

        def offer(ctx: Any, now: int, bench: WalkBench = bench, cycle: int = cycle, counts: Any = counts) -> None:
            ctx.set(bench.dut.invalidating, now == cycle)
            if now == cycle + 1:
                counts.append(len(bench.fills))

        bench.each_cycle = offer
        first, second = bench.run([request(DEVICE, ADDRESS)] * 2, at_once=1)
        assert (first.cause, first.ppn) == (second.cause, second.ppn) == (Cause.NONE, world.target)
        ours = len(bench.fills) - len(whole.fills)
        assert ours <= counts[0] + 1, f"offered in cycle {cycle}"
        assert bench.fills[ours:] == whole.fills, f"offered in cycle {cycle}"


def test_after_a_reset_it_is_as_new() -> None:
    """Reset at random cycles of a walk: those that come after are as the first."""
    seed = 3
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(6):
        at = rng.randrange(1, 120)
        world = Nested(second_level=1)
        bench = bench_of(world, latency=(2, 9), seed=at)
        bench.reset_at = at
        (result,) = bench.run([request(DEVICE, ADDRESS)])
        assert (result.cause, result.ppn) == (Cause.NONE, world.target), f"reset in cycle {at}"


def test_tables_and_pages_beyond_the_physical_width() -> None:
    config = IommuConfig(physical_bits=40)
    beyond = 1 << 28
    for place, cause in ((0, Cause.READ_ACCESS), (-1, Cause.READ_ACCESS)):
        world = Single()
        entry = world.tables.read(world.path[place])
        world.tables.write(world.path[place], entry | beyond << 10)
        bench = bench_of(world, config=config)
        (result,) = bench.run([request(DEVICE, ADDRESS)])
        assert result.cause is cause
        assert all(read.address < 1 << 40 for read in bench.memory.reads)
    world = Single()
    bench = WalkBench(world.tables.memory.data, mode=DirectoryMode.LVL1, root=beyond, config=config)
    assert bench.run([request(DEVICE, ADDRESS)])[0].cause is Cause.DIRECTORY_ACCESS
    assert not bench.memory.reads
    bench = WalkBench(world.tables.memory.data, mode=DirectoryMode.BARE, root=0, config=config)
    found = bench.run([request(DEVICE, (1 << 40) - PAGE), request(DEVICE, 1 << 40), request(DEVICE, 1 << 63)])
    assert [each.cause for each in found] == [Cause.NONE, Cause.READ_ACCESS, Cause.READ_ACCESS]
    assert not bench.fills


def test_errors_of_memory() -> None:
    """Each read of a nested walk fails in turn, for each access: 257 in the directory, else by the access asked for."""
    causes = {
        Access.READ: Cause.READ_ACCESS,
        Access.WRITE: Cause.WRITE_ACCESS,
        Access.EXECUTE: Cause.INSTRUCTION_ACCESS,
    }
    good = bench_of(Nested(second_level=1))
    good.run([request(DEVICE, ADDRESS)])
    addresses = [read.address for read in good.memory.reads]
    for index, address in enumerate(dict.fromkeys(addresses)):
        access = list(causes)[index % 3]
        # The last word of the context, so that all of its words count.
        failing = address + 24 if index == 0 else address
        bench = bench_of(Nested(second_level=1))
        bench.memory.failing = {failing}
        (result,) = bench.run([request(DEVICE, ADDRESS, access)])
        assert result.cause is (causes[access] if index else Cause.DIRECTORY_ACCESS), f"read {index}"
        assert result.iotval2 == 0
        assert not any(kind == "leaf" for kind, _ in bench.fills)
