# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of 32 KiB blocks: sixteen packets for one allocation, and one packet that pins it."""

import itertools

from driver_model.drivers.strategies.fragments import BUFFER_BYTES, FragmentBuffer, Fragments
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench


class Kit:
    """The strategy alone."""

    def __init__(self, memory: int = 8 << 20, page_size: int = 4096) -> None:
        self.bench = Bench(memory=memory, page_size=page_size)
        napi = Napi(self.bench.host.softnets[0], lambda budget: 0)
        self.strategy = Fragments(self.bench.host.devices[0], 64, napi)

    def packet(self) -> FragmentBuffer:
        """Let one arrive."""
        got = self.strategy.allocate()
        assert got is not None
        return self.strategy.received(got[1], 60)

    def close(self) -> None:
        """Nothing is left."""
        self.strategy.close()
        assert (self.strategy.in_flight, self.bench.host.pages_in_use) == (0, 0)
        assert self.bench.checker is not None
        self.bench.checker.finish()


def test_sixteen_packets_share_a_block_and_each_is_mapped() -> None:
    kit = Kit()
    buffers = [kit.packet() for _ in range(32)]
    assert kit.bench.host.pages_in_use == 2
    assert len({buffer.fragment.page for buffer in buffers[:16]}) == 1
    places = sorted(buffer.address for buffer in buffers)
    assert all(after - before >= BUFFER_BYTES for before, after in itertools.pairwise(places))
    assert kit.strategy.buffer_size * 16 == buffers[0].fragment.page.size, "truesize adds up to what is pinned"
    assert kit.bench.core.op("dma.map").count == kit.bench.core.op("dma.unmap").count == 32
    for buffer in buffers:
        kit.strategy.release(buffer)
    kit.close()


def test_one_held_fragment_pins_all() -> None:
    kit = Kit()
    buffers = [kit.packet() for _ in range(64)]
    for at, buffer in enumerate(buffers):
        if at % 16:
            kit.strategy.release(buffer)
    assert kit.strategy.in_flight == 4
    assert kit.strategy.cache.pinned_bytes == 4 * (32 << 10)
    for buffer in buffers[::16]:
        kit.strategy.release(buffer)
    kit.close()


def test_pages_are_read_only() -> None:
    kit = Kit()
    buffer = kit.packet()
    memory = kit.strategy.memory(None, buffer)
    assert (memory.writable, memory.recycles, memory.size) == (False, False, BUFFER_BYTES)
    kit.strategy.release(buffer)
    kit.close()


def test_a_page_of_64_kib_serves_thirty_two() -> None:
    kit = Kit(16 << 20, 1 << 16)
    buffers = [kit.packet() for _ in range(32)]
    assert kit.bench.host.pages_in_use == 1
    for buffer in buffers:
        kit.strategy.release(buffer)
    kit.close()


def test_sending_and_withdrawing() -> None:
    kit = Kit()
    buffer = kit.packet()
    assert kit.strategy.transmit(buffer, 60) == buffer.address + kit.strategy.headroom
    kit.strategy.transmitted(buffer, 60)
    got = kit.strategy.allocate()
    assert got is not None
    kit.strategy.withdraw(got[1])
    kit.close()


def test_no_memory() -> None:
    kit = Kit(memory=1 << 20)
    while kit.bench.host.pages[0].alloc_pages() is not None:
        pass
    assert kit.strategy.allocate() is None
    assert kit.strategy.in_flight == 0
