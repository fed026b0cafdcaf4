# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API on a machine that is not coherent: over many seeds, what a driver sees with its syncs and without."""

from collections.abc import Callable

import pytest

from driver_model.memory.dma.api import (
    DMA_ATTR_SKIP_CPU_SYNC,
    DirectDma,
    dma_map_page_attrs,
    dma_mapping_error,
    dma_need_sync,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
    dma_unmap_page_attrs,
)
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.dma.scatterlist import Scatterlist, dma_map_sg
from driver_model.memory.page_pool.params import PP_FLAG_DMA_MAP, PP_FLAG_DMA_SYNC_DEV, PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create
from tests.driver_model.fake_platform import CYCLE_PS
from tests.driver_model.iommu_bench import IommuBench
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, TO, Kit, caught
from tests.driver_model.noncoherent_kit import noncoherent_profile

SEEDS = range(60)
LENGTH = 192


def kit(seed: int = 0) -> Kit:
    return Kit(profile=noncoherent_profile(), cache_seed=seed, memory=1 << 20)


def device_writes(kit: Kit, address: int, data: bytes) -> None:
    """Some time after the CPU let go of it."""
    kit.core.time += 20 * 10**6
    kit.core.sync()
    kit.bench.platform.device_write(address, data)


def outcomes(play: Callable[[Kit], object]) -> set[object]:
    """What comes of a play, over all seeds; accesses are not checked."""
    seen = set()
    for seed in SEEDS:
        machine = kit(seed)
        machine.checker.stop = False

        def run(machine: Kit = machine) -> object:
            return play(machine)

        seen.add(machine.bench.run(run))
    return seen


def receive(kit: Kit, *, sync: bool) -> bool:
    """A driver's life with one page that is received into again and again; whether all that it read was fresh."""
    page = kit.page()
    address = dma_map_page_attrs(kit.dev, page, 0, 4096, BOTH, DMA_ATTR_SKIP_CPU_SYNC)
    assert not dma_mapping_error(kit.dev, address)
    fresh = True
    for packet in range(6):
        dma_sync_single_for_device(kit.dev, address, 4096, BOTH)
        data = bytes([packet + 1]) * LENGTH
        device_writes(kit, page.address, data)
        if sync:
            dma_sync_single_for_cpu(kit.dev, address, LENGTH, BOTH)
        fresh &= kit.core.load_owned(page.address, LENGTH) == data
        kit.core.store_owned(page.address, b"rewritten")
    dma_unmap_page_attrs(kit.dev, address, 4096, BOTH, DMA_ATTR_SKIP_CPU_SYNC)
    return fresh


def test_a_driver_that_syncs_never_reads_stale_bytes() -> None:
    assert outcomes(lambda kit: receive(kit, sync=True)) == {True}


def test_a_driver_that_does_not_reads_them_under_some_seeds() -> None:
    assert False in outcomes(lambda kit: receive(kit, sync=False))


@pytest.mark.parametrize(("discards", "seen"), [(False, {b"new"}), (True, {b"new", bytes(3)})])
def test_what_the_cpu_wrote_before_it_gave_a_buffer_away_is_lost_where_the_kernel_invalidates(
    discards: bool, seen: set[bytes]
) -> None:
    """It is lost unless the cache happened to write it back: why arm64 cleans since 2022."""

    def play(kit: Kit) -> bytes:
        assert kit.core.cache is not None
        kit.core.cache.discards = discards
        page = kit.page()
        kit.core.store(page.address, b"new")
        kit.map(page, FROM)
        return kit.bench.platform.read(page.address, 3)

    assert outcomes(play) == seen


def test_a_driver_that_syncs_is_as_well_off_where_the_kernel_invalidates() -> None:
    def play(kit: Kit) -> bool:
        assert kit.core.cache is not None
        kit.core.cache.discards = True
        return receive(kit, sync=True)

    assert outcomes(play) == {True}


def test_a_single_receive_without_sync_is_stale_under_some_seeds_only() -> None:
    def play(kit: Kit) -> bytes:
        page = kit.page()
        kit.map(page)
        device_writes(kit, page.address, b"new")
        return kit.core.load_owned(page.address, 3)

    assert outcomes(play) == {b"new", bytes(3)}


def test_what_is_sent_without_a_sync_is_stale_under_some_seeds_only() -> None:
    def play(sync: bool) -> Callable[[Kit], bytes]:
        def send(kit: Kit) -> bytes:
            page = kit.page()
            address = kit.map(page, TO)
            dma_sync_single_for_cpu(kit.dev, address, 64, TO)
            kit.core.store_owned(page.address, b"new")
            if sync:
                dma_sync_single_for_device(kit.dev, address, 64, TO)
            return kit.bench.platform.read(page.address, 3)

        return send

    assert outcomes(play(sync=False)) == {b"new", bytes(3)}
    assert outcomes(play(sync=True)) == {b"new"}


def test_mapping_and_unmapping_hand_the_bytes_over() -> None:
    def play(kit: Kit) -> bytes:
        page = kit.page()
        kit.core.store_owned(page.address, b"out" * 100)
        address = kit.map(page, BOTH)
        seen = kit.bench.platform.read(page.address + 3, 3)
        device_writes(kit, page.address, b"inn")
        dma_unmap_page(kit.dev, address, 4096, BOTH)
        return seen + kit.core.load_owned(page.address, 6)

    assert outcomes(play) == {b"outinnout"}


