# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of large pages: order of addresses, reuse, fallback, what a held one pins."""

import random

import pytest

from driver_model.memory.pages.allocator import PageError
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_MEMALLOC
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.page_frag import PAGE_FRAG_CACHE_MAX_SIZE, PageFrag, PageFragCache
from tests.driver_model.bench import Bench

BLOCK = 32 << 10


class Kit:
    """A fragment cache on a machine."""

    def __init__(self, memory: int = 4 << 20, page_size: int = 4096, *, min_free_kbytes: int | None = 0) -> None:
        self.bench = Bench(memory=memory, page_size=page_size, min_free_kbytes=min_free_kbytes)
        self.pages = self.bench.host.pages[0]
        self.cache = PageFragCache(self.pages)

    def alloc(self, size: int, align: int = 1) -> PageFrag:
        fragment = self.cache.page_frag_alloc(size, align)
        assert fragment is not None
        return fragment

    def count(self, name: str) -> int:
        return self.bench.core.op(name).count


def test_fragments_come_from_the_end_of_a_block_down() -> None:
    kit = Kit()
    first, second, third = kit.alloc(2048), kit.alloc(1000), kit.alloc(100, 64)
    assert first.page is second.page is third.page
    assert first.page.size == BLOCK
    start = first.page.address
    assert [each.address - start for each in (first, second, third)] == [30720, 29720, 29568]
    assert third.address % 64 == 0
    assert [kit.count(name) for name in ("page_frag.alloc", "page_frag.refill", "page.alloc")] == [3, 1, 1]


def test_costs_of_giving_back_and_of_reuse() -> None:
    kit = Kit()
    for turn in range(3):
        held = [kit.alloc(2048) for _ in range(16)]
        assert kit.cache.refilled == turn
        for fragment in held:
            kit.cache.page_frag_free(fragment)
    assert kit.count("page.alloc") == 1, "the same block all the time"
    assert kit.count("page_frag.refill") == 3
    assert kit.count("page_frag.free") == kit.count("atomic") == 48
    kit.cache.drain()
    assert kit.count("page.free") == 1
    assert kit.pages.in_use == 0


def test_a_block_with_a_fragment_out_is_not_used_again() -> None:
    kit = Kit()
    held = [kit.alloc(2048) for _ in range(16)]
    for fragment in held[1:]:
        kit.cache.page_frag_free(fragment)
    fresh = kit.alloc(2048)
    assert fresh.page is not held[0].page
    assert held[0].page.refcount == 1
    atomics = kit.count("atomic")
    kit.cache.page_frag_free(held[0])
    assert held[0].page.refcount == 0
    assert kit.count("atomic") == atomics + 1


def test_one_fragment_in_sixteen_pins_everything() -> None:
    kit = Kit()
    held = []
    for _ in range(20):
        block = [kit.alloc(2048) for _ in range(16)]
        held.append(block[5])
        for fragment in block:
            if fragment is not block[5]:
                kit.cache.page_frag_free(fragment)
    assert kit.cache.pinned_bytes == 20 * BLOCK
    assert sum(fragment.size for fragment in held) * 16 == kit.cache.pinned_bytes
    for fragment in held:
        kit.cache.page_frag_free(fragment)
    assert kit.cache.pinned_bytes == BLOCK, "the block at hand"
    kit.cache.drain()
    assert kit.cache.pinned_bytes == kit.pages.in_use == 0


def test_a_fragment_may_be_put_as_a_page_and_on_another_core() -> None:
    bench = Bench(cores=2)
    cache, other = (PageFragCache(pages) for pages in bench.host.pages)
    first, second = cache.page_frag_alloc(2048), cache.page_frag_alloc(2048)
    assert first is not None
    assert second is not None
    cache.drain()

    def body() -> None:
        bench.host.pages[1].put_page(first.page)
        assert cache.pinned_bytes == BLOCK
        other.page_frag_free(second)

    task = bench.system.cores[1].spawn("other", body)
    bench.run(lambda: bench.wait(lambda: task.done, "the other core"))
    assert cache.pinned_bytes == other.pinned_bytes == bench.host.pages_in_use == 0
    assert bench.system.cores[1].op("page_frag.free").count == 1


