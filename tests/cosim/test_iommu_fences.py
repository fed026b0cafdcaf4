# SPDX-License-Identifier: BSD-2-Clause
"""After IOFENCE.C no stale translation is ever used: pages, tables and contexts move while a device reaches them.

Two machines, with one walk at a time and with eight, everything else as small and slow as possible.
"""

from functools import cache
from typing import Any

import pytest

from hw.config import CacheConfig, IommuConfig, NicConfig
from sim.backends.base import launch
from sim.host.dram_config import DramConfig
from sim.host.link_config import LINK_PRESETS
from sim.load import LoadMachineConfig

SEEDS = range(1, 101)
WALKS = (1, 8)  #: in turns


def machine(walks: int) -> LoadMachineConfig:
    tiny = CacheConfig(1, 2)
    return LoadMachineConfig(
        nic=NicConfig(queues=1),
        link=LINK_PRESETS["on-chip"],
        dram=DramConfig(walker_latency_ns=200),
        iommu=IommuConfig(
            tlb_4k=CacheConfig(4, 2),
            tlb_64k=tiny,
            tlb_2m=tiny,
            tlb_1g=tiny,
            walk_cache_1=CacheConfig(2, 1),
            walk_cache_2=tiny,
            walk_cache_3=tiny,
            contexts=2,
            walks=walks,
            writes=4,
            write_beats=64,
            reads=4,
            outstanding=16,
            counters=0,
        ),
        host_width=64,
        memory_size=4 << 20,
        stalls=True,
        access_log=True,
    )


@cache
def results() -> dict[int, Any]:
    found = {}
    for index, walks in enumerate(WALKS):
        seeds = list(SEEDS)[index :: len(WALKS)]
        runs = launch("verilator", machine(walks), "tests.cosim.moving_pages:storm", seeds)
        found |= {run["seed"]: run for run in runs}
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_fence_no_stale_translation_is_used(seed: int) -> None:
    """What a device reaches is checked while it happens: see :mod:`tests.cosim.moving_frames`. Here, that there was
    enough to be checked."""
    run = results()[seed]
    assert run["done"] >= 360
    assert run["changes"] > run["fences"] > 5
    assert run["reached"] > run["refused"] > 0
