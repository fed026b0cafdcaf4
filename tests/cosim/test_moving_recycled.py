# SPDX-License-Identifier: BSD-2-Clause
"""No stale use of carried translations: once the fence behind an invalidation has ended, no byte of the old page is
written or read, while buffers recycle in hardware and their pages move.

Everything in the IOMMU is small, so that translations which are not carried wait, cross and miss.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from hw.config import CacheConfig, IommuConfig
from sim.backends.base import launch
from sim.config import MachineConfig, preset
from sim.host.dram_config import DramConfig
from sim.load_tables import DEVICE_ID

SEEDS = range(1, 9)


def machine() -> MachineConfig:
    given = preset("10g-recycle")
    tiny = CacheConfig(1, 2)
    return replace(
        given,
        nic=replace(given.nic, ats=True, pool_buffers=64),
        dram=DramConfig(walker_latency_ns=200),
        iommu=IommuConfig(tlb_4k=CacheConfig(4, 2), tlb_64k=tiny, tlb_2m=tiny, tlb_1g=tiny, walks=2, contexts=2),
        memory_size=8 << 20,
        stalls=True,
        access_log=True,
    )


@cache
def results() -> dict[int, Any]:
    return {
        run["seed"]: run for run in launch("verilator", machine(), "tests.cosim.moving_recycled:storm", list(SEEDS))
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_no_old_page_is_reached(seed: int) -> None:
    """What is reached is checked while it happens, every frame as it leaves, and every buffer at the end. Here, that
    there was enough to be checked."""
    print(f"seed {seed}")
    run = results()[seed]
    assert run["exact"] > run["lost"]
    assert run["translated"] > 20
    assert run["moves"] + run["wild"] > 3


def test_where_the_context_does_not_enable_it_traffic_goes_on_untranslated() -> None:
    """Frames are compared as they come and go. What was asked for before the first refusal came is refused as well."""
    seen = launch("verilator", machine(), "tests.cosim.not_enabled:forward")
    assert seen["refused"] == 1
    assert seen["sent"] >= 200
    assert 1 <= len(seen["records"]) < 64
    assert all(record == ["TYPE_DISALLOWED", "ATS_REQUEST", DEVICE_ID] for record in seen["records"])
