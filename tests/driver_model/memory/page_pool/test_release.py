# SPDX-License-Identifier: BSD-2-Clause
"""The end of a page_pool: it waits for its pages, and says who has them."""

import re

import pytest

from driver_model.memory.page_pool.pool import page_pool_put_full_page, page_pool_recycle_direct
from driver_model.memory.page_pool.release import (
    DEFER_TIME,
    HOLDERS_SHOWN,
    page_pool_destroy,
    page_pool_holders,
    page_pool_use_xdp_mem,
)
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.page_pool.user import page_pool_info
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, take


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
        holder = rf"page .* at {page.address:#x}, taken 60\d{{12}} ps ago at tests/.*pool_kit.py:\d+"
        assert re.fullmatch(holder, pool.warnings[1]), pool.warnings[1]
        bench.core.sleep_until(bench.core.time + 60 * DEFER_TIME)
        assert pool.warnings[2] == "stalled pool shutdown: id 1, 1 inflight 120 sec"
        assert len(pool.warnings) == 4
        page_pool_put_full_page(pool, page, False)
        assert pool.released
        with pytest.raises(RuntimeError, match="page_pool 1 was destroyed before"):
            page_pool_destroy(pool)

    bench.run(script, limit=200 * DEFER_TIME)
    assert bench.host.pages_in_use == 0
    assert len(bench.host.page_pools) == 0


@pytest.mark.parametrize("checked", [True, False])
def test_holders_are_those_who_have_pages(checked: bool) -> None:
    """Also before the end, with a checker; then with line and time."""
    bench = Bench(checked=checked)
    pool = make(bench)
    pages = sorted(take(pool, 3), key=lambda page: page.address)
    page_pool_recycle_direct(pool, pages[1])
    assert [holder.page for holder in page_pool_holders(pool)] == ([pages[0], pages[2]] if checked else [])
    page_pool_destroy(pool)
    holders = page_pool_holders(pool)
    assert [holder.page for holder in holders] == [pages[0], pages[2]]
    for holder in holders:
        assert (holder.site is not None) == checked
        assert f"at {holder.page.address:#x}" in str(holder)
    page_pool_put_full_page(pool, pages[0], False)
    assert [holder.page for holder in page_pool_holders(pool)] == [pages[2]]


def test_of_many_holders_some_are_named() -> None:
    bench = Bench()
    pool = make(bench)

    def script() -> None:
        pages = take(pool, HOLDERS_SHOWN + 3)
        page_pool_destroy(pool)
        bench.core.sleep_until(bench.core.time + 61 * DEFER_TIME)
        for page in pages:
            page_pool_put_full_page(pool, page, False)

    bench.run(script, limit=100 * DEFER_TIME)
    assert len(pool.warnings) == HOLDERS_SHOWN + 2
    assert pool.warnings[-1] == "and 3 more"


def test_in_flight_is_a_difference_of_wrapping_counters() -> None:
    pool = make(Bench())
    pool.hold_cnt, pool.release_cnt = 3, (1 << 32) - 2
    assert page_pool_inflight(pool) == 5
    pool.hold_cnt, pool.release_cnt = 0, 1
    assert page_pool_inflight(pool) == -1
    page_pool_destroy(pool)
    assert pool.warnings == ["Negative(-1) inflight packet-pages"]
    assert not pool.released, "it is never known to be unused"


def test_a_page_put_directly_after_the_end_is_never_found() -> None:
    """As in the kernel; the checker reports it, and without one the warnings do."""
    bench = Bench(checked=False)
    pool = make(bench)

    def script() -> None:
        page = take(pool, 1)[0]
        page_pool_destroy(pool)
        page_pool_put_full_page(pool, page, True)
        bench.core.sleep_until(bench.core.time + 61 * DEFER_TIME)

    bench.run(script, limit=100 * DEFER_TIME)
    assert not pool.released
    assert pool.warnings[0] == "stalled pool shutdown: id 1, 1 inflight 60 sec"


def test_after_the_end_no_softirq_is_the_consumer() -> None:
    bench = Bench()
    napi = Napi(bench.host.softnets[0], lambda budget: 0)
    pool = make(bench, napi=napi)

    def script() -> None:
        page = take(pool, 1)[0]
        page_pool_destroy(pool)
        bench.core.softirq.disable()
        napi.list_owner = 0
        page_pool_put_full_page(pool, page, False)
        bench.core.softirq.enable()

    bench.run(script)
    assert pool.released
    assert pool.statistics.recycle_ring == 1


def test_a_page_in_the_ring_that_somebody_holds_is_warned_about() -> None:
    bench = Bench()
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_put_full_page(pool, page, False)
    pool.pages.get_page(page)
    page_pool_destroy(pool)
    assert pool.warnings == ["page_pool refcnt 2 violation"]
    assert pool.released
    pool.pages.put_page(page)


def test_the_later_of_driver_and_xdp_memory_model_ends_it() -> None:
    bench = Bench()
    pool = make(bench)
    gone: list[PagePool] = []
    page_pool_use_xdp_mem(pool, gone.append, 7)
    assert pool.xdp_mem_id == 7
    page = take(pool, 1)[0]
    page_pool_destroy(pool)
    assert not pool.destroyed
    page_pool_recycle_direct(pool, page)
    page = take(pool, 1)[0]
    page_pool_destroy(pool)
    assert pool.destroyed
    assert gone == []
    page_pool_put_full_page(pool, page, False)
    assert gone == [pool]
