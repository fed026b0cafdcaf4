# SPDX-License-Identifier: BSD-2-Clause
"""The page cache: it fills memory, and makes way."""

import pytest

from driver_model.memory.pages.page_cache import PageCache
from tests.driver_model.bench import Bench
from tests.driver_model.pressure import run


def test_a_page_with_another_user_is_looked_at_and_kept() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        cache = PageCache(pages.zone)
        new = cache.read(pages, 10)
        pages.get_page(new[0])
        assert cache.shrink_list(pages, 4) == (4, 3)
        assert new[0] in cache
        assert cache.drop(pages) == 6
        pages.put_page(new[0])
        assert (cache.drop(pages), len(cache), pages.in_use) == (1, 0, 0)

    run(body)


def test_a_page_cache_makes_way_for_itself_and_leaves_the_cache_when_it_is_freed() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        cache = PageCache(pages.zone)
        assert len(cache.read(pages, 5000)) == 5000, "more than there is memory"
        assert 1500 < len(cache) < 2047
        page = cache.read(pages, 1)[0]
        pages.put_page(page)
        assert page not in cache
        with pytest.raises(ValueError, match="Count must be 0 or more, not -1"):
            cache.read(pages, -1)
        with pytest.raises(ValueError, match="has a page cache already"):
            PageCache(pages.zone)

    run(body)
