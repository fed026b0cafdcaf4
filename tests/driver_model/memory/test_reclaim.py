# SPDX-License-Identifier: BSD-2-Clause
"""Memory pressure: kswapd, direct reclaim, shrinkers, and what each kind of allocation may do."""

from collections.abc import Callable

import pytest

from driver_model.cpu.core import Core
from driver_model.memory.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_MEMALLOC, GFP_NOMEMALLOC, GFP_NORETRY, GFP_NOWAIT
from driver_model.memory.page import Page
from driver_model.memory.page_cache import PageCache
from driver_model.memory.pages import PageAllocator
from driver_model.memory.reclaim import SHRINK_BATCH, SWAP_CLUSTER_MAX
from tests.driver_model.bench import Bench

MEMORY = 8 << 20  #: 2047 pages; watermarks 90, 112, 134


class Stock:
    """A shrinker with pages that it can do without."""

    def __init__(self, pages: PageAllocator, count: int = 0, name: str = "stock") -> None:
        self.name = name
        self.pages = pages
        self.held = [taken(pages) for _ in range(count)]
        self.asked: list[int] = []

    def count_objects(self) -> int:
        return len(self.held)

    def scan_objects(self, core: Core, count: int) -> int:
        self.asked.append(count)
        given = min(count, len(self.held))
        for _ in range(given):
            self.pages.put_page(self.held.pop())
        return given


def taken(pages: PageAllocator, gfp: int = GFP_ATOMIC, order: int = 0) -> Page:
    page = pages.alloc_pages(order, gfp)
    assert page is not None
    return page


def machine(cores: int = 1, memory: int = MEMORY) -> Bench:
    return Bench(memory=memory, min_free_kbytes=None, cores=cores)


def fill(pages: PageAllocator, leave: int) -> list[Page]:
    """Take pages for good until so many are free, in lists and zone."""
    pages.drain()
    held = []
    while pages.zone.free_pages > leave:
        held.append(taken(pages, GFP_ATOMIC | GFP_MEMALLOC))
        pages.drain()
    return held


def run(body: Callable[[Bench], None], bench: Bench | None = None) -> Bench:
    """A body in a process on a machine with watermarks."""
    made = bench or machine()
    made.run(lambda: body(made))
    return made


@pytest.mark.parametrize(
    ("gfp", "left"),
    [(GFP_NOWAIT, 90), (GFP_ATOMIC, 34), (GFP_ATOMIC | GFP_NOMEMALLOC, 45), (GFP_NOWAIT | GFP_MEMALLOC, 0)],
    ids=["nowait", "atomic", "nomemalloc", "memalloc"],
)
def test_how_far_an_allocation_may_go(gfp: int, left: int) -> None:
    """Not below min; atomic below half of it and another quarter less; memalloc to the end."""

    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone = pages.zone
        assert (zone.min, zone.low, zone.high) == (90, 112, 134)
        held = fill(pages, 150)
        while (page := pages.alloc_pages(0, gfp)) is not None:
            assert page.pfmemalloc == (zone.free_pages + 1 <= 90 and bool(gfp & GFP_MEMALLOC))
            held.append(page)
            pages.drain()
        assert zone.free_pages == left
        assert pages.statistics.failed == 1
        for page in held:
            pages.put_page(page)
        assert not taken(pages).pfmemalloc, "the mark goes with the page's next life"

    bench = machine()
    bench.host.zone.pcp_batch = 1  # so that what is free is in the zone
    run(body, bench)


def test_kswapd_starts_below_low_and_stops_above_high() -> None:
    bench = machine()
    bench.host.zone.pcp_batch, bench.host.zone.pcp_high = 1, 4  # so that what is freed is soon in the zone

    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        cache = PageCache(zone)
        held = fill(pages, 600)
        cache.read(pages, 400)
        while not vmstat.kswapd_wake:
            assert zone.free_pages >= zone.low, "it was not woken"
            held.append(taken(pages))
        assert bench.core.op("page.wake_kswapd").count == 1
        assert not vmstat.pageoutrun, "it is another process"
        bench.wait(lambda: zone.free_pages > zone.high, "kswapd to reclaim")
        bench.core.sleep_until(bench.core.time + 10**10)
        assert zone.free_pages < zone.high + 64, "it stops"
        assert vmstat.pgsteal_kswapd == bench.core.op("page.reclaim").count > 0
        assert vmstat.pgscan_kswapd >= vmstat.pgsteal_kswapd
        assert (vmstat.allocstall, vmstat.pgsteal_direct) == (0, 0)
        assert len(cache) == 400 - vmstat.pgsteal_kswapd
        cache.drop(pages)
        for page in held:
            pages.put_page(page)
        assert pages.in_use == 0

    run(body, bench)