def test_single_pages_serve_where_there_is_no_block() -> None:
    kit = Kit(memory=64 * 4096)
    held: list[Page] = []
    while (page := kit.pages.alloc_pages()) is not None:
        held.append(page)
    for page in sorted(held, key=lambda page: page.pfn)[::2]:
        kit.pages.put_page(page)
    kit.pages.drain()
    fragments = [kit.alloc(2048) for _ in range(4)]
    assert [fragment.page.size for fragment in fragments] == [4096] * 4
    assert fragments[0].page is fragments[1].page is not fragments[2].page
    assert kit.cache.page_frag_alloc(5000) is None, "it does not fit into a page"
    kit.alloc(1000)
    while kit.cache.page_frag_alloc(4096) is not None:
        pass
    assert kit.pages.statistics.failed > 0
    kit.cache.page_frag_free(fragments[0])
    kit.cache.page_frag_free(fragments[1])
    kit.alloc(2048)


def test_a_page_of_64_kib_is_a_block() -> None:
    kit = Kit(memory=64 << 16, page_size=65536)
    fragments = [kit.alloc(2048) for _ in range(33)]
    assert [fragments[31].page.order, fragments[31].page.size] == [0, 65536]
    assert fragments[31].address == fragments[31].page.address
    assert fragments[32].page is not fragments[31].page


def test_a_page_of_the_emergency_reserve_is_not_used_again() -> None:
    kit = Kit(memory=4 << 20, min_free_kbytes=None)

    def body() -> None:
        while kit.pages.alloc_pages() is not None:
            pass
        gfp = GFP_ATOMIC | GFP_MEMALLOC
        first = kit.cache.page_frag_alloc(3000, 1, gfp)
        assert first is not None
        assert kit.cache.pfmemalloc
        assert first.page.order == 0, "blocks are not taken from there"
        kit.cache.page_frag_free(first)
        again = kit.cache.page_frag_alloc(3000, 1, gfp)
        assert again is not None
        assert kit.cache.refilled == 0
        assert kit.count("page.free") == 1

    kit.bench.run(body)


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_a_block_is_not_free_before_its_last_byte_was_handed_out(page_size: int) -> None:
    """A reference for each byte, and the cache's own: however small fragments are, and however soon they come back."""
    kit = Kit(page_size=page_size)
    block = max(BLOCK, page_size)
    page = kit.alloc(1).page
    for _ in range(block - 1):
        fragment = kit.alloc(1)
        assert fragment.page is page
        kit.cache.page_frag_free(fragment)
    assert page.refcount == 2, "the first fragment's, and the cache's"


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_random_fragments_never_overlap(page_size: int) -> None:
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    kit = Kit(memory=512 * page_size, page_size=page_size)
    held: list[PageFrag] = []
    for _ in range(5000):
        if held and rng.random() < 0.52:
            kit.cache.page_frag_free(held.pop(rng.randrange(len(held))))
            continue
        align = 1 << rng.randrange(8)
        new = kit.alloc(rng.randint(1, 4096), align)
        assert new.address % align == 0
        assert new.page.address <= new.address
        assert new.address + new.size <= new.page.address + new.page.size
        assert not any(new.address < old.address + old.size and old.address < new.address + new.size for old in held)
        held.append(new)
    assert kit.cache.pinned_bytes >= sum({each.page: each.page.size for each in held}.values())
    for fragment in held:
        kit.cache.page_frag_free(fragment)
    kit.cache.drain()
    assert kit.pages.in_use == 0


def test_bad_requests() -> None:
    kit = Kit()
    assert PAGE_FRAG_CACHE_MAX_SIZE == BLOCK
    for size in (0, -1, BLOCK + 1):
        with pytest.raises(ValueError, match=rf"A fragment must have 1\.\.32768 bytes, not {size}"):
            kit.cache.page_frag_alloc(size)
    for align in (0, 3):
        with pytest.raises(ValueError, match=f"align must be a power of two, not {align}"):
            kit.cache.page_frag_alloc(64, align)
    fragment = kit.alloc(64)
    kit.cache.page_frag_free(fragment)
    with pytest.raises(PageError, match="Double free of fragment of 64 bytes"):
        kit.cache.page_frag_free(fragment)
