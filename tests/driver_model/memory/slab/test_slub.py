# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's slow paths: where slabs go, and statistics as the kernel's code counts them, derived by hand."""

from collections import deque
from random import Random

import pytest

from driver_model.memory.slab.kmem_cache import SlabObject
from tests.driver_model.memory.slab.slab_kit import SlabKit


def full_slabs(kit: SlabKit, count: int) -> list[list[SlabObject]]:
    """Slabs all of whose objects are in use, none of them the core's: it has another, with one object in use."""
    slabs = [kit.take(32) for _ in range(count)]
    kit.one()
    return slabs


def test_what_others_freed_into_the_cores_slab_is_taken_first() -> None:
    kit = SlabKit(2)
    objects = kit.on(0, lambda: kit.take(32))
    kit.on(1, lambda: [kit.slabs[1].kmem_cache_free(obj) for obj in objects[:2]])
    assert kit.on(0, kit.one) is objects[1]
    assert kit.on(0, kit.one) is objects[0]
    assert kit.statistics() == {
        "alloc_slowpath": 2,  # the first, and the 33rd
        "alloc_slab": 1,
        "alloc_fastpath": 31 + 1,
        "free_slowpath": 2,
        "free_frozen": 2,
        "alloc_refill": 1,
    }


def test_a_free_on_another_core_pays_for_the_slabs_line() -> None:
    kit = SlabKit(2)
    objects = kit.on(0, lambda: kit.take(32))
    kit.on(1, lambda: [kit.slabs[1].kmem_cache_free(obj) for obj in objects[:8]])
    assert kit.cores[1].op("line.transfer").count == 0, "nobody else had touched the freelist yet"
    kit.on(0, kit.one)
    assert kit.cores[0].op("line.transfer").count == 1
    kit.on(1, lambda: [kit.slabs[1].kmem_cache_free(obj) for obj in objects[8:]])
    assert kit.cores[1].op("line.transfer").count == 1


def test_the_first_free_of_a_full_slab_makes_it_the_cores() -> None:
    kit = SlabKit()
    first, second = full_slabs(kit, 2)
    kit.free([first[0], second[0], first[1]])
    c = kit.cache.cpu_slab[0]
    assert c.partial == [first[0].slab, second[0].slab]
    assert [slab.pobjects for slab in c.partial] == [1, 2]
    before = kit.statistics()
    kit.take(31 + 2)
    assert c.slab is first[0].slab
    new = {name: n - before.get(name, 0) for name, n in kit.statistics().items() if n != before.get(name, 0)}
    assert new == {
        "alloc_fastpath": 31,
        "alloc_slowpath": 2,
        "deactivate_bypass": 2,
        "cpu_partial_alloc": 2,
        "alloc_refill": 2,
    }
    assert before["free_slowpath"] == 3
    assert before["cpu_partial_free"] == 2
    assert before["free_frozen"] == 1


def test_a_full_partial_list_goes_to_the_node() -> None:
    """13 free objects is the limit; it is looked at before a slab is added, so 14 slabs of one free object each stay,
    and the 15th moves them all."""
    kit = SlabKit()
    slabs = full_slabs(kit, 16)
    locks = kit.count("spin.lock")
    for slab in slabs[:14]:
        kit.free([slab[0]])
    assert not kit.cache.partial
    assert kit.count("spin.lock") == locks
    kit.free([slabs[14][0]])
    c = kit.cache.cpu_slab[0]
    assert c.partial == [slabs[14][0].slab]
    assert list(kit.cache.partial) == [slab[0].slab for slab in reversed(slabs[:14])]
    assert not any(slab.frozen for slab in kit.cache.partial)
    assert kit.statistics()["cpu_partial_drain"] == 1
    assert kit.statistics()["free_add_partial"] == 14
    assert kit.count("spin.lock") == locks + 1
    assert kit.count("atomic") == 14
    assert kit.count("irq.save") == 1


def test_the_limit_counts_slabs_since_linux_5_16() -> None:
    kit = SlabKit()
    kit.cache.partial_slabs, kit.cache.cpu_partial = True, 4
    slabs = full_slabs(kit, 6)
    for slab in slabs[:4]:
        kit.free(slab[:20])
    assert not kit.cache.partial
    kit.free([slabs[4][0]])
    assert len(kit.cache.partial) == 4
    kit.take(31)
    kit.take(1 + 1)
    c = kit.cache.cpu_slab[0]
    assert c.slab is slabs[3][0].slab
    assert len(c.partial) == 3, "above half of the limit: two were enough, three are too many"
    assert kit.statistics()["cpu_partial_node"] == 3


def test_the_core_takes_half_its_limit_from_the_node() -> None:
    kit = SlabKit()
    slabs = full_slabs(kit, 16)
    for slab in slabs[:15]:
        kit.free([slab[0]])
    kit.take(31 + 1)  # the core's own slab, then its only partial one
    assert kit.one() is slabs[13][0]
    c = kit.cache.cpu_slab[0]
    assert c.partial == [slab[0].slab for slab in reversed(slabs[7:13])], "7 objects: more than half of 13"
    assert len(kit.cache.partial) == 7
    assert kit.statistics()["alloc_from_partial"] == 1
    assert kit.statistics()["cpu_partial_node"] == 6


