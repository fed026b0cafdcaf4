# SPDX-License-Identifier: BSD-2-Clause
"""Each rule of page_pools, broken on purpose: it is caught, and explained. Numbers are the reference's invariants."""

import re
from pathlib import Path
from typing import Any

import pytest

from driver_model.memory.dma.api import dma_unmap_page
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.page_pool import pool as page_pool
from driver_model.memory.page_pool.audit import page_pool_audit
from driver_model.memory.page_pool.frag import page_pool_alloc, page_pool_alloc_frag
from driver_model.memory.page_pool.pool import (
    page_pool_alloc_pages,
    page_pool_put_full_page,
    page_pool_put_page_bulk,
    page_pool_recycle_direct,
)
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.slow import page_pool_dma_sync_for_device, page_pool_return_page
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.page_pool.users import page_pool_fragment_page, page_pool_unref_page
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi, napi_enable
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import caught, make, take

HERE = Path(__file__).name
STORY = rf"page .* at 0x.* of page_pool 1 at .*{HERE}:\d+ on core 0 in \w+, \d+ ps"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def give(pool: PagePool) -> Page:
    """A page that is in the cache, and was out before."""
    page = take(pool, 1)[0]
    page_pool_recycle_direct(pool, page)
    return page


def test_7_a_page_that_leaves_twice(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    bench.host.pages[0].get_page(page)
    page_pool_return_page(pool, page)
    caught("negative in flight", lambda: page_pool_return_page(pool, page), STORY, "which had left before")


def test_7_every_page_is_somewhere(bench: Bench) -> None:
    pool = make(bench)
    held, posted, lost = take(pool, 3)
    fragment = page_pool_alloc_frag(pool, 100)
    assert fragment is not None
    page_pool_put_full_page(pool, lost, False)
    assert page_pool_audit(pool, posted=[posted], held=[held, fragment[0], held]) == []
    pool.ring.clear()
    assert page_pool_audit(pool, posted=[posted], held=[held]) == [
        "64 pages in flight, but 63 found",
        f"{lost} at {lost.address:#x} is nowhere, {pool.checker and pool.checker.members[lost]}",
        f"{lost} is mapped, and in no place",
    ]
    assert pool.checker is not None
    assert "taken at tests/driver_model/memory/page_pool/pool_kit.py:" in str(pool.checker.members[lost])


@pytest.mark.parametrize(
    ("change", "value", "story"),
    [
        ("refcount", 2, "refcount 2$"),
        ("pp_ref_count", 3, "pp_ref_count 3$"),
        ("pfmemalloc", True, "pfmemalloc$"),
        ("pp", None, "of None$"),
    ],
)
def test_8_somebody_uses_a_page_in_the_cache(bench: Bench, change: str, value: Any, story: str) -> None:
    pool = make(bench)
    page = give(pool)
    setattr(page, change, value)
    rule = "cached page in use"
    caught(rule, lambda: page_pool_alloc_pages(pool), STORY, rf"put at .*{HERE}:\d+: .*{story}")


def test_8_a_page_in_the_cache_is_not_mapped(bench: Bench) -> None:
    pool = make(bench)
    del pool.mapped[give(pool)]
    caught("cached page in use", lambda: page_pool_alloc_pages(pool), "not mapped")


def test_8_a_fresh_page_of_the_reserve_may_be_in_the_cache(bench: Bench) -> None:
    pool = make(bench)
    take(pool, 1)
    pool.alloc_cache[-1].pfmemalloc = True
    take(pool, 1)


def test_9_a_page_is_put_twice(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_put_full_page(pool, page, False)
    story = rf"already put at .*{HERE}:\d+"
    caught("double put", lambda: page_pool_put_full_page(pool, page, True), rf"at .*{HERE}:\d+ on core 0", story)
    other = take(pool, 1)[0]
    caught("double put", lambda: page_pool_put_page_bulk([other, other]), story)


def test_9_a_page_is_there_twice(bench: Bench) -> None:
    pool = make(bench)
    page = give(pool)
    pool.alloc_cache.append(page)
    assert f"{page} is in cache, and in cache" in page_pool_audit(pool)
    take(pool, 1)
    assert f"{page} is in held, and in cache" in page_pool_audit(pool, held=[page])
    caught("taken twice", lambda: page_pool_alloc_pages(pool), STORY, r"taken at .*pool_kit.py:\d+, \d+ ps")


def test_9_more_puts_than_users(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_fragment_page(page, 2)
    caught("more puts than users", lambda: page_pool_unref_page(page, 3), STORY, "-1 users, taken at .*pool_kit.py")


def test_10_a_page_returns_to_another_pool(bench: Bench) -> None:
    first, second = make(bench), make(bench)
    page = take(first, 1)[0]
    story = "belongs to page_pool 1, not to page_pool 2"
    caught("wrong pool", lambda: page_pool_put_full_page(second, page, False), story)
    page = take(first, 1)[0]
    page_pool_fragment_page(page, 2)
    caught("wrong pool", lambda: page_pool_put_full_page(second, page, False), "belongs to page_pool 1")


def test_11_a_process_uses_the_cache_of_a_napi_that_may_poll(bench: Bench) -> None:
    napi = Napi(bench.host.softnets[0], lambda budget: 0)
    pool = make(bench, napi=napi)

    def script() -> None:
        page, other = take(pool, 2)
        napi_enable(napi)
        story = rf"of page_pool 1 at .*{HERE}:\d+ on core 0 in test, \d+ ps, with softirqs on"
        caught("cache outside its consumer", lambda: page_pool_recycle_direct(pool, page), "direct put " + story)
        caught("cache outside its consumer", lambda: page_pool_alloc_pages(pool), "allocation " + story)
        bench.core.softirq.disable()
        page_pool_recycle_direct(pool, other)
        napi.list_owner = 1
        caught("cache outside its consumer", lambda: page_pool_alloc_pages(pool), "while core 1 polls")
        bench.core.softirq.enable()

    bench.run(script)


def test_11_a_hardirq_uses_a_pool(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    heard: list[str] = []

    def handler() -> None:
        for use in (lambda: page_pool_alloc_pages(pool), lambda: page_pool_put_full_page(pool, page, False)):
            with pytest.raises(OwnershipError) as error:
                use()
            heard.append(str(error.value))

    def script() -> None:
        bench.core.interrupt(handler)
        bench.core.sync()

    bench.run(script)
    assert heard[0].startswith("cache outside its consumer: allocation of page_pool 1")
    assert heard[0].endswith("in a hardirq")
    assert heard[1].startswith(f"put in a hardirq: {page}")


def test_11_a_destroyed_pool_has_no_consumer(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    page_pool_destroy(pool)
    story = rf"direct put from page_pool 1 at .*{HERE}:\d+, \d+ ps"
    caught("use of a destroyed pool", lambda: page_pool_put_full_page(pool, page, True), story)


def test_12_a_page_is_published_without_sync(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(bench)
    first, second = take(pool, 2)
    monkeypatch.setattr(page_pool, "page_pool_dma_sync_for_device", lambda pool, page, size: None)
    caught("not synced before it is published", lambda: page_pool_recycle_direct(pool, first), STORY)
    caught("not synced before it is published", lambda: page_pool_put_full_page(pool, second, False), STORY)


def test_12_a_page_is_synced_twice_or_too_early(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(bench)
    page, shared = take(pool, 2)
    page_pool_fragment_page(shared, 2)
    rule = "synced twice"
    caught(rule, lambda: page_pool_dma_sync_for_device(pool, shared, -1), STORY, "the last of 2 users syncs")

    def twice(pool: PagePool, page: Page, size: int) -> None:
        for _ in range(2):
            page_pool_dma_sync_for_device(pool, page, size)

    monkeypatch.setattr(page_pool, "page_pool_dma_sync_for_device", twice)
    caught(rule, lambda: page_pool_recycle_direct(pool, page), STORY, rf"put at .*{HERE}:\d+")


@pytest.mark.parametrize(("asked", "length"), [(-1, 2048), (100, 100), (0, 0), (4096, 2048)])
def test_12_what_is_synced(bench: Bench, monkeypatch: pytest.MonkeyPatch, asked: int, length: int) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    synced: list[tuple[int, int]] = []
    module = "driver_model.memory.page_pool.slow.dma_sync_single_for_device"
    monkeypatch.setattr(module, lambda dev, address, size, direction: synced.append((address, size)))
    page_pool.page_pool_put_page(pool, page, asked, True)
    assert synced == [(page.dma_addr + 256, length)]


def test_13_cache_and_ring_have_their_sizes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make(bench, pool_size=2)
    pages = take(pool, 64)
    pool.ring_size = 100
    for page in pages[:2]:
        page_pool_put_full_page(pool, page, False)
    story = "3 of 2 pages"
    caught("ring overfull", lambda: page_pool_put_full_page(pool, pages[2], False), STORY, story)
    pages = take(pool, 130)
    monkeypatch.setattr(page_pool, "PP_ALLOC_CACHE_SIZE", 1000)
    while len(pool.alloc_cache) < 128:
        page_pool_recycle_direct(pool, pages.pop())
    caught("cache overfull", lambda: page_pool_recycle_direct(pool, pages.pop()), STORY, "129 pages")
    assert any("pages in the cache, 128 allowed" in wrong for wrong in page_pool_audit(pool))


def test_14_a_page_is_unmapped_by_somebody_else(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    dma_unmap_page(pool.p.dev, page.dma_addr, page.size, pool.p.dma_dir)
    rule = "DMA-API: device driver tries to free DMA memory it has not allocated"
    caught(rule, lambda: page_pool_return_page(pool, page), rf"dma_unmap at .*{HERE}:\d+")


def test_14_a_page_leaves_and_stays_mapped(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    del pool.mapped[page]
    caught("freed while mapped", lambda: page_pool_return_page(pool, page), rf"{page.pfn:#x} .* freed at .*{HERE}")


def test_15_a_pool_is_released_with_pages(bench: Bench) -> None:
    pool = make(bench)
    page = take(pool, 1)[0]
    pool.release_cnt += 1
    story = rf"{re.escape(str(page))} at .*, taken at .*pool_kit.py:\d+, \d+ ps"
    caught("released with pages", lambda: page_pool_destroy(pool), story)


def test_15_a_pool_without_pages_is_released(bench: Bench) -> None:
    pool = make(bench)
    page_pool_destroy(pool)
    assert page_pool_audit(pool) == []
    pool.released = False
    assert page_pool_audit(pool) == ["released is False with 0 pages in flight"]


def test_16_fragments_overlap(bench: Bench) -> None:
    pool = make(bench)
    page_pool_alloc_frag(pool, 1024)
    pool.frag_offset = 512
    story = "1024 bytes at 512, but those before reach to 1024"
    caught("fragments overlap", lambda: page_pool_alloc(pool, 1024), STORY, story)
    pool.frag_offset = 0
    caught("fragments overlap", lambda: page_pool_alloc_frag(pool, 1024), "1024 bytes at 0")


def test_16_fragments_count_less_than_their_page(bench: Bench) -> None:
    """Two of 1536 bytes fill a page; ``page_pool_alloc`` says that the second takes 2560."""
    pool = make(bench)
    for _ in range(2):
        page_pool_alloc_frag(pool, 1500)
    story = "fragments of 1536 bytes count 3072 of 4096"
    caught("truesize below backing", lambda: page_pool_alloc_frag(pool, 1500), STORY, story)
    pool = make(bench)
    for _ in range(10):
        page_pool_alloc(pool, 1500)
