# SPDX-License-Identifier: BSD-2-Clause
"""The rows of experiment 1, by hand from made-up counts."""

from fractions import Fraction

import pytest

from sim.config import preset
from sim.experiments.base import Case
from sim.experiments.compare import explanation
from sim.experiments.runner import plan
from sim.experiments.settings import resolve
from sim.experiments.strategies import Strategies
from sim.measurement import Measurement
from sim.report import Row
from sim.run import RunConfig
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


def test_posting_is_descriptors_and_return_registers() -> None:
    found = rows(
        {
            "rx.refill": (1, 40_000),
            "recycle.batch": (1, 80_000),
            "recycle.return": (1, 160_000),
            "dma.sync_for_cpu": (1, 320_000),
            "mmio.write": (1, 640_000),
        }
    )
    assert (found["posting_cycles"], found["memory_cycles"], found["sync_cycles"]) == (1 + 2 + 4, 8, 8)
    assert found["buffer_cycles"] == 15


def test_interrupts_and_polls_are_counted() -> None:
    found = rows({"irq.entry": (5, 1_000), "napi.poll": (8, 1_000)})
    assert (found["interrupts"], found["polls"]) == (Fraction(1, 8), Fraction(1, 5))
    assert rows({"xdp.run": (40, 1)})["interrupts"] == 0


def cases(**given: str) -> list[Case]:
    strategies = Strategies()
    machine = strategies.machine("10g")
    return list(strategies.cases(machine, resolve(strategies.settings, given), "sample.pcapng"))


def test_by_default_the_iommus_modes_run_for_a_few_cases_only() -> None:
    chosen = [case for case in cases() if case.run.strategy == "page_pool" and case.run.iommu != "none"]
    assert [tuple(case.varied.values())[:3] for case in chosen] == [
        ("drop", traffic, mode) for traffic in ("64", "1518") for mode in ("passthrough", "lazy", "strict")
    ]
    assert len([case for case in cases() if case.run.iommu == "none"]) == 96


def test_all_strategies_run_on_a_nic_with_pools_if_one_of_them_needs_them() -> None:
    assert {case.machine.nic.pools for case in cases() if case.machine is not None} == {2}
    for case in cases(strategies="hw_recycle"):
        assert case.machine is not None
        case.run.check(case.machine)
    chosen = cases(strategies="page_pool+page_per_packet")
    assert {case.machine.nic.pools for case in chosen if case.machine is not None} == {0}


def compared(verdict: str, name: str = "buffer_cycles", **values: float) -> list[Row]:
    """Rows of a figure of several strategies."""
    return [
        Row({"verdict": verdict, "strategy": strategy}, name, "cycles/packet", value)
        for strategy, value in values.items()
    ]


def test_recycling_in_hardware_must_be_cheaper_and_cost_a_forwarded_packet_nothing_but_syncs() -> None:
    def check(verdict: str, **buffers: float) -> dict[str, object]:
        made = compared(verdict, **buffers) + compared(verdict, "sync_cycles", **dict.fromkeys(buffers, 6))
        return {row.name: row.value for row in Strategies().checks(made) if row.kind == "check"}

    assert check("drop", page_pool=58, hw_recycle=32) == {"hw_recycle_is_cheaper": True}
    assert check("drop", page_pool=58, hw_recycle=58) == {"hw_recycle_is_cheaper": False}
    assert check("tx", page_pool=61, hw_recycle=6) == {
        "hw_recycle_is_cheaper": True,
        "forwarding_costs_syncs_alone": True,
    }
    assert check("tx", hw_recycle=7) == {"forwarding_costs_syncs_alone": False}


def test_what_is_saved_is_told_by_its_parts() -> None:
    made = [
        *compared("tx", page_pool=61, hw_recycle=6),
        *compared("tx", "sync_cycles", page_pool=9, hw_recycle=6),
        *compared("tx", "memory_cycles", page_pool=28, hw_recycle=6),
        *compared("tx", "posting_cycles", page_pool=33, hw_recycle=0),
        *compared("tx", "cpu_cycles.tx.clean", page_pool=22, hw_recycle=1),
    ]
    found = {row.name: row.value for row in Strategies().checks(made) if row.kind is None}
    assert found == {
        "saved_by_hw_recycle": 55,
        "saved_by_hw_recycle.memory": 22,
        "saved_by_hw_recycle.posting": 33,
        "saved_by_hw_recycle.tx_clean": 21,
    }


