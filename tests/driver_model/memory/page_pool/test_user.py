# SPDX-License-Identifier: BSD-2-Clause
"""What netlink tells about the pools of a host."""

from types import SimpleNamespace

from driver_model.memory.page_pool.pool import (
    page_pool_disable_direct_recycling,
    page_pool_enable_direct_recycling,
    page_pool_put_full_page,
)
from driver_model.memory.page_pool.release import DEFER_TIME, page_pool_destroy
from driver_model.memory.page_pool.user import page_pool_get, page_pool_info, page_pool_stats_get
from driver_model.net.napi import MIN_NAPI_ID, Napi
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, take


def test_all_pools_of_a_host_are_listed() -> None:
    bench = Bench(cores=2)
    napis = [Napi(softnet, lambda budget: 0) for softnet in bench.host.softnets for _ in range(2)]
    assert len({napi.napi_id for napi in napis}) == 4
    assert all(napi.napi_id >= MIN_NAPI_ID for napi in napis)
    first = make(bench, netdev=SimpleNamespace(ifindex=3), napi=napis[0])
    second = make(bench, order=1)
    take(first, 1)
    take(second, 2)
    assert page_pool_get(bench.host.page_pools) == [
        {"id": 1, "ifindex": 3, "napi-id": napis[0].napi_id, "inflight": 64, "inflight-mem": 64 * 4096},
        {"id": 2, "inflight": 2, "inflight-mem": 2 * 8192},
    ]
    statistics = page_pool_stats_get(bench.host.page_pools)
    assert [entry["info"] for entry in statistics] == [{"id": 1, "ifindex": 3}, {"id": 2}]
    assert [(entry["alloc-slow"], entry["alloc-slow-high-order"]) for entry in statistics] == [(1, 0), (0, 2)]


def test_the_napi_instance_is_the_one_that_the_pool_has_now() -> None:
    bench = Bench()
    napi = Napi(bench.host.softnets[0], lambda budget: 0)
    pool = make(bench)
    assert "napi-id" not in page_pool_info(pool)
    page_pool_enable_direct_recycling(pool, napi)
    assert page_pool_info(pool)["napi-id"] == napi.napi_id
    page_pool_disable_direct_recycling(pool)
    assert "napi-id" not in page_pool_info(pool)


def test_a_destroyed_pool_is_listed_until_its_last_page_comes() -> None:
    bench = Bench()
    pool = make(bench)

    def script() -> None:
        page = take(pool, 1)[0]
        bench.core.sleep_until(3 * DEFER_TIME)
        page_pool_destroy(pool)
        bench.core.sleep_until(5 * DEFER_TIME)
        assert page_pool_get(bench.host.page_pools) == [page_pool_info(pool)]
        assert page_pool_info(pool) == {"id": 1, "inflight": 1, "inflight-mem": 4096, "detach-time": 3}
        page_pool_put_full_page(pool, page, False)
        assert page_pool_get(bench.host.page_pools) == []

    bench.run(script, limit=10 * DEFER_TIME)
    assert make(bench).id == 2, "ids are not used again"


def test_the_driver_s_pools_are_listed() -> None:
    bench = Bench("page_pool", "drop", queues=2, rx_entries=16)

    def script() -> None:
        bench.start()
        assert [info["inflight"] for info in page_pool_get(bench.host.page_pools)] == [64, 64]
        bench.finish()

    bench.run(script)
    assert page_pool_get(bench.host.page_pools) == []
