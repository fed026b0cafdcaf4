# SPDX-License-Identifier: BSD-2-Clause
"""What each kind of allocation may do, and does, when memory is low."""

import pytest

from driver_model.cpu.core import Core
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_MEMALLOC, GFP_NOMEMALLOC, GFP_NORETRY, GFP_NOWAIT
from driver_model.memory.pages.page_cache import PageCache
from driver_model.memory.pages.reclaim import SWAP_CLUSTER_MAX
from tests.driver_model.bench import Bench
from tests.driver_model.pressure import Stock, fill, machine, run, taken


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
