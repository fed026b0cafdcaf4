# SPDX-License-Identifier: BSD-2-Clause
"""The published benchmarks that a cost profile is solved from, replayed on the composed model: the real functions in
the published loop give the published figure back, so nothing is charged twice and nothing is left out."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from driver_model.cpu.profile import Profile
from driver_model.memory.page import Page
from driver_model.memory.page_pool import (
    PagePool,
    PagePoolParams,
    page_pool_alloc_pages,
    page_pool_create,
    page_pool_put_page,
)
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from tests.driver_model.bench import Bench

PROFILE = Profile.load("e5-1650v4")
PUBLISHED = {benchmark.name: benchmark.ps for benchmark in PROFILE.benchmarks}
TURNS = 4096


def page_single(bench: Bench) -> Callable[[], None]:
    pages = bench.host.pages[0]

    def turn() -> None:
        page = pages.alloc_pages()
        assert page is not None
        pages.put_page(page)

    return turn


def page_bulk(bench: Bench) -> Callable[[], None]:
    """Each call is a turn of one page, and does all the work in every 64th."""
    pages = bench.host.pages[0]
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns % 64 == 0:
            got: list[Page] = []
            assert pages.alloc_pages_bulk(64, got) == 64
            for page in got:
                pages.put_page(page)

    return turn


def pool(bench: Bench) -> PagePool:
    """A pool that does not map, as in the benchmark module."""
    return page_pool_create(PagePoolParams(bench.host.devices[0]))


def pool_loop(put: Callable[[Bench, PagePool, Page], None]) -> Callable[[Bench], Callable[[], None]]:
    def prepare(bench: Bench) -> Callable[[], None]:
        pages = pool(bench)

        def turn() -> None:
            page = page_pool_alloc_pages(pages)
            assert page is not None
            put(bench, pages, page)

        return turn

    return prepare


def put_fast(bench: Bench, pages: PagePool, page: Page) -> None:
    page_pool_put_page(pages, page, -1, True)


def put_ring(bench: Bench, pages: PagePool, page: Page) -> None:
    page_pool_put_page(pages, page, -1, False)


def put_slow(bench: Bench, pages: PagePool, page: Page) -> None:
    """A page that may not stay leaves the pool. The published loop held the page by a reference of its own; the
    profile's does not count that reference's atomics, so neither may this."""
    page.pfmemalloc = True
    page_pool_put_page(pages, page, -1, True)


LOOPS = {
    "page, order 0, single": page_single,
    "page, order 0, bulk of 64": page_bulk,
    "page_pool, fast": pool_loop(put_fast),
    "page_pool, ring": pool_loop(put_ring),
    "page_pool, slow": pool_loop(put_slow),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_published_loop_gives_its_figure(name: str) -> None:
    bench = Bench(checked=False)

    def measure() -> int:
        turn = LOOPS[name](bench)
        for _ in range(64):
            turn()
        bench.core.softirq.disable()  # as the benchmark module: nothing comes in
        start = bench.core.time
        for _ in range(TURNS):
            turn()
        spent = bench.core.time - start
        bench.core.softirq.enable()
        return spent

    turn = Fraction(bench.run(measure), TURNS)
    assert abs(turn / PUBLISHED[name] - 1) < Fraction(3, 100), f"{float(turn)} ps"


def swap_addresses(xdp: XdpBuff) -> XdpAction:
    """What the published XDP_TX program does."""
    addresses = xdp.load(0, 12)
    xdp.store(0, addresses[6:] + addresses[:6])
    return XdpAction.TX


@pytest.mark.parametrize(
    ("name", "program"),
    [("XDP_DROP, one core", lambda xdp: XdpAction.DROP), ("XDP_TX, one core", swap_addresses)],
    ids=["drop", "tx"],
)
def test_xdp_in_the_whole_driver_gives_its_figure(
    name: str, program: Callable[[XdpBuff], XdpAction], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.driver_model.bench.program", lambda verdict: XdpProgram(verdict, program))
    bench = Bench("page_pool", checked=False)
    frame = bytes(60)
    marks: list[tuple[int, int]] = []

    def flood() -> None:
        bench.start()
        for packets in (2048, 12288):
            bench.nic.receive(0, [frame] * packets)
            bench.wait(lambda: not bench.nic.queues[0].waiting, "the flood to be taken")
            marks.append((bench.total("rx_packets"), bench.core.softirq.busy_ps))
        bench.finish()

    bench.run(flood)
    (packets, busy), (all_packets, all_busy) = marks
    per_packet = Fraction(all_busy - busy, all_packets - packets)
    assert abs(per_packet / PUBLISHED[name] - 1) < Fraction(3, 100), f"{float(per_packet)} ps"
