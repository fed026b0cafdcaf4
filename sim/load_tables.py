# SPDX-License-Identifier: BSD-2-Clause
"""Device directory and page table for a load generator, written straight into memory: no CPU takes part."""

from typing import Any

import numpy as np

from hw.abi.iommu import (
    CONTEXT_BYTES,
    NAPOT_PPN,
    PAGE_SHIFT,
    PTE_BYTES,
    DeviceContext,
    DirectoryMode,
    FirstMode,
    PageTableEntry,
)

_levels: Any = DirectoryMode.LVL1

PAGE = 1 << PAGE_SHIFT
INDEX_BITS = 9  #: of a virtual address, for each level
PAGE_SIZES = (4096, 65536, 2 << 20)  #: that a window can be mapped with
MODES = {3: FirstMode.SV39, 4: FirstMode.SV48}  #: by levels
PSCID = 1
DEVICE_ID = 3
DIRECTORY: int = _levels.value  #: mode for register ddtp: the directory has one level
PPN_SHIFT = 10  #: of entries
LEAF = {"v": 1, "r": 1, "w": 1, "u": 1, "a": 1, "d": 1}


def table_bytes(window: int, levels: int) -> int:
    """Memory for the directory and the tables of a window."""
    pages = 1 + levels
    for level in range(1, levels):
        pages += -(-window // (PAGE << INDEX_BITS * level))
    return pages * PAGE


def write_tables(
    memory: np.ndarray,
    *,
    at: int,
    virtual: int,
    physical: int,
    window: int,
    page: int,
    levels: int,
    ats: bool = False,
) -> int:
    """Map a window, and nothing else, for :data:`DEVICE_ID`: first stage, A and D set.

    Parameters
    ----------
    memory : bytes of host memory
    at : where the structures go, :func:`table_bytes` from a page on that is zero
    virtual, physical : the window's addresses, multiples of ``page``
    window : bytes, rounded up to whole pages of size ``page``
    page : one of :data:`PAGE_SIZES`
    levels : 3 (Sv39) or 4 (Sv48)
    ats : the device may ask for translations, and use them

    Returns the page number of the directory's root, of one level.
    """
    if page not in PAGE_SIZES:
        raise ValueError(f"Page size must be one of {', '.join(map(str, PAGE_SIZES))}, not {page!r}")
    if levels not in MODES:
        raise ValueError(f"Levels of the page table must be 3 or 4, not {levels!r}")
    if at % PAGE or virtual % page or physical % page:
        raise ValueError(f"Tables and window must be aligned to their pages, not {at:#x}, {virtual:#x}, {physical:#x}")
    words = memory.view(np.uint64)
    window = -(-window // page) * page
    directory, root = at, at + PAGE
    free = root + PAGE
    context: Any = DeviceContext.const(
        {
            "tc": {"v": 1, "en_ats": ats},
            "ta": {"pscid": PSCID},
            "fsc": {"ppn": root >> PAGE_SHIFT, "mode": MODES[levels]},
        }
    )
    place = directory + DEVICE_ID * CONTEXT_BYTES
    memory[place : place + CONTEXT_BYTES] = np.frombuffer(context.as_bits().to_bytes(CONTEXT_BYTES, "little"), np.uint8)

    leaf_level = 1 if page == PAGE_SIZES[2] else 0
    tables = {virtual >> PAGE_SHIFT + INDEX_BITS * levels: root}  # of a level, by the number of the entry that names it
    for level in range(levels - 1, leaf_level, -1):
        covers = PAGE << INDEX_BITS * level
        below = {}
        for number in range(virtual // covers, -(-(virtual + window) // covers)):
            below[number] = free
            words[_slot(tables[number >> INDEX_BITS], number)] = _bits(v=1, ppn=free >> PAGE_SHIFT)
            free += PAGE
        tables = below
    covers = PAGE << INDEX_BITS * leaf_level
    for number, table in tables.items():
        first = max(number << INDEX_BITS, virtual // covers)
        last = min((number + 1) << INDEX_BITS, (virtual + window) // covers)
        targets = (np.arange(first, last, dtype=np.uint64) - np.uint64(virtual // covers)) * np.uint64(covers)
        targets += np.uint64(physical)
        extra = {}
        if page == PAGE_SIZES[1]:
            targets = targets // np.uint64(page) * np.uint64(page)
            extra = {"n": 1, "ppn": NAPOT_PPN}
        entries = (targets >> np.uint64(PAGE_SHIFT) << np.uint64(PPN_SHIFT)) | np.uint64(_bits(**LEAF, **extra))
        words[_slot(table, first) : _slot(table, first) + len(entries)] = entries
    return directory >> PAGE_SHIFT


def _slot(table: int, number: int) -> int:
    return table // PTE_BYTES + number % (1 << INDEX_BITS)


def _bits(**fields: int) -> int:
    constant: Any = PageTableEntry.const(fields)
    return constant.as_bits()
