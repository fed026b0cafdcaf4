# SPDX-License-Identifier: BSD-2-Clause
"""The tables of a load's window, read by the golden model: every address of it is mapped as said, and none around."""

import numpy as np
import pytest

from sim.load_tables import DEVICE_ID, DIRECTORY, table_bytes, write_tables
from tests.golden.model import Access, DirectoryMode, Iommu, Request
from tests.golden.paging import Memory

MEBI = 1 << 20
VIRTUAL = 3 << 30
PHYSICAL = 2 * MEBI


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("page", [4096, 65536, 2 * MEBI])
@pytest.mark.parametrize("window", [4096, 192 << 10, 5 * MEBI])
def test_the_window_is_mapped_and_nothing_else(levels: int, page: int, window: int) -> None:
    memory = np.zeros(12 * MEBI, np.uint8)
    at = 9 * MEBI
    root = write_tables(memory, at=at, virtual=VIRTUAL, physical=PHYSICAL, window=window, page=page, levels=levels)
    assert not memory[:at].any()
    assert not memory[at + table_bytes(window, levels) :].any()
    iommu = Iommu(Memory(bytearray(memory.tobytes())), DirectoryMode(DIRECTORY), root)
    mapped = -(-window // page) * page
    for offset in {0, 4095, *range(0, mapped, max(4096, mapped // 37 // 4096 * 4096)), mapped - 8}:
        result = iommu.translate(Request(DEVICE_ID, VIRTUAL + offset, Access.WRITE))
        assert (result.address, result.size) == (PHYSICAL + offset, page)
        assert not result.updates
    for outside in (VIRTUAL - 1, VIRTUAL + mapped, PHYSICAL):
        assert iommu.translate(Request(DEVICE_ID, outside)).address is None
    assert iommu.translate(Request(DEVICE_ID + 1, VIRTUAL)).address is None


def test_a_window_over_the_end_of_tables() -> None:
    memory = np.zeros(12 * MEBI, np.uint8)
    virtual = (1 << 30) - 8192  # over the end of a table of every level but the root's
    root = write_tables(memory, at=8 * MEBI, virtual=virtual, physical=8192, window=16384, page=4096, levels=4)
    iommu = Iommu(Memory(bytearray(memory.tobytes())), DirectoryMode(DIRECTORY), root)
    for offset in range(0, 16384, 4096):
        assert iommu.translate(Request(DEVICE_ID, virtual + offset)).address == 8192 + offset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"page": 8192}, "Page size must be one of 4096, 65536, 2097152, not 8192"),
        ({"levels": 5}, "Levels of the page table must be 3 or 4, not 5"),
        ({"physical": 4096, "page": 65536}, "must be aligned to their pages, not .* 0x1000"),
    ],
)
def test_what_cannot_be_mapped_is_refused(changes: dict[str, int], message: str) -> None:
    arguments = {"at": 0, "virtual": VIRTUAL, "physical": PHYSICAL, "window": 4096, "page": 4096, "levels": 3}
    with pytest.raises(ValueError, match=message):
        write_tables(np.zeros(MEBI, np.uint8), **(arguments | changes))
