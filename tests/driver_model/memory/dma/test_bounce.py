# SPDX-License-Identifier: BSD-2-Clause
"""Bounce buffers: what is copied when, and how slots are handed out."""

import random
from typing import Any

import pytest

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DMA_MAPPING_ERROR,
    dma_map_page,
    dma_map_page_attrs,
    dma_mapping_error,
    dma_need_sync,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
    dma_unmap_page_attrs,
)
from driver_model.memory.dma.bounce import IO_TLB_SEGSIZE, IO_TLB_SIZE, SEGMENT_BYTES, BounceDma, BouncePool
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.pages.page import Page
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, TO, Kit, caught


class BounceKit(Kit):
    """A device that reaches slots only."""

    def __init__(self, slots: int = 256, **bench: Any) -> None:
        super().__init__(**bench)
        self.dma = BounceDma(BouncePool(self.dev.pages, slots), force=True)
        self.bench.host.set_dma_ops(self.dma)

    def filled(self, byte: bytes = b"c") -> Page:
        page = self.page()
        self.core.store_owned(page.address, byte * 4096)
        return page

    def memory(self, address: int, length: int) -> bytes:
        return self.bench.platform.read(address, length)

    def device_writes(self, address: int, data: bytes) -> None:
        self.bench.platform.device_write(address, data)
        self.device(self.cycle, address, len(data))


@pytest.fixture
def kit() -> BounceKit:
    return BounceKit()


def test_what_the_device_reads_is_copied_to_it(kit: BounceKit) -> None:
    page = kit.filled()
    address = kit.map(page, TO, 1000)
    assert address != page.address
    assert kit.memory(address, 1000) == b"c" * 1000
    kit.device(kit.cycle, address, 1000, write=False)
    dma_sync_single_for_cpu(kit.dev, address, 1000, TO)
    kit.core.store_owned(page.address, b"new")
    assert kit.memory(address, 3) == b"ccc"
    dma_sync_single_for_device(kit.dev, address, 100, TO)
    assert kit.memory(address, 3) == b"new"
    dma_unmap_page(kit.dev, address, 1000, TO)
    kit.checker.finish()
    assert kit.dma.pool.used == 0


def test_what_the_device_writes_is_copied_from_it(kit: BounceKit) -> None:
    page = kit.filled()
    address = kit.map(page, FROM)
    kit.device_writes(address, b"device" * 20)
    assert kit.memory(page.address, 6) == b"cccccc"
    dma_sync_single_for_cpu(kit.dev, address, 6, FROM)
    assert kit.core.load_owned(page.address, 6) == b"device"
    assert kit.memory(page.address, 7) == b"devicec"
    dma_sync_single_for_device(kit.dev, address, 6, FROM)
    kit.device_writes(address + 4000, b"tail")
    dma_unmap_page(kit.dev, address, 4096, FROM)
    assert kit.core.load_owned(page.address, 12) == b"devicedevice"
    assert kit.core.load_owned(page.address + 3999, 6) == b"ctailc"


def test_bytes_that_the_device_left_alone_come_back_as_they_were(kit: BounceKit) -> None:
    """And not what the slot's last user left there."""
    secret = kit.map(kit.filled(b"s"), TO)
    dma_unmap_page(kit.dev, secret, 4096, TO)
    page = kit.filled()
    address = kit.map(page, FROM)
    assert address == secret
    kit.device_writes(address, b"short")
    dma_unmap_page(kit.dev, address, 4096, FROM)
    assert kit.core.load_owned(page.address, 4096) == b"short" + b"c" * 4091


def test_a_missing_sync_shows_stale_bytes_and_the_checker_tells() -> None:
    kit = BounceKit(checked=True)
    page = kit.filled()
    address = kit.map(page, FROM)
    kit.device_writes(address, b"device")
    caught("cpu access of device memory", lambda: kit.core.load_owned(page.address, 6), "without sync_for_cpu")
    kit.checker.stop = False
    assert kit.core.load_owned(page.address, 6) == b"cccccc"


def test_what_the_cpu_wrote_to_a_buffer_of_the_device_is_destroyed(kit: BounceKit) -> None:
    page = kit.filled()
    address = kit.map(page, FROM)
    kit.device_writes(address, b"device header")
    dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
    kit.core.store_owned(page.address, b"mine")
    dma_unmap_page(kit.dev, address, 4096, FROM)
    assert kit.core.load_owned(page.address, 13) == b"device header"


def test_nothing_is_copied_back_where_that_is_skipped(kit: BounceKit) -> None:
    page = kit.filled()
    address = dma_map_page_attrs(kit.dev, page, 0, 4096, BOTH, DMA_ATTR_SKIP_CPU_SYNC)
    assert not dma_mapping_error(kit.dev, address)
    kit.device_writes(address, b"device")
    dma_unmap_page_attrs(kit.dev, address, 4096, BOTH, DMA_ATTR_SKIP_CPU_SYNC)
    assert kit.core.load_owned(page.address, 6) == b"cccccc"
    assert kit.dma.pool.used == 0


def test_the_device_is_judged_at_the_slots(kit: BounceKit) -> None:
    page = kit.filled()
    address = kit.map(page, FROM, 100)
    caught("device access outside a mapping", lambda: kit.device(kit.cycle, page.address, 64))
    caught("device access outside a mapping", lambda: kit.device(kit.cycle, address + 64, 64))
    dma_unmap_page(kit.dev, address, 100, FROM)
    kit.core.time += 10**5
    caught("device access after unmap", lambda: kit.device(kit.cycle, address, 64), f"{page.address:#x}")


