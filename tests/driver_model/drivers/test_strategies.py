# SPDX-License-Identifier: BSD-2-Clause
"""What each buffer strategy does for one buffer's life, in operations of the cost profile."""

from typing import Any

import pytest

from driver_model.drivers.strategies import strategy
from driver_model.drivers.strategies.base import SKB_TAILROOM, PostedStrategy
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench

MEMORY = ("page.alloc", "page.free", "dma.map", "dma.unmap", "dma.sync_for_cpu", "dma.sync_for_device")
POOL = ("page_pool.alloc_fast", "page_pool.put_direct", "page_pool.put_ring")


class Kit:
    """A strategy, and how often it asked for each operation."""

    def __init__(self, name: str) -> None:
        self.bench = Bench()
        softnet = self.bench.host.softnets[0]
        self.napi = Napi(softnet, lambda budget: 0)
        made = strategy(name)(self.bench.host.devices[0], 64, self.napi)
        assert isinstance(made, PostedStrategy)
        self.strategy = made

    def allocate(self) -> tuple[int, Any]:
        got = self.strategy.allocate()
        assert got is not None
        return got

    def counts(self) -> dict[str, int]:
        operations = {name: self.bench.core.op(name).count for name in (*MEMORY, *POOL)}
        return {name: count for name, count in operations.items() if count}


def test_data_is_aligned_and_leaves_room_for_an_skb() -> None:
    for name in ("page_per_packet", "page_pool"):
        kit = Kit(name)
        dma_address, buffer = kit.allocate()
        assert dma_address == buffer.address + kit.strategy.headroom
        assert dma_address % 64 == 0
        assert kit.strategy.headroom + kit.strategy.buffer_length + SKB_TAILROOM == 4096


def test_a_page_per_packet_is_mapped_and_freed_each_time() -> None:
    kit = Kit("page_per_packet")
    for _ in range(10):
        _, buffer = kit.allocate()
        assert kit.strategy.in_flight == 1
        kit.strategy.received(buffer, 60)
        kit.strategy.release(buffer)
    assert kit.counts() == {"page.alloc": 10, "page.free": 10, "dma.map": 10, "dma.unmap": 10}
    assert kit.strategy.in_flight == 0


def test_a_page_per_packet_is_mapped_again_to_be_sent() -> None:
    kit = Kit("page_per_packet")
    _, buffer = kit.allocate()
    kit.strategy.received(buffer, 60)
    assert kit.strategy.transmit(buffer, 60) == buffer.address + 256
    kit.strategy.transmitted(buffer, 60)
    assert kit.counts() == {"page.alloc": 1, "page.free": 1, "dma.map": 2, "dma.unmap": 2}


def test_a_pool_page_is_only_synced() -> None:
    kit = Kit("page_pool")
    kit.strategy.release(kit.allocate()[1])
    before = kit.counts()
    for _ in range(10):
        _, buffer = kit.allocate()
        kit.strategy.received(buffer, 60)
        kit.strategy.release(buffer)
    spent = {name: count - before.get(name, 0) for name, count in kit.counts().items() if count > before.get(name, 0)}
    assert spent == {
        "dma.sync_for_cpu": 10,
        "dma.sync_for_device": 10,
        "page_pool.alloc_fast": 10,
        "page_pool.put_ring": 10,
    }


@pytest.mark.parametrize("name", ["page_per_packet", "page_pool"])
def test_withdrawn_buffers_leave_nothing(name: str) -> None:
    kit = Kit(name)
    buffers = [kit.allocate()[1] for _ in range(20)]
    for buffer in buffers:
        kit.strategy.withdraw(buffer)
    kit.strategy.close()
    assert kit.strategy.in_flight == 0
    assert kit.bench.host.pages_in_use == 0
    assert kit.bench.checker is not None
    kit.bench.checker.finish()


@pytest.mark.parametrize("name", ["page_per_packet", "page_pool"])
def test_no_memory(name: str) -> None:
    kit = Kit(name)
    while kit.bench.host.pages[0].alloc_pages() is not None:
        pass
    assert kit.strategy.allocate() is None
    assert kit.strategy.in_flight == 0