def test_what_the_cpu_wrote_after_a_sync_is_destroyed_or_destroys() -> None:
    def play(kit: Kit) -> bytes:
        page = kit.page()
        address = kit.map(page)
        device_writes(kit, page.address, b"device")
        dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
        kit.core.store_owned(page.address, b"cpu")
        dma_sync_single_for_cpu(kit.dev, address, 64, FROM)
        return kit.core.load_owned(page.address, 6)

    assert outcomes(play) == {b"device", b"cpuice"}


def test_maintenance_is_paid_by_length() -> None:
    machine = kit()
    cleaned, invalidated = machine.core.op("dma.cache_clean_line"), machine.core.op("dma.cache_invalidate_line")
    address = machine.map(machine.page(), FROM)
    assert (cleaned.count, invalidated.count) == (64, 0)
    dma_sync_single_for_cpu(machine.dev, address, 130, FROM)
    dma_sync_single_for_device(machine.dev, address + 60, 8, FROM)
    assert (cleaned.count, invalidated.count) == (66, 3)
    dma_unmap_page(machine.dev, address, 4096, FROM)
    assert (cleaned.count, invalidated.count) == (66, 67)
    address = machine.map(machine.page(), TO)
    dma_unmap_page(machine.dev, address, 4096, TO)
    assert (cleaned.count, invalidated.count) == (66 + 64, 67)


def test_a_pool_cleans_what_it_posts_and_no_more() -> None:
    machine = kit()
    pool = page_pool_create(
        PagePoolParams(machine.dev, PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV, dma_dir=FROM, offset=256, max_len=640)
    )
    assert page_pool_alloc_pages(pool) is not None
    assert machine.core.op("dma.cache_clean_line").count == machine.core.op("dma.map").count * 10


def test_a_list_that_could_not_be_mapped_destroys_nothing() -> None:
    def play(machine: Kit) -> bytes:
        page, far = machine.page(), machine.page()
        machine.core.store_owned(page.address, b"mine")
        machine.dev.ops = DirectDma((1 << page.address.bit_length()) - 1)
        while far.address <= machine.dev.ops.mask:
            far = machine.page()
        assert dma_map_sg(machine.dev, [Scatterlist(page, 0, 64), Scatterlist(far, 0, 64)], FROM) == 0
        assert machine.core.op("dma.cache_invalidate_line").count == 0
        return machine.core.load_owned(page.address, 4)

    assert outcomes(play) == {b"mine"}


def test_every_mapping_needs_its_syncs() -> None:
    machine = kit()
    assert dma_need_sync(machine.dev, machine.map(machine.page()))


def test_coherent_memory_is_uncached_until_it_is_freed() -> None:
    machine = kit()
    assert machine.core.cache is not None
    image = machine.core.cache.image

    def use() -> None:
        ring = dma_alloc_coherent(machine.dev, 4096)
        assert ring is not None
        assert image.uncached(ring.address)
        machine.core.store_owned(ring.address, b"doorbell")
        assert machine.bench.platform.read(ring.address, 8) == b"doorbell"
        machine.bench.platform.device_write(ring.address, b"complete")
        assert machine.core.load_owned(ring.address, 8) == b"complete"
        dma_free_coherent(machine.dev, ring)
        assert not image.uncached(ring.address)

    machine.bench.run(use)


def test_a_dirty_line_in_a_posted_buffer_is_caught() -> None:
    """Invariant 4: written back later, it would overwrite what the device wrote."""
    found = 0
    for seed in SEEDS:
        machine = kit(seed)
        page = machine.page()
        machine.core.store_owned(page.address + 100, b"dirty")
        address = dma_map_page_attrs(machine.dev, page, 0, 4096, FROM, DMA_ATTR_SKIP_CPU_SYNC)
        assert machine.core.cache is not None
        if machine.core.cache.image.first_dirty(page.address, 4096) is None:
            continue
        found += 1
        caught(
            "cpu-dirty line in a posted buffer",
            lambda machine=machine, address=address: machine.checker.posted(machine.core, address, 1000),
            rf"line {page.address + 64:#x} of {page.address:#x} posted at .*test_noncoherent.py:\d+",
        )
        dma_sync_single_for_device(machine.dev, address, 1000, FROM)
        machine.checker.posted(machine.core, address, 1000)
    assert found


def later(bench: IommuBench) -> None:
    """The device's turn, or the CPU's."""
    bench.core.time += 2 * CYCLE_PS
    bench.core.sync()


@pytest.mark.parametrize("mode", ["strict", "lazy"])
def test_behind_an_iommu_too(mode: str) -> None:
    seen = set()
    for seed in range(20):
        bench = IommuBench(mode, profile=noncoherent_profile(), cache_seed=seed)

        def body(bench: IommuBench = bench) -> None:
            page = bench.page()
            bench.dev.core.store_owned(page.address, b"out" * 100)
            address = bench.map(page, BOTH)
            later(bench)
            first = bench.nic.read(address, 6)
            bench.nic.write(address, b"inn")
            later(bench)
            dma_sync_single_for_cpu(bench.dev, address, 64, BOTH)
            second = bench.dev.core.load_owned(page.address, 6)
            dma_sync_single_for_device(bench.dev, address, 64, BOTH)
            later(bench)
            bench.nic.write(address, b"end")
            later(bench)
            dma_unmap_page(bench.dev, address, 4096, BOTH)
            seen.add((first, second, bench.dev.core.load_owned(page.address, 6)))
            bench.dev.pages.put_page(page)

        bench.run_open(body)
    assert seen == {(b"outout", b"innout", b"endout")}
