# SPDX-License-Identifier: BSD-2-Clause
"""Every strategy on every kind of machine: what the driver's syncs are for."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.strategies import STRATEGIES
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.bounce import BounceDma, BouncePool
from driver_model.memory.dma.hypercall import HypercallDma
from tests.driver_model.bench import Bench, frames
from tests.driver_model.noncoherent_kit import noncoherent_profile

BY_DMA_API = [name for name in STRATEGIES if name != "bypass"]  # that one needs a machine on which there is no need
COUNT = 120
SEEDS = range(5)
RING = 32


def flood(bench: Bench, sent: list[bytes]) -> None:
    """Each frame meets its verdict, and nothing is left behind."""
    bench.start()
    for start in range(0, len(sent), 20):
        bench.nic.receive(0, sent[start : start + 20])
        bench.core.sleep_until(bench.core.time + 20 * 10**6)
    bench.wait(lambda: bench.total("rx_packets") == len(sent), "every frame")
    bench.driver.stop()
    bounce = bench.host.devices[0].ops
    if isinstance(bounce, BounceDma):
        bounce.pool.exit(bench.host.pages[0])
    bench.nothing_left()


def check(bench: Bench, verdict: str, sent: list[bytes]) -> None:
    """Run it; what was sent on or handed up is what had come."""
    bench.run(lambda: flood(bench, sent))
    assert bench.nic.queues[0].sent == (sent if verdict == "tx" else [])
    assert bench.collector.received == [COUNT if verdict == "pass" else 0]


@pytest.mark.parametrize("name", BY_DMA_API)
@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_machine_that_is_not_coherent(name: str, verdict: str, seed: int) -> None:
    sent = frames(COUNT, seed)
    bench = Bench(
        name,
        verdict,
        expected=[sent],
        rx_entries=RING,
        tx_entries=RING,
        profile=noncoherent_profile(),
        cache_seed=seed,
    )
    check(bench, verdict, sent)
    assert bench.core.op("dma.cache_invalidate_line").count > 0
    assert bench.core.op("cpu.uncached").count > 0


@pytest.mark.parametrize("name", BY_DMA_API)
@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
@pytest.mark.parametrize("coherent", [True, False])
def test_with_everything_bounced(name: str, verdict: str, coherent: bool) -> None:
    sent = frames(COUNT, 3)
    profile = None if coherent else noncoherent_profile()
    bench = Bench(name, verdict, expected=[sent], rx_entries=RING, tx_entries=RING, profile=profile, pool_buffers=64)
    bounce = BounceDma(BouncePool(bench.host.pages[0], 1024), force=True)
    bench.host.set_dma_ops(bounce)
    check(bench, verdict, sent)
    assert bounce.bounced
    assert not bounce.full


@pytest.mark.parametrize("name", ["page_per_packet", "page_pool"])
def test_hypercalls_are_paid_for_each_mapping(name: str) -> None:
    sent = frames(COUNT, 3)
    bench = Bench(name, "pass", expected=[sent], rx_entries=RING, tx_entries=RING)
    hypercalls = HypercallDma()
    bench.host.set_dma_ops(hypercalls)
    check(bench, "pass", sent)
    assert hypercalls.maps == hypercalls.unmaps == bench.core.op("dma.hypercall_map").count
    assert (hypercalls.maps > COUNT) == (name == "page_per_packet")


@pytest.mark.parametrize("name", ["page_per_packet", "page_pool"])
def test_a_full_bounce_pool_starves_the_ring_and_is_counted(name: str) -> None:
    sent = frames(COUNT, 3)
    bench = Bench(name, "drop", rx_entries=256, tx_entries=RING)
    bounce = BounceDma(BouncePool(bench.host.pages[0], 128), force=True)
    bench.host.set_dma_ops(bounce)
    bench.run(lambda: flood(bench, sent))
    assert bounce.full
    assert bench.total("rx_no_memory")


def forget(strategy: Any, buffer: Any, length: int) -> None:
    """A driver that hands up what it did not sync."""


@pytest.mark.parametrize("bounced", [False, True])
def test_a_forgotten_sync_shows_stale_bytes(bounced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagePoolStrategy, "received", forget)
    outcomes: set[bool] = set()
    for seed in range(1 if bounced else 12):
        sent = frames(COUNT, seed)
        bench = Bench(
            "page_pool",
            "pass",
            checked=False,
            expected=[sent],
            rx_entries=RING,
            profile=None if bounced else noncoherent_profile(),
            cache_seed=seed,
        )
        if bounced:
            bench.host.set_dma_ops(BounceDma(BouncePool(bench.host.pages[0], 1024), force=True))
        outcomes.add(stale(lambda bench=bench, sent=sent: bench.run(lambda: flood(bench, sent))))
    assert True in outcomes


def stale(play: Callable[[], object]) -> bool:
    """Whether the collector of frames met one that is not what was sent."""
    try:
        play()
    except AssertionError as error:
        assert "frame" in str(error).lower()
        return True
    return False
