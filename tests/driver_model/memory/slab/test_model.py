# SPDX-License-Identifier: BSD-2-Clause
"""The slab allocator against a simple model of it, in sequences of calls that Hypothesis looks for."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from driver_model.memory.slab.kmem_cache import KmemCache, SlabObject, SlabPage
from tests.driver_model.memory.slab.slab_kit import SlabKit

SEQUENCES = 160
CALLS = 100
MEMORY = 40 * 4096
SIZES = (24, 256, 700, 2048)


class SlabMachine(RuleBasedStateMachine):
    """Two cores, caches of several sizes and kmalloc on a machine of 39 pages, so that memory often runs out.

    The model is a list of objects in use with what was written to each. :attr:`steps` counts calls over all sequences.
    """

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.kit = SlabKit(2, memory=MEMORY, checked=True)
        create = self.kit.host.slab_caches.kmem_cache_create
        self.caches = [create(f"cache-{size}", size) for size in SIZES]
        self.caches[1].partial_slabs, self.caches[1].cpu_partial = True, 1
        self.held: list[tuple[SlabObject, bytes]] = []
        self.stamp = 0
        self.shrunk: Counter[KmemCache] = Counter()

    def on(self, core: int, call: Any) -> Any:
        return self.kit.on(core, call)

    def hold(self, core: int, obj: SlabObject) -> None:
        """It lies apart from all others; its first and last bytes are written."""
        start, stop = obj.address, obj.address + obj.size
        assert not any(start < other.address + other.size and other.address < stop for other, _ in self.held)
        self.stamp += 1
        content = self.stamp.to_bytes(8, "little")
        self.kit.on(core, lambda: self.kit.cores[core].store(start, content))
        self.kit.on(core, lambda: self.kit.cores[core].store(stop - 8, content))
        self.held.append((obj, content))

    def release(self, picks: list[int]) -> list[SlabObject]:
        """Some of the objects held, each once; their content is still there."""
        chosen = sorted({pick % len(self.held) for pick in picks}, reverse=True)
        released = [self.held.pop(index) for index in chosen]
        for obj, content in released:
            assert self.kit.platform.read(obj.address, 8) == content
            assert self.kit.platform.read(obj.address + obj.size - 8, 8) == content
        return [obj for obj, _ in released]

    @rule(core=st.integers(0, 1), cache=st.integers(0, len(SIZES) - 1), count=st.integers(1, 40))
    def alloc(self, core: int, cache: int, count: int) -> None:
        slab = self.kit.slabs[core]
        for _ in range(count):
            obj = self.on(core, lambda: slab.kmem_cache_alloc(self.caches[cache]))
            if obj is None:
                break
            assert obj.cache is self.caches[cache]
            self.hold(core, obj)

    @rule(core=st.integers(0, 1), cache=st.integers(0, len(SIZES) - 1), count=st.integers(0, 150))
    def alloc_bulk(self, core: int, cache: int, count: int) -> None:
        got: list[SlabObject] = []
        made = self.on(core, lambda: self.kit.slabs[core].kmem_cache_alloc_bulk(self.caches[cache], count, got))
        assert made == len(got)
        assert made in (0, count)
        for obj in got:
            self.hold(core, obj)

    @rule(core=st.integers(0, 1), size=st.sampled_from((1, 60, 96, 100, 1500, 5000, 9000)))
    def kmalloc(self, core: int, size: int) -> None:
        obj = self.on(core, lambda: self.kit.slabs[core].kmalloc(size))
        if obj is not None:
            assert obj.size >= size
            self.hold(core, obj)

    @precondition(lambda self: self.held)
    @rule(core=st.integers(0, 1), picks=st.lists(st.integers(0, 999), min_size=1, max_size=30))
    def free(self, core: int, picks: list[int]) -> None:
        for obj in self.release(picks):
            self.on(core, lambda obj=obj: self.kit.slabs[core].kfree(obj))

    @precondition(lambda self: self.held)
    @rule(
        core=st.integers(0, 1),
        first=st.integers(0, 999),
        count=st.integers(1, 120),
        order=st.randoms(use_true_random=False),
    )
    def free_bulk(self, core: int, first: int, count: int, order: Any) -> None:
        objects = self.release(list(range(first, first + count)))
        order.shuffle(objects)
        self.on(core, lambda: self.kit.slabs[core].kfree_bulk(objects))

    @rule(core=st.integers(0, 1), detached=st.booleans())
    def choose_bulk_free(self, core: int, detached: bool) -> None:
        self.kit.slabs[core].detached_freelists = detached

    @rule(core=st.integers(0, 1), cache=st.integers(0, len(SIZES) - 1))
    def shrink(self, core: int, cache: int) -> None:
        given = self.on(core, lambda: self.kit.slabs[core].kmem_cache_shrink(self.caches[cache]))
        self.shrunk[self.caches[cache]] += given
        for slab in self.caches[cache].slabs:
            assert any(obj.in_use for obj in slab.objects), "an empty slab stayed"

    @invariant()
    def every_object_is_in_one_place(self) -> None:
        """In use, or in one freelist; and the counts are those of the model."""
        SlabMachine.steps += 1
        in_use = {obj for obj, _ in self.held}
        slabs = 0
        for cache in self.kit.host.slab_caches.caches:
            slabs += len(cache.slabs)
            free = [obj for slab in cache.slabs for obj in slab.freelist]
            free += [obj for c in cache.cpu_slab.values() for obj in c.freelist]
            every = [obj for slab in cache.slabs for obj in slab.objects]
            assert len(free) == len(set(free))
            assert set(free).isdisjoint(in_use)
            assert len(free) + len(cache.objects_in_use) == len(every)
            assert set(cache.objects_in_use) <= in_use
            self.every_slab_is_in_one_place(cache)
            count = cache.statistics
            assert count["alloc_slab"] - count["free_slab"] - self.shrunk[cache] == len(cache.slabs)
        large = sum(1 for obj in in_use if obj.cache.name == "kmalloc-large")
        assert self.kit.host.pages_in_use == slabs + large

    def every_slab_is_in_one_place(self, cache: KmemCache) -> None:
        """A core's, or in its partial list, or in the node's; or in none, when it is full."""
        places: list[SlabPage] = list(cache.partial)
        assert not any(slab.frozen for slab in places)
        for c in cache.cpu_slab.values():
            own = c.partial if c.slab is None else [c.slab, *c.partial]
            assert all(slab.frozen for slab in own)
            assert c.slab is not None or not c.freelist
            places += own
        assert len(places) == len(set(places))
        for slab in set(cache.slabs).difference(places):
            assert not slab.freelist
            assert not slab.frozen

    def teardown(self) -> None:
        """All comes back."""
        if self.held:
            objects = self.release(list(range(len(self.held))))
            self.on(0, lambda: self.kit.slabs[0].kfree_bulk(objects))
        self.on(1, self.kit.slabs[1].drain)
        assert self.kit.host.pages_in_use == 0


def test_the_slab_allocator_is_its_model() -> None:
    """The same sequences each time: ``derandomize`` takes the seed from the test itself."""
    run_state_machine_as_test(
        SlabMachine,
        settings=settings(
            max_examples=SEQUENCES, stateful_step_count=CALLS, deadline=None, derandomize=True, database=None
        ),
    )
    assert SlabMachine.steps >= 10_000
