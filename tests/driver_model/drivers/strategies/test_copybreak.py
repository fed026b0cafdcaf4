# SPDX-License-Identifier: BSD-2-Clause
"""Short packets are copied and their pages stay posted; longer ones take theirs along."""

from typing import Any

import pytest

from driver_model.drivers.strategies.copybreak import RX_COPYBREAK, Copybreak
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench


class Kit:
    """The strategy alone."""

    def __init__(self, **options: Any) -> None:
        self.bench = Bench(**options)
        napi = Napi(self.bench.host.softnets[0], lambda budget: 0)
        self.strategy = Copybreak(self.bench.host.devices[0], 64, napi)

    def packet(self, data: bytes) -> tuple[Any, Any]:
        """Post a buffer and let a packet arrive there: the buffer, and what is handed up."""
        got = self.strategy.allocate()
        assert got is not None
        self.bench.platform.device_write(got[1].address + self.strategy.headroom, data)
        return got[1], self.strategy.received(got[1], len(data))

    def count(self, name: str) -> int:
        """Operations charged."""
        return self.bench.core.op(name).count

    def close(self) -> None:
        """Nothing is left."""
        self.strategy.close()
        self.bench.host.drain()
        assert (self.strategy.in_flight, self.bench.host.leaks()) == (0, [])
        assert self.bench.checker is not None
        self.bench.checker.finish()


@pytest.mark.parametrize("length", [60, RX_COPYBREAK])
def test_a_short_packet_is_copied_and_its_page_stays_mapped(length: int) -> None:
    kit = Kit()
    data = bytes(range(256))[:length]
    pages = set()
    for _ in range(10):
        page, copy = kit.packet(data)
        pages.add(page)
        place = copy.address + kit.strategy.headroom
        assert kit.bench.core.load_owned(place, length) == data
        assert kit.strategy.memory(None, copy).writable
        assert kit.strategy.memory(None, copy).size == copy.object.size
        kit.strategy.release(copy)
    assert len(pages) == 1
    assert kit.strategy.statistics() == {"rx_copybreak": 10}
    assert (kit.count("dma.map"), kit.count("dma.unmap")) == (1, 0)
    assert (kit.count("dma.sync_for_cpu"), kit.count("dma.sync_for_device")) == (10, 10)
    assert kit.count("cpu.copy_line") == 10 * -(-length // 64)
    kit.close()


def test_a_longer_packet_takes_its_page_along() -> None:
    kit = Kit()
    page, buffer = kit.packet(bytes(RX_COPYBREAK + 1))
    assert buffer is page
    memory = kit.strategy.memory(None, page)
    assert (memory.writable, memory.recycles, memory.size) == (False, False, 4096)
    assert (kit.count("dma.unmap"), kit.strategy.copied) == (1, 0)
    kit.strategy.release(page)
    kit.close()


@pytest.mark.parametrize("length", [60, 1000])
def test_either_is_sent(length: int) -> None:
    kit = Kit()
    _, buffer = kit.packet(bytes(length))
    assert kit.strategy.transmit(buffer, length) == buffer.address + kit.strategy.headroom
    kit.strategy.transmitted(buffer, length)
    kit.close()


def test_without_memory_for_the_copy_the_page_stays() -> None:
    kit = Kit(memory=2 << 20)
    copies = []
    page = kit.strategy.allocate()
    assert page is not None
    while kit.bench.host.pages[0].alloc_pages() is not None:
        pass
    while (copy := kit.strategy.received(page[1], 60)) is not None:
        copies.append(copy)
        page = kit.strategy.allocate()
        assert page is not None
    assert kit.strategy.in_flight == 1 + len(copies)
    assert kit.strategy.allocate() is not None, "it is posted again"
