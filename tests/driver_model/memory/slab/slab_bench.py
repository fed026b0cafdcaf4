# SPDX-License-Identifier: BSD-2-Clause
"""The published loop of slab allocation (prototype-kernel, ``slab_bulk_test01``) on the composed model: allocate a
number of objects of 256 bytes, free them in the same order; cycles for each object."""

from collections.abc import Callable

from driver_model.cpu.profile import Profile
from driver_model.memory.slab.kmem_cache import SlabObject
from tests.driver_model.memory.slab.slab_kit import SlabKit

TURNS = 128

SLAB_COSTS = """
[[benchmark]]
name = "slab, single"
loop = { "slab.alloc" = 1, "slab.free" = 1 }
split = { "slab.alloc" = 1, "slab.free" = 1 }
cycles = 47
source = "Linux d0ecd894e3d5: SLUB fastpath, single object; the split is assumed"

[[benchmark]]
name = "slab, a bulk of 16 less a bulk of 1"
loop = { "slab.alloc_bulk" = 15, "slab.free_bulk" = 15 }
split = { "slab.alloc_bulk" = 1, "slab.free_bulk" = 1 }
cycles = 223
source = "Linux d0ecd894e3d5: 16 * 17 - 49, all of a call; the split is assumed"

[[benchmark]]
name = "slab, bulk of 1"
loop = { "slab.alloc_bulk_call" = 1, "slab.free_bulk_call" = 1, "slab.alloc_bulk" = 1, "slab.free_bulk" = 1 }
split = { "slab.alloc_bulk_call" = 1, "slab.free_bulk_call" = 1 }
cycles = 49
source = "Linux d0ecd894e3d5; the split is assumed"

[[benchmark]]
name = "slab, bulk of 64, object by object"
loop."slab.alloc_bulk_call" = 0.015625
loop."slab.free_bulk_call" = 0.015625
loop."slab.alloc_bulk" = 1
loop."slab.free_bulk" = 1
loop."slab.free_slow" = 0.5
loop."slab.alloc_slow" = 0.015625
split = { "slab.free_slow" = 9, "slab.alloc_slow" = 1 }
cycles = 49
source = "Linux d0ecd894e3d5, current in-kernel, slab_nomerge; the split gives the next entry its figure"

[[check]]
name = "slab, bulk of 64, detached freelists"
loop."slab.alloc_bulk_call" = 0.015625
loop."slab.free_bulk_call" = 0.03125
loop."slab.alloc_bulk" = 1
loop."slab.free_bulk" = 1
loop."slab.free_slow" = 0.015625
loop."slab.alloc_slow" = 0.015625
cycles = 20
source = "Linux d0ecd894e3d5, slab_nomerge"

[[check]]
name = "slab, bulk of 16"
loop."slab.alloc_bulk_call" = 0.0625
loop."slab.free_bulk_call" = 0.0625
loop."slab.alloc_bulk" = 1
loop."slab.free_bulk" = 1
cycles = 17
source = "Linux d0ecd894e3d5"
"""


def slab_profile() -> Profile:
    """An i7-4790K as far as slabs go; everything else costs the cycles and nanoseconds of the E5-1650 v4."""
    head = 'name = "slab"\nmachine = "Intel Core i7-4790K, slab_nomerge"\nfrequency_khz = 4_000_000\n'
    measured = ("slab.alloc", "slab.free")
    for name, cost in Profile.load("e5-1650v4").costs.items():
        if name.startswith(measured):
            continue
        cycles = 37 if name == "irq.save" else float(cost.cycles)
        amount = f"ns = {float(cost.ns)}" if cost.ns else f"cycles = {cycles}"
        head += f'[[assumption]]\nname = "{name}"\n{amount}\nreason = "as on another machine"\n'
    return Profile(head + SLAB_COSTS)


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
