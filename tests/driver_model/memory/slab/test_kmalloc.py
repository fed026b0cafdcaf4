# SPDX-License-Identifier: BSD-2-Clause
"""kmalloc's size classes."""

import pytest

from driver_model.memory.slab.kmalloc import SlabCaches

CLASSES = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192]


def test_every_size_has_the_next_class() -> None:
    caches = SlabCaches()
    for size in range(1, caches.kmalloc_max + 1):
        assert caches.kmalloc_slab(size).size == next(each for each in CLASSES if each >= size), size


@pytest.mark.parametrize("size", CLASSES)
def test_a_class_is_one_cache(size: int) -> None:
    caches = SlabCaches()
    assert caches.kmalloc_slab(size) is caches.kmalloc_slab(size)
    assert caches.kmalloc_slab(size).name == f"kmalloc-{size}"


def test_larger_pages_have_larger_classes() -> None:
    caches = SlabCaches(65536, cpus=64, partial_slabs=True)
    assert caches.kmalloc_max == 131072
    assert caches.kmalloc_slab(131072).size == 131072
    cache = caches.kmem_cache_create("buffer", 512)
    assert (cache.order, cache.partial_slabs) == (0, True)
