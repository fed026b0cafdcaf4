# SPDX-License-Identifier: BSD-2-Clause
"""page_pool: the kernel's rules, its counters, and where each page is."""

from typing import Any

import pytest

from driver_model.memory.dma.api import Device, DirectDma, DmaDirection
from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import (
    napi_pp_put_page,
    page_pool_alloc_pages,
    page_pool_create,
    page_pool_create_percpu,
    page_pool_disable_direct_recycling,
    page_pool_enable_direct_recycling,
    page_pool_get_dma_addr,
    page_pool_put_full_page,
    page_pool_put_page,
    page_pool_put_page_bulk,
    page_pool_put_unrefed_page,
    page_pool_recycle_direct,
    page_pool_update_nid,
)
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.page_pool.users import page_pool_ref_page, page_pool_unref_page
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import MAPPED, make, nonzero, take


def test_cost_comes_from_what_happened() -> None:
    bench = Bench(checked=False)
    pool = make(bench)
    core = bench.core
    page_pool_recycle_direct(pool, take(pool, 1)[0])
    before, operations = core.time, ("page_pool.alloc_fast", "page_pool.put_direct", "dma.sync_for_device")
    page_pool_recycle_direct(pool, take(pool, 1)[0])
    assert core.time - before == sum(core.op(name).ps for name in operations)
    before = core.time
    page_pool_put_full_page(pool, take(pool, 1)[0], False)
    operations = ("page_pool.alloc_fast", "page_pool.put_ring", "spin.lock", "spin.unlock", "dma.sync_for_device")
    assert core.time - before == sum(core.op(name).ps for name in operations)


def test_the_cache_gives_the_page_put_last() -> None:
    bench = Bench()
    pool = make(bench)
    pages = take(pool, 3)
    for page in pages:
        page_pool_recycle_direct(pool, page)
    assert take(pool, 3) == pages[::-1]


def test_a_page_is_mapped_once_for_life() -> None:
    bench = Bench()
    pool = make(bench)
    addresses = set()
    for _ in range(200):
        page = take(pool, 1)[0]
        assert page_pool_get_dma_addr(page) == page.address
        addresses.add(page.address)
        page_pool_recycle_direct(pool, page)
    assert len(addresses) == 1
    assert bench.core.op("dma.map").count == 64


def test_without_the_promise_a_page_goes_to_the_ring_outside_of_the_poll() -> None:
    bench = Bench()
    pool = make(bench, napi=None)
    page_pool_put_full_page(pool, take(pool, 1)[0], False)
    assert pool.statistics.recycle_ring == 1
    assert pool.statistics.recycle_cached == 0


def test_softirq_context_is_a_poll_or_a_process_with_softirqs_disabled() -> None:
    """Only on the core that has the pool's NAPI: there no poll can run between."""
    bench = Bench()
    softirq = bench.core.softirq

    def script() -> None:
        napi = Napi(bench.host.softnets[0], lambda budget: 0)
        pool = make(bench, napi=napi)
        for owner, disabled, where in ((0, False, "ring"), (0, True, "cached"), (1, True, "ring"), (-1, True, "ring")):
            napi.list_owner = -1
            page = take(pool, 1)[0]
            before = nonzero(pool).get(f"rx_pp_recycle_{where}", 0)
            napi.list_owner = owner
            if disabled:
                softirq.disable()
            page_pool_put_full_page(pool, page, False)
            if disabled:
                softirq.enable()
            assert nonzero(pool)[f"rx_pp_recycle_{where}"] == before + 1, (owner, disabled)

    bench.run(script)


def test_emergency_and_foreign_pages_do_not_stay() -> None:
    bench = Bench()
    pool = make(bench)
    first, second = take(pool, 2)
    first.pfmemalloc = True
    page_pool_recycle_direct(pool, first)
    assert pool.statistics.recycle_released_refcnt == 1
    pool.alloc_cache.clear()
    page_pool_put_full_page(pool, second, False)
    second.nid = 1
    assert page_pool_alloc_pages(pool) is not None
    assert pool.statistics.alloc_waive == 1
    assert pool.statistics.alloc_slow == 2


def test_higher_orders_come_one_at_a_time() -> None:
    bench = Bench()
    pool = make(bench, order=2, max_len=8192)
    pages = take(pool, 2)
    assert [page.order for page in pages] == [2, 2]
    assert nonzero(pool) == {"rx_pp_alloc_empty": 2, "rx_pp_alloc_slow_ho": 2}