def test_an_empty_slab_of_the_node_is_given_back_beyond_min_partial() -> None:
    kit = SlabKit()
    slabs = full_slabs(kit, 16)
    for slab in slabs[:15]:
        kit.free([slab[0]])
    assert len(kit.cache.partial) == 14
    pages = kit.pages.in_use
    for number, slab in enumerate(slabs[:14]):
        kit.free(slab[1:])
        assert kit.pages.in_use == pages - min(number + 1, 10)
    assert len(kit.cache.partial) == 4
    assert kit.statistics()["free_slab"] == kit.statistics()["free_remove_partial"] == 10
    assert kit.count("slab.discard") == 10


def test_empty_partial_slabs_are_given_back_when_the_list_goes_to_the_node() -> None:
    kit = SlabKit()
    for slab in full_slabs(kit, 16):
        kit.free(slab)
    # Each slab after the first finds more than 13 objects there only once: when the list holds those of 14 slabs as
    # they were put, one each.
    assert kit.statistics()["cpu_partial_drain"] == 1
    assert kit.statistics()["deactivate_empty"] == 14 - kit.cache.min_partial
    assert len(kit.cache.partial) == kit.cache.min_partial


def test_shrink_sorts_what_stays() -> None:
    kit = SlabKit()
    slabs = full_slabs(kit, 3)
    kit.free(slabs[0][:20] + slabs[1][:5] + slabs[2][:32])
    assert kit.slab.kmem_cache_shrink(kit.cache) == 1
    assert [len(slab.freelist) for slab in kit.cache.partial] == [5, 20, 31]
    statistics = kit.statistics()
    assert statistics["cpuslab_flush"] == statistics["deactivate_to_head"] == 1
    assert kit.one().slab is slabs[1][0].slab


def test_a_flushed_slab_comes_before_others_as_full() -> None:
    kit = SlabKit()
    slabs = full_slabs(kit, 15)
    kit.take(30)  # one object of the core's own slab stays free
    for slab in slabs:
        kit.free([slab[0]])
    own = kit.cache.cpu_slab[0].slab
    assert len(kit.cache.partial) == 14
    kit.slab.kmem_cache_shrink(kit.cache)
    assert list(kit.cache.partial) == [own, *(slab[0].slab for slab in [*reversed(slabs[:14]), slabs[14]])]


def test_a_slab_that_a_core_takes_while_its_last_object_is_freed() -> None:
    """Core 0 sees a slab in the node's list become empty and goes for the lock; core 1 has it first and takes the slab.
    The object goes to the slab that is core 1's now. Some time at which core 1 comes makes it so, whatever steps cost.
    """
    assert any(_is_taken_first(after) for after in range(0, 400_000, 4_000))


def _is_taken_first(after: int) -> bool:
    """Whether core 1, which starts so many picoseconds later, takes the slab; then all is as it should be."""
    kit = SlabKit(2)
    objects = kit.on(0, lambda: kit.take(2))
    kit.on(0, lambda: kit.free(objects[:1]))
    kit.on(0, lambda: kit.slab.kmem_cache_shrink(kit.cache))
    (slab,) = kit.cache.partial
    locks = kit.count("spin.lock")
    seen: list[bool] = []
    freed: list[bool] = []

    def free() -> None:
        kit.slab.kmem_cache_free(objects[1])
        freed.append(True)

    def alloc() -> None:
        kit.cores[1].sleep_until(start + after)
        seen.append(kit.slabs[1].kmem_cache_alloc(kit.cache) is objects[0])

    start = kit.platform.now + 10**6  # core 1 comes up to 100 ns before core 0, or after it
    kit.cores[1].spawn("alloc", alloc)
    kit.cores[0].spawn("free", lambda: (kit.cores[0].sleep_until(start + 100_000), free()))
    kit.platform.run(kit.platform.now + 10**9)
    assert freed == [True], "core 0's free did not end in time"
    if seen != [True] or kit.count("spin.lock") != locks + 1 or kit.cache.cpu_slab[1].slab is not slab:
        return False
    return slab.freelist == [objects[1]] and slab.frozen and kit.statistics()["free_frozen"] == 1


def test_flushed_slabs_go_where_the_kernel_puts_them() -> None:
    kit = SlabKit(2)
    objects = kit.on(0, lambda: kit.take(32))
    kit.on(0, lambda: kit.slab.kmem_cache_shrink(kit.cache))
    assert kit.statistics()["deactivate_full"] == 1
    more = kit.on(0, lambda: kit.take(3))
    kit.on(1, lambda: kit.slabs[1].kmem_cache_free(more[0]))
    kit.on(1, lambda: kit.slabs[1].kmem_cache_shrink(kit.cache))
    assert kit.statistics()["deactivate_remote_frees"] == kit.statistics()["deactivate_to_tail"] == 1
    kit.on(1, lambda: [kit.slabs[1].kmem_cache_free(obj) for obj in objects + more[1:]])
    kit.on(1, lambda: kit.slabs[1].drain())
    assert kit.host.pages_in_use == 0


