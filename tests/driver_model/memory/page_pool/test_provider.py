# SPDX-License-Identifier: BSD-2-Clause
"""Pools of memory that is not the page allocator's."""

import errno
from typing import Any

import pytest

from driver_model.memory.dma.api import Device, DirectDma, DmaDirection
from driver_model.memory.page_pool.params import PP_FLAG_ALLOW_UNREADABLE_NETMEM
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_put_full_page, page_pool_recycle_direct
from driver_model.memory.page_pool.provider import DmaBufProvider
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import MAPPED, caught, make, nonzero, take

FLAGS = MAPPED | PP_FLAG_ALLOW_UNREADABLE_NETMEM


def make_unreadable(bench: Bench, provider: DmaBufProvider, **more: Any) -> PagePool:
    return make(bench, flags=FLAGS, provider=provider, dma_dir=DmaDirection.FROM_DEVICE, **more)


def test_pages_come_from_the_provider_and_go_back_to_it() -> None:
    bench = Bench()
    provider = DmaBufProvider(bench.host.devices[0], 4)
    pool = make_unreadable(bench, provider)
    allocated = bench.host.pages[0].statistics.allocated
    maps = bench.core.op("dma.map").count
    pages = take(pool, 4)
    assert page_pool_alloc_pages(pool) is None
    assert provider.free == 0
    assert page_pool_inflight(pool) == 4
    assert nonzero(pool) == {"rx_pp_alloc_empty": 5}, "what a provider gives counts nowhere, as in the kernel"
    for page in pages[:2]:
        page_pool_recycle_direct(pool, page)
    page_pool_put_full_page(pool, pages[2], False)
    assert take(pool, 3) == [pages[1], pages[0], pages[2]]
    assert bench.core.op("dma.sync_for_device").count == 0
    for page in pages:
        page_pool_put_full_page(pool, page, False)
    page_pool_destroy(pool)
    assert pool.released
    assert provider.free == 4
    assert all(page.pp is None and page.refcount == 1 and page.dma_addr for page in pages)
    assert bench.host.pages[0].statistics.allocated == allocated
    assert bench.core.op("dma.map").count == maps
    provider.unbind()
    assert bench.host.pages_in_use == 0
    assert bench.checker is not None
    bench.checker.finish()


def test_several_pools_share_a_provider_and_hold_it() -> None:
    bench = Bench()
    provider = DmaBufProvider(bench.host.devices[0], 2)
    first, second = make_unreadable(bench, provider), make_unreadable(bench, provider)
    page = take(first, 1)[0]
    take(second, 1)
    assert page_pool_alloc_pages(second) is None
    page_pool_destroy(first)
    with pytest.raises(OSError, match="2 page_pools have memory of the dma-buf") as busy:
        provider.unbind()
    assert busy.value.errno == errno.EBUSY
    page_pool_put_full_page(first, page, False)
    assert take(second, 1) == [page]
    with pytest.raises(OSError, match="1 page_pools have"):
        provider.unbind()


def test_no_cpu_reads_it() -> None:
    """Not even after sync_for_cpu, and not before or after a pool has it."""
    bench = Bench()
    provider = DmaBufProvider(bench.host.devices[0], 1)
    pool = make_unreadable(bench, provider)
    page = take(pool, 1)[0]
    story = rf"read at {page.address:#x} of a dma-buf at .*test_provider.py:\d+ on core 0, \d+ ps"
    caught("cpu access of unreadable memory", lambda: bench.core.load_owned(page.address, 60), story)
    page_pool_put_full_page(pool, page, False)
    caught("cpu access of unreadable memory", lambda: bench.core.store_owned(page.address + 100, b"x"), "write at")
    page_pool_destroy(pool)
    caught("cpu access of unreadable memory", lambda: bench.core.load_owned(page.address, 60), story)
    provider.unbind()
    page_again = bench.host.pages[0].alloc_pages()
    assert page_again is page
    bench.core.load_owned(page.address, 60)


def test_a_pool_of_another_device_cannot_have_it() -> None:
    bench = Bench()
    other = Device(bench.core, bench.host.pages[0], DirectDma(), bench.checker)
    provider = DmaBufProvider(other, 1)
    with pytest.raises(OSError, match="must be the one that the dma-buf is bound to") as refused:
        make_unreadable(bench, provider)
    assert refused.value.errno == errno.EINVAL
    provider.unbind()


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (True, TypeError), ("4", TypeError)])
def test_bad_sizes(count: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"count must be .*, not {count!r}"):
        DmaBufProvider(Bench().host.devices[0], count)


def test_memory_that_is_not_there_or_cannot_be_mapped_is_refused_and_nothing_stays() -> None:
    bench = Bench(memory=8 * 4096)
    with pytest.raises(MemoryError, match="No memory to bind 9 pages, only 7"):
        DmaBufProvider(bench.host.devices[0], 9)
    unreachable = Device(bench.core, bench.host.pages[0], DirectDma(4095), bench.checker)
    with pytest.raises(MemoryError, match="No memory to bind 2 pages, only 0"):
        DmaBufProvider(unreachable, 2)
    assert bench.host.pages_in_use == 0


def test_a_limit_holds_for_a_provider_as_well() -> None:
    bench = Bench()
    pool = make_unreadable(bench, DmaBufProvider(bench.host.devices[0], 8), inflight_limit=3)
    take(pool, 3)
    assert page_pool_alloc_pages(pool) is None
    assert pool.statistics.alloc_limited == 1
