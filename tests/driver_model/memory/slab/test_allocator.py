# SPDX-License-Identifier: BSD-2-Clause
"""The slab allocator's interface: allocation, free, bulk, kmalloc; misuse, exhaustion, destruction."""

from collections.abc import Callable

import pytest

from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.slab.kmem_cache import SlabError, SlabObject
from tests.driver_model.memory.slab.slab_kit import SlabKit


def test_the_object_freed_last_comes_first() -> None:
    kit = SlabKit()
    first, second = kit.take(2)
    assert second.address == first.address + 256
    kit.free([second, first])
    assert kit.one() is first
    assert kit.one() is second
    counted = {"alloc_fastpath": 3, "alloc_slowpath": 1, "alloc_slab": 1, "free_fastpath": 2}
    assert kit.statistics() == counted


def test_bulk_gives_all_or_nothing() -> None:
    kit = SlabKit()
    held = kit.take(30)
    got: list[SlabObject] = [held[0]]
    assert kit.slab.kmem_cache_alloc_bulk(kit.cache, 40, got) == 40
    assert len(got) == 41
    assert len({obj.address for obj in held + got[1:]}) == 70
    assert got[1].address == held[-1].address + 256, "the order is that of single allocations"
    assert kit.slab.kmem_cache_alloc_bulk(kit.cache, 0, got) == 0
    assert len(got) == 41
    kit.slab.kmem_cache_free_bulk(got[1:], kit.cache)
    kit.slab.kmem_cache_free_bulk([])
    assert kit.cache.objects_in_use == held


def test_bulk_is_charged_by_object_and_by_call() -> None:
    kit = SlabKit()
    got: list[SlabObject] = []
    kit.slab.kmem_cache_alloc_bulk(kit.cache, 40, got)
    kit.slab.kmem_cache_free_bulk(got)
    names = ("alloc_bulk_call", "alloc_bulk", "alloc_slow", "new", "free_bulk", "free_bulk_call", "free_slow", "alloc")
    assert [kit.count(f"slab.{name}") for name in names] == [1, 40, 2, 2, 40, 2, 1, 0]


def test_detached_freelists_look_three_objects_ahead() -> None:
    """From its end, B B A A B A B A A gives all A: two objects of B are passed, the third ends the search; then all
    B."""
    kit = SlabKit()
    objects = kit.take(96)
    a, b, c = objects[:32], objects[32:64], objects[64:]
    kit.slab.kmem_cache_free_bulk([b[0], b[1], a[0], a[1], b[2], a[2], b[3], a[3], a[4]])
    assert kit.count("slab.free_bulk_call") == 2
    assert kit.count("slab.free_bulk") == 9
    assert a[0].slab.freelist == [a[4], a[3], a[2], a[1], a[0]]
    kit.slab.kmem_cache_free_bulk([a[5], b[4], b[5], b[6], a[6]])
    assert kit.count("slab.free_bulk_call") == 2 + 3, "a[5] lies behind three of another slab"
    kit.slab.kmem_cache_free_bulk([a[7], b[7], c[0], a[8]])
    assert kit.count("slab.free_bulk_call") == 5 + 3
    assert kit.statistics()["free_slowpath"] == 2 + 3 + 2
    assert kit.statistics()["free_fastpath"] == 1


def test_the_first_bulk_free_goes_object_by_object() -> None:
    kit = SlabKit()
    kit.slab.detached_freelists = False
    objects = kit.take(33)
    kit.slab.kmem_cache_free_bulk(objects)
    assert kit.count("slab.free_bulk_call") == 1
    assert kit.count("slab.free_bulk") == 33
    assert kit.count("slab.free_slow") == 32
    assert objects[0].slab.freelist == objects[:32]


