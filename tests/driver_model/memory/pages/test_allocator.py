# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator of a core: sizes, lists, costs, references, flags, exhaustion, misuse."""

import random

import pytest

from driver_model.memory.pages.allocator import MAX_PAGE_ORDER, PageAllocator, PageError
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_NOWARN, GFP_ZERO
from driver_model.memory.pages.page import PAGE_SIZE, Page
from tests.driver_model.bench import Bench


def allocator(pages: int, *, pcp_order: int = 3, page_size: int = PAGE_SIZE) -> PageAllocator:
    bench = Bench(memory=pages * page_size, checked=False, pcp_order=pcp_order, page_size=page_size)
    return bench.host.pages[0]


def taken(pages: PageAllocator, order: int = 0, gfp: int = GFP_ATOMIC) -> Page:
    page = pages.alloc_pages(order, gfp)
    assert page is not None
    return page


def spent(pages: PageAllocator) -> dict[str, int]:
    """How often each operation happened."""
    return {op.name: op.count for op in pages.core.operations if op.count}


def test_every_frame_but_the_first_is_handed_out_once() -> None:
    pages = allocator(100)
    got = []
    while (page := pages.alloc_pages()) is not None:
        got.append(page)
    assert sorted(page.pfn for page in got) == list(range(1, 100))
    assert pages.statistics.failed == 1
    assert pages.in_use == 99
    for page in got:
        pages.put_page(page)
    pages.drain()
    assert pages.zone.free_pages == pages.zone.present == 99


def test_blocks_are_aligned_to_their_size_and_join_again() -> None:
    pages = allocator(1 << MAX_PAGE_ORDER)
    blocks = [(order, pages.alloc_pages(order)) for order in (0, 1, 2, 3, 3, 2, 9)]
    for order, page in blocks:
        assert page is not None
        assert page.order == order
        assert page.size == PAGE_SIZE << order
        assert page.address % page.size == 0
    assert pages.alloc_pages(MAX_PAGE_ORDER) is None, "frame 0 is kept back, so no block of the greatest order exists"
    for _, page in blocks:
        assert page is not None
        pages.put_page(page)
    pages.drain()
    assert pages.zone.take(MAX_PAGE_ORDER - 1) is not None, "halves did not join"


def test_random_blocks_never_overlap() -> None:
    seed = 7
    print(f"seed {seed}")
    rng = random.Random(seed)
    pages = allocator(700)
    held: list[Page] = []
    used: set[int] = set()
    for _ in range(4000):
        if held and rng.random() < 0.5:
            page = held.pop(rng.randrange(len(held)))
            used -= set(range(page.pfn, page.pfn + (1 << page.order)))
            pages.put_page(page)
        elif (new := pages.alloc_pages(rng.choice((0, 0, 0, 1, 2, 3)))) is not None:
            frames = set(range(new.pfn, new.pfn + (1 << new.order)))
            assert not frames & used
            assert 0 not in frames
            used |= frames
            held.append(new)
    for page in held:
        pages.put_page(page)
    pages.drain()
    assert pages.zone.free_pages == 699


def test_bulk_may_fill_partially() -> None:
    pages = allocator(11)
    got: list[Page] = []
    assert pages.alloc_pages_bulk(64, got) == 10 == len(got)
    assert pages.alloc_pages_bulk(64, got) == 0
    assert (pages.statistics.bulk, pages.statistics.bulk_partial, pages.statistics.failed) == (2, 2, 1)
    assert pages.alloc_pages_bulk(0, got) == 0
    assert pages.core.op("page.alloc_bulk").count == 10
    assert pages.core.op("page.alloc_bulk_call").count == 3


def test_a_bulk_of_one_is_the_single_page_allocators() -> None:
    pages = allocator(64)
    got: list[Page] = []
    assert pages.alloc_pages_bulk(1, got) == len(got) == 1
    assert (pages.statistics.bulk, pages.statistics.bulk_partial) == (1, 0)
    assert [pages.core.op(f"page.{name}").count for name in ("alloc", "alloc_bulk", "alloc_bulk_call")] == [1, 0, 0]


def test_a_core_keeps_a_bounded_list() -> None:
    pages = allocator(1024)
    got: list[Page] = []
    pages.alloc_pages_bulk(900, got)
    for page in got:
        pages.put_page(page)
    assert 1023 - pages.zone.free_pages < pages.zone.pcp_high
    last = got[-1]
    assert pages.alloc_pages() is last, "the page freed last is the one still in the cache"


def test_a_page_is_freed_by_its_last_user_only() -> None:
    pages = allocator(16)
    page = pages.alloc_pages()
    assert page is not None
    pages.get_page(page)
    pages.put_page(page)
    assert page.refcount == 1
    assert pages.in_use == 1
    pages.put_page(page)
    assert pages.in_use == 0
    with pytest.raises(PageError, match=f"Double free of page {page.pfn:#x}"):
        pages.put_page(page)
    with pytest.raises(PageError, match="get_page of .* which is free"):
        pages.get_page(page)


