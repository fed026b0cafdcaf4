# SPDX-License-Identifier: BSD-2-Clause
"""What a strategy asks of its pool beside what it needs."""

from typing import Any

import pytest

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench, frames
from tests.driver_model.noncoherent_kit import noncoherent_profile
from tests.driver_model.recycle_kit import Kit

LINES = (4096 - 256 - 320) // 64


class Pool:
    """The strategy with some options, on a machine that is not coherent; ``run`` runs a function in a process."""

    def __init__(self, **options: Any) -> None:
        self.bench = Bench(profile=noncoherent_profile())
        napi = Napi(self.bench.host.softnets[0], lambda budget: 0)
        self.strategy = PagePoolStrategy(self.bench.host.devices[0], 64, napi, PoolOptions(**options))
        self.run = self.bench.run
        self.page = self.run(self.allocate)

    def allocate(self) -> Any:
        got = self.strategy.allocate()
        assert got is not None
        return got[1]

    def cleaned(self) -> int:
        """Lines that were cleaned so far."""
        return self.bench.core.op("dma.cache_clean_line").count


@pytest.mark.parametrize(("options", "lines"), [({}, LINES), ({"sync_received": True}, 2)])
def test_a_page_returns_with_a_sync_of_all_or_of_what_was_filled(options: dict[str, bool], lines: int) -> None:
    pool = Pool(**options)
    pool.strategy.received(pool.page, 100)
    before = pool.cleaned()
    pool.run(lambda: pool.strategy.release(pool.page))
    assert pool.cleaned() - before == lines


@pytest.mark.parametrize(("discards", "ops"), [(False, (LINES, 0)), (True, (0, LINES))])
def test_a_page_that_is_only_received_into_is_cleaned_or_was_once_invalidated(
    discards: bool, ops: tuple[int, int]
) -> None:
    pool = Pool(from_device=True)
    core = pool.bench.core
    assert core.cache is not None
    core.cache.discards = discards
    pool.strategy.received(pool.page, 100)
    counted = [core.op(f"dma.cache_{name}_line") for name in ("clean", "invalidate")]
    before = [op.count for op in counted]
    pool.run(lambda: pool.strategy.release(pool.page))
    assert tuple(op.count - count for op, count in zip(counted, before, strict=True)) == ops


def test_a_pool_without_a_sync_for_the_device_is_stopped_by_the_checker() -> None:
    sent = frames(40, 5)
    bench = Bench(
        "page_pool",
        "drop",
        expected=[sent],
        rx_entries=8,
        pool=PoolOptions(sync_device=False),
        profile=noncoherent_profile(),
    )

    def run() -> None:
        bench.start()
        for frame in sent:
            bench.nic.receive(0, [frame])
            bench.core.sleep_until(bench.core.time + 20 * 10**6)

    with pytest.raises(OwnershipError, match="CPU"):
        bench.run(run)


def test_a_page_that_was_never_filled_is_synced_whole() -> None:
    pool = Pool(sync_received=True)
    before = pool.cleaned()
    pool.run(lambda: pool.strategy.withdraw(pool.page))
    assert pool.cleaned() - before == LINES


def test_what_was_filled_before_is_forgotten_when_a_frame_was_sent() -> None:
    pool = Pool(sync_received=True)

    def run() -> int:
        pool.strategy.received(pool.page, 64)
        pool.strategy.transmit(pool.page, 64)
        pool.strategy.transmitted(pool.page, 64)
        taken = [pool.allocate() for _ in range(128)]
        assert pool.page in taken
        before = pool.cleaned()
        pool.strategy.withdraw(pool.page)
        return pool.cleaned() - before

    assert pool.run(run) == LINES


@pytest.mark.parametrize("options", [{"skb_recycles": False}, {"sync_received": True}])
@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
def test_frames_arrive_whole_with_each_of_them(options: dict[str, bool], verdict: str) -> None:
    sent = frames(100, 5)
    bench = Bench(
        "page_pool", verdict, expected=[sent], rx_entries=32, pool=PoolOptions(**options), profile=noncoherent_profile()
    )

    def run() -> None:
        bench.start()
        for start in range(0, len(sent), 20):
            bench.nic.receive(0, sent[start : start + 20])
            bench.core.sleep_until(bench.core.time + 20 * 10**6)
        bench.wait(lambda: bench.total("rx_packets") == len(sent), "every frame")
        bench.finish()

    bench.run(run)
    assert bench.nic.queues[0].sent == (sent if verdict == "tx" else [])


@pytest.mark.parametrize("limit", [0, 40])
def test_the_limit_of_a_pool_of_the_device_is_that_of_its_loop(limit: int) -> None:
    kit = Kit(pool=PoolOptions(inflight_limit=limit))

    def run() -> None:
        kit.start()
        assert kit.strategy.pool is not None
        assert kit.strategy.pool.counts().limit == limit
        kit.finish()

    kit.run(run)
