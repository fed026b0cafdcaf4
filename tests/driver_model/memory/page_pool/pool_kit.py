# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of page_pool have in common."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from driver_model.memory.dma.api import DmaDirection
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.page_pool.params import PP_FLAG_DMA_MAP, PP_FLAG_DMA_SYNC_DEV, PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench

MAPPED = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV


def make(bench: Bench, **params: Any) -> PagePool:
    """A pool that maps and syncs, with other parameters as given."""
    defaults = {"flags": MAPPED, "dma_dir": DmaDirection.BIDIRECTIONAL, "max_len": 2048, "offset": 256}
    return page_pool_create(PagePoolParams(bench.host.devices[0], **{**defaults, **params}))


def take(pool: PagePool, count: int) -> list[Page]:
    """So many pages, which there must be."""
    pages = []
    for _ in range(count):
        page = page_pool_alloc_pages(pool)
        assert page is not None
        pages.append(page)
    return pages


def nonzero(pool: PagePool) -> dict[str, int]:
    """Counters that count something."""
    return {name: value for name, value in pool.statistics.ethtool().items() if value}


def caught(rule: str, break_it: Callable[[], object], *story: str) -> None:
    """A rule is broken, and the message says so and more."""
    with pytest.raises(OwnershipError) as error:
        break_it()
    assert error.value.violation.rule == rule
    for part in story:
        assert re.search(part, str(error.value)), f"{part!r} is not in {str(error.value)!r}"
