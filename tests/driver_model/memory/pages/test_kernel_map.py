# SPDX-License-Identifier: BSD-2-Clause
"""Areas of the kernel's address space."""

from typing import Any

import pytest

from driver_model.memory.pages.kernel_map import (
    RODATA_END,
    RODATA_START,
    TEXT_END,
    TEXT_START,
    VMALLOC_END,
    VMALLOC_START,
    Area,
    KernelMap,
)

MEMORY = 1 << 20


@pytest.mark.parametrize(
    ("address", "size", "area"),
    [
        (4096, MEMORY - 4096, Area.DIRECT_MAP),
        (4095, 64, Area.INVALID),
        (MEMORY - 63, 64, Area.INVALID),
        (MEMORY, 64, Area.INVALID),
        (VMALLOC_START - 1, 1, Area.INVALID),
        (VMALLOC_START, 64, Area.VMALLOC),
        (VMALLOC_END, 64, Area.INVALID),
        (TEXT_START - 63, 64, Area.TEXT),
        (TEXT_START - 64, 64, Area.INVALID),
        (TEXT_END - 1, 64, Area.TEXT),
        (RODATA_START, 64, Area.RODATA),
        (RODATA_END - 1, 1, Area.RODATA),
        (RODATA_END, 1, Area.INVALID),
    ],
)
def test_where_a_range_lies(address: int, size: int, area: Area) -> None:
    assert KernelMap(MEMORY).area(address, size) is area


def test_every_core_has_a_stack_of_its_own() -> None:
    areas = KernelMap(MEMORY)
    stacks = [areas.stack(core) for core in range(64)]
    assert all(areas.area(stack, 16 << 10) is Area.STACK for stack in stacks)
    assert len(set(stacks)) == 64


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (1.5, TypeError, "an integer, not 1.5"),
        (4096, ValueError, "more than a page"),
        (VMALLOC_START, ValueError, "below"),
    ],
)
def test_bad_size(size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        KernelMap(size)