@pytest.mark.parametrize("order", [-1, MAX_PAGE_ORDER + 1])
def test_bad_order(order: int) -> None:
    with pytest.raises(ValueError, match=rf"Order must be in 0\.\.10, not {order}"):
        allocator(16).alloc_pages(order)


def test_a_page_costs_an_alloc_and_a_free_and_a_batch_its_pages_and_the_lock() -> None:
    pages = allocator(1024)
    page = taken(pages)
    assert spent(pages) == {"page.alloc": 1, "page.rmqueue": 63, "spin.lock": 1, "spin.unlock": 1}
    for _ in range(100):
        pages.put_page(page)
        page = taken(pages)
    assert spent(pages) == {"page.alloc": 101, "page.free": 100, "page.rmqueue": 63, "spin.lock": 1, "spin.unlock": 1}
    held = [taken(pages) for _ in range(299)]
    assert spent(pages)["page.rmqueue"] == 5 * 63
    for each in [page, *held]:
        pages.put_page(each)
    assert spent(pages)["page.free_one"] == 2 * 63, "315 pages, and no more than 251 stay"
    assert spent(pages)["spin.lock"] == 5 + 2


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_block_beyond_the_lists_costs_its_order_and_the_lock_each_time(order: int) -> None:
    pages = allocator(1024, pcp_order=0)
    for _ in range(10):
        pages.put_page(taken(pages, order))
    named = min(order, 3)
    each = {f"page.alloc.order{named}": 10, f"page.free.order{named}": 10, "spin.lock": 20, "spin.unlock": 20}
    assert spent(pages) == each
    assert pages.zone.free_pages == 1023


def test_lists_hold_blocks_as_well_and_count_in_pages() -> None:
    pages = allocator(1024)
    blocks = [taken(pages, 3) for _ in range(7)]
    assert spent(pages) == {"page.alloc": 7, "page.rmqueue": 7, "spin.lock": 1, "spin.unlock": 1}, "63 >> 3 at once"
    blocks += [taken(pages, 3) for _ in range(33)]
    assert pages.zone.free_pages == 1023 - 42 * 8
    for page in blocks:
        pages.put_page(page)
    assert spent(pages)["page.free"] == 40
    assert 1023 - pages.zone.free_pages < pages.zone.pcp_high
    single = [taken(pages) for _ in range(64)]
    for page in single:
        pages.put_page(page)
    assert 1023 - pages.zone.free_pages < pages.zone.pcp_high, "one bound for all orders together"
    pages.drain()
    assert pages.zone.free_pages == 1023
    locks = spent(pages)["spin.lock"]
    for _ in range(500):
        pages.put_page(taken(pages, 2))
    assert spent(pages)["spin.lock"] == locks + 1, "a hot loop lives from its list"


def test_references_are_atomics_but_for_the_first_and_the_last() -> None:
    pages = allocator(64)
    page = taken(pages)
    pages.get_page(page)
    pages.get_page(page)
    for _ in range(3):
        pages.put_page(page)
    assert {name: spent(pages).get(name) for name in ("atomic", "page.alloc", "page.free")} == {
        "atomic": 4,
        "page.alloc": 1,
        "page.free": 1,
    }


@pytest.mark.parametrize(("order", "page_size"), [(0, 4096), (2, 4096), (0, 65536)])
def test_cleared_memory_is_zero_and_costs_its_lines(order: int, page_size: int) -> None:
    pages = allocator(64, page_size=page_size)
    platform = pages.core.platform
    page = taken(pages, order)
    platform.write(page.address, b"\xa5" * page.size)
    before, size = platform.read(page.address + page.size, 64), page.size
    pages.put_page(page)
    again = taken(pages, order, GFP_ATOMIC | GFP_ZERO)
    assert again is page
    assert platform.read(page.address, size) == bytes(size)
    assert platform.read(page.address + size, 64) == before
    assert spent(pages)["page.clear_line"] == size // 64
    assert "cpu.store" not in spent(pages)


def test_bulk_can_be_cleared() -> None:
    pages = allocator(64)
    got: list[Page] = []
    assert pages.alloc_pages_bulk(4, got, GFP_ATOMIC | GFP_ZERO) == 4
    assert spent(pages)["page.clear_line"] == 4 * 64


def test_bulk_near_the_watermark_takes_one_page_as_a_single_call_would() -> None:
    bench = Bench(checked=False, memory=4 << 20, min_free_kbytes=None)
    pages = bench.host.pages[0]
    zone = pages.zone
    held: list[Page] = []
    while zone.free_pages > zone.low + 64:
        held.append(taken(pages))
    pages.core.op("page.alloc").count = 0
    got: list[Page] = []
    assert pages.alloc_pages_bulk(64, got) == 1
    assert (pages.statistics.bulk_partial, pages.statistics.failed) == (1, 0)
    assert (spent(pages).get("page.alloc"), spent(pages).get("page.alloc_bulk")) == (1, None)
    assert pages.alloc_pages_bulk(zone.free_pages - zone.low - 1, got) > 1


