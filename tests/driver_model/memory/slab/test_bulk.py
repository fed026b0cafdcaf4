# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's published bulk figures, out of the mechanism: the profile's primitives are solved from few of them, the rest
must follow.

All are cycles for an object of 256 bytes, allocation and free together, on an i7-4790K: commit d0ecd894e3d5 for caches
of their own (``slab_nomerge``), fbd02630c6e3 for one shared with kmalloc-256.
"""

import pytest

from driver_model.cpu.profile import Profile
from driver_model.memory.slab.kmem_cache import SlabObject
from tests.driver_model.memory.slab.slab_bench import cycles, loop_in_bulk, loop_one_by_one, shared_with_others
from tests.driver_model.memory.slab.slab_kit import SlabKit

PROFILE = Profile.load("i7-4790k")


def bulk(count: int, *, detached: bool, free: list[int] | None = None) -> float:
    """Cycles for each object of bulk allocation and free."""
    kit = SlabKit(profile=PROFILE)
    kit.slab.detached_freelists = detached
    if free is not None:
        shared_with_others(kit, free)
    return cycles(kit, loop_in_bulk(kit, count), count)


def looped(count: int) -> float:
    """Cycles for each object, one by one."""
    kit = SlabKit(profile=PROFILE)
    return cycles(kit, loop_one_by_one(kit, count), count)


def close(simulated: float, published: float, percent: int) -> None:
    assert abs(simulated / published - 1) <= percent / 100, f"{simulated:.1f} cycles, published {published}"


@pytest.mark.parametrize(
    ("count", "published"),
    [(16, 18), (30, 18), (32, 18), (34, 78), (48, 60), (128, 69), (158, 79), (250, 86)],
)
def test_object_by_object_the_slow_path_comes_with_the_second_slab(count: int, published: int) -> None:
    """Of 34 objects 32 lie in the slab that is no longer the core's, of 64 the half, and with more slabs ever more."""
    close(bulk(count, detached=False), published, 15)


@pytest.mark.parametrize(
    ("count", "published", "percent"),
    [
        (2, 30, 15),
        (3, 23, 15),
        (8, 18, 15),
        (30, 18, 15),
        (32, 18, 15),
        (34, 23, 15),
        (48, 21, 15),
        (128, 27, 15),
        (158, 30, 20),
        (250, 37, 25),
    ],
)
def test_detached_freelists_pay_the_slow_path_once_a_slab(count: int, published: int, percent: int) -> None:
    """The last figures come out low: probably because at a stride of 256 bytes no more than 128 objects have their
    first line in the first-level cache, and misses of that cache are not modelled."""
    close(bulk(count, detached=True), published, percent)


@pytest.mark.parametrize(
    ("count", "published"),
    [(16, 49), (30, 49), (32, 50), (34, 96), (48, 83), (64, 74), (128, 90), (158, 99), (250, 104)],
)
def test_one_by_one(count: int, published: int) -> None:
    close(looped(count), published, 15)


def test_the_jump_between_30_and_32_comes_from_objects_that_others_hold() -> None:
    """fbd02630c6e3 has 18 at 30 and 58 at 32: one object of the slab is not the loop's. In a cache of its own,
    32 fit, as d0ecd894e3d5 shows."""
    others_hold_one = [31] * 10
    assert bulk(30, detached=False, free=others_hold_one) < 20
    assert bulk(32, detached=False, free=others_hold_one) > 50
    assert bulk(32, detached=False) < 20


@pytest.mark.parametrize(
    ("count", "published", "percent"),
    [(30, 18, 15), (34, 53, 15), (48, 65, 15), (64, 53, 30), (128, 79, 15), (158, 90, 20), (250, 95, 20)],
)
def test_a_shared_cache(count: int, published: int, percent: int) -> None:
    """Who held how many objects of the shared slabs is not published. That one of them had 5 objects free and the
    others 31 was chosen by the figures at 32, 48 and 64: these are checks that it can be so, no predictions."""
    close(bulk(32, detached=False, free=[31, 5] + [31] * 8), 58, 5)
    close(bulk(count, detached=False, free=[31, 5] + [31] * 8), published, percent)


def test_what_detached_freelists_save_when_a_ring_comes_back() -> None:
    """Objects that were allocated long ago, 64 at a time from 16 slabs: the slow path is met whole."""
    costs = []
    for detached in (False, True):
        kit = SlabKit(profile=PROFILE)
        kit.slab.detached_freelists = detached
        ring: list[SlabObject] = []

        def turn(kit: SlabKit = kit, ring: list[SlabObject] = ring) -> None:
            assert kit.slab.kmem_cache_alloc_bulk(kit.cache, 64, ring)
            if len(ring) > 512:
                kit.slab.kmem_cache_free_bulk(ring[:64])
                del ring[:64]

        costs.append(cycles(kit, turn, 64))
    by_object, detached_lists = costs
    assert by_object > 2.5 * detached_lists
    assert by_object - detached_lists > 40
