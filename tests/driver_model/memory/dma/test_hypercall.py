# SPDX-License-Identifier: BSD-2-Clause
"""Mapping at the price of a hypercall."""

import random
from typing import Any

import pytest

from driver_model.memory.dma.api import (
    DMA_MAPPING_ERROR,
    dma_map_page,
    dma_map_single,
    dma_mapping_error,
    dma_sync_single_for_cpu,
    dma_unmap_page,
    dma_unmap_single,
)
from driver_model.memory.dma.hypercall import HypercallDma
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, TO, Kit
from tests.driver_model.noncoherent_kit import noncoherent_profile

WINDOW = range(0x8000_0000, 0x8000_0000 + 64 * 4096)


class HypercallKit(Kit):
    """A device under a hypervisor."""

    def __init__(self, window: range | None = WINDOW, **bench: Any) -> None:
        super().__init__(**bench)
        self.dma = HypercallDma(window)
        self.bench.host.set_dma_ops(self.dma)

    @property
    def calls(self) -> tuple[int, int]:
        return self.core.op("dma.hypercall_map").count, self.core.op("dma.hypercall_unmap").count


def test_each_map_and_unmap_is_a_call_and_syncs_are_none() -> None:
    kit = HypercallKit()
    address = kit.map(kit.page(), BOTH)
    dma_sync_single_for_cpu(kit.dev, address, 64, BOTH)
    assert kit.calls == (1, 0)
    dma_unmap_page(kit.dev, address, 4096, BOTH)
    assert kit.calls == (1, 1)
    assert (kit.dma.maps, kit.dma.unmaps) == (1, 1)


def test_a_call_covers_so_many_pages() -> None:
    kit = HypercallKit(None, memory=16 << 20)
    page = kit.page(order=10)
    address = dma_map_single(kit.dev, page.address + 64, 512 * 4096, TO)
    assert not dma_mapping_error(kit.dev, address)
    dma_unmap_single(kit.dev, address, 512 * 4096, TO)
    assert kit.calls == (2, 2)


def test_physical_addresses_without_a_window() -> None:
    kit = HypercallKit(None)
    page = kit.page()
    assert kit.map(page) == page.address
    assert kit.dma.physical(page.address + 5) == page.address + 5


def test_a_window_translates_page_by_page() -> None:
    kit = HypercallKit()
    page = kit.page(order=2)
    address = dma_map_page(kit.dev, page, 1000, 9000, TO)
    assert not dma_mapping_error(kit.dev, address)
    assert address in WINDOW
    assert address % 4096 == 1000
    for offset in (0, 5000, 8999):
        assert kit.dma.physical(address + offset) == page.address + 1000 + offset
    dma_unmap_page(kit.dev, address, 9000, TO)
    with pytest.raises(ValueError, match=f"{address:#x} is not mapped"):
        kit.dma.physical(address)


def test_a_window_runs_out_and_recovers() -> None:
    seed = 8
    print(f"seed {seed}")
    rng = random.Random(seed)
    kit = HypercallKit()
    pages = [kit.page(order=2) for _ in range(30)]
    held: dict[int, int] = {}
    for _ in range(500):
        page, size = rng.choice(pages), rng.randrange(1, 16384)
        address = dma_map_page(kit.dev, page, 0, size, TO)
        if dma_mapping_error(kit.dev, address):
            address = rng.choice(sorted(held))
            dma_unmap_page(kit.dev, address, held.pop(address), TO)
            continue
        assert not any(other < address + size and address < other + held[other] for other in held)
        held[address] = size
    assert kit.dma.failures == kit.dev.map_errors > 0
    for address, size in held.items():
        dma_unmap_page(kit.dev, address, size, TO)
    block = kit.page(kit.dev.pages.get_order(len(WINDOW)))
    assert dma_map_page(kit.dev, block, 0, len(WINDOW), TO) == WINDOW.start
    assert dma_map_page(kit.dev, pages[0], 0, 1, TO) == DMA_MAPPING_ERROR
    assert not kit.checker.violations


def test_unmapping_to_rewrite_a_header_can_destroy_it() -> None:
    """Which is why pages that a device writes were read-only on such machines."""
    seen = set()
    for seed in range(40):
        kit = HypercallKit(profile=noncoherent_profile(), cache_seed=seed)
        page = kit.page()
        address = kit.map(page)
        kit.bench.platform.device_write(page.address, b"device")
        dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
        kit.core.store_owned(page.address, b"header")
        dma_unmap_page(kit.dev, address, 4096, FROM)
        seen.add(kit.core.load_owned(page.address, 6))
    assert seen == {b"device", b"header"}


@pytest.mark.parametrize(
    "window", [range(0), range(100, 8192), range(4096, 5000), range(0, 8192, 2), range(-4096, 4096)]
)
def test_bad_window(window: range) -> None:
    with pytest.raises(ValueError, match=r"a range of whole pages of 4096 bytes, not range\("):
        HypercallDma(window)
