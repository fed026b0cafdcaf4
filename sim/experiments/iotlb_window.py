# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 12: what does translation cost a device, by how much memory it uses and in what pages?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.fit import Fit
from sim.experiments.settings import Setting, SettingError
from sim.host.load_client import Load
from sim.load import LoadMachineConfig, LoadMeasurement, LoadRun
from sim.report import Column, Row, decimals

FIT = "pcie-bench-broadwell"
REQUESTS = {"read64": 64, "read128": 128, "read256": 256, "read512": 512, "write64": 64}  #: bytes of each
PAGES = {"off": 0, "4K": 4 << 10, "64K": 64 << 10, "2M": 2 << 20}  #: off: without an IOMMU
UNITS = {"K": 1 << 10, "M": 1 << 20}
FITTED = ("read64", "4K")
GOOD, FAIR = 0.10, 0.20  #: deviations from the published curve
MOST_BEYOND_GOOD = 2  #: of its 13 points
NO_CLIFF = 0.95  #: of the bandwidth without an IOMMU
INTERVAL = 256  #: parts of a cycle


class IotlbWindow(Experiment):
    """Random DMA over a window, at full rate and alone, on the structure fitted to pcie-bench's Broadwell."""

    name = "iotlb_window"
    question = "What does translation cost a device, by the memory it uses and the size of its pages?"
    settings: ClassVar = {
        "requests": Setting(tuple(REQUESTS), "kinds and bytes of requests, joined by +", choices=tuple(REQUESTS)),
        "pages": Setting(tuple(PAGES), "page sizes, and off, joined by +", choices=tuple(PAGES)),
        "windows": Setting(
            ("4K", "16K", "256K", "512K", "1M", "1536K", "2M", "3M", "4M", "8M", "16M", "32M", "64M"),
            "bytes of memory that the device uses, with K or M, joined by +",
        ),
        "count": Setting(3000, "requests of each run at full rate", low=2, high=10_000_000),
        "alone": Setting(200, "requests of each run one at a time", low=2, high=1_000_000),
        "warm": Setting(1000, "requests before each run", low=2, high=1_000_000),
        "seed": Setting(1, "of the places", low=1, high=(1 << 32) - 3),
    }
    short: ClassVar = {"requests": "read64", "pages": "4K", "windows": "1M", "count": "50", "alone": "2", "warm": "20"}
    columns = (
        Column("bandwidth", "Gbit/s", decimals(2)),
        Column("published", "published", decimals(2)),
        Column("deviation", "deviation %", decimals(1)),
        Column("latency", "latency ns", decimals(0)),
        Column("added_latency", "added ns", decimals(0)),
        Column("misses", "misses/request", decimals(2), optional=True),
        Column("table_reads", "table reads/request", decimals(2), optional=True),
    )

    job = "sim.load:run_loads"
    measurement = LoadMeasurement

    def __init__(self, fit: Fit | None = None) -> None:
        self.fit = Fit.load_file(FIT) if fit is None else fit

    def digests(self) -> Mapping[str, str]:
        """The fit's."""
        return {self.fit.name: self.fit.digest}

    def machine(self, preset_name: str) -> LoadMachineConfig:
        """That of the fit, whatever the preset, which must be one."""
        preset(preset_name)
        base = LoadMachineConfig()
        return replace(base, iommu=self.fit.iommu, dram=self.fit.dram(base.dram))

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Window by window; those without an IOMMU on a machine that differs in nothing else."""
        levels = 4 if machine.iommu is None else machine.iommu.first_levels
        return [
            Case(
                {"request": request, "pages": pages, "window": window},
                LoadRun(
                    Load(
                        window=_bytes(window),
                        size=REQUESTS[request],
                        count=settings["count"],
                        write=request.startswith("write"),
                        interval=self._interval(machine, request),
                        seed=settings["seed"],
                        **dict[str, Any](self.fit.load),
                    ),
                    page=PAGES[pages],
                    levels=levels,
                    warm=settings["warm"],
                    alone=settings["alone"],
                ),
                machine if PAGES[pages] else replace(machine, iommu=None),
            )
            for request in settings["requests"]
            for pages in settings["pages"]
            for window in settings["windows"]
        ]

    def _interval(self, machine: MachineConfig, request: str) -> int:
        """Between two requests, so that the device takes no more than it does without an IOMMU."""
        cycles = machine.nic.clock_khz * 1000 * 8 * REQUESTS[request] / Fraction(self.fit.inputs[request] * 10**9)
        return max(INTERVAL, round(cycles * INTERVAL))

    def rows(self, machine: MachineConfig, case: Case, measured: LoadMeasurement) -> Sequence[Row]:
        """Bandwidth and latency, and misses and reads of tables for each request."""
        run = case.run
        bandwidth = measured.bits_per_cycle(run.load.size) * machine.nic.clock_khz / 10**6
        rows = [self._row(case, "bandwidth", "Gbit/s", bandwidth)]
        if rows[0].published is not None:
            deviation = 100 * (float(bandwidth) / float(rows[0].published) - 1)
            rows += [
                Row(case.varied, "published", "Gbit/s", rows[0].published),
                Row(case.varied, "deviation", "%", deviation),
            ]
        if not run.load.write:
            rows.append(
                Row(case.varied, "latency", "ns", measured.latency * machine.cycle_ps / 1000, fits=self._fits(case))
            )
        for name, count in measured.events.items():
            rows.append(Row(case.varied, name, "1/request", Fraction(count, measured.rate.done), fits=self._fits(case)))
        return rows

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Latency that the IOMMU adds, where both were run; the fit's quality; superpages have no cliff."""
        return [*self._added(rows), *self._quality(rows), *self._superpages(rows)]

    def _fits(self, case: Case) -> tuple[str, ...]:
        return () if case.varied["pages"] == "off" else (self.fit.name,)

    def _row(self, case: Case, name: str, unit: str, value: Fraction) -> Row:
        curve = self.fit.curve(case.varied["request"], case.varied["pages"], name)
        published = None if curve is None else curve.values.get(_bytes(case.varied["window"]))
        if curve is None or published is None:
            return Row(case.varied, name, unit, value, fits=self._fits(case))
        return Row(case.varied, name, unit, value, published, self.fit.source, curve.kind, self._fits(case))

    def _added(self, rows: Sequence[Row]) -> list[Row]:
        found = {tuple(row.case.values()): row for row in rows if row.name == "latency"}
        result = []
        for (request, pages, window), row in found.items():
            plain = found.get((request, "off", window))
            if pages != "off" and plain is not None:
                result.append(
                    self._row(Case(row.case, None), "added_latency", "ns", Fraction(row.value) - Fraction(plain.value))
                )
        return result

    def _quality(self, rows: Sequence[Row]) -> list[Row]:
        deviations = [
            abs(float(row.value)) / 100
            for row in rows
            if row.name == "deviation" and (row.case["request"], row.case["pages"]) == FITTED
        ]
        curve = self.fit.curve(*FITTED, "bandwidth")
        if curve is None or len(deviations) != len(curve.values):
            return []
        case = dict(zip(("request", "pages"), FITTED, strict=True))
        beyond = sum(deviation > GOOD for deviation in deviations)
        source = "least squares over 13 windows"
        return [
            Row(
                case,
                "fit_within_10_percent",
                "bool",
                beyond <= MOST_BEYOND_GOOD,
                True,
                source,
                "check",
                [self.fit.name],
            ),
            Row(case, "fit_within_20_percent", "bool", max(deviations) <= FAIR, True, source, "check", [self.fit.name]),
        ]

    def _superpages(self, rows: Sequence[Row]) -> list[Row]:
        found: dict[tuple[Any, ...], Any] = {}
        for row in rows:
            if row.name == "bandwidth":
                found[tuple(row.case.values())] = row.value
        result = []
        for request in dict.fromkeys(request for request, _, _ in found):
            pairs = [
                (value, found[request, "off", window])
                for (kind, pages, window), value in found.items()
                if kind == request and pages == "2M" and (request, "off", window) in found
            ]
            if pairs:
                flat = all(value >= NO_CLIFF * plain for value, plain in pairs)
                case = {"request": request, "pages": "2M"}
                source = "pcie-bench: with superpages no drop"
                result.append(Row(case, "no_cliff", "bool", flat, True, source, "check", [self.fit.name]))
        return result


def _bytes(window: str) -> int:
    """Bytes of a window such as 256K."""
    unit = window[-1:] if window[-1:] in UNITS else ""
    try:
        return int(window.removesuffix(unit), 0) * UNITS.get(unit, 1)
    except ValueError:
        raise SettingError(f"Parameter windows must be numbers of bytes, or with K or M, not {window!r}") from None
