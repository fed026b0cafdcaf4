# SPDX-License-Identifier: BSD-2-Clause
"""The published benchmarks that a cost profile is solved from, replayed on the composed model: the real functions in
the published loop give the published figure back, so nothing is charged twice and nothing is left out."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.profile import Profile
from driver_model.memory.page_pool.params import PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create, page_pool_put_page
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from tests.driver_model.bench import Bench

TURNS = 4096

Prepare = Callable[[Bench], Callable[[], None]]  #: makes a benchmark's loop ready, and returns one turn


def spin_lock(bench: Bench) -> Callable[[], None]:
    lock, core = SpinLock("bench"), bench.core

    def turn() -> None:
        lock.acquire(core)
        lock.release(core)

    return turn


def page_single(order: int) -> Prepare:
    def prepare(bench: Bench) -> Callable[[], None]:
        pages = bench.host.pages[0]

        def turn() -> None:
            page = pages.alloc_pages(order)
            assert page is not None
            pages.put_page(page)

        return turn

    return prepare


def page_bulk(count: int) -> Prepare:
    """Each call is a turn of one page, and does all the work in the last of ``count``."""

    def prepare(bench: Bench) -> Callable[[], None]:
        pages = bench.host.pages[0]
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if turns % count == 0:
                got: list[Page] = []
                assert pages.alloc_pages_bulk(count, got) == count
                for page in got:
                    pages.put_page(page)

        return turn

    return prepare


def pool(bench: Bench) -> PagePool:
    """A pool that does not map, as in the benchmark module."""
    return page_pool_create(PagePoolParams(bench.host.devices[0]))


def pool_loop(put: Callable[[Bench, PagePool, Page], None]) -> Prepare:
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


def swap_addresses(xdp: XdpBuff) -> XdpAction:
    """What the published XDP_TX program does."""
    addresses = xdp.load(0, 12)
    xdp.store(0, addresses[6:] + addresses[:6])
    return XdpAction.TX


#: What each benchmark repeats, by its name, which is the same for the same loop on any machine.
LOOPS: dict[str, Prepare] = {
    "spin lock, uncontended": spin_lock,
    "page, order 0, single": page_single(0),
    "page, order 0, bulk of 128": page_bulk(128),
    "page, order 0, bulk of 64": page_bulk(64),
    "page, order 0, bulk of 16": page_bulk(16),
    "page, order 0, bulk of 2": page_bulk(2),
    "page_pool, fast": pool_loop(put_fast),
    "page_pool, ring": pool_loop(put_ring),
    "page_pool, slow": pool_loop(put_slow),
}

#: Programs of those that are the whole driver under a flood.
FLOODS: dict[str, Callable[[XdpBuff], XdpAction]] = {
    "XDP_DROP, one core": lambda xdp: XdpAction.DROP,
    "XDP_TX, one core": swap_addresses,
}

ONE_OPERATION = "a single operation: there is no function around it"
ORDERS = "the page allocator charges the same for all orders"
NO_SLAB = "there is no slab allocator"
NO_STACK = "there is no SKB, and no stack behind it"
NO_REDIRECT = (
    "there is no XDP_REDIRECT; and the published driver mapped each frame twice, where page_pool keeps it mapped"
)
NO_PMD = "there is no poll-mode driver"
PROFILED = "a function's share in a profile of the published kernel, which divides its work otherwise"
NOT_COHERENT = "no core has caches that devices do not see"

#: Benchmarks without a loop, and why.
NOT_REPLAYED = {
    "atomic_inc": ONE_OPERATION,
    "local_irq_save and _restore": ONE_OPERATION,
    "page, order 1, single": ORDERS,
    "page, order 2, single": ORDERS,
    "page, order 3, single": ORDERS,
    "slab, 256 bytes, 16 objects one by one": NO_SLAB,
    "slab, 256 bytes, bulk of 16": NO_SLAB,
    "slab, single": NO_SLAB,
    "slab, a bulk of 16 less a bulk of 1": NO_SLAB,
    "slab, bulk of 1": NO_SLAB,
    "slab, bulk of 16": NO_SLAB,
    "slab, bulk of 64, object by object": NO_SLAB,
    "slab, bulk of 64, detached freelists": NO_SLAB,
    "SKB clear, 256 bytes, memset": NO_STACK,
    "SKB clear, 256 bytes, MOVQ": NO_STACK,
    "SKB clear, 256 bytes, AVX2": NO_STACK,
    "SKB clear, by sections of 64 bytes": NO_STACK,
    "iptables, drop in the raw table, one core": NO_STACK,
    "Linux forwarding, one route, one core": NO_STACK,
    "UDP sink, recvfrom": NO_STACK,
    "XDP_REDIRECT, one core": NO_REDIRECT,
    "XDP router, one route, one core": NO_REDIRECT,
    "DPDK, drop, one core": NO_PMD,
    "DPDK, forward, one core": NO_PMD,
    "mvneta, invalidation": PROFILED,
    "mvneta, 54 more lines cleaned": PROFILED,
    "mvneta, eth_type_trans": PROFILED,
    "mvneta, kmem_cache_alloc": PROFILED,
    "mvneta, kmem_cache_free": PROFILED,
    "mvneta, GRO and __netif_receive_skb_core": PROFILED,
    "mvneta, get_page_from_freelist": PROFILED,
    "mvneta, free_unref_page": PROFILED,
    "mvneta, page_pool_release_page": PROFILED,
    "mvneta, drop in the stack, pages not recycled": NO_STACK,
    "mvneta, XDP_DROP, sync of the frame's length": NOT_COHERENT,
    "mvneta, XDP_DROP, sync of the whole buffer": NOT_COHERENT,
}

PUBLISHED = {
    (profile, benchmark.name): benchmark.ps
    for profile in Profile.names()
    for benchmark in Profile.load(profile).benchmarks
}


def test_every_benchmark_is_replayed_or_there_is_a_reason() -> None:
    known = [*LOOPS, *FLOODS, *NOT_REPLAYED]
    assert len(set(known)) == len(known)
    assert set(known) == {name for _, name in PUBLISHED}


@pytest.mark.parametrize(("profile", "name"), [case for case in PUBLISHED if case[1] in LOOPS])
def test_a_published_loop_gives_its_figure(profile: str, name: str) -> None:
    bench = Bench(checked=False, profile=Profile.load(profile))

    def measure() -> int:
        turn = LOOPS[name](bench)
        for _ in range(256):
            turn()
        bench.core.softirq.disable()  # as the benchmark module: nothing comes in
        start = bench.core.time
        for _ in range(TURNS):
            turn()
        spent = bench.core.time - start
        bench.core.softirq.enable()
        return spent

    turn = Fraction(bench.run(measure), TURNS)
    assert abs(turn / PUBLISHED[profile, name] - 1) < Fraction(3, 100), f"{float(turn)} ps"


@pytest.mark.parametrize(("profile", "name"), [case for case in PUBLISHED if case[1] in FLOODS])
def test_xdp_in_the_whole_driver_gives_its_figure(profile: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.driver_model.bench.program", lambda verdict: XdpProgram(verdict, FLOODS[name]))
    bench = Bench("page_pool", checked=False, profile=Profile.load(profile))
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
    assert abs(per_packet / PUBLISHED[profile, name] - 1) < Fraction(3, 100), f"{float(per_packet)} ps"
