# SPDX-License-Identifier: BSD-2-Clause
"""How fast the simulation itself runs, in wall time: the one result that is not the same every time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from time import perf_counter
from typing import Any

from hw.config import IommuConfig
from sim.account import account_rows
from sim.backends.base import BACKENDS, Backend, launch
from sim.config import MachineConfig, preset
from sim.measurement import Measurement
from sim.report import Row
from sim.run import RunConfig
from sim.traffic.source import Traffic

FRAMES = {"verilator": 20_000, "amaranth": 30}  #: enough for a few seconds


def bench_rows(preset_name: str, backends: Sequence[str] = BACKENDS) -> list[Row]:
    """A flood of 64-byte frames with page_pool and XDP DROP, with and without checkers, on each backend; in Verilator
    also on the machine with an IOMMU, in mode ``strict``.

    Rows ``cycles_per_second`` and ``packets_per_second``: simulated cycles and received packets for each second of wall
    time, from the start of the driver's set-up to the end of its closing; building the model, starting the simulator
    and making the frames is not counted.

    Rows ``hardware_cycles`` and ``stage.NAME`` are not about speed: where the simulated cycles of a packet go
    (:mod:`sim.account`), counted by the longest run with an access log: Verilator's with checkers.
    """
    rows = []
    for backend in backends:
        modes = ("none", "strict") if backend == "verilator" else ("none",)
        for mode, checkers in product(modes, (False, True)):
            iommu = None if mode == "none" else IommuConfig()
            machine = replace(preset(preset_name), iommu=iommu, access_log=checkers)
            traffic = Traffic("64", frames=FRAMES[backend], rate=machine.mac_mbps * 1_000_000)
            run = RunConfig(traffic, iommu=mode, checkers=checkers)
            measured = launch(backend, machine, "sim.bench:measure", asdict(run))
            case = {"preset": preset_name, "backend": backend, "iommu": mode, "checkers": "on" if checkers else "off"}
            for name in ("cycles", "packets"):
                unit = f"{name}/s of wall time"
                rows.append(Row(case, f"{name}_per_second", unit, measured[name] / measured["seconds"]))
            if checkers and backend == "verilator":
                measurement = Measurement.from_json(measured["measurement"])
                rows.append(Row(case, "hardware_cycles", "cycles/packet", measurement.cycles_per_packet))
                rows += account_rows(case, machine, run, measurement)
    return rows


def measure(backend: Backend, machine: MachineConfig, run: Mapping[str, Any]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run, and the wall time it took."""
    from sim.scenario import Scenario  # only inside a simulator

    values = dict(run)
    scenario = Scenario(backend, machine, RunConfig.from_dict(values))
    cycle, start = backend.cycle, perf_counter()
    measurement = scenario.run()
    seconds = perf_counter() - start
    return {
        "cycles": backend.cycle - cycle,
        "packets": measurement.delivered,
        "seconds": seconds,
        "measurement": measurement.as_json(),
    }
