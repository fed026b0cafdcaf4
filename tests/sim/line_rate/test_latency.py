# SPDX-License-Identifier: BSD-2-Clause
"""A single frame through the idle 100g machine."""

from dataclasses import replace

import pytest

from sim.backends.base import launch
from sim.config import preset
from sim.experiments.line_rate import LineRateExperiment
from sim.line_rate.latency import STEPS, VISIBLE

MACHINE = replace(LineRateExperiment().machine("100g"), iommu=None)
JOB = "sim.line_rate.latency:run_latency"


def test_each_step_follows_the_one_before() -> None:
    found = launch("verilator", MACHINE, JOB, 64)
    for direction, steps in STEPS.items():
        cycles = [found[direction][name] for name in steps]
        assert cycles == sorted(cycles), f"{direction}: {found[direction]}"
    one_way = MACHINE.link.latency_cycles(MACHINE.nic.clock_khz)
    assert found["rx"]["wire_rx"] == 0
    assert found["rx"][VISIBLE] > found["rx"]["rx_lines"] + one_way
    assert found["tx"]["registers"] > one_way
    for asked, came in (("tx_fetches", "tx_fetched"), ("tx_reads", "tx_data")):
        assert found["tx"][came] - found["tx"][asked] > 2 * one_way


def test_a_machine_without_account_is_refused() -> None:
    with pytest.raises(ValueError, match="with probes and without an IOMMU"):
        launch("amaranth", preset("10g", memory_size=1 << 20), JOB, 64)