@pytest.mark.parametrize(
    ("size", "usable"), [(1, 8), (97, 128), (129, 192), (8192, 8192), (8193, 16384), (40000, 65536)]
)
def test_kmalloc_gives_the_next_size(size: int, usable: int) -> None:
    kit = SlabKit(checked=True)
    obj = kit.slab.kmalloc(size)
    assert obj is not None
    assert (obj.size, obj.in_use) == (usable, True)
    kit.core.store_owned(obj.address, b"x" * size)
    kit.slab.kfree(obj)
    kit.slab.drain()
    assert kit.host.pages_in_use == 0
    assert kit.count("slab.kmalloc") == 2


def test_kfree_bulk_takes_any_sizes() -> None:
    kit = SlabKit()
    objects = [kit.slab.kmalloc(size) for size in (100, 20000, 100, 64, 100)]
    kit.slab.kfree_bulk([obj for obj in objects if obj is not None])
    assert not any(obj is None or obj.in_use for obj in objects)
    assert kit.count("slab.free_bulk") == 4
    assert kit.count("slab.kmalloc") == 10
    assert kit.count("slab.free_bulk_call") == 2
    kit.slab.drain()
    assert kit.host.pages_in_use == 0


@pytest.mark.parametrize("bad", [0, -1])
def test_bad_sizes_and_counts(bad: int) -> None:
    kit = SlabKit()
    with pytest.raises(ValueError, match=f"Size must be 1 or more, not {bad}"):
        kit.slab.kmalloc(bad)
    with pytest.raises(ValueError, match=r"Order must be in 0\.\.10, not 11"):
        kit.slab.kmalloc((4 << 20) + 1)
    with pytest.raises(ValueError, match="Count must be 0 or more, not -1"):
        kit.slab.kmem_cache_alloc_bulk(kit.cache, -1, [])


def _bulk(kit: SlabKit, obj: SlabObject) -> None:
    kit.slab.kmem_cache_free_bulk([obj])


@pytest.mark.parametrize(
    "free",
    [lambda kit, obj: kit.slab.kmem_cache_free(obj), _bulk, lambda kit, obj: kit.slab.kfree(obj)],
    ids=["kmem_cache_free", "kmem_cache_free_bulk", "kfree"],
)
def test_double_free(free: Callable[[SlabKit, SlabObject], None]) -> None:
    kit = SlabKit()
    obj = kit.one()
    free(kit, obj)
    with pytest.raises(SlabError, match=rf"Object already free: object {obj.address:#x} of buffer on core 0"):
        free(kit, obj)
    large = kit.slab.kmalloc(16384)
    assert large is not None
    kit.slab.kfree(large)
    with pytest.raises(SlabError, match="Object already free: object .* of kmalloc-large"):
        kit.slab.kfree(large)


def test_a_refused_bulk_frees_nothing() -> None:
    kit = SlabKit()
    objects = kit.take(3)
    with pytest.raises(SlabError, match=f"Object already free: object {objects[1].address:#x}"):
        kit.slab.kmem_cache_free_bulk([*objects, objects[1]])
    assert kit.cache.objects_in_use == objects
    kit.slab.kmem_cache_free_bulk(objects)


def test_free_of_what_is_not_of_the_cache() -> None:
    kit = SlabKit()
    other = kit.host.slab_caches.kmem_cache_create("other", 256)
    obj = kit.one()
    with pytest.raises(
        SlabError, match=r"Wrong slab cache: object .* of buffer on core 0, freed to cache other of 256"
    ):
        kit.slab.kmem_cache_free(obj, other)
    with pytest.raises(SlabError, match="Wrong slab cache"):
        kit.slab.kmem_cache_free_bulk([obj], other)
    large = kit.slab.kmalloc(16384)
    assert large is not None
    with pytest.raises(SlabError, match="Object is not a Slab page: object .* of kmalloc-large on core 0"):
        kit.slab.kmem_cache_free(large)
    kit.slab.kmem_cache_free(obj, kit.cache)
    kit.slab.kfree(large)


