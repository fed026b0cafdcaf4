# SPDX-License-Identifier: BSD-2-Clause
"""A completion is never visible before its data, although the data's page must be walked for and the ring's need not.

Every completion is looked at in the cycle in which it is written: the frame must be in its buffer by then.
"""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from driver_model.drivers.queue import QueuePair
from driver_model.drivers.ring import ENTRY_BYTES, RX_END_OF_PACKET, RX_FORMAT
from driver_model.net.collector import Collector
from hw.abi.codec import Codec
from hw.abi.rings import RxCompletion
from hw.config import CacheConfig, IommuConfig
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.host.dram_config import DramConfig
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic

SEEDS = range(1, 101)
FRAMES = 24
PHASE = Codec(RxCompletion).mask("flags", "phase")
#: Walks take long, and the IOTLB has as many ways as streams of pages that stay: rings, and the data of the moment.
MACHINE = preset(
    "10g",
    dram=DramConfig(walker_latency_ns=300),
    iommu=replace(
        IommuConfig(),
        tlb_4k=CacheConfig(1, 6),
        tlb_64k=CacheConfig(1, 1),
        tlb_2m=CacheConfig(1, 1),
        tlb_1g=CacheConfig(1, 1),
        walk_cache_1=CacheConfig(1, 1),
        walks=2,
        writes=4,
        reads=4,
        contexts=1,
        vectors=1,
    ),
    memory_size=8 << 20,
    stalls=True,
    access_log=True,
)


class Watched(Scenario):
    """A run that looks at each completion of receiving as it is written."""

    def _open(self) -> None:
        super()._open()
        self.visible = Collector(self._expected())
        for queue in self.driver.queues:
            memory = queue.rx.completions.memory
            watcher = Watcher(self, queue)
            self.platform.watch(memory.address, memory.address + memory.size, watcher.look)


class Watcher:
    """Follows one completion ring."""

    def __init__(self, run: Watched, queue: QueuePair) -> None:
        self.run, self.queue = run, queue
        self.next = 0

    def look(self) -> None:
        """Compare the frames of all completions that are there and were not before."""
        read, queue = self.run.platform.read, self.queue
        while True:
            lap, slot = divmod(self.next, queue.config.rx_entries)
            raw = read(queue.rx.completions.memory.address + slot * ENTRY_BYTES, ENTRY_BYTES)
            buffer_id, length, *_, error, flags = RX_FORMAT.unpack(raw)
            if bool(flags & PHASE) == bool(lap % 2):
                return
            assert not error
            assert flags & RX_END_OF_PACKET
            buffer = queue.rx.supply._buffers[buffer_id]
            self.run.visible.check(queue.index, read(buffer.address + queue.strategy.headroom, length))
            self.next += 1


def storm(backend: Backend, machine: MachineConfig, seeds: list[int]) -> list[dict[str, Any]]:
    """A run for each seed, and what was looked at."""
    results = []
    for index, seed in enumerate(seeds):
        if index:
            backend.reset()
        rng = random.Random(seed)
        queues = rng.choice((1, 2))
        traffic = Traffic(
            rng.choice(("imix", "64", "64-1518")),
            frames=FRAMES,
            flows=4,
            queues=queues,
            load=rng.choice(("0.2", "1")),
            seed=seed,
        )
        config = RunConfig(
            traffic, "page_per_packet", queues=queues, ring=16, iommu="strict", moderation_cycles=rng.choice((0, 200))
        )
        run = Watched(backend, machine, config)
        run.platform.set_stalls(rng.choice((0, 30, 100, 160)), seed)
        measured = run.run()
        results.append(
            {
                "seed": seed,
                "delivered": measured.delivered,
                "dropped": sum(measured.dropped.values()),
                "looked at": sum(run.visible.received),
                "accesses": measured.statistics["iommu_untranslated"],
                "misses": measured.statistics["iommu_tlb_miss"],
            }
        )
    return results


@cache
def results() -> dict[int, Any]:
    return {run["seed"]: run for run in launch("verilator", MACHINE, f"{__name__}:storm", list(SEEDS))}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_completion_is_never_visible_before_its_data(seed: int) -> None:
    run = results()[seed]
    assert run["looked at"] == run["delivered"]
    assert run["delivered"] + run["dropped"] == FRAMES


def test_data_missed_and_completions_hit() -> None:
    """Each frame's page is new, so that it must be walked for; rings are not walked for each time."""
    runs = results().values()
    frames = sum(run["delivered"] for run in runs)
    misses, accesses = (sum(run[name] for run in runs) for name in ("misses", "accesses"))
    assert frames > 10 * len(runs)
    assert frames < misses < accesses - frames