def test_an_interrupt_of_another_core_wakes_kswapd() -> None:
    def body(bench: Bench) -> None:
        mine, other = bench.host.pages
        cache = PageCache(mine.zone)
        cache.read(mine, 300)
        fill(mine, 140)

        def hog() -> None:
            while not mine.zone.vmstat.kswapd_wake:
                taken(other)

        bench.system.cores[1].spawn("hog", hog)
        bench.wait(lambda: mine.zone.vmstat.pgsteal_kswapd, "kswapd to reclaim")
        assert bench.system.cores[1].op("page.wake_kswapd").count == 1
        assert bench.system.cores[1].op("page.reclaim").count == 0
        assert bench.core.op("page.reclaim").count > 0

    run(body, machine(cores=2))


def test_kswapd_gives_up_where_there_is_nothing_and_tries_again_when_there_is() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        held = fill(pages, 100)
        taken(pages)
        bench.core.sleep_until(bench.core.time + 10**9)
        assert (vmstat.kswapd_wake, zone.kswapd.failures) == (1, 16)
        assert vmstat.pageoutrun == 17, "the first won what was on the core's own list"
        for _ in range(5):
            taken(pages)
        assert vmstat.kswapd_wake == 1
        while zone.free_pages <= zone.high:
            pages.put_page(held.pop())
        assert zone.kswapd.failures == 0
        held += fill(pages, 100)
        taken(pages)
        assert vmstat.kswapd_wake == 2
        bench.core.sleep_until(bench.core.time + 10**9)
        stock = Stock(pages)
        stock.held = [held.pop() for _ in range(200)]
        zone.register_shrinker(stock)
        taken(pages)
        bench.wait(lambda: zone.free_pages > zone.high, "kswapd to ask the shrinker")

    run(body)


def test_a_process_reclaims_for_itself() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone, vmstat = pages.zone, pages.zone.vmstat
        cache = PageCache(zone)
        oldest = cache.read(pages, 500)[0]
        fill(pages, 90)
        before = pages.core.time
        page = taken(pages, GFP_KERNEL)
        assert vmstat.allocstall == 1
        assert vmstat.pgsteal_direct >= SWAP_CLUSTER_MAX
        assert oldest not in cache, "what was used longest ago goes first"
        assert pages.core.time - before >= vmstat.pgsteal_direct * pages.core.op("page.reclaim").ps
        assert not page.pfmemalloc

    run(body)


def test_exhausted_memory_fails_after_bounded_rounds_and_recovers() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        vmstat = pages.zone.vmstat
        held = fill(pages, 90)
        assert pages.alloc_pages(0, GFP_KERNEL | GFP_NORETRY) is None
        assert vmstat.allocstall == 1
        assert pages.alloc_pages(0, GFP_KERNEL) is None
        assert vmstat.allocstall == 1 + 17
        assert pages.alloc_pages(4, GFP_KERNEL) is None
        assert vmstat.allocstall == 1 + 17 + 1, "a large block gets one round"
        assert pages.statistics.failed == 3
        for _ in range(100):
            pages.put_page(held.pop())
        pages.put_page(taken(pages, GFP_KERNEL))

    run(body)


def test_pages_on_other_cores_lists_are_drained_before_giving_up() -> None:
    def body(bench: Bench) -> None:
        mine, other = bench.host.pages
        held = fill(mine, 90)

        def keep() -> None:
            for _ in range(100):
                other.put_page(held.pop())

        task = bench.system.cores[1].spawn("keep", keep)
        bench.wait(lambda: task.done, "the other core")
        assert mine.zone.free_pages <= 90
        taken(mine, GFP_KERNEL)
        assert mine.zone.free_pages > 90

    run(body, machine(cores=2))


def test_a_page_with_another_user_is_looked_at_and_kept() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        cache = PageCache(pages.zone)
        new = cache.read(pages, 10)
        pages.get_page(new[0])
        assert cache.shrink_list(pages, 4) == (4, 3)
        assert new[0] in cache
        assert cache.drop(pages) == 6
        pages.put_page(new[0])
        assert (cache.drop(pages), len(cache), pages.in_use) == (1, 0, 0)

    run(body)