def test_modes_that_are_named_run_everywhere() -> None:
    chosen = cases(iommu="strict+none", verdicts="tx", traffic="imix", strategies="page_pool")
    assert [case.varied["iommu"] for case in chosen] == ["strict", "none"]
    assert [case.machine is not None and case.machine.iommu is not None for case in chosen] == [True, False]
    for case in chosen:
        case.run.check(case.machine)


def made_up(strategy: str, **throughput: float) -> list[Row]:
    """Rows of a case in several modes, with a ceiling of 10."""
    return [
        row
        for mode, value in throughput.items()
        for case in [{"verdict": "drop", "iommu": mode, "strategy": strategy}]
        for row in (Row(case, "throughput", "Mpps", value), Row(case, "ceiling", "Mpps", 10.0))
    ]


def test_strict_must_be_well_below_unless_the_ceiling_hides_it() -> None:
    def check(**throughput: float) -> list[object]:
        rows = Strategies().checks(made_up("page_per_packet", **throughput))
        return [row.value for row in rows if row.name == "strict_is_well_below"]

    assert check(none=4.0, passthrough=3.9, lazy=2.5, strict=1.0) == [True]
    assert check(none=4.0, lazy=2.5, strict=2.1) == [False]
    assert check(none=10.0, lazy=10.0, strict=9.0) == []
    assert check(strict=1.0) == []


def test_page_pool_must_keep_up_with_passthrough_in_each_mode() -> None:
    rows = Strategies().checks(made_up("page_pool", none=9.0, passthrough=8.0, lazy=7.7, strict=7.5))
    kept = {row.case["iommu"]: row.value for row in rows if row.name == "page_pool_keeps_up"}
    assert kept == {"lazy": True, "strict": False}
    assert "strict_is_well_below" not in {row.name for row in rows}


@pytest.mark.parametrize(("ring", "buffers"), [("512", 1024), ("4096", 8192), ("32768", 65536)])
def test_pools_are_as_large_as_rings(ring: str, buffers: int) -> None:
    planned = plan(Strategies(), {"ring": ring, "memory_size": str(1 << 30)})
    machines = {planned.machine_of(case) for case in planned.cases}
    assert {(machine.nic.pools, machine.nic.pool_buffers) for machine in machines} == {(2, buffers)}


@pytest.mark.parametrize(("frames", "judged"), [(5000, 2), (300, 0)])
def test_fragments_lie_between_where_the_run_is_long_enough(frames: int, judged: int) -> None:
    names = ("page_per_packet", "fragments", "page_pool")
    rows = [
        *compared("drop", **dict(zip(names, (272.0, 139.0, 58.0), strict=True))),
        *compared("drop", "delivered", **dict.fromkeys(names, frames)),
        *compared("drop", "sync_cycles", **dict.fromkeys(names, 3)),
    ]
    checks = [row for row in Strategies().checks(rows) if "_than_" in row.name]
    assert [row.value for row in checks] == [True] * judged


@pytest.mark.parametrize(
    ("traffic", "strategy", "found"), [("64", "page_per_packet", [500]), ("1518", "page_pool", [])]
)
def test_what_strict_adds_to_a_small_packet_is_predicted(traffic: str, strategy: str, found: list[int]) -> None:
    case = {"verdict": "drop", "traffic": traffic, "strategy": strategy}
    times = [Row(case | {"iommu": mode}, "cpu_time", "ns/packet", ns) for mode, ns in (("none", 100), ("strict", 600))]
    added = [row for row in Strategies().checks(times) if row.name == "strict_adds"]
    assert [row.value for row in added] == found
    assert all((row.kind, row.published) == ("prediction", 1977) for row in added)
    assert all(explanation(row, Strategies.explanations) for row in added)
