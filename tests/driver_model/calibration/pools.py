# SPDX-License-Identifier: BSD-2-Clause
"""page_pool's loops (prototype-kernel, ``bench_page_pool_simple``): a pool that does not map."""

from collections.abc import Callable, Mapping

from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create, page_pool_put_page
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.loop import Replay, Turn, loop


def cycle(put: Callable[[PagePool, Page], None]) -> Replay:
    """Take a page, and put it somehow."""

    def prepare(bench: Bench) -> Turn:
        pool = page_pool_create(PagePoolParams(bench.host.devices[0]))

        def turn() -> None:
            page = page_pool_alloc_pages(pool)
            assert page is not None
            put(pool, page)

        return turn

    return loop(prepare)


def fast(pool: PagePool, page: Page) -> None:
    page_pool_put_page(pool, page, -1, True)


def ring(pool: PagePool, page: Page) -> None:
    page_pool_put_page(pool, page, -1, False)


def slow(pool: PagePool, page: Page) -> None:
    """A page with another user leaves the pool, which that user then frees."""
    pool.pages.get_page(page)
    page_pool_put_page(pool, page, -1, False)
    pool.pages.put_page(page)


REPLAYS: Mapping[str, Replay] = {
    "page_pool, fast": cycle(fast),
    "page_pool, ring": cycle(ring),
    "page_pool, slow": cycle(slow),
}