def test_a_page_cache_makes_way_for_itself_and_leaves_the_cache_when_it_is_freed() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        cache = PageCache(pages.zone)
        assert len(cache.read(pages, 5000)) == 5000, "more than there is memory"
        assert 1500 < len(cache) < 2047
        page = cache.read(pages, 1)[0]
        pages.put_page(page)
        assert page not in cache
        with pytest.raises(ValueError, match="Count must be 0 or more, not -1"):
            cache.read(pages, -1)
        with pytest.raises(ValueError, match="has a page cache already"):
            PageCache(pages.zone)

    run(body)


def test_a_shrinker_is_asked_for_a_share_in_batches_and_the_rest_waits() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone = pages.zone
        stock = Stock(pages, 1000)
        zone.register_shrinker(stock)
        assert zone.shrinkers.shrink(pages.core, 5) == 0, "twice 1000 >> 5 is less than a batch"
        assert zone.shrinkers.shrink(pages.core, 2) == 512, "a quarter of 62 that wait, and twice 1000 >> 2"
        assert stock.asked == [SHRINK_BATCH] * 4
        assert zone.vmstat.slabs_scanned == zone.vmstat.slabs_reclaimed == 512
        small = Stock(pages, 5, "small")
        zone.unregister_shrinker(stock)
        zone.register_shrinker(small)
        assert zone.shrinkers.shrink(pages.core, 0) == 5, "all of what is less than a batch"
        assert zone.shrinkers.shrink(pages.core, 0) == 0

    run(body)


def test_a_shrinker_saves_an_allocation() -> None:
    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        stock = Stock(pages, 300)
        pages.zone.register_shrinker(stock)
        fill(pages, 90)
        taken(pages, GFP_KERNEL)
        assert pages.zone.vmstat.slabs_reclaimed == 300 - len(stock.held) > 0
        assert bench.core.op("page.reclaim").count == pages.zone.vmstat.slabs_reclaimed

    run(body)


def test_a_shrinker_that_gives_nothing_hangs_nobody() -> None:
    class Liar(Stock):
        """It says that it gave what it was asked for."""

        def count_objects(self) -> int:
            return 500

        def scan_objects(self, core: Core, count: int) -> int:
            return count

    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        pages.zone.register_shrinker(Liar(pages))
        fill(pages, 90)
        assert pages.alloc_pages(0, GFP_KERNEL) is None

    run(body)


@pytest.mark.parametrize("daemon", [False, True], ids=["direct", "kswapd"])
def test_a_process_that_reclaims_may_take_the_reserve(daemon: bool) -> None:
    class Needy(Stock):
        """It needs a page to give pages back, which a shrinker should not."""

        def scan_objects(self, core: Core, count: int) -> int:
            page = taken(self.pages, GFP_KERNEL)
            assert page.pfmemalloc
            self.pages.put_page(page)
            return super().scan_objects(core, count)

    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        zone = pages.zone
        zone.register_shrinker(stock := Needy(pages, 200))
        fill(pages, 80)
        if daemon:
            bench.wait(lambda: zone.free_pages > zone.high, "kswapd to reclaim")
            assert not zone.vmstat.allocstall
        else:
            assert not taken(pages, GFP_KERNEL).pfmemalloc
        assert stock.asked

    run(body)


def test_a_shrinker_may_leave_while_another_is_asked() -> None:
    class Last(Stock):
        """Its owner closes as it gives back."""

        def scan_objects(self, core: Core, count: int) -> int:
            for stock in everyone:
                self.pages.zone.unregister_shrinker(stock)
            return super().scan_objects(core, count)

    def body(bench: Bench) -> None:
        pages = bench.host.pages[0]
        everyone.extend((Last(pages, 10, "first"), Stock(pages, 10, "second")))
        for stock in everyone:
            pages.zone.register_shrinker(stock)
        assert pages.zone.shrinkers.shrink(pages.core, 0) == 10
        assert not everyone[1].asked

    everyone: list[Stock] = []
    run(body)


def test_shrinkers_are_registered_once() -> None:
    bench = machine()
    zone, stock = bench.host.zone, Stock(bench.host.pages[0])
    zone.register_shrinker(stock)
    with pytest.raises(ValueError, match="'stock' is registered already"):
        zone.register_shrinker(stock)
    zone.unregister_shrinker(stock)
    with pytest.raises(ValueError, match="'stock' is not registered"):
        zone.unregister_shrinker(stock)
