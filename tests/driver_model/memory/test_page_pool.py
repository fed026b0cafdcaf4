# SPDX-License-Identifier: BSD-2-Clause
"""page_pool: the kernel's rules, its counters, and where each page is."""

import errno
import random
import re
from typing import Any

import pytest

from driver_model.memory.dma import Device, DirectDma, DmaDirection
from driver_model.memory.page import Page
from driver_model.memory.page_pool import (
    page_pool_alloc_pages,
    page_pool_create,
    page_pool_get_dma_addr,
    page_pool_put_full_page,
    page_pool_put_page,
    page_pool_recycle_direct,
)
from driver_model.memory.page_pool_params import PP_FLAG_DMA_MAP, PP_FLAG_DMA_SYNC_DEV, PagePoolParams
from driver_model.memory.page_pool_release import DEFER_TIME, page_pool_destroy
from driver_model.memory.page_pool_state import PagePool, page_pool_inflight
from driver_model.memory.page_pool_user import page_pool_info
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench

MAPPED = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV


def make(bench: Bench, **params: Any) -> PagePool:
    defaults = {"flags": MAPPED, "dma_dir": DmaDirection.BIDIRECTIONAL, "max_len": 2048, "offset": 256}
    return page_pool_create(PagePoolParams(bench.host.devices[0], **{**defaults, **params}))


def take(pool: PagePool, count: int) -> list[Page]:
    pages = []
    for _ in range(count):
        page = page_pool_alloc_pages(pool)
        assert page is not None
        pages.append(page)
    return pages


def nonzero(pool: PagePool) -> dict[str, int]:
    return {name: value for name, value in pool.statistics.ethtool().items() if value}


def test_counters_of_a_script() -> None:
    """Every step derived by hand from the kernel's rules."""
    bench = Bench()
    pool = make(bench, pool_size=40)

    def script() -> None:
        # The first misses cache and ring: 64 pages come in bulk; 63 more are in the cache then.
        pages = take(pool, 64)
        assert nonzero(pool) == {"rx_pp_alloc_empty": 1, "rx_pp_alloc_slow": 1, "rx_pp_alloc_fast": 63}
        # 120 more: two batches of 64, 8 left in the cache.
        pages += take(pool, 120)
        assert nonzero(pool) == {"rx_pp_alloc_empty": 3, "rx_pp_alloc_slow": 3, "rx_pp_alloc_fast": 181}
        assert page_pool_inflight(pool) == 192
        # 120 go into the cache and fill it (128); the next 40 into the ring; the last 24 are freed.
        for page in pages:
            page_pool_recycle_direct(pool, page)
        assert nonzero(pool) == {
            "rx_pp_alloc_empty": 3,
            "rx_pp_alloc_slow": 3,
            "rx_pp_alloc_fast": 181,
            "rx_pp_recycle_cached": 120,
            "rx_pp_recycle_cache_full": 64,
            "rx_pp_recycle_ring": 40,
            "rx_pp_recycle_ring_full": 24,
        }
        assert page_pool_inflight(pool) == 168
        # The cache empties; the 129th is pulled from the ring with the other 39.
        pages = take(pool, 129)
        assert pool.statistics.alloc_fast == 181 + 128
        assert pool.statistics.alloc_refill == 1
        assert len(pool.alloc_cache) == 39
        assert not pool.ring
        # A page that someone else still uses leaves the pool.
        pool.pages.get_page(pages[0])
        page_pool_put_full_page(pool, pages[0], True)
        assert pool.statistics.recycle_released_refcnt == 1
        assert pages[0].pp is None
        pool.pages.put_page(pages[0])
        for page in pages[1:]:
            page_pool_recycle_direct(pool, page)
        assert page_pool_inflight(pool) == 167
        page_pool_destroy(pool)

    bench.run(script)
    assert pool.released
    assert page_pool_inflight(pool) == 0
    assert not pool.mapped
    assert bench.host.pages_in_use == 0
    assert bench.checker is not None
    bench.checker.finish()
    assert pool.statistics.netlink() == {
        "alloc-fast": 309,
        "alloc-slow": 3,
        "alloc-slow-high-order": 0,
        "alloc-empty": 3,
        "alloc-refill": 1,
        "alloc-waive": 0,
        "recycle-cached": 209,
        "recycle-cache-full": 103,
        "recycle-ring": 79,
        "recycle-ring-full": 24,
        "recycle-released-refcnt": 1,
    }


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


