# SPDX-License-Identifier: BSD-2-Clause
"""A single frame through the idle 100g machine."""

from dataclasses import asdict, replace

import pytest

from sim.backends.base import launch
from sim.config import preset
from sim.experiments.latency import Latency
from sim.experiments.line_rate import LineRateExperiment
from sim.line_rate.latency import STEPS, VISIBLE, LatencyMeasurement, LatencyRun

MACHINE = replace(LineRateExperiment().machine("100g"), iommu=None)


def test_each_step_follows_the_one_before() -> None:
    cases = [{"label": "64", "run": asdict(LatencyRun(64))}]
    (raw,) = launch("verilator", MACHINE, Latency.job, cases)["cases"]
    found = LatencyMeasurement.from_json(raw)
    for steps, of_direction in ((found.rx, STEPS["rx"]), (found.tx, STEPS["tx"])):
        cycles = [steps[name] for name in of_direction]
        assert cycles == sorted(cycles), f"{steps}"
    one_way = MACHINE.link.latency_cycles(MACHINE.nic.clock_khz)
    assert found.rx["wire_rx"] == 0
    assert found.rx[VISIBLE] > found.rx["rx_lines"] + one_way
    assert found.tx["registers"] > one_way
    for asked, came in (("tx_fetches", "tx_fetched"), ("tx_reads", "tx_data")):
        assert found.tx[came] - found.tx[asked] > 2 * one_way


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="with probes and without an IOMMU"):
        LatencyRun().check(preset("10g"))
    with pytest.raises(ValueError, match="memory_size must be at least 1048576, not 65536"):
        LatencyRun().check(replace(Latency().machine("10g"), memory_size=65536))
    with pytest.raises(ValueError, match=r"size must be in 64..2048, not 63"):
        LatencyRun(63)
