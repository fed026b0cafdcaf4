# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's arithmetic, against what the kernel shows and against its rules."""

import pytest

from driver_model.memory.slab.layout import (
    calculate_order,
    cpu_partial_objects,
    cpu_partial_slabs,
    get_order,
    min_partial,
)


@pytest.mark.parametrize(
    ("size", "order", "objects"),
    [
        (8, 0, 512),
        (64, 0, 64),
        (96, 0, 42),
        (192, 0, 21),
        (256, 1, 32),
        (512, 2, 32),
        (1024, 3, 32),
        (2048, 3, 16),
        (4096, 3, 8),
        (8192, 3, 4),
    ],
)
def test_slabs_are_those_of_slabinfo(size: int, order: int, objects: int) -> None:
    """``pagesperslab`` and ``objperslab`` of kmalloc's caches in ``/proc/slabinfo`` of an x86-64 with 8 CPUs."""
    assert calculate_order(size, 4096, 8) == order
    assert (4096 << order) // size == objects


@pytest.mark.parametrize(("cpus", "order"), [(1, 0), (4, 0), (8, 1), (16, 1), (32, 1), (64, 1), (128, 2)])
def test_more_cpus_want_more_objects(cpus: int, order: int) -> None:
    """4 * (fls(cpus) + 1) objects of 256 bytes: 8, 16, 20, 24, 28, 32 and 36."""
    assert calculate_order(256, 4096, cpus) == order


@pytest.mark.parametrize(
    ("size", "order"),
    [(2056, 3), (10920, 3), (10928, 2), (12280, 2), (12288, 3), (32768, 3)],
)
def test_orders_of_large_objects(size: int, order: int) -> None:
    """As the kernel's developers listed them for ``calculate_order`` up to Linux 6.6 (linux-mm, September 2023)."""
    assert calculate_order(size, 4096, 8) == order


@pytest.mark.parametrize(("size", "order"), [(1400, 2), (1500, 3)])
def test_more_than_a_sixteenth_is_not_wasted(size: int, order: int) -> None:
    """One CPU wants 8 objects: order 2 holds them, and leaves 984 of 16384 bytes, or 1384."""
    assert calculate_order(size, 4096, 1) == order


def test_a_large_page_holds_more() -> None:
    assert calculate_order(256, 65536, 8) == 0


@pytest.mark.parametrize(("size", "order"), [(1, 0), (4096, 0), (4097, 1), (8192, 1), (8193, 2), (32768, 3)])
def test_get_order(size: int, order: int) -> None:
    assert get_order(size, 4096) == order


@pytest.mark.parametrize(
    ("size", "objects", "slabs"), [(8, 30, 1), (128, 30, 8), (256, 13, 4), (1024, 6, 2), (4096, 2, 2)]
)
def test_limits_of_a_cpu(size: int, objects: int, slabs: int) -> None:
    in_slab = (4096 << calculate_order(size, 4096, 8)) // size
    assert cpu_partial_objects(size, 4096) == objects
    assert cpu_partial_slabs(size, 4096, in_slab) == slabs


@pytest.mark.parametrize(("size", "slabs"), [(8, 5), (256, 5), (4096, 6), (8192, 6), (1 << 24, 10)])
def test_a_node_keeps_some_empty_slabs(size: int, slabs: int) -> None:
    assert min_partial(size) == slabs
