# SPDX-License-Identifier: BSD-2-Clause
"""The zone: buddy blocks, watermarks, page sizes, and what its lock costs when cores meet."""

from typing import Any

import pytest

from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.memory.pages.zone import MAX_PAGE_ORDER, Zone, zone_batchsize
from tests.driver_model.bench import Bench


def blocks_are_whole(zone: Zone) -> None:
    """No two blocks overlap, each is aligned, no two free buddies are apart, and the count is right."""
    seen: set[int] = set()
    blocks = set(zone.free_blocks())
    for number, order in blocks:
        pages = set(range(number, number + (1 << order)))
        assert number % (1 << order) == 0
        assert not pages & seen
        assert order == MAX_PAGE_ORDER or (number ^ 1 << order, order) not in blocks, "free buddies did not join"
        seen |= pages
    assert 0 not in seen
    assert zone.free_pages == len(seen)


@pytest.mark.parametrize(
    ("kib", "page_size", "marks"),
    [
        (256, 4096, (32, 40, 48)),  # 128 KiB at least
        (64 << 10, 4096, (255, 318, 381)),  # sqrt(65532 * 16) KiB = 1023 KiB; a quarter of it above, and again
        (16 << 20, 4096, (4095, 8289, 12483)),  # sqrt(16 Mi * 16) KiB = 16383 KiB; a thousandth of memory above
        (64 << 10, 65536, (15, 18, 21)),
    ],
)
def test_watermarks_follow_the_size_of_memory(kib: int, page_size: int, marks: tuple[int, int, int]) -> None:
    zone = Zone(kib << 10, page_size)
    assert (zone.min, zone.low, zone.high) == marks


def test_watermarks_can_be_set_or_left_out() -> None:
    zone = Zone(1 << 20, min_free_kbytes=400)
    assert (zone.min, zone.low, zone.high) == (100, 125, 150)
    zone = Zone(1 << 20, min_free_kbytes=0)
    assert zone.watermark_ok(0, zone.high)
    taken = 0
    while zone.watermark_ok(0, zone.low) and zone.take(0) is not None:
        taken += 1
    assert taken == 255


def test_a_batch_is_a_quarter_of_a_megabyte() -> None:
    assert [zone_batchsize(size) for size in (4096, 65536)] == [63, 3]
    modern, old = Zone(1 << 24), Zone(1 << 24, pcp_order=0, pcp_batch=31)
    assert (modern.pcp_batch, modern.pcp_high) == (63, 252)
    assert (old.pcp_batch, old.pcp_high) == (31, 186)


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_blocks_split_and_join(page_size: int) -> None:
    zone = Zone(700 * page_size, page_size)
    blocks_are_whole(zone)
    assert zone.free_pages == zone.present == 699
    before = set(zone.free_blocks())
    taken = []
    for order in (0, 3, 1, 0, 8, 2, 5):
        page = zone.take(order)
        assert page is not None
        page.order = order
        assert page.size == page_size << order
        assert page.address % page.size == 0
        assert page.pfn == page.address // PAGE_SIZE, "frames are counted in 4 KiB"
        assert len(page.frames) == page.size // PAGE_SIZE
        taken.append(page)
        blocks_are_whole(zone)
    for page in taken:
        zone.give(page, page.order)
        blocks_are_whole(zone)
    assert set(zone.free_blocks()) == before


def test_free_pages_are_isolated_from_the_end() -> None:
    zone = Zone(64 * PAGE_SIZE)
    pages = zone.isolate_free_pages(5, 1)
    assert [page.pfn for page in pages] == [63, 62, 61, 60, 59]
    blocks_are_whole(zone)
    assert [page.pfn for page in zone.isolate_free_pages(100, 50)] == list(range(58, 49, -1))
    blocks_are_whole(zone)
    assert zone.free_pages == 49
    assert zone.isolate_free_pages(1, 50) == []


