# SPDX-License-Identifier: BSD-2-Clause
"""What a strategy asks of its pool beside what it needs."""

from typing import Any

import pytest

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.slab.allocator import Slab
from driver_model.net.filter import FilterDrop
from driver_model.net.local_socket import LocalSocket
from driver_model.net.napi import Napi
from driver_model.net.skb.policy import Head, SkbPolicy
from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench, frames
from tests.driver_model.noncoherent_kit import noncoherent_profile
from tests.driver_model.recycle_kit import Kit
from tests.driver_model.stack_bench import MS, StackBench

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


def test_a_stack_that_writes_behind_the_packet_is_caught_where_only_that_is_synced() -> None:
    """As a stream's bytes are, that are added to the packet before."""
    bench = StackBench(
        "page_pool",
        lambda bench, core: LocalSocket(bench.host.pages[core], hold=MS // 20, stream=True, rcvbuf=1 << 20),
        rx_entries=8,
        pool=PoolOptions(sync_received=True),
        profile=noncoherent_profile(),
    )
    flows = Flows(1, 1, seed=1)

    def run() -> None:
        bench.start()
        bench.send(0, [flows.frame(0, 1500 if at % 5 > 2 else 300, at) for at in range(150)], pause=10**7)

    with pytest.raises(OwnershipError, match="device access of cpu memory"):
        bench.run(run)


def test_frames_that_others_sent_come_back_under_one_lock_for_sixteen() -> None:
    pool = Pool(sync_received=True)
    pages = pool.run(lambda: [pool.page, *(pool.allocate() for _ in range(19))])
    pool.strategy.received(pool.page, 100)
    locks, before = pool.bench.core.spin_lock.count, pool.cleaned()
    pool.run(lambda: pool.strategy.release_bulk(pages))
    assert pool.bench.core.spin_lock.count - locks == 2
    assert pool.cleaned() - before == 20 * LINES
    assert pool.strategy.statistics()["rx_pp_recycle_ring"] == 20


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("head", list(Head))
def test_a_page_leaves_the_pool_with_an_skb_only(head: Head, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays where none could be made, or all of the packet was copied."""
    bench = StackBench(
        "page_pool",
        lambda bench, core: FilterDrop(),
        skb_policy=SkbPolicy(head=head),
        rx_entries=16,
        pool=PoolOptions(skb_recycles=False),
    )

    def run() -> int:
        bench.start()
        if refused:
            monkeypatch.setattr(Slab, "kmem_cache_alloc_bulk", lambda *values: 0)
        bench.send(0, [Flows(1, 1, seed=2).frame(0, 60, 0)])
        bench.wait(lambda: bench.total("rx_packets") == 1, "the frame")
        count = bench.driver.ethtool_statistics()["rx_pp_recycle_cached"]
        bench.close()
        return count

    assert bench.run(run) == (refused or head is Head.COPY)


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
