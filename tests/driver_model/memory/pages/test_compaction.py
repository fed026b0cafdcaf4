# SPDX-License-Identifier: BSD-2-Clause
"""Compaction: blocks out of pieces, without losing a byte of what is moved."""

import random
from collections.abc import Callable

import pytest

from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.compaction import CompactResult
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_MEMALLOC, GFP_NORETRY
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.page_cache import PageCache
from tests.driver_model.bench import Bench


def machine(page_size: int = 4096) -> Bench:
    return Bench(memory=1024 * page_size, min_free_kbytes=None, page_size=page_size)


def run(body: Callable[[Bench], None], bench: Bench | None = None) -> Bench:
    made = bench or machine()
    made.run(lambda: body(made))
    return made


def fragment(bench: Bench, kept: int = 5) -> tuple[PageCache, list[Page], dict[bytes, None]]:
    """Memory in pieces: every fourth page is free, of the others the driver has one in ``kept`` and the page cache the
    rest. Returns the cache, the driver's pages, and what those in the cache hold."""
    pages, zone = bench.host.pages[0], bench.host.zone
    cache = PageCache(zone)
    marks = zone.min, zone.low, zone.high
    zone.min = zone.low = zone.high = -1  # no watermarks for a while
    every = []
    while (page := pages.alloc_pages(0, GFP_ATOMIC)) is not None:
        every.append(page)
    every.sort(key=lambda page: page.pfn)
    free = every[::4]
    rest = [page for number, page in enumerate(every) if number % 4]
    held = random.Random(7).sample(rest, len(rest) // kept)
    cached = [page for page in rest if page not in set(held)]
    for page in cached:
        pages.put_page(page)
    assert set(cache.read(pages, len(cached))) == set(cached)
    contents: dict[bytes, None] = {}
    for number, page in enumerate(cached):
        text = number.to_bytes(4, "little") * 16
        bench.core.store(page.address, text)
        bench.core.store(page.address + page.size - 64, text[::-1])
        contents[text] = None
    for page in free:
        pages.put_page(page)
    pages.drain()
    zone.min, zone.low, zone.high = marks
    return cache, held, contents


def found(bench: Bench, pages: list[Page]) -> dict[bytes, None]:
    texts = {}
    for page in pages:
        text = bench.platform.read(page.address, 64)
        assert bench.platform.read(page.address + page.size - 64, 64) == text[::-1]
        texts[text] = None
    return texts


def members(cache: PageCache, pages: PageAllocator) -> list[Page]:
    zone = pages.zone
    every = [zone.page_if_used(number) for number in range(zone.spanned)]
    return [page for page in every if page is not None and page in cache]


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_a_block_is_made_of_pieces_and_no_byte_is_lost(page_size: int) -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        cache, held, contents = fragment(bench, kept=50)
        assert not zone.free_block(3), "there is nothing to do"
        places = [page.address for page in held]
        copied = bench.core.op("cpu.store").count
        block = pages.alloc_pages(3, GFP_KERNEL | GFP_NORETRY)
        assert block is not None
        assert (vmstat.compact_stall, vmstat.compact_success, vmstat.compact_fail) == (1, 1, 0)
        assert vmstat.allocstall == 0, "there was no need to reclaim"
        assert vmstat.pgmigrate_success == bench.core.op("page.compact").count > 0
        assert bench.core.op("cpu.store").count - copied == vmstat.pgmigrate_success * page_size // 64
        now = members(cache, pages)
        assert found(bench, now) == contents
        assert [page.address for page in held] == places, "a driver's pages stay where they are"
        frames = [frame for page in [*held, *now, block] for frame in page.frames]
        assert len(frames) == len(set(frames))
        for page in [*held, block]:
            pages.put_page(page)
        cache.drop(pages)
        pages.drain()
        assert (zone.free_pages, pages.in_use) == (zone.present, 0)

    run(body, machine(page_size))


def test_what_does_not_move_makes_it_fail_and_failure_defers_it() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        held = []
        while (page := pages.alloc_pages(0, GFP_ATOMIC | GFP_MEMALLOC)) is not None:
            held.append(page)
        held.sort(key=lambda page: page.pfn)
        for page in held[::3]:
            pages.put_page(page)
        pages.drain()
        order = 3
        results = []
        for _ in range(8):
            results.append(zone.compaction.try_to_compact_pages(pages, order))
        complete, deferred = CompactResult.COMPLETE, CompactResult.DEFERRED
        assert results == [complete, deferred, complete, deferred, deferred, deferred, complete, deferred]
        assert zone.compaction.try_to_compact_pages(pages, 1) is deferred, "a smaller one, too: no order ever came out"
        assert vmstat.compact_deferred == 6
        zone.compaction.defer_reset(order)
        assert pages.alloc_pages(order, GFP_KERNEL | GFP_NORETRY) is None
        stalls = vmstat.compact_stall, vmstat.compact_success, vmstat.compact_fail
        assert stalls == (2, 0, 2), "before and after reclaim; the kernel counts the second, which is deferred, too"
        assert vmstat.compact_deferred == 7

    run(body)


def test_too_little_free_memory_is_no_matter_for_compaction() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone = pages.zone
        while zone.free_pages > zone.min + 2 * 8:
            assert pages.alloc_pages(0, GFP_ATOMIC) is not None
            pages.drain()
        assert zone.compaction.try_to_compact_pages(pages, 3) is CompactResult.SKIPPED
        assert zone.compaction.try_to_compact_pages(pages, 2) is CompactResult.SUCCESS

    run(body)


def test_reclaim_and_compaction_together_find_a_block_in_full_memory() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        cache, _, _ = fragment(bench, kept=20)
        cache.read(pages, zone.free_pages)
        pages.drain()
        blocks = [pages.alloc_pages(3, GFP_KERNEL) for _ in range(8)]
        assert all(block is not None for block in blocks)
        assert vmstat.allocstall > 0
        assert vmstat.compact_success > 0

    run(body)


def test_an_atomic_allocation_neither_reclaims_nor_compacts() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        fragment(bench, kept=50)
        assert pages.alloc_pages(3, GFP_ATOMIC) is None
        vmstat = pages.zone.vmstat
        assert (vmstat.allocstall, vmstat.compact_stall, vmstat.pgmigrate_success) == (0, 0, 0)
        assert pages.statistics.failed >= 1

    run(body)


def test_pages_in_use_elsewhere_stay() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        cache, _, contents = fragment(bench, kept=50)
        pinned = [page for page in members(cache, pages) if page.pfn % 7 == 0]
        for page in pinned:
            pages.get_page(page)
        places = {page: page.address for page in pinned}
        pages.zone.compaction.try_to_compact_pages(pages, 5)
        for page in pinned:
            assert page in cache
            assert page.address == places[page]
            pages.put_page(page)
        assert found(bench, members(cache, pages)) == contents

    run(body)


def test_processes_that_compact_together_lose_nothing() -> None:
    bench = Bench(memory=1024 * 4096, min_free_kbytes=None, cores=2)
    got: list[Page | None] = []
    state: list[tuple[PageCache, list[Page], dict[bytes, None]]] = []

    def other() -> None:
        got.append(bench.host.pages[1].alloc_pages(3, GFP_KERNEL | GFP_NORETRY))

    def body(bench: Bench) -> None:
        state.append(fragment(bench, kept=50))
        bench.system.cores[1].spawn("other", other)
        got.append(bench.host.pages[0].alloc_pages(3, GFP_KERNEL | GFP_NORETRY))
        bench.wait(lambda: len(got) == 2, "both")

    run(body, bench)
    cache, held, contents = state[0]
    pages = bench.host.pages[0]
    blocks = [page for page in got if page is not None]
    assert blocks
    now = members(cache, pages)
    assert found(bench, now) == contents
    frames = [frame for page in [*held, *now, *blocks] for frame in page.frames]
    assert len(frames) == len(set(frames))