def test_a_watermark_counts_what_stays_free_and_wants_a_block() -> None:
    zone = Zone(64 * PAGE_SIZE, min_free_kbytes=0)
    assert zone.watermark_ok(0, 62)
    assert not zone.watermark_ok(0, 63)
    assert zone.watermark_ok(3, 55)
    assert not zone.watermark_ok(3, 56)
    pages = [zone.take(0) for _ in range(63)]
    for page in pages[::2]:
        assert page is not None
        zone.give(page, 0)
    assert zone.watermark_ok(0, 0)
    assert not zone.watermark_ok(1, 0), "free pages are apart"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 4096}, ValueError, "two pages or more, not 4096"),
        ({"size": 10000}, ValueError, "a multiple of 4096, two pages or more, not 10000"),
        ({"size": "64M"}, TypeError, "must be an integer, not '64M'"),
        ({"size": True}, TypeError, "must be an integer, not True"),
        ({"size": 1 << 20, "page_size": 16384}, ValueError, "one of 4096, 65536, not 16384"),
        ({"size": 36864, "page_size": 65536}, ValueError, "a multiple of 65536, two pages or more, not 36864"),
        ({"size": 1 << 20, "pcp_order": 4}, ValueError, r"pcp_order must be in 0\.\.3, not 4"),
        ({"size": 1 << 20, "pcp_batch": 0}, ValueError, "pcp_batch must be 1 or more, not 0"),
        ({"size": 1 << 20, "min_free_kbytes": 1024}, ValueError, r"min_free_kbytes must be in 0\.\.1020, not 1024"),
        ({"size": 1 << 20, "min_free_kbytes": -1}, ValueError, r"must be in 0\.\.1020, not -1"),
    ],
)
def test_bad_parameters(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Zone(**arguments)


def pair_cycles(cores: int, order: int, pcp_order: int) -> float:
    """Cycles of an alloc and free of each core in a hot loop, all cores at once."""
    bench = Bench(cores=cores, checked=False, memory=32 << 20, pcp_order=pcp_order)
    turns = 200
    spent: list[int] = []

    def loop(index: int) -> None:
        core, pages = bench.system.cores[index], bench.host.pages[index]
        start = core.time
        for _ in range(turns):
            page = pages.alloc_pages(order)
            assert page is not None
            pages.put_page(page)
        spent.append(core.time - start)

    for index, core in enumerate(bench.system.cores[1:], 1):
        core.spawn("loop", lambda index=index: loop(index))

    def first() -> None:
        loop(0)
        bench.wait(lambda: len(spent) == cores, "every core's loop")

    bench.run(first)
    return sum(spent) / cores / turns * 3.6 / 1000


def test_cores_meet_at_the_zone_for_blocks_but_not_for_single_pages() -> None:
    """Behind lists of single pages only, as in 2016: a block's cost grows with the cores, a page's does not."""
    singles = [pair_cycles(cores, 0, 0) for cores in (1, 2, 4)]
    blocks = [pair_cycles(cores, 3, 0) for cores in (1, 2, 4)]
    assert singles[2] < 1.1 * singles[0]
    assert blocks[1] > 2 * blocks[0]
    assert blocks[2] > 1.5 * blocks[1]
    assert blocks[1] / 8 > 0.5 * singles[1], "an order-3 block is worth little more than single pages at two cores"


def test_lists_of_blocks_keep_cores_apart() -> None:
    assert pair_cycles(4, 3, 3) < 1.1 * pair_cycles(1, 3, 3)


def test_pages_on_a_cores_lists_are_not_used() -> None:
    bench = Bench()
    pages, zone = bench.host.pages[0], bench.host.zone
    before = zone.used_pages
    taken = [pages.alloc_pages(order) for order in (0, 1, 3)]
    assert zone.used_pages - before == 1 + 2 + 8
    for page in taken:
        assert page is not None
        pages.put_page(page)
    assert zone.used_pages == before
    assert pages.listed_pages > 0
    pages.drain()
    assert pages.listed_pages == 0
    assert zone.used_pages == before
