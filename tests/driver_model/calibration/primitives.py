# SPDX-License-Identifier: BSD-2-Clause
"""Single operations, by functions that do them."""

from collections.abc import Mapping
from fractions import Fraction

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.profile import Profile
from sim.bulk.loops import OBJECTS_PER_SLAB, share_cache
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.loop import Replay, Turn, loop, timed

SLABS = 4  #: fewer than a node keeps of empty ones, so that none is given up


def spin_lock(bench: Bench) -> Turn:
    lock, core = SpinLock("bench"), bench.core

    def turn() -> None:
        lock.acquire(core)
        lock.release(core)

    return turn


def reference(bench: Bench) -> Turn:
    """One more reference to a page is an atomic_inc."""
    pages = bench.host.pages[0]
    page = pages.alloc_pages()
    assert page is not None
    return lambda: pages.get_page(page)


def irq_save(profile: Profile) -> Fraction:
    """To free a slab's last object takes the node's lock with interrupts saved; to free another one does not."""
    bench = Bench(checked=False, profile=profile)
    slab = bench.host.slabs[0]
    cache = bench.host.slab_caches.kmem_cache_create("bench", 256, 64)

    def measure() -> tuple[int, int]:
        held = share_cache(slab, cache, (OBJECTS_PER_SLAB - 2,) * SLABS)

        def free(which: int) -> Turn:
            return lambda: [slab.kmem_cache_free(each) for each in held[which::2]]

        return timed(bench, free(0)), timed(bench, free(1))

    some, last = bench.run(measure)
    return Fraction(last - some, SLABS) - loop(spin_lock)(profile)


REPLAYS: Mapping[str, Replay] = {
    "spin lock, uncontended": loop(spin_lock),
    "atomic_inc": loop(reference),
    "local_irq_save and _restore": irq_save,
}
