# SPDX-License-Identifier: BSD-2-Clause
"""Experiment ``latency`` without a simulator: what is made of a measurement."""

from sim.experiments.base import Case
from sim.experiments.latency import Latency
from sim.line_rate.latency import STEPS, VISIBLE, LatencyMeasurement, LatencyRun


def test_steps_stand_in_their_order_with_what_each_took() -> None:
    rx = {name: 3 * place for place, name in enumerate(STEPS["rx"])} | {VISIBLE: 20}
    tx = {name: 10 + place for place, name in enumerate(STEPS["tx"])}
    experiment = Latency()
    machine = experiment.machine("100g")
    (case,) = experiment.cases(machine, {"sizes": ("64",)}, "")
    assert case.run == LatencyRun(64)
    rows = experiment.rows(machine, case, LatencyMeasurement(rx, tx))
    cycles = [row for row in rows if row.name == "cycles" and row.case["direction"] == "rx"]
    assert [row.value for row in cycles] == sorted(rx.values())
    assert cycles[0].case["done"] == "the NIC has the last beat"
    steps = [row.value for row in rows if row.name == "step" and row.case["direction"] == "tx"]
    assert steps == [10] + [1] * (len(tx) - 1)
    assert [row.value for row in rows if row.name == "nanoseconds"][1] == 12  # 3 cycles of 4 ns
    assert [row.value for row in rows if row.name == "in_order"] == [True, True]


def test_steps_out_of_order_fail_a_check() -> None:
    rx = {name: place for place, name in enumerate(STEPS["rx"])}
    tx = {name: -place for place, name in enumerate(STEPS["tx"])}
    rows = Latency().rows(Latency().machine("10g"), Case({"size": "64"}, None), LatencyMeasurement(rx, tx))
    assert [row.value for row in rows if row.name == "in_order"] == [True, False]
