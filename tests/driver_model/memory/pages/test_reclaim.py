# SPDX-License-Identifier: BSD-2-Clause
"""Reclaim: kswapd and shrinkers under memory pressure."""

import pytest

from driver_model.cpu.core import Core
from driver_model.memory.pages.gfp import GFP_KERNEL
from driver_model.memory.pages.page_cache import PageCache
from driver_model.memory.pages.reclaim import SHRINK_BATCH
from tests.driver_model.bench import Bench
from tests.driver_model.pressure import Stock, fill, machine, run, taken


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