def test_only_what_the_device_does_not_reach_is_bounced() -> None:
    kit = Kit()
    pool = BouncePool(kit.dev.pages, 128)
    mask = (1 << pool.segments[0].address.bit_length()) - 1
    kit.bench.host.set_dma_ops(dma := BounceDma(pool, max(mask, SEGMENT_BYTES * 2 - 1)))
    pages = [kit.page() for _ in range(1000)]
    near = next(page for page in pages if page.address + 4095 <= dma.mask)
    far = next(page for page in pages if page.address > dma.mask)
    assert kit.map(near, TO) == near.address
    assert not dma_need_sync(kit.dev, near.address)
    bounced = kit.map(far, TO)
    assert bounced <= dma.mask
    assert dma_need_sync(kit.dev, bounced)
    assert dma.bounced == 1


def test_coherent_memory_is_not_bounced(kit: BounceKit) -> None:
    def use() -> None:
        ring = dma_alloc_coherent(kit.dev, 4096)
        assert ring is not None
        assert ring.dma_address == ring.address
        dma_free_coherent(kit.dev, ring)

    kit.bench.run(use)
    assert kit.dma.bounced == 0


def test_slots_of_a_buffer_are_contiguous_and_in_one_segment(kit: BounceKit) -> None:
    seed = 4
    print(f"seed {seed}")
    rng = random.Random(seed)
    pool = BouncePool(kit.dev.pages, 3 * IO_TLB_SEGSIZE)
    held: dict[int, int] = {}
    taken: set[int] = set()
    refused = 0
    for _ in range(3000):
        size = rng.choice([1, 60, 2048, 2049, 4096, 9000, 65536, SEGMENT_BYTES])
        slots = -(-size // IO_TLB_SIZE)
        if rng.randrange(2):
            address = pool.alloc(size)
            if address is None:
                refused += 1
                continue
            mine = set(range(address // IO_TLB_SIZE, address // IO_TLB_SIZE + slots))
            assert not mine & taken
            assert address // SEGMENT_BYTES == (address + size - 1) // SEGMENT_BYTES
            assert address % (4096 if size >= 4096 else IO_TLB_SIZE) == 0
            held[address] = size
            taken |= mine
        elif held:
            address = rng.choice(sorted(held))
            size = held.pop(address)
            taken -= set(range(address // IO_TLB_SIZE, address // IO_TLB_SIZE - (-size // IO_TLB_SIZE)))
            pool.free(address, size)
        assert pool.used == len(taken)
    assert refused
    for address, size in held.items():
        pool.free(address, size)
    pool.exit(kit.dev.pages)


def test_a_full_pool_fails_mapping_and_is_counted() -> None:
    kit = BounceKit(slots=128)
    pages = [kit.page() for _ in range(65)]
    addresses = [kit.map(page, TO) for page in pages[:64]]
    assert dma_map_page(kit.dev, pages[64], 0, 64, TO) == DMA_MAPPING_ERROR
    assert kit.dma.full == kit.dev.map_errors == 1
    assert kit.dma.warning == "swiotlb buffer is full (sz: 64 bytes), total 128 (slots), used 128 (slots)"
    dma_unmap_page(kit.dev, addresses[3], 4096, TO)
    assert kit.map(pages[64], TO) == addresses[3]


def test_a_buffer_longer_than_a_segment_cannot_be_bounced(kit: BounceKit) -> None:
    page = kit.page(order=7)
    assert dma_map_page(kit.dev, page, 0, SEGMENT_BYTES + 1, TO) == DMA_MAPPING_ERROR
    assert not dma_mapping_error(kit.dev, dma_map_page(kit.dev, page, 0, SEGMENT_BYTES, TO))


def test_costs(kit: BounceKit) -> None:
    address = kit.map(kit.filled(), FROM, 1000)
    dma_sync_single_for_cpu(kit.dev, address, 60, FROM)
    dma_unmap_page(kit.dev, address, 1000, FROM)
    assert kit.core.op("dma.bounce_slot").count == 2
    assert kit.core.op("cpu.copy_line").count == 16 + 1 + 16
    assert kit.core.device_line.count == 1 + 16
    assert kit.dma.copied == 1000 + 60 + 1000


def test_slots_go_back_only_when_none_is_in_use(kit: BounceKit) -> None:
    address = kit.map(kit.page())
    with pytest.raises(RuntimeError, match="2 bounce slots are in use"):
        kit.dma.pool.exit(kit.dev.pages)
    dma_unmap_page(kit.dev, address, 4096, FROM)
    kit.dma.pool.exit(kit.dev.pages)


@pytest.mark.parametrize("slots", [128.0, True, "128"])
def test_bad_slots(kit: BounceKit, slots: Any) -> None:
    with pytest.raises(TypeError, match=f"slots must be an integer, not {slots!r}"):
        BouncePool(kit.dev.pages, slots)


def test_bad_arguments(kit: BounceKit) -> None:
    for slots in (0, 100):
        with pytest.raises(ValueError, match=f"positive multiple of 128, not {slots}"):
            BouncePool(kit.dev.pages, slots)
    with pytest.raises(ValueError, match="are beyond the device's mask 0xfff"):
        BounceDma(kit.dma.pool, 4095)


def test_a_pool_that_memory_is_too_short_for_takes_none(kit: BounceKit) -> None:
    before = kit.dev.pages.in_use
    with pytest.raises(MemoryError, match="No memory for 12800000 bounce slots"):
        BouncePool(kit.dev.pages, 12800000)
    assert kit.dev.pages.in_use == before
