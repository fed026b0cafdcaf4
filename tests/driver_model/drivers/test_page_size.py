# SPDX-License-Identifier: BSD-2-Clause
"""The driver on a kernel with pages of 64 KiB: larger buffers, and an IOMMU whose own pages stay at 4 KiB."""

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.memory.dma.api import DmaDirection, dma_unmap_single
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from driver_model.memory.pages.zone import Zone
from tests.driver_model.bench import Bench, frames
from tests.driver_model.fake_platform import FakePlatform
from tests.driver_model.iommu_bench import IommuBench

MEMORY = 64 << 20
STRATEGIES = ["page_per_packet", "page_pool", "hw_recycle"]
PAGE_SIZES = [(4096, 3520), (65536, 64960)]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("page_size", "length"), PAGE_SIZES)
def test_a_buffer_is_a_page_less_head_and_tail(name: str, page_size: int, length: int) -> None:
    bench = Bench(name, "pass", memory=MEMORY, page_size=page_size, expected=[sent := frames(300, seed=5)])
    assert bench.host.pages[0].page_size == page_size

    def body() -> None:
        bench.start()
        strategy = bench.driver.queues[0].strategy
        assert strategy.buffer_length == strategy.buffer_length_of(page_size) == length
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("rx_packets") == len(sent), "every frame")
        bench.finish()

    bench.run(body)
    assert bench.collector.missing == [0]


@pytest.mark.parametrize("mode", ["strict", "lazy"])
@pytest.mark.parametrize("name", ["page_per_packet", "page_pool"])
def test_behind_an_iommu_of_4_kib_pages(mode: str, name: str) -> None:
    bench = IommuBench(mode, name, memory=MEMORY, page_size=65536)

    def body() -> None:
        bench.start()
        bench.nic.receive(0, frames(200, seed=6))
        bench.wait(lambda: bench.total("rx_packets") == 200, "every frame")
        bench.finish()

    bench.run(body)


def test_a_host_takes_the_page_size_or_a_zone() -> None:

    def cores() -> list[Core]:
        return System(FakePlatform(MEMORY), Profile.load("e5-1650v4")).cores

    assert Host(cores()).zone.page_size == 4096
    host = Host(cores(), page_size=65536)
    assert (host.zone.page_size, host.zone.page_shift, host.pages[0].page_size) == (65536, 16, 65536)
    zone = Zone(MEMORY, 65536, pcp_order=0)
    assert Host(cores(), zone=zone).zone is zone


def test_coherent_memory_comes_in_whole_pages() -> None:
    bench = IommuBench(memory=MEMORY, page_size=65536)

    def body() -> None:
        for size, whole in ((100, 65536), (65536, 65536), (65537, 131072)):
            memory = dma_alloc_coherent(bench.dev, size)
            assert memory is not None
            assert memory.page.size == whole
            assert memory.address % whole == 0
            for offset in range(0, whole, 4096):
                assert bench.reaches(memory.dma_address + offset)
            assert not bench.reaches(memory.dma_address + whole)
            dma_free_coherent(bench.dev, memory)
            assert not bench.reaches(memory.dma_address)

    bench.run_open(body)


def test_the_checker_counts_frames_of_4_kib() -> None:
    bench = IommuBench(memory=MEMORY, page_size=65536)

    def body() -> None:
        page = bench.page()
        end = page.address + page.size - 64
        bench.core.store(end, bytes(64))
        address = bench.map(page, DmaDirection.FROM_DEVICE)
        assert bench.reaches(address + page.size - 64)
        dma_unmap_single(bench.dev, address, page.size, DmaDirection.FROM_DEVICE)
        bench.dev.pages.put_page(page)
        assert bench.checker is not None
        bench.checker.stop = False
        bench.core.load(end, 64)
        assert [each.rule for each in bench.checker.violations] == ["cpu access of free memory"]

    bench.run_open(body)
