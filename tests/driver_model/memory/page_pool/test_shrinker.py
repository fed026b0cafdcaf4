# SPDX-License-Identifier: BSD-2-Clause
"""A page_pool gives pages back under memory pressure, and only those that nobody can want at that moment."""

from typing import Any, Protocol

import pytest

from driver_model.cpu.core import Core
from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import (
    page_pool_create_percpu,
    page_pool_put_full_page,
    page_pool_recycle_direct,
)
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.shrinker import PagePoolShrinker
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.pages.gfp import GFP_KERNEL, GFP_NOWAIT
from driver_model.memory.pages.zone import Zone
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, take


class Shrinker(Protocol):
    """What reclaim asks."""

    name: str

    def count_objects(self) -> int: ...

    def scan_objects(self, core: Core, count: int) -> int: ...


class Reclaim:
    """The register of a zone that has reclaim."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.shrinkers: list[Shrinker] = []
        patch.setattr(Zone, "register_shrinker", lambda zone, it: self.shrinkers.append(it))
        patch.setattr(Zone, "unregister_shrinker", lambda zone, it: self.shrinkers.remove(it))


@pytest.fixture
def reclaim(monkeypatch: pytest.MonkeyPatch) -> Reclaim:
    return Reclaim(monkeypatch)


def filled(bench: Bench, ring: int, **params: Any) -> PagePool:
    """A pool with 64 pages, of which so many are in its ring, the others in its cache."""
    pool = make(bench, shrinker=True, **params)
    pages = take(pool, 64)
    for page in pages[:ring]:
        page_pool_put_full_page(pool, page, False)
    for page in pages[ring:]:
        page_pool_recycle_direct(pool, page)
    return pool


def test_the_oldest_pages_of_the_ring_are_given_back(reclaim: Reclaim) -> None:
    bench = Bench()
    pool = filled(bench, 20)
    assert reclaim.shrinkers == [pool.shrinker]
    shrinker = reclaim.shrinkers[0]
    assert shrinker.name == "page_pool-1"
    assert shrinker.count_objects() == 20
    rest = list(pool.ring)[8:]
    unmaps = bench.core.op("dma.unmap").count
    assert shrinker.scan_objects(bench.core, 8) == 8
    assert list(pool.ring) == rest
    assert bench.core.op("dma.unmap").count == unmaps + 8
    assert page_pool_inflight(pool) == bench.host.pages_in_use == 56
    assert shrinker.scan_objects(bench.core, 100) == 12
    assert shrinker.scan_objects(bench.core, 100) == 0
    assert len(pool.alloc_cache) == 44, "it is the consumer's"
    assert pool.statistics.shrunk == 20
    take(pool, 45)
    assert pool.statistics.alloc_slow == 2


def test_in_the_consumers_context_the_cache_gives_its_oldest(reclaim: Reclaim) -> None:
    bench = Bench()
    dev = bench.host.devices[0]
    pool = page_pool_create_percpu(PagePoolParams(dev, shrinker=True), 0)

    def script() -> None:
        bench.core.softirq.disable()
        page_pool_put_full_page(pool, take(pool, 1)[0], False)
        newest = pool.alloc_cache[-4:]
        assert reclaim.shrinkers[0].scan_objects(bench.core, 60) == 60
        assert pool.alloc_cache == newest
        bench.core.softirq.enable()

    bench.run(script)


def test_another_core_and_a_hardirq_get_nothing(reclaim: Reclaim) -> None:
    bench = Bench(cores=2)
    pool = filled(bench, 20)
    shrinker = reclaim.shrinkers[0]
    assert shrinker.scan_objects(bench.system.cores[1], 5) == 0
    got: list[int] = []

    def script() -> None:
        bench.core.interrupt(lambda: got.append(shrinker.scan_objects(bench.core, 5)))
        bench.core.sync()

    bench.run(script)
    assert got == [0]
    assert len(pool.ring) == 20


def test_pages_of_a_higher_order_count_as_many(reclaim: Reclaim) -> None:
    bench = Bench()
    pool = make(bench, shrinker=True, order=2)
    for page in take(pool, 3):
        page_pool_put_full_page(pool, page, False)
    assert reclaim.shrinkers[0].count_objects() == 12
    assert reclaim.shrinkers[0].scan_objects(bench.core, 9) == 8
    assert page_pool_inflight(pool) == 1


def test_a_pool_that_is_destroyed_is_asked_no_more(reclaim: Reclaim) -> None:
    bench = Bench()
    page_pool_destroy(filled(bench, 5))
    assert reclaim.shrinkers == []
    assert bench.host.pages_in_use == 0


def test_only_pools_that_want_to_are_asked(reclaim: Reclaim) -> None:
    make(Bench())
    assert reclaim.shrinkers == []


def test_the_protocol_is_kept() -> None:
    shrinker: Shrinker = PagePoolShrinker(make(Bench()))
    assert shrinker.count_objects() == 0


def test_reclaim_takes_what_the_ring_has() -> None:
    """Memory is exhausted; an allocation that may wait gets it from the pool."""
    bench = Bench(memory=100 * 4096)
    pool = make(bench, shrinker=True)
    allocator = bench.host.pages[0]

    def script() -> None:
        pages = take(pool, 64)
        while allocator.alloc_pages(0, GFP_NOWAIT) is not None:
            pass
        assert allocator.alloc_pages(0, GFP_KERNEL) is None, "every page is in use"
        for page in pages:
            page_pool_put_full_page(pool, page, False)
        assert allocator.alloc_pages(0, GFP_KERNEL) is not None

    bench.run(script, limit=10**13)
    assert pool.statistics.shrunk > 0
    assert page_pool_inflight(pool) == 64 - pool.statistics.shrunk == len(pool.ring)
