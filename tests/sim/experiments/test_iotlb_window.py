# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 12: its sweep, its rows by hand from made-up counts, and a short run."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from sim.experiments.fit import Fit
from sim.experiments.iotlb_window import IotlbWindow
from sim.experiments.runner import plan, run_experiment
from sim.experiments.settings import SettingError
from sim.host.load_client import LoadResult
from sim.load import LoadMeasurement
from sim.report import Row

WINDOWS = "4K+16K+256K+512K+1M+1536K+2M+3M+4M+8M+16M+32M+64M"


def measurement(gbps: float, size: int = 64, latency: int = 120) -> LoadMeasurement:
    """As if measured on a clock of 250 MHz."""
    cycles = round(1_000_000 * 8 * size / (gbps * 4))
    rate = LoadResult(1_000_001, cycles, 0, 0, 0, 0)
    return LoadMeasurement(rate, LoadResult(10, 0, 10 * latency, 0, 0, 0), {"misses": 500_000, "table_reads": 0})


def all_rows(values: dict[tuple[str, str, str], LoadMeasurement], **given: str) -> list[Row]:
    """Rows and checks of an experiment whose runs measured these."""
    experiment = IotlbWindow()
    planned = plan(experiment, given)
    rows: list[Row] = []
    for case in planned.cases:
        rows += experiment.rows(planned.machine_of(case), case, values[tuple(case.varied.values())])
    return rows + list(experiment.checks(rows))


def value(rows: Sequence[Row], name: str, **case: Any) -> Any:
    (row,) = [row for row in rows if row.name == name and case.items() <= row.case.items()]
    return row


def test_cases_without_an_iommu_run_on_a_machine_that_differs_in_nothing_else() -> None:
    planned = plan(
        IotlbWindow(), {"requests": "read64+write64", "pages": "off+2M", "windows": "16K", "iommu.walks": "7"}
    )
    by_case = {tuple(case.varied.values()): case for case in planned.cases}
    off, on = (planned.machine_of(by_case["read64", pages, "16K"]) for pages in ("off", "2M"))
    assert off.iommu is None
    assert on.iommu is not None
    assert on.iommu.walks == 7
    assert (off.link, off.dram, off.memory_size, off.nic) == (on.link, on.dram, on.memory_size, on.nic)
    assert (off.nic.clock_khz, off.nic.data_width, off.host_width) == (250_000, 512, 512)
    assert by_case["read64", "off", "16K"].run.load == by_case["read64", "2M", "16K"].run.load
    assert by_case["write64", "2M", "16K"].run.load.write


def test_the_device_is_as_fast_as_its_own_curve_without_an_iommu() -> None:
    planned = plan(IotlbWindow(), {"pages": "off", "windows": "64M"})
    fit = Fit.load_file("pcie-bench-broadwell")
    for case in planned.cases:
        gbps = Fraction(case.run.load.size * 8 * 256, case.run.load.interval * 4)
        assert float(gbps) == pytest.approx(fit.inputs[case.varied["request"]], rel=0.001)


def test_rows_say_what_they_depend_on() -> None:
    values = {("read64", "4K", "1M"): measurement(16.0), ("read64", "off", "1M"): measurement(32.5, latency=100)}
    rows = all_rows(values, requests="read64", pages="off+4K", windows="1M")
    on, off = (value(rows, "bandwidth", pages=pages) for pages in ("4K", "off"))
    assert (float(on.value), on.published, on.kind, tuple(on.fits)) == (
        pytest.approx(16.0),
        15.193,
        "fit",
        ("pcie-bench-broadwell",),
    )
    assert (off.published, off.kind, tuple(off.fits)) == (32.546, "input", ())
    assert float(value(rows, "deviation", pages="4K").value) == pytest.approx(100 * (16 / 15.193 - 1), abs=0.01)
    assert value(rows, "latency", pages="4K").value == 480
    added = value(rows, "added_latency")
    assert (added.value, added.published, added.kind) == (80, 155.2, "prediction")
    assert float(value(rows, "misses", pages="4K").value) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("factors", "ten", "twenty"),
    [
        ([1.0] * 13, True, True),
        ([1.11, 0.89, *[1.0] * 11], True, True),
        ([*[1.11] * 3, *[1.0] * 10], False, True),
        ([*[1.0] * 12, 0.79], True, False),
    ],
)
def test_the_fit_is_judged_by_eleven_of_thirteen_points_and_the_worst(
    factors: list[float], ten: bool, twenty: bool
) -> None:
    curve = Fit.load_file("pcie-bench-broadwell").curve("read64", "4K", "bandwidth")
    assert curve is not None
    values = {
        ("read64", "4K", window): measurement(published * factor)
        for window, published, factor in zip(WINDOWS.split("+"), curve.values.values(), factors, strict=True)
    }
    rows = all_rows(values, requests="read64", pages="4K")
    assert value(rows, "fit_within_10_percent").value is ten
    assert value(rows, "fit_within_20_percent").value is twenty


def test_a_part_of_the_curve_is_not_judged() -> None:
    rows = all_rows({("read64", "4K", "1M"): measurement(1.0)}, requests="read64", pages="4K", windows="1M")
    assert not [row for row in rows if row.kind == "check"]


@pytest.mark.parametrize(("slow", "flat"), [(31.0, True), (30.0, False)])
def test_superpages_must_have_no_cliff(slow: float, flat: bool) -> None:
    values = {("read64", "off", window): measurement(32.0) for window in ("4K", "64M")}
    values |= {("read64", "2M", "4K"): measurement(32.0), ("read64", "2M", "64M"): measurement(slow)}
    rows = all_rows(values, requests="read64", pages="off+2M", windows="4K+64M")
    assert value(rows, "no_cliff").value is flat


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"windows": "big"}, "windows must be numbers of bytes, or with K or M, not 'big'"),
        ({"windows": "K"}, "windows must be numbers of bytes, or with K or M, not 'K'"),
        ({"windows": "100"}, "window must be .* times the size of 64 bytes, not 100"),
        ({"windows": "128M"}, "A window of 134217728 bytes does not fit into memory_size = 83886080"),
        ({"pages": "1G"}, "pages must be one of off, 4K, 64K, 2M, not '1G'"),
        ({"ring": "8"}, "no parameter 'ring'.*experiment iotlb_window has requests"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises((SettingError, ValueError), match=message):
        plan(IotlbWindow(), given)


def test_a_short_run_without_an_iommu() -> None:
    given = {"requests": "read64", "pages": "off", "windows": "16K", "count": "120", "alone": "4", "warm": "10"}
    result = run_experiment(IotlbWindow(), given, backend="amaranth")
    assert result.profiles == {"pcie-bench-broadwell": Fit.load_file("pcie-bench-broadwell").digest}
    assert float(result.value("bandwidth")) == pytest.approx(32.55, rel=0.005)
    assert result.value("latency") == 468
