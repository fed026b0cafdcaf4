# SPDX-License-Identifier: BSD-2-Clause
"""Lists of buffers, mapped at once."""

from typing import Any

import pytest

from driver_model.memory.dma.api import DMA_MAPPING_ERROR, Device, DirectDma
from driver_model.memory.dma.scatterlist import (
    Scatterlist,
    dma_map_sg,
    dma_set_max_seg_size,
    dma_set_seg_boundary,
    dma_sync_sg_for_cpu,
    dma_sync_sg_for_device,
    dma_unmap_sg,
)
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, TO, Kit, caught


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_each_entry_is_mapped_synced_and_unmapped(kit: Kit) -> None:
    pages = [kit.page() for _ in range(3)]
    sgl = [Scatterlist(page, 64 * number, 1000) for number, page in enumerate(pages)]
    assert dma_map_sg(kit.dev, sgl, BOTH) == 3
    assert [entry.dma_address for entry in sgl] == [page.address + 64 * n for n, page in enumerate(pages)]
    for entry in sgl:
        kit.device(kit.cycle, entry.dma_address, 1000)
        caught("cpu access of device memory", lambda entry=entry: kit.core.load_owned(entry.address, 1))
    dma_sync_sg_for_cpu(kit.dev, sgl, BOTH)
    for entry in sgl:
        kit.core.store_owned(entry.address, bytes(1000))
    dma_sync_sg_for_device(kit.dev, sgl, BOTH)
    caught("cpu access of device memory", lambda: kit.core.load_owned(sgl[2].address + 999, 1))
    dma_unmap_sg(kit.dev, sgl, BOTH)
    kit.core.load_owned(sgl[2].address + 999, 1)
    kit.checker.finish()
    counts = [kit.core.op(f"dma.{name}").count for name in ("map", "sync_for_cpu", "sync_for_device", "unmap")]
    assert counts == [3, 3, 3, 3]
    assert all(entry.dma_address == DMA_MAPPING_ERROR for entry in sgl)


def test_nobody_has_to_ask_whether_entries_were_mapped(kit: Kit) -> None:
    sgl = [Scatterlist(kit.page(), 0, 64)]
    dma_map_sg(kit.dev, sgl, FROM)
    dma_unmap_sg(kit.dev, sgl, FROM)


def test_one_entry_that_cannot_be_mapped_leaves_none(kit: Kit) -> None:
    pages = [kit.page() for _ in range(2)]
    low, high = sorted(pages, key=lambda page: page.address)
    mask = (1 << high.address.bit_length() - 1) - 1
    while low.address > mask or high.address <= mask:
        high = kit.page()
        mask = (1 << high.address.bit_length() - 1) - 1
    dev = Device(kit.core, kit.dev.pages, DirectDma(mask), kit.checker)
    sgl = [Scatterlist(low, 0, 64), Scatterlist(high, 0, 64), Scatterlist(low, 64, 64)]
    assert dma_map_sg(dev, sgl, TO) == 0
    assert dev.map_errors == 1
    assert all(entry.dma_address == DMA_MAPPING_ERROR for entry in sgl)
    kit.checker.finish()


@pytest.mark.parametrize("length", [0, -1])
def test_bad_lists(kit: Kit, length: int) -> None:
    with pytest.raises(ValueError, match="entries of positive length and a direction"):
        dma_map_sg(kit.dev, [Scatterlist(kit.page(), 0, length)], TO)
    with pytest.raises(ValueError, match=r"a direction, not \[\]"):
        dma_map_sg(kit.dev, [], TO)


@pytest.mark.parametrize(
    ("set_limit", "value", "message"),
    [
        (dma_set_max_seg_size, 0, "Segment size must be positive, not 0"),
        (dma_set_seg_boundary, 4096, "power of two less one, not 4096"),
        (dma_set_seg_boundary, 0, "not 0"),
    ],
)
def test_bad_limits(kit: Kit, set_limit: Any, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_limit(kit.dev, value)
