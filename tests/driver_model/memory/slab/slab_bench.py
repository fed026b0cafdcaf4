# SPDX-License-Identifier: BSD-2-Clause
"""The published loop of slab allocation (prototype-kernel, ``slab_bulk_test01``) on the composed model: allocate a
number of objects of 256 bytes, free them in the same order; cycles for each object."""

from collections.abc import Callable

from driver_model.memory.slab.kmem_cache import SlabObject
from tests.driver_model.memory.slab.slab_kit import SlabKit

TURNS = 128


def loop_in_bulk(kit: SlabKit, count: int) -> Callable[[], None]:
    """Bulk allocation and bulk free."""

    def turn() -> None:
        objects: list[SlabObject] = []
        assert kit.slab.kmem_cache_alloc_bulk(kit.cache, count, objects) == count
        kit.slab.kmem_cache_free_bulk(objects)

    return turn


def loop_one_by_one(kit: SlabKit, count: int) -> Callable[[], None]:
    """The fallback of the bulk calls."""
    return lambda: kit.free(kit.take(count))


def shared_with_others(kit: SlabKit, free: list[int]) -> None:
    """A merged cache: others hold objects of its slabs for good, and leave so many free in each."""
    objects = kit.take(32 * len(free))
    slabs = [objects[start : start + 32] for start in range(0, len(objects), 32)]
    for slab, count in zip(slabs, free, strict=True):
        kit.free(slab[:count])
    kit.slab.kmem_cache_shrink(kit.cache)


def cycles(kit: SlabKit, turn: Callable[[], None], count: int) -> float:
    """Cycles for each object, once the loop has settled."""
    kit.core.softirq.disable()  # as in the published loop nothing comes in
    for _ in range(TURNS):
        turn()
    start = kit.core.time
    for _ in range(TURNS):
        turn()
    return (kit.core.time - start) * kit.core.profile.khz / 10**9 / TURNS / count