@pytest.mark.parametrize("bulk", [1, 16, 64])
@pytest.mark.parametrize("in_flight", [64, 512, 1000])
def test_many_objects_in_flight_settle(bulk: int, in_flight: int) -> None:
    """As a TX ring does: objects come back in order, long after their slab was used up. Memory stays bounded and no new
    slab is made once the first round is over; every object stays with one user."""
    kit = SlabKit(checked=True)
    queue: deque[SlabObject] = deque()

    def turn() -> None:
        got: list[SlabObject] = []
        assert kit.slab.kmem_cache_alloc_bulk(kit.cache, bulk, got) == bulk
        queue.extend(got)
        while len(queue) > in_flight:
            kit.slab.kmem_cache_free_bulk([queue.popleft() for _ in range(bulk)])

    for _ in range(2 * (in_flight // bulk + 2)):
        turn()
    slabs = kit.statistics()["alloc_slab"] - kit.statistics().get("free_slab", 0)
    made = kit.statistics()["alloc_slab"]
    for _ in range(4000 // bulk):
        turn()
    assert len(kit.cache.slabs) <= slabs + 1
    assert slabs <= -(-(in_flight + bulk) // 32) + 3
    if in_flight > 64:
        assert kit.statistics()["free_slowpath"] > 0
    assert kit.statistics()["alloc_slab"] == made
    kit.slab.kmem_cache_free_bulk(queue)
    kit.slab.drain()
    assert kit.host.pages_in_use == 0


@pytest.mark.parametrize("seed", range(6))
def test_interrupts_use_the_same_cache(seed: int) -> None:
    """Handlers allocate and free wherever the core lets them in: at locks, shared lines, in the page allocator, where
    memory is short. Afterwards each object is in use or free, once."""
    print(f"seed {seed}")
    random = Random(seed)
    kit = SlabKit(2, memory=48 * 4096)
    held: list[SlabObject] = []
    calls = [0, 0]

    def use(index: int) -> None:
        """Allocate or free a few; what is held passes between the cores."""
        slab = kit.slabs[index]
        count = random.randrange(1, 90)
        if random.random() < 0.55:
            slab.kmem_cache_alloc_bulk(kit.cache, count, held)
        else:
            random.shuffle(held)
            freed = held[:count]
            del held[:count]
            slab.kmem_cache_free_bulk(freed)
        if random.random() < 0.02:
            slab.kmem_cache_shrink(kit.cache)
        calls[index] += 1

    def tick(index: int) -> None:
        kit.cores[index].interrupt(lambda: use(index))
        if calls[index] < 600:
            kit.platform.at(kit.platform.now + random.randrange(200_000, 3_000_000), lambda: tick(index))

    def work(index: int) -> None:
        while calls[index] < 600:
            kit.cores[index].sync()
            use(index)
        if min(calls) >= 600:
            kit.platform.stop()

    for index in (0, 1):
        kit.cores[index].spawn("work", lambda index=index: work(index))
        tick(index)
    assert kit.platform.run(kit.platform.now + 10**11), "the cores' work did not end in time"
    kit.platform.run(kit.platform.now + 10**8)  # the last ticks
    cache = kit.cache
    free = [obj for slab in cache.slabs for obj in slab.freelist]
    free += [obj for c in cache.cpu_slab.values() for obj in c.freelist]
    assert len(free) == len(set(free))
    assert set(free).isdisjoint(held)
    assert len(free) + len(held) == sum(len(slab.objects) for slab in cache.slabs)
    kit.on(0, lambda: kit.slab.kmem_cache_free_bulk(held))
    kit.on(0, kit.slab.drain)
    assert kit.host.pages_in_use == 0


def test_cores_share_a_cache_under_contention() -> None:
    """Two cores, each frees what the other allocated, at the same time; nothing is lost, and the node's lock is
    contended."""
    kit = SlabKit(2)
    mailbox: list[deque[SlabObject]] = [deque(), deque()]
    done: list[int] = []

    def work(index: int) -> None:
        slab, core = kit.slabs[index], kit.cores[index]
        for turn in range(60):
            got: list[SlabObject] = []
            assert slab.kmem_cache_alloc_bulk(kit.cache, 480 + turn, got)
            mailbox[1 - index].extend(got)
            core.sync()
            while mailbox[index]:
                slab.kmem_cache_free(mailbox[index].popleft())
        done.append(index)
        if len(done) == 2:
            kit.platform.stop()

    for index in (0, 1):
        kit.cores[index].spawn("work", lambda index=index: work(index))
    assert kit.platform.run(kit.platform.now + 10**11), "both cores' work did not end in time"
    left = list(mailbox[0]) + list(mailbox[1])
    assert len({obj.address for obj in left}) == len(left)
    assert sorted(obj.address for obj in kit.cache.objects_in_use) == sorted(obj.address for obj in left)
    assert kit.cache.list_lock.line.transfers > 0
    kit.on(0, lambda: kit.slab.kmem_cache_free_bulk(left))
    kit.on(0, lambda: kit.slab.drain())
    assert kit.host.pages_in_use == 0
