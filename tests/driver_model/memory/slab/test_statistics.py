# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's counters after a script, each step derived by hand from what the kernel's code counts: 32 objects a slab; a
CPU's partial list is full above 13 free objects, a node keeps 5 empty slabs."""

from driver_model.memory.slab.kmem_cache import SlabObject
from tests.driver_model.ledger import Ledger
from tests.driver_model.memory.slab.slab_kit import SlabKit


def bulk(kit: SlabKit, count: int) -> list[SlabObject]:
    objects: list[SlabObject] = []
    assert kit.slab.kmem_cache_alloc_bulk(kit.cache, count, objects) == count
    return objects


def test_every_counter_of_a_core_alone() -> None:
    kit = SlabKit()
    count = Ledger(kit.statistics)
    # There is nothing yet: a new slab. The others of it come from the freelist.
    first = kit.take(1)
    count.step(alloc_slowpath=1, alloc_slab=1)
    first += kit.take(31)
    count.step(alloc_fastpath=31)
    # The 33rd finds the slab used up, of which nothing is to be moved.
    second = kit.take(1)
    count.step(alloc_slowpath=1, deactivate_bypass=1, alloc_slab=1)
    # Back into the core's slab; into one that was full, which becomes one of the core's partial ones; and once more
    # into that.
    kit.free(second)
    count.step(free_fastpath=1)
    kit.free(first[:1])
    count.step(free_slowpath=1, cpu_partial_free=1)
    kit.free(first[1:2])
    count.step(free_slowpath=1, free_frozen=1)
    # When the slab is used up, the partial one is the core's, and its freelist is taken over.
    second = kit.take(32)
    count.step(alloc_fastpath=32)
    first = first[2:] + kit.take(1)
    count.step(alloc_slowpath=1, deactivate_bypass=1, cpu_partial_alloc=1, alloc_refill=1)
    # What bulk takes from a freelist is not counted; what it finds empty is.
    first += bulk(kit, 1)
    count.step()
    third = bulk(kit, 32)
    count.step(alloc_slowpath=1, deactivate_bypass=1, alloc_slab=1)
    # A detached freelist counts once, fast for the core's slab, slow for the two that were full.
    kit.slab.kmem_cache_free_bulk(third)
    count.step(free_fastpath=1)
    kit.slab.kmem_cache_free_bulk(first[:3] + second[:2])
    count.step(free_slowpath=2, cpu_partial_free=2)
    # To shrink flushes the core's slab, of which no object is in use, to the head of the node's list, and the two
    # partial ones behind it. It gives the empty one back, which is not counted, and leaves the others, the fuller one
    # first.
    assert kit.slab.kmem_cache_shrink(kit.cache) == 1
    count.step(cpuslab_flush=1, deactivate_to_head=1, free_add_partial=2)
    # That one becomes the core's. With its two objects there are not enough, so the other goes to the core's list.
    second = second[2:] + kit.take(1)
    count.step(alloc_slowpath=1, alloc_from_partial=1, cpu_partial_node=1)
    # All is freed: 31 objects of the core's own slab, 29 of the partial one.
    kit.free(second)
    count.step(free_fastpath=31)
    kit.free(first[3:])
    count.step(free_slowpath=29, free_frozen=29)
    kit.slab.drain()
    count.step(cpuslab_flush=1, deactivate_to_head=1, free_add_partial=1)
    assert kit.pages.in_use == 0


def test_every_counter_of_slabs_that_become_empty() -> None:
    kit = SlabKit()
    count = Ledger(kit.statistics)
    slabs = [kit.take(32) for _ in range(16)]
    count.step(alloc_slowpath=16, alloc_slab=16, alloc_fastpath=16 * 31, deactivate_bypass=15)
    # One object of each of 15 full slabs: after 14 the core's list holds 14 objects, and the 15th slab finds it full.
    kit.free([slab[0] for slab in slabs[:15]])
    count.step(free_slowpath=15, cpu_partial_free=15, cpu_partial_drain=1, free_add_partial=14)
    # A slab that becomes empty leaves the node's list as long as that has five or more: ten of 14 do, the next stays.
    for slab in slabs[:10]:
        kit.free(slab[1:])
    count.step(free_slowpath=10 * 31, free_remove_partial=10, free_slab=10)
    kit.free(slabs[10][1:])
    count.step(free_slowpath=31)
    # The 15th slab is in the core's list: frozen, and it stays there when it is empty.
    kit.free(slabs[14][1:])
    count.step(free_slowpath=31, free_frozen=31)
    # To shrink flushes the core's own slab, which is full; the one of its list, although it is empty, goes to the
    # node, which has four. Then both empty ones are given back, which is not counted.
    kit.slab.kmem_cache_shrink(kit.cache)
    count.step(cpuslab_flush=1, deactivate_full=1, free_add_partial=1)
    for slab in (*slabs[11:14], slabs[15]):
        kit.free(slab if slab is slabs[15] else slab[1:])
    count.step(free_slowpath=3 * 31 + 32, cpu_partial_free=1, free_frozen=31)
    kit.slab.drain()
    count.step(free_add_partial=1)
    assert kit.pages.in_use == 0


def test_every_counter_of_a_slab_that_another_core_frees_into() -> None:
    kit = SlabKit(2)
    count = Ledger(kit.statistics)
    objects = kit.on(0, lambda: kit.take(32))
    count.step(alloc_slowpath=1, alloc_slab=1, alloc_fastpath=31)
    # A core's slab is frozen for the others.
    kit.on(1, lambda: [kit.slabs[1].kmem_cache_free(each) for each in objects[:2]])
    count.step(free_slowpath=2, free_frozen=2)
    # Its own freelist is empty: it takes what the other freed.
    objects[:2] = kit.on(0, lambda: kit.take(1))
    count.step(alloc_slowpath=1, alloc_refill=1)
    # Flushed with an object that the other freed meanwhile, it goes to the tail.
    kit.on(1, lambda: kit.slabs[1].kmem_cache_free(objects[0]))
    count.step(free_slowpath=1, free_frozen=1)
    kit.on(0, lambda: kit.slab.kmem_cache_shrink(kit.cache))
    count.step(cpuslab_flush=1, deactivate_remote_frees=1, deactivate_to_tail=1)
    kit.on(0, lambda: kit.free(objects[1:]))
    count.step(free_slowpath=30)
    kit.on(0, kit.slab.drain)
    count.step()
    assert kit.host.pages_in_use == 0