def test_the_allocator_without_numa_costs_half_and_has_its_own_list() -> None:
    pages = allocator(1024)
    page = pages.alloc_page_local()
    for _ in range(9):
        assert page is not None
        pages.free_page_local(page)
        page = pages.alloc_page_local()
    assert page is not None
    assert spent(pages)["page.alloc_local"] == 10
    assert spent(pages)["page.free_local"] == 9
    assert not {"page.alloc", "page.free"} & spent(pages).keys()
    assert 1.9 < pages.core.op("page.alloc").ps / pages.core.op("page.alloc_local").ps < 2.1
    pages.put_page(page)
    assert spent(pages)["page.free"] == 1
    held = [pages.alloc_page_local() for _ in range(600)]
    for each in held:
        assert each is not None
        pages.free_page_local(each)
    assert 1023 - pages.zone.free_pages < 2 * pages.zone.pcp_high
    while (page := pages.alloc_page_local()) is not None:
        pass
    assert pages.statistics.failed == 1
    pages.drain()
    assert pages.zone.free_pages == 1023 - pages.in_use


def test_what_is_not_a_single_page_of_one_user_is_no_matter_for_the_allocator_without_numa() -> None:
    pages = allocator(64)
    block, shared = taken(pages, 1), taken(pages)
    pages.get_page(shared)
    for page in (block, shared):
        with pytest.raises(PageError, match=f"free_page_local of page {page.pfn:#x}.* not a single page of one user"):
            pages.free_page_local(page)
    pages.put_page(shared)
    pages.free_page_local(shared)
    with pytest.raises(PageError, match="Double free of page"):
        pages.free_page_local(shared)


class RecyclingPool:
    """A pool that wants its pages back."""

    put_page_recycles = True

    def __init__(self) -> None:
        self.back: list[Page] = []

    def recycle_put_page(self, page: Page) -> None:
        self.back.append(page)


def test_the_last_put_of_a_pools_page_is_the_pools() -> None:
    pages = allocator(64)
    pool = RecyclingPool()
    page = taken(pages)
    page.pp = pool
    pages.get_page(page)
    pages.put_page(page)
    assert not pool.back
    pages.put_page(page)
    assert pool.back == [page]
    assert page.refcount == 1
    assert "page.free" not in spent(pages)
    page.pp = None
    pages.put_page(page)
    assert pages.in_use == 0


def test_a_failure_is_logged_unless_the_caller_says_not_to() -> None:
    pages = allocator(16)
    while pages.alloc_pages(0, GFP_ATOMIC | GFP_NOWARN) is not None:
        pass
    assert (pages.statistics.failed, pages.statistics.warned) == (1, 0)
    assert pages.alloc_pages() is None
    assert (pages.statistics.failed, pages.statistics.warned) == (2, 1)


def test_who_may_not_sleep_may_not_ask_for_what_may_wait() -> None:
    bench = Bench(checked=False)
    pages = bench.host.pages[0]

    def body() -> None:
        pages.put_page(taken(pages, 0, GFP_KERNEL))
        bench.core.preempt_disable()
        with pytest.raises(PageError, match="Sleeping function called from invalid context: .* in test"):
            pages.alloc_pages(0, GFP_KERNEL)
        with pytest.raises(PageError, match="Sleeping function called from invalid context: .* in test"):
            pages.alloc_pages_bulk(4, [], GFP_KERNEL)
        bench.core.preempt_enable()

    bench.run(body)


def test_interrupts_that_allocate_meet_whole_lists() -> None:
    """An interrupt in the middle of every refill and drain of a process takes and gives pages itself."""
    bench = Bench(checked=False, memory=4 << 20)
    pages, core = bench.host.pages[0], bench.core
    kept: list[Page] = []

    def handler() -> None:
        if len(kept) < 40:
            kept.append(taken(pages))
        else:
            pages.put_page(kept.pop())

    def body() -> None:
        for turn in range(30):
            for at in range(0, 30_000_000, 200_000):
                core.platform.at(core.time + at, lambda: core.interrupt(handler))
            held = [taken(pages, turn % 2) for _ in range(300)]
            frames = [frame for page in [*held, *kept] for frame in page.frames]
            assert len(frames) == len(set(frames))
            for page in held:
                pages.put_page(page)
        bench.core.sleep_until(core.time + 10**9)
        while kept:
            pages.put_page(kept.pop())

    bench.run(body)
    pages.drain()
    assert core.op("irq.entry").count > 1000
    assert pages.zone.free_pages == 1023


def test_order_of_a_size() -> None:
    assert [allocator(16).get_order(size) for size in (1, 4096, 4097, 32768, 32769)] == [0, 0, 1, 3, 4]
    assert [allocator(16, page_size=65536).get_order(size) for size in (1, 65536, 65537)] == [0, 0, 1]