def test_exhausted_memory_degrades_and_recovers() -> None:
    kit = SlabKit(memory=8 * 4096)
    held: list[SlabObject] = []
    while (obj := kit.slab.kmem_cache_alloc(kit.cache)) is not None:
        held.append(obj)
    assert len(held) == 7 * 16, "every page of which frame 0 is not one; blocks of two pages first, then single ones"
    assert kit.statistics()["order_fallback"] == 1
    assert kit.statistics()["failed"] == 1
    kit.free(held[:20])
    before = list(kit.cache.objects_in_use)
    got: list[SlabObject] = []
    assert kit.slab.kmem_cache_alloc_bulk(kit.cache, 21, got) == 0
    assert got == []
    assert kit.cache.objects_in_use == before
    assert kit.statistics()["failed"] == 2
    assert kit.slab.kmem_cache_alloc_bulk(kit.cache, 20, got) == 20
    assert kit.slab.kmalloc(4096) is None
    assert kit.slab.kmalloc(10000) is None
    kit.slab.kmem_cache_free_bulk(kit.cache.objects_in_use)
    kit.slab.drain()
    assert kit.host.pages_in_use == 0
    assert kit.one().in_use


def test_large_pages() -> None:
    """256 objects to a page of 64 KiB, kmalloc from caches up to 128 KiB; accesses are still checked by the byte."""
    kit = SlabKit(page_size=65536, checked=True)
    objects = kit.take(257)
    assert objects[0].slab.page.size == 65536
    assert [obj.slab is objects[0].slab for obj in objects] == [True] * 256 + [False]
    kit.core.store_owned(objects[255].address, b"x" * 256)
    kit.free([objects[200]])
    with pytest.raises(OwnershipError, match=f"cpu access of free memory.*{objects[200].address:#x}"):
        kit.core.load_owned(objects[200].address, 8)
    obj = kit.slab.kmalloc(100_000)
    assert obj is not None
    assert (obj.size, obj.cache.name) == (131072, "kmalloc-131072")
    kit.slab.kfree(obj)
    kit.slab.kmem_cache_free_bulk(objects[:200] + objects[201:])
    kit.slab.drain()
    assert kit.host.pages_in_use == 0


def test_drain_gives_back_what_is_empty() -> None:
    kit = SlabKit()
    objects = kit.take(200)
    kit.free(objects[:32] + objects[33:])
    assert kit.host.pages_in_use > 1
    kit.slab.drain()
    assert kit.host.pages_in_use == 1
    assert list(kit.cache.slabs) == [objects[32].slab]
    kit.free([objects[32]])
    assert kit.slab.kmem_cache_shrink(kit.cache) == 1
    assert kit.host.pages_in_use == 0


def test_destroy() -> None:
    kit = SlabKit()
    objects = kit.take(40)
    with pytest.raises(SlabError, match=r"Objects remaining in buffer on __kmem_cache_shutdown\(\): 0x.*; 32 more$"):
        kit.slab.kmem_cache_destroy(kit.cache)
    kit.free(objects)
    kit.slab.kmem_cache_destroy(kit.cache)
    assert kit.host.pages_in_use == 0
    assert kit.cache not in kit.host.slab_caches.caches
    with pytest.raises(SlabError, match=r"Allocation from cache buffer .* on core 0, which is destroyed"):
        kit.slab.kmem_cache_alloc(kit.cache)


def test_destroy_names_the_line_that_allocated() -> None:
    kit = SlabKit(checked=True)
    obj = kit.one()
    with pytest.raises(
        SlabError, match=rf"object {obj.address:#x} of buffer, allocated at .*slab_kit\.py:\d+ on core 0$"
    ):
        kit.slab.kmem_cache_destroy(kit.cache)
    kit.free([obj])
    with pytest.raises(OwnershipError, match=r"double free: .* on core 0: object .*, freed at .*slab_kit\.py:\d+"):
        kit.free([obj])
