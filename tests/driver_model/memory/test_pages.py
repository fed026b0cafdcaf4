# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator: sizes, alignment, exhaustion, double free."""

import random
from typing import Any

import pytest

from driver_model.memory.page import PAGE_SIZE, Page
from driver_model.memory.pages import MAX_PAGE_ORDER, PageAllocator, PageError, Zone
from tests.driver_model.bench import Bench


def allocator(pages: int) -> PageAllocator:
    bench = Bench(memory=pages * PAGE_SIZE, checked=False)
    return bench.host.pages[0]


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


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (4096, ValueError, "two pages or more, not 4096"),
        (10000, ValueError, "a multiple of 4096, two pages or more, not 10000"),
        ("64M", TypeError, "must be an integer, not '64M'"),
    ],
)
def test_bad_memory_size(size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Zone(size)
