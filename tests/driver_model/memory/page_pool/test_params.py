# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of page_pool that are refused, with the kernel's error codes, and those that are bent."""

import errno
from typing import Any

import pytest

from driver_model.memory.dma.api import DmaDirection
from driver_model.memory.page_pool.params import (
    PP_FLAG_ALLOW_UNREADABLE_NETMEM,
    PP_FLAG_DMA_MAP,
    PP_FLAG_DMA_SYNC_DEV,
    PP_FLAG_SYSTEM_POOL,
)
from driver_model.memory.page_pool.provider import DmaBufProvider
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.pool_kit import MAPPED, make


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"flags": 1 << 5}, "flags must be within 0xf, not 32"),
        ({"flags": PP_FLAG_DMA_MAP, "dma_dir": DmaDirection.TO_DEVICE}, "FROM_DEVICE or BIDIRECTIONAL, not <DmaDir"),
        ({"flags": PP_FLAG_DMA_SYNC_DEV}, "DMA_SYNC_DEV needs DMA_MAP"),
        ({"max_len": 0}, "needs max_len, not 0"),
        ({"max_len": 4000}, "must lie within 4096 bytes, not 256 and 4000"),
        ({"offset": -1}, "must lie within 4096 bytes, not -1 and 2048"),
        ({"order": 11}, r"order must be in 0\.\.10, not 11"),
        ({"order": -1}, r"order must be in 0\.\.10, not -1"),
        ({"pool_size": -1}, "pool_size must be 0 or more, not -1"),
        ({"inflight_limit": -1}, "inflight_limit must be 0 or more, not -1"),
        ({"inflight_limit": 10, "inflight_resume": 10}, "inflight_resume must be below the limit of 10, not 10"),
        ({"inflight_resume": 1}, "inflight_resume must be below the limit of 0, not 1"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    bench = Bench()
    with pytest.raises(OSError, match=message) as refused:
        make(bench, **params)
    assert refused.value.errno == errno.EINVAL
    assert len(bench.host.page_pools) == 0


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"flags": MAPPED}, errno.EOPNOTSUPP, "needs flag ALLOW_UNREADABLE_NETMEM, not 0x3"),
        ({"flags": PP_FLAG_ALLOW_UNREADABLE_NETMEM}, errno.EOPNOTSUPP, "needs flag DMA_MAP, not 0x8"),
        ({"flags": PP_FLAG_ALLOW_UNREADABLE_NETMEM | PP_FLAG_DMA_MAP}, errno.EOPNOTSUPP, "needs flag DMA_SYNC_DEV"),
        ({"flags": 1 << 4 | 15}, errno.EINVAL, "flags must be within"),
        ({"order": 1}, errno.E2BIG, "order must be 0 with a dma-buf, not 1"),
    ],
)
def test_a_provider_has_needs(params: dict[str, Any], code: int, message: str) -> None:
    bench = Bench()
    provider = DmaBufProvider(bench.host.devices[0], 4)
    with pytest.raises(OSError, match=message) as refused:
        make(bench, **{"flags": MAPPED | PP_FLAG_ALLOW_UNREADABLE_NETMEM, "provider": provider, **params})
    assert refused.value.errno == code
    provider.unbind()


@pytest.mark.parametrize("flag", [PP_FLAG_SYSTEM_POOL, PP_FLAG_ALLOW_UNREADABLE_NETMEM])
def test_flags_that_need_nothing(flag: int) -> None:
    make(Bench(), flags=flag)


@pytest.mark.parametrize(("asked", "size"), [(0, 1024), (7, 7), (16384, 16384), (16385, 16384), (100_000, 16384)])
def test_ring_size(asked: int, size: int) -> None:
    """Older kernels refused more than 32768 with E2BIG; current ones take what they can."""
    assert make(Bench(), pool_size=asked).ring_size == size