def test_fragments_return_with_the_last_user() -> None:
    bench = Bench()
    pool = make(bench)
    page = take(pool, 1)[0]
    page.pp_ref_count = 3
    page_pool_put_page(pool, page, 100, True)
    page_pool_put_page(pool, page, 100, True)
    assert pool.statistics.recycle_cached == 0
    page_pool_put_page(pool, page, 100, True)
    assert pool.statistics.recycle_cached == 1
    assert page.pp_ref_count == 1


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


def test_pages_that_cannot_be_mapped_are_given_back() -> None:
    bench = Bench()
    dev = Device(bench.core, bench.host.pages[0], DirectDma(4095), bench.checker)
    pool = page_pool_create(PagePoolParams(dev, MAPPED, dma_dir=DmaDirection.FROM_DEVICE, max_len=64))
    assert page_pool_alloc_pages(pool) is None
    assert page_pool_inflight(pool) == 0
    assert bench.host.pages_in_use == 0
    assert dev.map_errors == 64


def test_a_destroyed_pool_waits_for_its_last_page_and_warns() -> None:
    bench = Bench()
    pool = make(bench)

    def script() -> None:
        page = take(pool, 1)[0]
        page_pool_destroy(pool)
        assert not pool.released
        assert page_pool_inflight(pool) == 1
        assert not pool.mapped, "nothing stays mapped when the device goes"
        bench.core.sleep_until(bench.core.time + 61 * DEFER_TIME)
        assert page_pool_info(pool) == {"id": 1, "inflight": 1, "inflight-mem": 4096, "detach-time": 0}
        assert pool.warnings[0] == "stalled pool shutdown: id 1, 1 inflight 60 sec"
        assert re.fullmatch(
            rf"page .* at {page.address:#x}, taken 60\d{{12}} ps ago at .*test_page_pool.py:\d+", pool.warnings[1]
        )
        assert len(pool.warnings) == 2
        page_pool_put_full_page(pool, page, False)
        assert pool.released
        with pytest.raises(RuntimeError, match="was destroyed before"):
            page_pool_destroy(pool)

    bench.run(script, limit=100 * DEFER_TIME)
    assert bench.host.pages_in_use == 0


def test_in_flight_is_a_difference_of_wrapping_counters() -> None:
    pool = make(Bench())
    pool.hold_cnt, pool.release_cnt = 3, (1 << 32) - 2
    assert page_pool_inflight(pool) == 5
    pool.hold_cnt, pool.release_cnt = 0, 1
    assert page_pool_inflight(pool) == -1
    page_pool_destroy(pool)
    assert pool.warnings == ["Negative(-1) inflight packet-pages"]


def test_random_use_never_loses_a_page() -> None:
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench()
    pool = make(bench, pool_size=100)
    held: list[Page] = []
    for _ in range(5000):
        if held and rng.random() < 0.5:
            page_pool_put_full_page(pool, held.pop(rng.randrange(len(held))), rng.random() < 0.7)
        elif len(held) < 600:
            held += take(pool, 1)
        assert page_pool_inflight(pool) == len(pool.alloc_cache) + len(pool.ring) + len(held)
        assert len(pool.alloc_cache) <= 128
        assert len(pool.ring) <= 100
    everything = [*pool.alloc_cache, *pool.ring, *held]
    assert len(set(everything)) == len(everything)
    assert all(page.pp is pool and page.refcount == 1 for page in everything)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"flags": 1 << 5}, "flags must be within 0xf, not 32"),
        ({"flags": PP_FLAG_DMA_MAP, "dma_dir": DmaDirection.TO_DEVICE}, "FROM_DEVICE or BIDIRECTIONAL, not <DmaDir"),
        ({"flags": PP_FLAG_DMA_SYNC_DEV}, "DMA_SYNC_DEV needs DMA_MAP"),
        ({"max_len": 0}, "needs max_len, not 0"),
        ({"max_len": 4000}, "must lie within 4096 bytes, not 256 and 4000"),
        ({"order": 11}, r"order must be in 0\.\.10, not 11"),
        ({"pool_size": -1}, "pool_size must be 0 or more, not -1"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(OSError, match=message) as refused:
        make(Bench(), **params)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(("asked", "size"), [(0, 1024), (7, 7), (100_000, 16384)])
def test_ring_size(asked: int, size: int) -> None:
    assert make(Bench(), pool_size=asked).ring_size == size