def test_exhausted_memory_gives_no_page_and_a_partial_batch_counts() -> None:
    bench = Bench(memory=40 * 4096)
    pool = make(bench)
    pages = take(pool, 39)
    assert page_pool_alloc_pages(pool) is None
    assert pool.statistics.alloc_slow == 1
    assert pool.statistics.alloc_empty == 2
    page_pool_recycle_direct(pool, pages[0])
    assert page_pool_alloc_pages(pool) is pages[0]


@pytest.mark.parametrize("order", [0, 1])
def test_a_pool_without_memory_logs_nothing(order: int) -> None:
    bench = Bench(memory=40 * 4096)
    pool = make(bench, order=order)
    while page_pool_alloc_pages(pool) is not None:
        pass
    statistics = bench.host.pages[0].statistics
    assert (statistics.failed, statistics.warned) == (1, 0)


def test_pages_that_cannot_be_mapped_are_given_back() -> None:
    bench = Bench()
    dev = Device(bench.core, bench.host.pages[0], DirectDma(4095), bench.checker)
    pool = page_pool_create(PagePoolParams(dev, MAPPED, dma_dir=DmaDirection.FROM_DEVICE, max_len=64))
    assert page_pool_alloc_pages(pool) is None
    assert page_pool_inflight(pool) == 0
    assert bench.host.pages_in_use == 0
    assert dev.map_errors == 64


def where(pool: PagePool, put: Any) -> str:
    """Where a page went that ``put(page)`` gave back."""
    page = take(pool, 1)[0]
    put(page)
    return "cache" if page in pool.alloc_cache else "ring" if page in pool.ring else "out"


def test_direct_recycling_ends_when_it_is_disabled() -> None:
    bench = Bench()
    pool = make(bench)
    other, napi = (Napi(bench.host.softnets[0], lambda budget: 0) for _ in range(2))
    page_pool_enable_direct_recycling(pool, napi)
    with pytest.raises(ValueError, match="page_pool 1 cannot be given to"):
        page_pool_enable_direct_recycling(pool, other)

    def script() -> None:
        bench.core.softirq.disable()
        napi.list_owner = 0
        assert where(pool, lambda page: page_pool_put_full_page(pool, page, False)) == "cache"
        page_pool_disable_direct_recycling(pool)
        assert where(pool, lambda page: page_pool_put_full_page(pool, page, False)) == "ring"
        bench.core.softirq.enable()

    bench.run(script)
    assert pool.warnings == ["direct recycling disabled while core 0 polls"]


@pytest.mark.parametrize(("cpuid", "expected"), [(0, "cache"), (1, "ring"), (-1, "ring")])
def test_a_pool_of_a_cpu_recycles_directly_in_its_softirqs(cpuid: int, expected: str) -> None:
    bench = Bench()
    pool = page_pool_create_percpu(PagePoolParams(bench.host.devices[0]), cpuid)

    def script() -> None:
        bench.core.softirq.disable()
        assert where(pool, lambda page: page_pool_put_full_page(pool, page, False)) == expected
        bench.core.softirq.enable()
        page = page_pool_alloc_pages(pool) if cpuid < 0 else None
        if page is not None:
            page_pool_put_full_page(pool, page, False)
            assert page in pool.ring

    bench.run(script)


def test_a_hardirq_never_recycles_directly() -> None:
    bench = Bench(checked=False)
    pool = page_pool_create_percpu(PagePoolParams(bench.host.devices[0]), 0)
    places: list[str] = []

    def script() -> None:
        def handler() -> None:
            places.append(where(pool, lambda page: page_pool_put_full_page(pool, page, False)))

        bench.core.softirq.disable()
        bench.core.interrupt(handler)
        bench.core.sync()
        bench.core.softirq.enable()

    bench.run(script)
    assert places == ["ring"]


def test_a_bulk_of_several_pools_takes_each_lock_once() -> None:
    bench = Bench()
    first, second = make(bench), make(bench)
    pages = [page for pair in zip(take(first, 8), take(second, 8), strict=True) for page in pair]
    page_pool_ref_page(pages[0])
    locks = bench.core.op("spin.lock")
    before = locks.count
    page_pool_put_page_bulk(pages)
    assert locks.count == before + 2
    assert list(first.ring) == pages[2::2]
    assert list(second.ring) == pages[1::2]
    assert pages[0].pp_ref_count == 1
    page_pool_put_page_bulk(pages[:1])
    assert pages[0] in first.ring


