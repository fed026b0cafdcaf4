# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of page_pool pages: where they lie, who uses them, and what they take."""

import random

import pytest

from driver_model.memory.page_pool.frag import (
    BIAS_MAX,
    page_pool_alloc,
    page_pool_alloc_frag,
    page_pool_free_frag,
)
from driver_model.memory.page_pool.pool import page_pool_put_full_page, page_pool_recycle_direct
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.page_pool.users import page_pool_fragment_page
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import make, take


def cut(pool: PagePool, size: int) -> tuple[Page, int]:
    fragment = page_pool_alloc_frag(pool, size)
    assert fragment is not None
    return fragment


def test_fragments_lie_side_by_side_and_cost_no_atomic() -> None:
    bench = Bench(checked=False)
    pool = make(bench)
    first, offset = cut(pool, 1000)
    assert offset == 0
    atomics, before = bench.core.op("atomic").count, bench.core.time
    assert cut(pool, 1000) == (first, 1024)
    assert bench.core.time - before == bench.core.op("page_pool.frag_alloc").ps
    assert bench.core.op("atomic").count == atomics
    assert cut(pool, 2048) == (first, 2048)
    assert first.pp_ref_count == BIAS_MAX
    assert pool.frag_users == 3


def test_the_bias_that_was_never_used_is_drained() -> None:
    bench = Bench()
    pool = make(bench)
    first, _ = cut(pool, 2048)
    assert cut(pool, 2048)[0] is first
    second, offset = cut(pool, 2048)
    assert second is not first
    assert offset == 0
    assert first.pp_ref_count == 2
    page_pool_put_full_page(pool, first, True)
    assert (first.pp_ref_count, pool.statistics.recycle_cached) == (1, 0)
    page_pool_put_full_page(pool, first, True)
    assert (first.pp_ref_count, pool.alloc_cache[-1]) == (1, first)


def test_a_page_whose_fragments_are_all_back_is_cut_anew() -> None:
    """Synced as a whole, as nothing synced when its fragments came back."""
    bench = Bench()
    pool = make(bench)
    page, _ = cut(pool, 2048)
    cut(pool, 2048)
    syncs = bench.core.op("dma.sync_for_device")
    before = syncs.count
    page_pool_recycle_direct(pool, page)
    page_pool_recycle_direct(pool, page)
    assert syncs.count == before
    assert cut(pool, 2048) == (page, 0)
    assert syncs.count == before + 1
    assert page_pool_inflight(pool) == 64


def test_a_used_up_page_that_somebody_holds_leaves() -> None:
    bench = Bench()
    pool = make(bench)
    page, _ = cut(pool, 4096)
    page_pool_recycle_direct(pool, page)
    pool.pages.get_page(page)
    assert cut(pool, 4096)[0] is not page
    assert page.pp is None
    assert pool.statistics.recycle_released_refcnt == 0, "the kernel counts it nowhere"
    pool.pages.put_page(page)


def test_the_last_fragment_takes_the_rest_of_the_page() -> None:
    pool = make(Bench())
    first = page_pool_alloc(pool, 1500)
    assert first is not None
    page = first[0]
    assert first == (page, 0, 1536)
    second = page_pool_alloc(pool, 1500)
    assert second == (page, 1536, 2560)
    third = page_pool_alloc(pool, 1500)
    assert third is not None
    assert third[0] is not page


def test_more_than_half_a_page_is_a_page() -> None:
    pool = make(Bench())
    whole = page_pool_alloc(pool, 2049)
    assert whole is not None
    assert whole[1:] == (0, 4096)
    assert whole[0].pp_ref_count == 1
    assert pool.frag_page is None


def test_truesize_of_a_page_is_at_least_the_page() -> None:
    """For each size, all fragments of a page together."""
    for size in range(1, 2049, 61):
        pool = make(Bench(checked=False))
        first = page_pool_alloc(pool, size)
        total, fragment = 0, first
        while fragment is not None and first is not None and fragment[0] is first[0]:
            assert fragment[1] == total, size
            assert fragment[2] >= size
            total += fragment[2]
            fragment = page_pool_alloc(pool, size)
        assert total == 4096, size


def test_a_pool_that_is_destroyed_gives_up_the_page_at_hand() -> None:
    bench = Bench()
    idle, used = make(bench), make(bench)
    page, _ = cut(idle, 64)
    page_pool_recycle_direct(idle, page)
    page_pool_destroy(idle)
    assert idle.released
    page, _ = cut(used, 64)
    page_pool_destroy(used)
    assert not used.released
    assert page.pp_ref_count == 1
    page_pool_put_full_page(used, page, False)
    assert used.released
    assert bench.host.pages_in_use == 0


def test_without_memory_there_is_no_fragment_and_later_one_again() -> None:
    bench = Bench(memory=3 * 4096)
    pool = make(bench)
    pages = [cut(pool, 4096)[0], cut(pool, 4096)[0]]
    assert page_pool_alloc_frag(pool, 4096) is None
    assert page_pool_alloc(pool, 100) is None
    assert pool.frag_page is None
    page_pool_recycle_direct(pool, pages[0])
    assert cut(pool, 4096) == (pages[0], 0)
    page_pool_free_frag(pool)


def test_sizes_and_users_are_checked() -> None:
    pool = make(Bench())
    with pytest.raises(ValueError, match=r"A fragment must be 1\.\.4096 bytes, not 0"):
        page_pool_alloc_frag(pool, 0)
    assert page_pool_alloc_frag(pool, 4097) is None
    assert pool.warnings == ["a fragment of 4097 bytes does not fit into a page of 4096"]
    page = take(pool, 1)[0]
    with pytest.raises(ValueError, match="must have 1 user or more, not 0"):
        page_pool_fragment_page(page, 0)
    page_pool_fragment_page(page, 2)
    with pytest.raises(ValueError, match="must have pp_ref_count 1 to be split, not 2"):
        page_pool_fragment_page(page, 2)


def test_fragments_of_random_sizes_never_overlap_and_all_come_back() -> None:
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench()
    pool = make(bench, order=1, pool_size=8)
    held: list[tuple[Page, int, int]] = []
    for _ in range(3000):
        if held and rng.random() < 0.5:
            page_pool_put_full_page(pool, held.pop(rng.randrange(len(held)))[0], rng.random() < 0.5)
        elif len(held) < 100:
            fragment = page_pool_alloc(pool, rng.randint(1, 8192))
            assert fragment is not None
            for page, offset, size in held:
                assert page is not fragment[0] or offset + size <= fragment[1] or fragment[1] + fragment[2] <= offset
            held.append(fragment)
    page_pool_destroy(pool)
    for page, _, _ in held:
        page_pool_put_full_page(pool, page, False)
    assert pool.released
    assert bench.host.pages_in_use == 0
