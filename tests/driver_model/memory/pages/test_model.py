# SPDX-License-Identifier: BSD-2-Clause
"""The whole page allocator on two cores under memory pressure, against a list of who holds what."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_MEMALLOC, GFP_NORETRY, GFP_ZERO
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.page_cache import PageCache
from driver_model.memory.pages.page_frag import PageFrag, PageFragCache
from tests.driver_model.bench import Bench

EXAMPLES, STEPS = 64, 250
LEAST_STEPS = 10_000
PAGES = 512
CORES = st.integers(0, 1)

counted: Counter[str] = Counter()


@dataclass
class Holding:
    """What the reference knows of an allocation."""

    page: Page
    address: int
    size: int
    references: int
    tag: bytes


class PagesMachine(RuleBasedStateMachine):
    """The reference is a list of holdings: address, size, references, and a tag written into the memory.

    Rules check what a call may answer; the invariant that nothing overlaps, nothing is lost, and no tag changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Holding] = []
        self.fragments: list[tuple[PageFrag, bytes]] = []
        self.tags = 0

    @initialize(page_size=st.sampled_from((4096, 4096, 65536)), pcp_order=st.integers(0, 3))
    def machine(self, page_size: int, pcp_order: int) -> None:
        self.bench = Bench(
            memory=PAGES * page_size, cores=2, min_free_kbytes=None, page_size=page_size, pcp_order=pcp_order
        )
        self.zone = self.bench.host.zone
        self.cache = PageCache(self.zone)
        self.frags = [PageFragCache(pages) for pages in self.bench.host.pages]

    def on(self, core: int, body: Callable[[PageAllocator], Any]) -> Any:
        """What a body returns that a process of a core runs."""
        counted["steps"] += 1
        results: list[Any] = []
        cpu, pages = self.bench.system.cores[core], self.bench.host.pages[core]
        cpu.spawn("step", lambda: results.append(body(pages)))
        self.bench.run(lambda: self.bench.wait(lambda: results, "the step"))
        return results[0]

    def tag(self, address: int, size: int) -> bytes:
        """Mark both ends of some memory as no other is."""
        self.tags += 1
        tag = self.tags.to_bytes(4, "little")[: min(4, size)]
        self.bench.platform.write(address, tag)
        self.bench.platform.write(address + size - len(tag), tag)
        return tag

    def tagged(self, address: int, size: int, tag: bytes) -> bool:
        read = self.bench.platform.read
        return read(address + size - len(tag), len(tag)) == tag and (size < 8 or read(address, len(tag)) == tag)

    def hold(self, page: Page, order: int) -> None:
        assert (page.order, page.refcount) == (order, 1)
        assert page.size == self.zone.page_size << order
        assert page.address % page.size == 0
        self.held.append(Holding(page, page.address, page.size, 1, self.tag(page.address, page.size)))

    @rule(core=CORES, order=st.sampled_from((0, 0, 0, 0, 1, 2, 3, 4)))
    def alloc_atomic(self, core: int, order: int) -> None:
        mark = self.zone.min - self.zone.min // 2
        mark -= mark // 4

        def body(pages: PageAllocator) -> tuple[Page | None, bool]:
            page = pages.alloc_pages(order)
            return page, self.zone.watermark_ok(order, mark)

        page, refused = self.on(core, body)
        if page is None:
            counted["atomic failures"] += 1
            assert not refused, "there is one"
        else:
            assert not page.pfmemalloc
            self.hold(page, order)

    @rule(core=CORES, order=st.integers(0, 3), zero=st.booleans())
    def alloc_waiting(self, core: int, order: int, zero: bool) -> None:
        gfp = GFP_KERNEL | (GFP_NORETRY if order else 0) | (GFP_ZERO if zero else 0)
        page, left = self.on(core, lambda pages: (pages.alloc_pages(order, gfp), len(self.cache)))
        if page is None:
            counted["waiting failures"] += 1
            assert order or not left, "it gave up before the page cache was empty"
            return
        if zero:
            assert self.bench.platform.read(page.address, page.size) == bytes(page.size)
        self.hold(page, order)

    @rule(core=CORES)
    def alloc_from_the_reserve(self, core: int) -> None:
        page = self.on(core, lambda pages: pages.alloc_pages(0, GFP_ATOMIC | GFP_MEMALLOC))
        if page is None:
            assert not self.zone.free_pages
        else:
            counted["pfmemalloc"] += page.pfmemalloc
            self.hold(page, 0)

    @rule(core=CORES, count=st.integers(0, 80))
    def alloc_bulk(self, core: int, count: int) -> None:
        got: list[Page] = []
        assert self.on(core, lambda pages: pages.alloc_pages_bulk(count, got)) == len(got) <= count
        counted["partial bulks"] += 0 < len(got) < count
        for page in got:
            self.hold(page, 0)

    @rule(core=CORES)
    def alloc_local(self, core: int) -> None:
        page = self.on(core, PageAllocator.alloc_page_local)
        if page is not None:
            self.hold(page, 0)

    @precondition(lambda self: self.held)
    @rule(core=CORES, data=st.data(), count=st.integers(1, 40))
    def put(self, core: int, data: st.DataObject, count: int) -> None:
        chosen = [self.held[data.draw(st.integers(0, len(self.held) - 1))]]
        chosen += [each for each in self.held[: count - 1] if each is not chosen[0]]

        def body(pages: PageAllocator) -> bool:
            for each in chosen:
                pages.put_page(each.page)
            return True

        self.on(core, body)
        for each in chosen:
            assert self.tagged(each.address, each.size, each.tag)
            each.references -= 1
            if not each.references:
                self.held.remove(each)

    @precondition(lambda self: self.held)
    @rule(core=CORES, data=st.data())
    def get(self, core: int, data: st.DataObject) -> None:
        each = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        self.on(core, lambda pages: [pages.get_page(each.page)])
        each.references += 1

    @precondition(lambda self: any(not each.page.order and each.references == 1 for each in self.held))
    @rule(core=CORES)
    def free_local(self, core: int) -> None:
        each = next(each for each in self.held if not each.page.order and each.references == 1)
        self.on(core, lambda pages: [pages.free_page_local(each.page)])
        self.held.remove(each)

    @rule(core=CORES, size=st.integers(1, 4096))
    def frag_alloc(self, core: int, size: int) -> None:
        fragment = self.on(core, lambda pages: [self.frags[core].page_frag_alloc(size, 64)])[0]
        if fragment is not None:
            assert fragment.address % 64 == 0
            self.fragments.append((fragment, self.tag(fragment.address, size)))

    @precondition(lambda self: self.fragments)
    @rule(core=CORES, data=st.data())
    def frag_free(self, core: int, data: st.DataObject) -> None:
        fragment, _ = self.fragments.pop(data.draw(st.integers(0, len(self.fragments) - 1)))
        self.on(core, lambda pages: [self.frags[core].page_frag_free(fragment)])

    @rule(core=CORES, count=st.integers(1, 300))
    def read_files(self, core: int, count: int) -> None:
        self.on(core, lambda pages: self.cache.read(pages, count) or True)

    @rule(core=CORES)
    def scatter(self, core: int) -> None:
        """Fill memory with files, forget every other page of them, and take all blocks that there are: the last ones
        are put together from pieces."""

        def body(pages: PageAllocator) -> bool:
            self.cache.read(pages, PAGES)
            for page in [self.zone.page_if_used(number) for number in range(1, PAGES, 2)]:
                if page is not None and page in self.cache:
                    pages.put_page(page)
            self.zone.drain_all_pages(pages)
            blocks: list[Page] = []
            while (block := pages.alloc_pages(3, GFP_KERNEL | GFP_NORETRY)) is not None:
                blocks.append(block)
            for block in blocks:
                pages.put_page(block)
            return True

        self.on(core, body)

    @rule(core=CORES)
    def exhaust(self, core: int) -> None:
        """Take all that each kind of allocation gets, without a page cache to make way, and give it back."""

        def body(pages: PageAllocator) -> bool:
            self.cache.drop(pages)
            got: list[Page] = []
            for gfp, kind in ((GFP_ATOMIC, "atomic"), (GFP_KERNEL, "waiting"), (GFP_ATOMIC | GFP_MEMALLOC, "reserve")):
                while (page := pages.alloc_pages(0, gfp)) is not None:
                    counted["pfmemalloc"] += page.pfmemalloc
                    assert not page.pfmemalloc or kind == "reserve"
                    got.append(page)
                counted[f"{kind} failures"] += 1
            assert not self.zone.free_pages
            frames = [page.pfn for page in got]
            assert len(frames) == len(set(frames))
            for page in got:
                pages.put_page(page)
            return True

        self.on(core, body)

    @rule(core=CORES)
    def drop_caches(self, core: int) -> None:
        self.on(core, lambda pages: [self.cache.drop(pages)])
        assert not len(self.cache)

    @rule(core=CORES)
    def drain(self, core: int) -> None:
        """With nothing on lists, and nobody who reclaims, every page is free or held."""
        self.bench.run(lambda: self.bench.wait(lambda: not self.zone.kswapd.awake, "kswapd to sleep"))

        def body(pages: PageAllocator) -> int:
            self.zone.drain_all_pages(pages)
            return self.zone.free_pages + 1

        free = self.on(core, body) - 1
        in_frags = sum(frags.pinned_bytes for frags in self.frags)
        used = sum(each.size for each in self.held) + in_frags + len(self.cache) * self.zone.page_size
        assert free * self.zone.page_size + used == self.zone.present * self.zone.page_size

    @invariant()
    def nothing_overlaps_and_no_byte_changed(self) -> None:
        spans = [(each.address, each.size) for each in self.held]
        spans += [(fragment.address, fragment.size) for fragment, _ in self.fragments]
        spans.sort()
        assert all(start + size <= following for (start, size), (following, _) in pairwise(spans))
        assert all(self.tagged(each.address, each.size, each.tag) for each in self.held)
        assert all(self.tagged(each.address, each.size, tag) for each, tag in self.fragments)
        assert all(each.page.refcount == each.references for each in self.held)
        used = sum(each.size for each in self.held) + sum(frags.pinned_bytes for frags in self.frags)
        assert self.zone.used_pages == used // self.zone.page_size + len(self.cache)

    def teardown(self) -> None:
        """Everything comes back."""
        if not hasattr(self, "bench"):
            return

        def body(pages: PageAllocator) -> bool:
            for each in self.held:
                for _ in range(each.references):
                    pages.put_page(each.page)
            for fragment, _ in self.fragments:
                self.frags[0].page_frag_free(fragment)
            for frags in self.frags:
                frags.drain()
            self.cache.drop(pages)
            self.zone.drain_all_pages(pages)
            return True

        self.on(0, body)
        assert self.bench.host.pages_in_use == 0
        assert self.zone.free_pages == self.zone.present
        vmstat = self.zone.vmstat
        counted["reclaimed"] += vmstat.pgsteal_direct + vmstat.pgsteal_kswapd
        counted["migrated"] += vmstat.pgmigrate_success
        self.bench.system.shutdown()


def test_any_sequence_of_calls_keeps_memory_whole() -> None:
    """Derandomized: the same sequences each time. The counts say that what is rare did happen."""
    counted.clear()
    run_state_machine_as_test(
        PagesMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
        ),
    )
    print(dict(counted))
    assert counted["steps"] >= LEAST_STEPS
    for rare in ("atomic failures", "waiting failures", "pfmemalloc", "partial bulks", "reclaimed", "migrated"):
        assert counted[rare], f"{rare}: it never happened"
