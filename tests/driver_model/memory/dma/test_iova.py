# SPDX-License-Identifier: BSD-2-Clause
"""I/O virtual addresses: top-down, aligned, cached per core, contiguous where asked for."""

import random
from typing import Any

import pytest

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.memory.dma.iova import IovaDomain, IovaError
from driver_model.memory.dma.iova_cache import MAGAZINE_SIZE, MAX_GLOBAL_MAGAZINES
from driver_model.memory.dma.iova_chunk import CHUNK_PAGES
from tests.driver_model.cpu.machine import run
from tests.driver_model.fake_platform import FakePlatform

LIMIT = (1 << 20) - 1  #: pages below 4 GiB


def cores(count: int = 1) -> tuple[Any, ...]:
    return tuple(System(FakePlatform(log=False), Profile.load("e5-1650v4"), count).cores)


def on(core: Any, function: Any) -> Any:
    """Run a function in a process of a core."""
    return run(core.platform, core, function)


def test_top_down_and_aligned_to_size() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT)

    def take() -> list[int | None]:
        return [domain.alloc(core, pages) for pages in (1, 1, 4, 1, 3, 64, 1)]

    top = LIMIT + 1
    # 3 pages become 4, as what goes into a cache has a power of two; the last page fits above the 64, but the search
    # goes on below them
    assert on(core, take) == [top - 1, top - 2, top - 8, top - 9, top - 16, top - 128, top - 129]


def test_a_large_odd_size_is_aligned_to_the_next_power_of_two() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT)
    assert on(core, lambda: domain.alloc(core, 33)) == LIMIT + 1 - 64
    assert on(core, lambda: domain.alloc(core, 33)) == LIMIT + 1 - 128


def test_a_freed_range_comes_back_to_its_core_first() -> None:
    first, second = cores(2)
    domain = IovaDomain(LIMIT)

    def use() -> None:
        taken = [domain.alloc(first, 2) for _ in range(3)]
        domain.free(first, taken[0], 2)
        domain.free(first, taken[1], 2)
        assert domain.alloc(second, 2) not in taken  # another core's cache is not searched
        assert domain.alloc(first, 2) == taken[1]
        assert domain.alloc(first, 1) not in taken  # nor that of another size
        assert domain.alloc(first, 2) == taken[0]
        assert domain.cache_hits == 2

    on(first, use)


def test_full_magazines_go_through_the_depot_to_another_core() -> None:
    first, second = cores(2)
    domain = IovaDomain(LIMIT)

    def use() -> None:
        taken = [domain.alloc(first, 1) for _ in range(3 * MAGAZINE_SIZE)]
        for pfn in taken:
            assert pfn is not None
            domain.free(first, pfn, 1)
        assert domain.tree_frees == 0
        got = [domain.alloc(second, 1) for _ in range(MAGAZINE_SIZE)]
        assert set(got) <= set(taken)
        assert domain.alloc(second, 1) not in taken  # one magazine was in the depot, two are the first core's

    on(first, use)


def test_what_the_depot_has_no_room_for_goes_back_to_the_tree() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT)

    def use() -> None:
        kept = (MAX_GLOBAL_MAGAZINES + 2) * MAGAZINE_SIZE
        taken = [domain.alloc(core, 1) for _ in range(kept + 1)]
        for number, pfn in enumerate(taken):
            assert pfn is not None
            domain.free(core, pfn, 1)
            assert domain.tree_frees == (MAGAZINE_SIZE if number == kept else 0)
        assert domain.taken == kept + 1 - MAGAZINE_SIZE

    on(core, use)


def test_exhaustion_empties_the_caches_once() -> None:
    (core,) = cores()
    domain = IovaDomain(64)

    def use() -> None:
        singles = [domain.alloc(core, 1) for _ in range(64)]
        assert sorted(pfn for pfn in singles if pfn is not None) == list(range(1, 65))
        assert domain.alloc(core, 1) is None
        assert (domain.flushes, domain.failures) == (1, 1)
        for pfn in range(32, 64):
            domain.free(core, pfn, 1)
        assert domain.alloc(core, 32) == 32  # only out of what the caches held
        assert (domain.flushes, domain.failures) == (2, 1)

    on(core, use)


