# SPDX-License-Identifier: BSD-2-Clause
"""The circuit breaker: a bound on pages in flight, and the distance to where it closes again."""

import pytest

from driver_model.memory.page_pool.frag import page_pool_alloc_frag
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_put_full_page, page_pool_recycle_direct
from driver_model.memory.page_pool.state import page_pool_inflight
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, take


@pytest.mark.parametrize(("resume", "back"), [(None, 25), (0, 100), (99, 1)])
def test_it_refuses_at_the_limit_until_enough_came_back(resume: int | None, back: int) -> None:
    bench = Bench()
    pool = make(bench, inflight_limit=100, inflight_resume=resume)
    pages = take(pool, 100)
    assert page_pool_inflight(pool) == 100, "the second batch was cut to what is left"
    assert pool.statistics.alloc_slow == 2
    assert page_pool_alloc_pages(pool) is None
    for count, page in enumerate(pages[:back]):
        assert page_pool_alloc_pages(pool) is None, f"{count} of {back} are back"
        page_pool_put_full_page(pool, page, count % 2 == 0)
    assert pool.statistics.alloc_limited == 1 + back
    took = take(pool, back)
    assert set(took) == set(pages[:back])
    assert page_pool_alloc_pages(pool) is None
    assert page_pool_inflight(pool) == 100
    assert bench.host.pages_in_use == 100


def test_pages_that_leave_make_room() -> None:
    bench = Bench()
    pool = make(bench, inflight_limit=4, inflight_resume=3)
    pages = take(pool, 4)
    assert page_pool_alloc_pages(pool) is None
    pages[0].pfmemalloc = True
    page_pool_put_full_page(pool, pages[0], False)
    assert page_pool_inflight(pool) == 3
    take(pool, 1)
    assert page_pool_alloc_pages(pool) is None


def test_pages_in_the_cache_are_not_in_use() -> None:
    """A limit that is met while nobody wants a page trips nothing."""
    pool = make(Bench(), inflight_limit=64)
    page = take(pool, 1)[0]
    page_pool_recycle_direct(pool, page)
    assert page_pool_inflight(pool) == 64
    assert len(take(pool, 64)) == 64
    assert not pool.tripped
    assert pool.statistics.alloc_limited == 0


def test_it_holds_for_fragments_and_for_higher_orders() -> None:
    pool = make(Bench(), inflight_limit=2, order=1)
    for _ in range(4):
        assert page_pool_alloc_frag(pool, 4096) is not None
    assert page_pool_alloc_frag(pool, 4096) is None
    assert page_pool_inflight(pool) == 2


def test_without_a_limit_memory_is_the_limit() -> None:
    bench = Bench(memory=301 * 4096)
    pool = make(bench)
    assert len(take(pool, 300)) == 300
    assert page_pool_alloc_pages(pool) is None
    assert pool.statistics.alloc_limited == 0
