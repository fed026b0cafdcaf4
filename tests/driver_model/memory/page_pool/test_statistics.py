# SPDX-License-Identifier: BSD-2-Clause
"""page_pool's counters after a script, each step derived by hand from what the kernel's code counts."""

from driver_model.memory.page_pool.frag import page_pool_alloc_frag
from driver_model.memory.page_pool.params import PP_FLAG_SYSTEM_POOL
from driver_model.memory.page_pool.pool import (
    page_pool_put_full_page,
    page_pool_put_page_bulk,
    page_pool_recycle_direct,
    page_pool_update_nid,
)
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from tests.driver_model.bench import Bench
from tests.driver_model.ledger import Ledger
from tests.driver_model.memory.page_pool.pool_kit import MAPPED, make, nonzero, take


def counted(pool: PagePool) -> dict[str, int]:
    return {name.replace("-", "_"): value for name, value in pool.statistics.netlink().items()}


def script(bench: Bench, pool: PagePool) -> None:
    """A pool with a ring of 100."""
    count, allocator = Ledger(lambda: counted(pool)), bench.host.pages[0]
    # Cache and ring are empty: a batch of 64. The page itself counts slow, not fast; 63 are left in the cache.
    pages = take(pool, 1)
    count.step(alloc_empty=1, alloc_slow=1)
    pages += take(pool, 63)
    count.step(alloc_fast=63)
    # 250 more: at each multiple of 64 another batch; 250 = 3 * 64 + 58, so four batches, of which the last leaves 6.
    pages += take(pool, 250)
    count.step(alloc_empty=4, alloc_slow=4, alloc_fast=246)
    assert (page_pool_inflight(pool), len(pool.alloc_cache)) == (5 * 64, 6)
    # 150 directly: 122 fit into the cache; each of the other 28 finds it full and goes into the ring.
    for page in pages[:150]:
        page_pool_recycle_direct(pool, page)
    count.step(recycle_cached=122, recycle_cache_full=28, recycle_ring=28)
    # 80 without the promise, in a process: the ring has room for 72 more; 8 find it full and are freed.
    for page in pages[150:230]:
        page_pool_put_full_page(pool, page, False)
    count.step(recycle_ring=72, recycle_ring_full=8)
    assert page_pool_inflight(pool) == 5 * 64 - 8
    # The cache gives its 128. The next finds it empty and pulls 64 from the ring: that counts refill alone. Those are
    # gone after 63 more, and the next refill finds the 36 that are left.
    for _ in range(129):
        pages += take(pool, 1)
    count.step(alloc_fast=128, alloc_refill=1)
    pages += take(pool, 64)
    count.step(alloc_fast=63, alloc_refill=1)
    # A page that somebody else has, too, counts and leaves, direct or not; so does one of the emergency reserve. They
    # count nothing else.
    held = pages[230:]
    for page in held[:2]:
        allocator.get_page(page)
    page_pool_recycle_direct(pool, held[0])
    page_pool_put_full_page(pool, held[1], False)
    held[2].pfmemalloc = True
    page_pool_recycle_direct(pool, held[2])
    count.step(recycle_released_refcnt=3)
    assert page_pool_inflight(pool) == 312 - 3
    for page in held[:2]:
        allocator.put_page(page)
    # One of the other node at the ring's end: with the cache empty the refill takes 5 good ones, gives it up and stops;
    # what it has, counts as refilled. (The 35 of the cache are used up first.)
    pages = take(pool, 35)
    count.step(alloc_fast=35)
    for page in held[3:10]:
        page_pool_put_full_page(pool, page, False)
    held[8].nid = 1
    pages += take(pool, 1)
    count.step(recycle_ring=7, alloc_refill=1, alloc_waive=1)
    assert (len(pool.alloc_cache), len(pool.ring)) == (4, 1)
    # If the first is of another node, nothing was refilled, and the ring was not empty either: the slow path's turn.
    pages += take(pool, 4)
    held[9].nid = 1
    pages += take(pool, 1)
    count.step(alloc_fast=4, alloc_waive=1, alloc_slow=1)
    # Fifteen at once, one with another user: into the ring under one lock, `ring` counts each of the 14.
    allocator.get_page(held[10])
    page_pool_put_page_bulk(held[10:25])
    count.step(recycle_ring=14, recycle_released_refcnt=1)
    allocator.put_page(held[10])
    # With room for 2 of 6, `ring_full` counts once for all.
    for page in held[25:109]:
        page_pool_put_full_page(pool, page, False)
    count.step(recycle_ring=84)
    page_pool_put_page_bulk(held[109:115])
    count.step(recycle_ring=2, recycle_ring_full=1)
    # The consumer moves: its cache of 63 leaves, without any counter.
    before = page_pool_inflight(pool)
    page_pool_update_nid(pool, 0)
    assert page_pool_inflight(pool) == before - 63
    count.step()
    # A page cut into two fragments and given back is, for the third, the page at hand: cached and fast, without
    # having been in the cache. It came from a refill.
    for _ in range(2):
        cut = page_pool_alloc_frag(pool, 2048)
        assert cut is not None
        page_pool_put_full_page(pool, cut[0], True)
    count.step(alloc_refill=1)
    assert page_pool_alloc_frag(pool, 2048) == (cut[0], 0)
    count.step(alloc_fast=1, recycle_cached=1)
    page_pool_put_full_page(pool, cut[0], True)
    # The end counts nothing but what comes back: into the ring, as if there were a consumer.
    for page in pages + held[115:]:
        page_pool_put_full_page(pool, page, False)
    room = 100 - 36
    count.step(recycle_ring=room, recycle_ring_full=len(pages) + len(held) - 115 - room)
    last = take(pool, 1)[0]
    count.step(alloc_fast=1)
    page_pool_destroy(pool)
    assert not pool.released
    page_pool_put_full_page(pool, last, False)
    count.step(recycle_ring=1)


def test_every_counter_of_a_script() -> None:
    bench = Bench()
    pool = make(bench, pool_size=100)
    bench.run(lambda: script(bench, pool))
    assert pool.released
    assert bench.host.pages_in_use == 0
    assert bench.checker is not None
    bench.checker.finish()


def test_names() -> None:
    pool = make(Bench())
    page_pool_recycle_direct(pool, take(pool, 1)[0])
    assert pool.statistics.netlink() == {
        "alloc-fast": 0,
        "alloc-slow": 1,
        "alloc-slow-high-order": 0,
        "alloc-empty": 1,
        "alloc-refill": 0,
        "alloc-waive": 0,
        "recycle-cached": 1,
        "recycle-cache-full": 0,
        "recycle-ring": 0,
        "recycle-ring-full": 0,
        "recycle-released-refcnt": 0,
    }
    assert nonzero(pool) == {"rx_pp_alloc_slow": 1, "rx_pp_alloc_empty": 1, "rx_pp_recycle_cached": 1}


def test_system_pools_recycle_into_one_account() -> None:
    bench = Bench()
    first, second = (make(bench, flags=MAPPED | PP_FLAG_SYSTEM_POOL) for _ in range(2))
    other = make(bench)
    page_pool_recycle_direct(first, take(first, 1)[0])
    for pool in (second, other):
        take(pool, 1)
    assert [pool.statistics.recycle_cached for pool in (first, second, other)] == [1, 1, 0]
    assert second.statistics.alloc_slow == 1