def test_the_search_wraps_to_gaps_above_where_it_stands() -> None:
    (core,) = cores()
    domain = IovaDomain(256)

    def use() -> None:
        large = [domain.alloc(core, 64) for _ in range(3)]
        assert large == [192, 128, 64]
        domain.free(core, 128, 64)
        assert domain.alloc(core, 64) == 128
        assert domain.alloc(core, 64) is None  # page 0 stays out
        assert domain.alloc(core, 48) is None

    on(core, use)


def test_random_use_never_overlaps_and_all_comes_back() -> None:
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    (core,) = cores()
    domain = IovaDomain(2047)

    def use() -> None:
        live: dict[int, int] = {}
        pages: set[int] = set()
        for _ in range(3000):
            if live and rng.random() < 0.5:
                pfn = rng.choice(list(live))
                size = live.pop(pfn)
                pages -= set(range(pfn, pfn + size))
                domain.free(core, pfn, size)
                continue
            size = rng.choice((1, 1, 1, 2, 3, 8, 31, 33, 100))
            got = domain.alloc(core, size)
            if got is not None:
                mine = set(range(got, got + size))
                assert not pages & mine
                assert 1 <= got <= got + size - 1 <= 2047
                assert got % (1 << (size - 1).bit_length()) == 0
                live[got] = size
                pages |= mine
        assert domain.cache_hits
        assert domain.flushes
        for pfn, size in live.items():
            domain.free(core, pfn, size)
        domain.flush(core)
        assert domain.taken == 0

    on(core, use)


def test_contiguous_neighbours_and_their_end() -> None:
    first, second = cores(2)
    domain = IovaDomain(LIMIT, "contiguous")

    def use() -> None:
        mine = [domain.alloc(first, 1) for _ in range(CHUNK_PAGES)]
        theirs = domain.alloc(second, 1)
        start = mine[0]
        assert start is not None
        assert start % CHUNK_PAGES == 0
        assert mine == list(range(start, start + CHUNK_PAGES))
        assert theirs == start - CHUNK_PAGES
        for pfn in mine:
            assert pfn is not None
            assert domain.tree_frees == 0
            domain.free(second, pfn, 1)
        assert domain.alloc(first, 1) == start  # the old chunk goes back, and comes again, when its owner needs one
        assert domain.tree_frees == 1

    on(first, use)


def test_contiguous_ranges_are_aligned_and_large_ones_come_from_the_tree() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT, "contiguous")

    def use() -> None:
        one, four = domain.alloc(core, 1), domain.alloc(core, 4)
        assert one is not None
        assert four == one + 4
        large = domain.alloc(core, 2 * CHUNK_PAGES)
        assert large is not None
        assert large % (2 * CHUNK_PAGES) == 0
        domain.free(core, large, 2 * CHUNK_PAGES)
        assert domain.alloc(core, 2 * CHUNK_PAGES) == large

    on(core, use)


def test_costs_are_charged_to_the_caller() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT)

    def use() -> None:
        pfn = domain.alloc(core, 1)
        assert pfn is not None
        domain.free(core, pfn, 1)
        domain.alloc(core, 1)

    on(core, use)
    counts = {name: core.op(name).count for name in ("iova.alloc", "iova.free", "iova.tree_insert", "iova.tree_erase")}
    assert counts == {"iova.alloc": 2, "iova.free": 1, "iova.tree_insert": 1, "iova.tree_erase": 0}


def test_giving_back_what_is_not_taken() -> None:
    (core,) = cores()
    domain = IovaDomain(LIMIT)
    with pytest.raises(IovaError, match="at page 0x1234 is given back, but not taken"):
        on(core, lambda: domain.free(core, 0x1234, 64))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5,), TypeError, "limit must be an integer, not 1.5"),
        ((1,), ValueError, "limit must be in 2.."),
        ((LIMIT, "bottom_up"), ValueError, "one of top_down, contiguous, not 'bottom_up'"),
    ],
)
def test_bad_parameters(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IovaDomain(*arguments)
