# SPDX-License-Identifier: BSD-2-Clause
"""The slab allocator's loops (prototype-kernel, ``slab_bulk_test01``): objects of 256 bytes in a cache of their own."""

from collections.abc import Mapping
from fractions import Fraction

from driver_model.cpu.profile import Profile
from driver_model.memory.slab.kmem_cache import KmemCache, SlabObject
from sim.bulk.loops import OBJECT_BYTES
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.loop import Replay, Turn, loop


def cache_of(bench: Bench) -> KmemCache:
    return bench.host.slab_caches.kmem_cache_create("slab_bulk_test", OBJECT_BYTES, 64)


def one_by_one(count: int) -> Replay:
    def prepare(bench: Bench) -> Turn:
        slab, cache = bench.host.slabs[0], cache_of(bench)

        def turn() -> None:
            for each in [slab.kmem_cache_alloc(cache) for _ in range(count)]:
                assert each is not None
                slab.kmem_cache_free(each)

        return turn

    return loop(prepare, count)


def bulk(count: int, *, detached: bool = True) -> Replay:
    def prepare(bench: Bench) -> Turn:
        slab, cache = bench.host.slabs[0], cache_of(bench)
        slab.detached_freelists = detached

        def turn() -> None:
            objects: list[SlabObject] = []
            assert slab.kmem_cache_alloc_bulk(cache, count, objects) == count
            slab.kmem_cache_free_bulk(objects)

        return turn

    return loop(prepare, count)


def less(count: int, other: int) -> Replay:
    """What a bulk takes beyond a smaller one."""

    def replay(profile: Profile) -> Fraction:
        return count * bulk(count)(profile) - other * bulk(other)(profile)

    return replay


REPLAYS: Mapping[str, Replay] = {
    "slab, single": one_by_one(1),
    "slab, a bulk of 16 less a bulk of 1": less(16, 1),
    "slab, bulk of 1": bulk(1),
    "slab, bulk of 16": bulk(16),
    "slab, bulk of 64, object by object": bulk(64, detached=False),
    "slab, bulk of 64, detached freelists": bulk(64),
    "slab, 256 bytes, 16 objects one by one": one_by_one(16),
    "slab, 256 bytes, bulk of 16": bulk(16),
}
