# SPDX-License-Identifier: BSD-2-Clause
"""Pages that leave a page_pool for good, as before the stack gave them back; and refill without bulk."""

from types import SimpleNamespace

import pytest

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.page_pool.slow import page_pool_release_page
from driver_model.memory.page_pool.state import page_pool_inflight
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, nonzero, take


def test_a_page_that_left_is_its_holders_and_no_longer_mapped() -> None:
    bench = Bench()
    pool = make(bench)
    page = take(pool, 1)[0]
    inflight, mapped = page_pool_inflight(pool), len(pool.mapped)
    page_pool_release_page(pool, page)
    assert (page_pool_inflight(pool), len(pool.mapped)) == (inflight - 1, mapped - 1)
    assert (page.pp, page.refcount) == (None, 1)
    in_use = bench.host.pages_in_use
    bench.host.pages[0].put_page(page)
    assert bench.host.pages_in_use == in_use - 1
    assert not pool.statistics.ethtool()["rx_pp_recycle_released_ref"]


def test_a_page_with_other_users_may_not_leave() -> None:
    pool = make(Bench(checked=False))
    page = take(pool, 1)[0]
    page.pp_ref_count = 2
    with pytest.raises(ValueError, match="cannot leave page_pool 1: it is a provider's, or has 2 users, not 1"):
        page_pool_release_page(pool, page)


def test_without_bulk_each_page_comes_alone() -> None:
    bench = Bench()
    pool = make(bench, bulk_refill=False)
    take(pool, 5)
    assert nonzero(pool) == {"rx_pp_alloc_slow": 5, "rx_pp_alloc_empty": 5}
    assert page_pool_inflight(pool) == 5
    assert [bench.core.op(f"page.{name}").count for name in ("alloc", "alloc_bulk", "alloc_bulk_call")] == [5, 0, 0]


def test_a_strategy_whose_skbs_do_not_recycle_gives_their_pages_up() -> None:
    bench = Bench()
    napi = Napi(bench.host.softnets[0], lambda budget: 0)
    strategy = PagePoolStrategy(bench.host.devices[0], 64, napi, PoolOptions(skb_recycles=False))
    got = strategy.allocate()
    assert got is not None
    _, page = got
    before = strategy.in_flight
    queue = SimpleNamespace(core=bench.core, release=strategy.release)
    memory = strategy.memory(queue, strategy.received(page, 60))
    assert (memory.recycles, memory.writable, strategy.in_flight) == (False, True, before)
    memory.attach()
    assert strategy.in_flight == before - 1
    memory.put(bench.host.softnets[0].skbs)
    assert page.refcount == 0
    strategy.close()
    assert bench.host.pages_in_use == 0
