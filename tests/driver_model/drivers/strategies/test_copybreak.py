# SPDX-License-Identifier: BSD-2-Clause
"""The driver that keeps the pages of short packets, one buffer's life at a time."""

from typing import Any

import pytest

from driver_model.drivers.strategies.base import BufferStrategy
from driver_model.drivers.strategies.copybreak import RX_COPYBREAK, Copybreak
from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench, frames
from tests.driver_model.noncoherent_kit import noncoherent_profile

LINES = PAGE_SIZE // 64
NAMES = ("page.alloc", "page.free", "dma.map", "dma.unmap", "dma.sync_for_cpu", "dma.sync_for_device")
CACHE = ("dma.cache_clean_line", "dma.cache_invalidate_line")


class Kit:
    """The strategy on a machine that is not coherent, and what it has asked for since the last look."""

    def __init__(self) -> None:
        self.bench = Bench(profile=noncoherent_profile())
        napi = Napi(self.bench.host.softnets[0], lambda budget: 0)
        self.strategy = Copybreak(self.bench.host.devices[0], 64, napi)
        self._before: dict[str, int] = {}
        self.spent()

    def allocate(self) -> Any:
        got = self.strategy.allocate()
        assert got is not None
        address, page = got
        assert address == page.address + self.strategy.headroom
        return page

    def spent(self) -> dict[str, int]:
        """Operations since the last call."""
        counts = {name: self.bench.core.op(name).count for name in (*NAMES, *CACHE)}
        spent = {name: count - self._before.get(name, 0) for name, count in counts.items()}
        self._before = counts
        return {name: count for name, count in spent.items() if count}

    def nothing_left(self) -> None:
        """No page is in use, and none is mapped."""
        assert self.strategy.in_flight == 0
        assert self.bench.host.pages_in_use == 0
        assert self.bench.checker is not None
        self.bench.checker.finish()


def test_a_page_is_mapped_whole() -> None:
    kit = Kit()
    kit.allocate()
    assert kit.spent() == {"page.alloc": 1, "dma.map": 1, "dma.cache_clean_line": LINES}


def test_the_page_of_a_short_packet_stays_mapped_and_is_posted_again() -> None:
    kit = Kit()
    page = kit.allocate()
    kit.spent()
    for _ in range(10):
        assert kit.strategy.received(page, RX_COPYBREAK) is page
        kit.strategy.release(page)
        assert kit.allocate() is page
    assert kit.spent() == {
        "dma.sync_for_cpu": 10,
        "dma.sync_for_device": 10,
        "dma.cache_invalidate_line": 10 * RX_COPYBREAK // 64,
        "dma.cache_clean_line": 10 * RX_COPYBREAK // 64,
    }
    assert kit.strategy.statistics() == {"rx_copybreak": 10}
    kit.strategy.withdraw(page)
    kit.nothing_left()


def test_a_longer_packet_takes_its_page_along() -> None:
    kit = Kit()
    page = kit.allocate()
    kit.spent()
    kit.strategy.received(page, RX_COPYBREAK + 1)
    kit.strategy.release(page)
    assert kit.spent() == {"dma.unmap": 1, "dma.cache_invalidate_line": LINES, "page.free": 1}
    assert kit.strategy.statistics() == {"rx_copybreak": 0}
    kit.nothing_left()


def test_a_short_packet_that_is_sent_takes_its_page_along_and_keeps_what_was_written_to_it() -> None:
    kit = Kit()
    page = kit.allocate()
    kit.strategy.received(page, 64)
    at = page.address + kit.strategy.headroom
    kit.bench.core.store_owned(at, b"w" * 64)
    assert kit.strategy.transmit(page, 64) == at
    assert kit.bench.platform.read(at, 64) == b"w" * 64
    kit.strategy.transmitted(page, 64)
    kit.nothing_left()


def test_pages_that_are_lent_when_it_is_closed_have_left_the_device() -> None:
    kit = Kit()
    kept, lent, long = (kit.allocate() for _ in range(3))
    for page, length in ((kept, 60), (lent, 60), (long, 600)):
        kit.strategy.received(page, length)
    kit.strategy.release(kept)
    kit.strategy.close()
    assert kit.bench.checker is not None
    kit.bench.checker.finish()
    assert kit.strategy.in_flight == 2
    kit.strategy.release(lent)
    kit.strategy.release(long)
    kit.nothing_left()


@pytest.mark.parametrize("length", [60, RX_COPYBREAK, RX_COPYBREAK + 1, 1514])
def test_the_stack_may_not_write_to_a_page(length: int) -> None:
    kit = Kit()
    page = kit.allocate()
    kit.strategy.received(page, length)
    strategy: BufferStrategy = kit.strategy
    assert not strategy.memory(None, page).writable


def test_short_packets_need_no_more_pages_than_the_ring() -> None:
    sent = frames(200, 4, high=RX_COPYBREAK)
    bench = Bench("copybreak", "pass", expected=[sent], rx_entries=32)

    def run() -> None:
        bench.start()
        before = bench.core.op("page.alloc").count
        for start in range(0, len(sent), 20):
            bench.nic.receive(0, sent[start : start + 20])
            bench.core.sleep_until(bench.core.time + 20 * 10**6)
        bench.wait(lambda: bench.total("rx_packets") == len(sent), "every frame")
        assert bench.core.op("page.alloc").count == before
        bench.finish()

    bench.run(run)
