# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API without an IOMMU."""

from typing import Any

import pytest

from driver_model.memory.dma.api import (
    DMA_MAPPING_ERROR,
    Device,
    DirectDma,
    DmaDirection,
    dma_map_page,
    dma_map_single,
    dma_mapping_error,
    dma_need_sync,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_sync_single_range_for_cpu,
    dma_sync_single_range_for_device,
    dma_unmap_single,
)
from driver_model.memory.dma.bounce import BounceDma, BouncePool
from driver_model.memory.dma.ownership import OwnershipError
from tests.driver_model.bench import Bench


def test_each_call_is_charged_once() -> None:
    bench = Bench()
    dev = bench.host.devices[0]
    page = dev.pages.alloc_pages()
    assert page is not None
    address = dma_map_page(dev, page, 128, 1000, DmaDirection.FROM_DEVICE)
    assert address == page.address + 128
    assert not dma_mapping_error(dev, address)
    dma_sync_single_for_cpu(dev, address, 60, DmaDirection.FROM_DEVICE)
    dma_sync_single_for_device(dev, address, 60, DmaDirection.FROM_DEVICE)
    dma_unmap_single(dev, address, 1000, DmaDirection.FROM_DEVICE)
    counts = [dev.core.op(f"dma.{name}").count for name in ("map", "sync_for_cpu", "sync_for_device", "unmap")]
    assert counts == [1, 1, 1, 1]


def test_syncs_that_have_nothing_to_do_can_cost_nothing() -> None:
    """And are checked all the same."""
    bench = Bench(dma_skip_sync=True)
    dev = bench.host.devices[0]
    page = dev.pages.alloc_pages()
    assert page is not None
    address = dma_map_page(dev, page, 0, 1000, DmaDirection.FROM_DEVICE)
    assert not dma_need_sync(dev, address)
    before = dev.core.time
    dma_sync_single_for_cpu(dev, address, 60, DmaDirection.FROM_DEVICE)
    dev.core.time -= dev.core.op("cpu.load").ps
    dev.core.load_owned(page.address, 60)
    dma_sync_single_for_device(dev, address, 60, DmaDirection.FROM_DEVICE)
    assert dev.core.time == before
    with pytest.raises(OwnershipError, match="cpu access of device memory"):
        dev.core.load_owned(page.address, 60)


def test_syncs_that_may_have_something_to_do_cost_what_they_cost() -> None:
    bench = Bench(dma_skip_sync=True)
    bench.host.set_dma_ops(BounceDma(BouncePool(bench.host.pages[0], 128), force=True))
    dev = bench.host.devices[0]
    page = dev.pages.alloc_pages()
    assert page is not None
    address = dma_map_page(dev, page, 0, 1000, DmaDirection.FROM_DEVICE)
    assert dma_need_sync(dev, address)
    dma_sync_single_for_cpu(dev, address, 60, DmaDirection.FROM_DEVICE)
    dma_sync_single_for_device(dev, address, 60, DmaDirection.FROM_DEVICE)
    assert dev.op_sync_cpu.count == dev.op_sync_device.count == 1


def test_a_range_of_a_mapping_is_synced_by_its_offset() -> None:
    bench = Bench()
    dev = bench.host.devices[0]
    page = dev.pages.alloc_pages()
    assert page is not None
    address = dma_map_page(dev, page, 0, 1000, DmaDirection.BIDIRECTIONAL)
    dma_sync_single_range_for_cpu(dev, address, 100, 60, DmaDirection.BIDIRECTIONAL)
    dev.core.store_owned(page.address + 100, bytes(60))
    dma_sync_single_range_for_device(dev, address, 100, 30, DmaDirection.BIDIRECTIONAL)
    dev.core.load_owned(page.address + 130, 30)
    with pytest.raises(OwnershipError, match=f"read of 1 bytes at {page.address + 129:#x}"):
        dev.core.load_owned(page.address + 129, 1)


def test_an_address_beyond_the_mask_cannot_be_mapped() -> None:
    bench = Bench(checked=False)
    dev = Device(bench.core, bench.host.pages[0], DirectDma((1 << 20) - 1), bench.checker)
    assert dma_map_single(dev, (1 << 20) - 64, 65, DmaDirection.TO_DEVICE) == DMA_MAPPING_ERROR
    assert dma_mapping_error(dev, DMA_MAPPING_ERROR)
    assert dev.map_errors == 1
    assert dma_map_single(dev, (1 << 20) - 64, 64, DmaDirection.TO_DEVICE) == (1 << 20) - 64


def test_bad_arguments() -> None:
    dev = Bench().host.devices[0]
    with pytest.raises(ValueError, match="positive size and a direction, not 0 and"):
        dma_map_single(dev, 4096, 0, DmaDirection.TO_DEVICE)
    with pytest.raises(ValueError, match="positive size and a direction, not 4 and <DmaDirection.NONE"):
        dma_map_single(dev, 4096, 4, DmaDirection.NONE)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [(True, TypeError, "an integer, not True"), (0, ValueError, "not 0"), (0x1000, ValueError, "not 4096")],
)
def test_bad_mask(mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DirectDma(mask)