def test_a_large_bulk_takes_a_lock_for_each_sixteen() -> None:
    bench = Bench()
    pool = make(bench)
    pages = take(pool, 33)
    before = bench.core.op("spin.lock").count
    page_pool_put_page_bulk(pages)
    assert bench.core.op("spin.lock").count == before + 3
    assert len(pool.ring) == 33


def test_a_bulk_in_the_consumers_context_goes_to_the_cache() -> None:
    bench = Bench()
    pool = page_pool_create_percpu(PagePoolParams(bench.host.devices[0]), 0)

    def script() -> None:
        bench.core.softirq.disable()
        page_pool_put_page_bulk(take(pool, 5))
        bench.core.softirq.enable()

    bench.run(script)
    assert nonzero(pool)["rx_pp_recycle_cached"] == 5


def test_a_bulk_refuses_pages_of_no_pool() -> None:
    bench = Bench()
    page = bench.host.pages[0].alloc_pages()
    assert page is not None
    with pytest.raises(ValueError, match="must be a page_pool's, not None's"):
        page_pool_put_page_bulk([page])


def test_an_skb_finds_the_pool_by_the_page() -> None:
    bench = Bench()
    pool = make(bench)
    page = take(pool, 1)[0]
    assert napi_pp_put_page(page)
    assert page in pool.ring
    other = bench.host.pages[0].alloc_pages()
    assert other is not None
    assert not napi_pp_put_page(other)
    assert other.refcount == 1


def test_put_page_returns_a_page_to_a_pool_that_says_so() -> None:
    bench = Bench()
    pool = make(bench, put_page_recycles=True)
    assert pool.put_page_recycles
    assert not make(bench).put_page_recycles
    page = take(pool, 1)[0]
    before = bench.core.op("page_pool.put_page").count
    bench.host.pages[0].put_page(page)
    assert page in pool.ring
    assert page.refcount == 1
    assert bench.core.op("page_pool.put_page").count == before + 1


def test_of_several_users_the_last_one_gives_a_page_back() -> None:
    bench = Bench(checked=False)
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_ref_page(page)
    core = bench.core
    before, costs = core.time, core.op("page_pool.frag_put").ps + core.op("atomic").ps
    page_pool_put_page(pool, page, 100, True)
    assert core.time - before == costs
    assert page not in pool.alloc_cache
    assert page_pool_unref_page(page, 1) == 0
    page_pool_put_unrefed_page(pool, page, 100, True)
    assert pool.alloc_cache[-1] is page


def test_a_page_put_too_often_is_warned_about() -> None:
    bench = Bench(checked=False)
    pool = make(bench)
    page = take(pool, 1)[0]
    assert page_pool_unref_page(page, 3) == -2
    assert pool.warnings == [f"pp_ref_count of {page} fell to -2"]


def test_pages_of_another_node_stay_until_they_come_from_the_ring() -> None:
    """NUMA is looked at only then; with NUMA_NO_NODE the consumer's node counts."""
    bench = Bench()
    for nid, expected in ((-1, 0), (0, 0), (1, 1)):
        pool = make(bench, nid=nid)
        page_pool_put_full_page(pool, take(pool, 1)[0], True)
        page_pool_put_full_page(pool, take(pool, 1)[0], False)
        assert pool.statistics.alloc_waive == 0
        take(pool, 64)
        assert pool.statistics.alloc_waive == expected


def test_a_consumer_that_moves_gives_its_cache_up() -> None:
    bench = Bench()
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_update_nid(pool, 1)
    assert (pool.nid, pool.alloc_cache, page_pool_inflight(pool)) == (1, [], 1)
    page_pool_put_full_page(pool, page, False)


def test_a_poll_that_comes_in_between_finds_the_ring_unlocked() -> None:
    """A process holds the producer lock with softirqs disabled: otherwise the softirq would spin for ever."""
    bench = Bench(cores=2)
    pool = make(bench)

    def script() -> None:
        pages = take(pool, 64)
        came: list[Page] = []

        def poll() -> None:
            came.append(pages.pop())
            page_pool_put_full_page(pool, came[-1], False)

        for delay in range(0, 20_000, 1000):
            bench.core.sync()
            bench.host.timers[0].add(delay, poll)
            page_pool_put_full_page(pool, pages.pop(0), False)
        bench.wait(lambda: len(came) == 20, "the timers")

    bench.run(script)
    assert len(pool.ring) == 40
