# SPDX-License-Identifier: BSD-2-Clause
"""The rows of experiment 1, by hand from made-up counts."""

from fractions import Fraction

from sim.config import preset
from sim.experiments.base import Case
from sim.experiments.strategies import Strategies
from sim.run import Measurement, RunConfig
from sim.traffic.source import Traffic

CASE = Case({"verdict": "drop", "traffic": "64", "strategy": "page_pool"}, RunConfig(Traffic("64")))


def rows(operations: dict[str, tuple[int, int]]) -> dict[str, Fraction]:
    measured = Measurement(
        clock_khz=156_250,
        core_khz=1_000_000,  # a cycle is 1000 ps
        offered=40,
        delivered=40,
        dropped={},
        lengths={60: 40},
        cycles=Fraction(420),
        operations=operations,
        statistics={"rx_bytes": 2400, "rx_frames": 40, "tx_bytes": 0, "tx_frames": 0},
        accesses={},
    )
    return {row.name: row.value for row in Strategies().rows(preset("10g"), CASE, measured)}


def test_memory_is_pages_pool_mappings_and_the_lock_of_the_pools_ring() -> None:
    found = rows(
        {
            "page.free": (1, 40_000),
            "page_pool.put_ring": (1, 80_000),
            "spin.lock": (1, 160_000),
            "spin.unlock": (1, 40_000),
            "dma.map": (1, 320_000),
            "xdp.run": (40, 640_000),
        }
    )
    assert found["memory_cycles"] == 1 + 2 + 4 + 1 + 8
    assert found["cpu_cycles"] == 16 + 16
    assert found["memory_share"] == 50


def test_interrupts_and_polls_are_counted() -> None:
    found = rows({"irq.entry": (5, 1_000), "napi.poll": (8, 1_000)})
    assert (found["interrupts"], found["polls"]) == (Fraction(1, 8), Fraction(1, 5))
    assert rows({"xdp.run": (40, 1)})["interrupts"] == 0
