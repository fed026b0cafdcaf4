# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator's and reclaim's counters after scripts, each step derived by hand from what the kernel's code
counts: batches of 63 pages of 4 KiB, lists of orders up to 3 that hold fewer than 252 pages."""

from dataclasses import asdict

from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_DIRECT_RECLAIM, GFP_KERNEL, GFP_MEMALLOC, GFP_NOWARN
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.page_cache import PageCache
from tests.driver_model.bench import Bench
from tests.driver_model.ledger import Ledger
from tests.driver_model.pressure import Stock, machine, taken

PRESENT = 2047  #: pages of 8 MiB but the first
BLOCK, LARGE = 3, 4  #: the highest order that has a list, and one that has none


def script(bench: Bench) -> None:
    pages = bench.host.pages[0]
    zone, count = pages.zone, Ledger(lambda: asdict(pages.statistics))

    def left() -> tuple[int, int]:
        return zone.free_pages, pages.listed

    # The list is empty: a batch comes from the zone, and the first of it is taken.
    first = taken(pages)
    count.step(allocated=1)
    assert left() == (PRESENT - 63, 62)
    # 64 in bulk: the 62 of the list, and two of another batch.
    bulk: list[Page] = []
    pages.alloc_pages_bulk(64, bulk)
    count.step(allocated=64, bulk=1)
    assert left() == (PRESENT - 126, 61)
    # One in bulk is one that is asked for alone.
    pages.alloc_pages_bulk(1, bulk)
    count.step(allocated=1, bulk=1)
    # A block of 8 is one allocation. A batch of blocks is 63 / 8 = 7 of them, of which 6 stay.
    block = taken(pages, order=BLOCK)
    count.step(allocated=1)
    assert left() == (PRESENT - 126 - 56, 60 + 48)
    # A block of 16 has no list.
    large = taken(pages, order=LARGE)
    count.step(allocated=1)
    assert left() == (PRESENT - 126 - 56 - 16, 60 + 48)
    # References beside the first count nothing.
    pages.get_page(first)
    pages.put_page(first)
    count.step()
    # 66 single pages go to the list, with which the lists hold 174.
    for page in [first, *bulk]:
        pages.put_page(page)
    count.step(freed=66)
    assert left() == (PRESENT - 198, 174)
    # 200 in bulk: the 126 of the list, a batch, and 11 of another; 52 stay beside the blocks.
    bulk.clear()
    pages.alloc_pages_bulk(200, bulk)
    count.step(allocated=200, bulk=1)
    assert left() == (PRESENT - 198 - 126, 52 + 48)
    # With the 152nd of them the lists hold 252, and a batch goes back. Another 48 do not make them full again.
    for page in bulk:
        pages.put_page(page)
    count.step(freed=200)
    assert left() == (PRESENT - 324 + 63, 252 - 63 + 48)
    # The block goes to its list, the large one to the zone; nothing is in use then.
    pages.put_page(block)
    pages.put_page(large)
    count.step(freed=2)
    assert left() == (PRESENT - 261 + 16, 237 + 8)
    assert pages.in_use == 0
    exhaust(pages, count)


def exhaust(pages: PageAllocator, count: Ledger) -> None:
    """Seven blocks lie on their list, out of reach for single pages."""
    got: list[Page] = []
    assert pages.alloc_pages_bulk(3000, got) == PRESENT - 56
    count.step(allocated=PRESENT - 56, bulk=1, bulk_partial=1)
    # Who may not wait fails, and is logged unless it says not to be.
    assert pages.alloc_pages() is None
    count.step(failed=1, warned=1)
    assert pages.alloc_pages(0, GFP_ATOMIC | GFP_NOWARN) is None
    count.step(failed=1)
    # In bulk a page is asked for alone where there is none at all.
    assert pages.alloc_pages_bulk(64, got) == 0
    count.step(bulk=1, bulk_partial=1, failed=1, warned=1)
    # None is no failure where none is asked for.
    assert pages.alloc_pages_bulk(0, got) == 0
    count.step(bulk=1)
    # The allocator without NUMA placement has a list of its own, and logs nothing.
    assert pages.alloc_page_local() is None
    count.step(failed=1)
    # Who may wait reclaims, in vain, and has the lists drained, to which the blocks belong.
    got.append(taken(pages, GFP_KERNEL))
    count.step(allocated=1)
    assert pages.zone.vmstat.allocstall == 1
    for page in got:
        pages.put_page(page)
    count.step(freed=PRESENT - 55)
    pages.drain()
    assert pages.zone.free_pages == PRESENT


def test_every_counter_of_a_script() -> None:
    bench = Bench()
    bench.run(lambda: script(bench))


def pressure(bench: Bench) -> None:
    """Watermarks of 90, 112 and 134 pages; nobody wakes kswapd."""
    pages = bench.host.pages[0]
    zone, vmstat = pages.zone, pages.zone.vmstat
    count = Ledger(lambda: asdict(vmstat))
    stock = Stock(pages, 200)
    cache = PageCache(zone)
    cached = cache.read(pages, 500)
    while zone.free_pages > zone.min:
        taken(pages, GFP_MEMALLOC)
        pages.drain()
    count.step()
    # At the min watermark a page is reclaimed for: 500 pages of the cache at priority 8 are 1, then 499 at 7 are 3,
    # 496 at 6 are 7, 489 at 5 are 15; at 4 there would be 29, and 6 are left to do. 32 are what is wanted.
    taken(pages, GFP_DIRECT_RECLAIM)
    count.step(allocstall=1, pgscan_direct=32, pgsteal_direct=32)
    assert len(cache) == 500 - 32
    # They were drained into the zone, of which a batch went to the list: it is below min again, and the list does not
    # help. The oldest three pages have other users now: 468 at 8 are 1, in vain; 468 at 7 are 3, of which 2 are in
    # vain; 467 at 6 are 7, 460 at 5 are 14, 446 at 4 are 27, of which 32 - 1 - 7 - 14 = 10 are wanted.
    for page in cached[32:35]:
        pages.get_page(page)
    taken(pages, GFP_DIRECT_RECLAIM)
    count.step(allocstall=1, pgscan_direct=1 + 3 + 7 + 14 + 10, pgsteal_direct=32)
    # Shrinkers are asked for a share, which waits until it is a batch of 128. Of 200 pages that is 2 at priority 7,
    # then 6, 12, 24, 50 and 100, which makes 194; at 1 it is 200 and half of those, two batches, and all 200 come. Of
    # the cache those three are left, of which 1 is looked at there.
    cache.drop(pages)
    assert len(cache) == 3
    zone.register_shrinker(stock)
    pages.drain()
    while zone.free_pages > zone.min:
        taken(pages, GFP_MEMALLOC)
        pages.drain()
    taken(pages, GFP_DIRECT_RECLAIM)
    count.step(allocstall=1, slabs_scanned=256, slabs_reclaimed=200, pgscan_direct=1)


def test_reclaim_counts_what_it_looked_at_and_what_it_got() -> None:
    bench = machine()
    bench.run(lambda: pressure(bench))
