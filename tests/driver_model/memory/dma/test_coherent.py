# SPDX-License-Identifier: BSD-2-Clause
"""Memory that CPU and device share all the time."""

import pytest

from driver_model.memory.dma.api import Device, DirectDma
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from tests.driver_model.bench import Bench


def test_coherent_memory_is_zeroed_aligned_and_freed() -> None:
    bench = Bench()
    dev = bench.host.devices[0]

    def use() -> None:
        first = dma_alloc_coherent(dev, 16384)
        assert first is not None
        assert first.page.order == 2
        dev.core.store(first.address, b"\xff" * 16384)
        dma_free_coherent(dev, first)
        again = dma_alloc_coherent(dev, 16000)
        assert again is not None
        assert again.address % 16384 == 0
        assert dev.core.load(again.address, 16384) == bytes(16384)
        dma_free_coherent(dev, again)

    bench.run(use)
    assert bench.host.pages_in_use == 0


def test_coherent_memory_runs_out() -> None:
    bench = Bench(memory=8 * 4096)
    assert dma_alloc_coherent(bench.host.devices[0], 65536) is None
    narrow = Device(bench.core, bench.host.pages[0], DirectDma(255), bench.checker)
    assert dma_alloc_coherent(narrow, 4096) is None
    assert bench.host.pages_in_use == 0


@pytest.mark.parametrize("size", [0, -1, (4 << 20) + 1])
def test_bad_size(size: int) -> None:
    with pytest.raises(ValueError, match=rf"Coherent memory must be 1\.\.4194304 bytes, not {size}"):
        dma_alloc_coherent(Bench().host.devices[0], size)
