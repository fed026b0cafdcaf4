# SPDX-License-Identifier: BSD-2-Clause
"""Caches: their shape, and what they refuse."""

from typing import Any

import pytest

from driver_model.memory.slab.kmem_cache import KmemCache
from tests.driver_model.memory.slab.slab_kit import SlabKit


def test_a_cache_is_cut_as_slub_cuts_it() -> None:
    cache = KmemCache("skbuff_head_cache", 232, 64)
    assert (cache.object_size, cache.size, cache.order, cache.min_order) == (232, 256, 1, 0)
    assert (cache.min_partial, cache.cpu_partial) == (5, 13)
    assert KmemCache("late", 232, 64, partial_slabs=True).cpu_partial == 4
    assert KmemCache("huge page", 256, page_size=65536).order == 0
    assert KmemCache("byte", 1).size == 8


def test_objects_follow_one_another() -> None:
    kit = SlabKit()
    cache = KmemCache("odd", 100, 32)
    objects = kit.take(64, cache)
    assert all(obj.address % 32 == 0 and obj.size == 100 and obj.cache is cache for obj in objects)
    page = objects[0].slab.page
    first = [obj for obj in objects if obj.slab is objects[0].slab]
    assert [obj.address - page.address for obj in first] == list(range(0, 128 * len(first), 128))
    assert len(first) == page.size // 128


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"object_size": 0}, ValueError, r"Object size of c must be in 1\.\.32768, not 0"),
        ({"object_size": 32769}, ValueError, "not 32769"),
        ({"object_size": "64"}, TypeError, "Object size of c must be an integer, not '64'"),
        ({"object_size": 64, "align": 4}, ValueError, r"power of two in 8\.\.4096, not 4"),
        ({"object_size": 64, "align": 48}, ValueError, "not 48"),
        ({"object_size": 64, "align": 8.0}, TypeError, r"Alignment of c must be an integer, not 8\.0"),
        ({"object_size": 64, "cpus": 0}, ValueError, "CPUs of c must be 1 or more, not 0"),
    ],
)
def test_bad_parameters(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        KmemCache("c", **arguments)
