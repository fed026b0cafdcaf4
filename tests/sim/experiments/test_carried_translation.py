# SPDX-License-Identifier: BSD-2-Clause
"""The rows of experiment 14, from made-up measurements, and its cases."""

from typing import Any

import pytest

from hw.config import CacheConfig
from sim.experiments.base import Case
from sim.experiments.carried_translation import CarriedTranslation, iotlb_entry_bits
from sim.experiments.settings import SettingError, resolve
from sim.line_rate.run import LineMeasurement

EXPERIMENT = CarriedTranslation()


def cases(**given: str) -> list[Case]:
    return list(EXPERIMENT.cases(EXPERIMENT.machine("100g"), resolve(EXPERIMENT.settings, given), ""))


def rows(case: Case, cycles: int, dropped: int = 0) -> dict[str, Any]:
    measured = LineMeasurement(cycles, 1000, 1000, {"no_buffer": dropped} if dropped else {})
    assert case.machine is not None
    return {row.name: row.value for row in EXPERIMENT.rows(case.machine, case, measured)}


def test_every_case_fits_its_machine() -> None:
    chosen = cases()
    assert len(chosen) == 5 * 3 * 4
    for case in chosen:
        assert case.machine is not None
        assert case.machine.iommu is not None
        case.run.check(case.machine)
        assert case.machine.iommu.tlb_4k == CacheConfig(case.varied["iotlb"] // 4, 4)


@pytest.mark.parametrize("entries", ["6", "24", "0"])
def test_an_iotlb_of_another_size_is_refused(entries: str) -> None:
    with pytest.raises(SettingError, match=f"iotlbs must be powers of two from 4 up, not '{entries}'"):
        cases(iotlbs=entries)


def test_what_is_carried_takes_bits_that_an_iotlb_could_have() -> None:
    plain, carried = cases(iotlbs="64", pools="4096", kinds="iotlb+carried")
    assert plain.machine is not None
    assert plain.machine.iommu is not None
    bits = 64 * iotlb_entry_bits(plain.machine.iommu)
    without, with_ = rows(plain, 1700), rows(carried, 1680)
    assert without["kilobits"] * 1000 == bits
    more = int(with_["kilobits"] * 1000) - bits
    assert more == 4096 * (2 * 52 + 3)
    assert with_["equal_iotlb"] == (bits + more) // iotlb_entry_bits(plain.machine.iommu)
    assert (without["protection"], with_["protection"]) == ("IOMMU", "NIC and IOMMU")


@pytest.mark.parametrize(
    ("cycles", "large", "holds"),
    [(1680, None, True), (1696, None, True), (1700, None, False), (1700, 1690, True), (2471, 2470, True)],
)
def test_carried_translations_must_hold_line_rate_or_what_large_pages_do(
    cycles: int, large: int | None, holds: bool
) -> None:
    measured = {"carried": cycles, "iotlb": 5000} | ({} if large is None else {"2M": large})
    found = []
    for case in cases(iotlbs="64", pools="256", kinds="+".join(measured)):
        took = LineMeasurement(measured[case.varied["translation"]], 1000, 1000, {})
        assert case.machine is not None
        found += EXPERIMENT.rows(case.machine, case, took)
    checks = EXPERIMENT.checks(found)
    assert [(row.case["translation"], row.value) for row in checks] == [("carried", holds)]


@pytest.mark.parametrize("pools", ["4", "0", "65537"])
def test_pools_that_cannot_be_are_refused(pools: str) -> None:
    with pytest.raises(SettingError, match=rf"Parameter pools must be integers in 8\.\.65536, not '{pools}'"):
        cases(iotlbs="64", pools=pools, kinds="carried")


def test_a_pool_need_not_be_a_power_of_two() -> None:
    (case,) = cases(iotlbs="64", pools="100", kinds="carried")
    assert (case.run.pool, case.run.ring) == (100, 64)
