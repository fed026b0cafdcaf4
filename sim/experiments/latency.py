# SPDX-License-Identifier: BSD-2-Clause
"""How long does one frame take through an idle NIC, and where?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting, parse_integer
from sim.host.link_config import link_preset
from sim.line_rate.latency import MEMORY, STEPS, VISIBLE, LatencyMeasurement, LatencyRun
from sim.report import Column, Row, decimals

MEANINGS = {name: text for steps in STEPS.values() for name, text in steps.items()} | {
    VISIBLE: "software can see the completion"
}
ORDER = "a step cannot be before the one that leads to it"


class Latency(Experiment):
    """One frame in each direction through an idle machine: where it is when. Without a link if nothing else is set."""

    name = "latency"
    question = "How long does one frame take through an idle NIC, and where?"
    settings: ClassVar = {
        "sizes": Setting(("64", "1518"), "bytes of the frame on the wire, with FCS, joined by +"),
    }
    short: ClassVar = {"sizes": "64"}
    columns = (
        Column("cycles", "cycles", decimals(0)),
        Column("step", "of it here", decimals(0)),
        Column("nanoseconds", "ns", decimals(1)),
    )
    job = "sim.line_rate.latency:run_latencies"
    measurement = LatencyMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, on chip, with what shows the streams."""
        machine = preset(preset_name)
        return replace(machine, nic=replace(machine.nic, probes=True), link=link_preset("on-chip"), memory_size=MEMORY)

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Size by size."""
        return [Case({"size": size}, LatencyRun(parse_integer("sizes", size))) for size in settings["sizes"]]

    def rows(self, machine: MachineConfig, case: Case, measured: LatencyMeasurement) -> Sequence[Row]:
        """When each step was done, in the order in which they were, from the first beat or the doorbell on."""
        rows = []
        for direction, steps in (("rx", measured.rx), ("tx", measured.tx)):
            before = 0
            for name, cycles in sorted(steps.items(), key=lambda step: step[1]):
                varied = {**case.varied, "direction": direction, "done": MEANINGS[name]}
                rows += [
                    Row(varied, "cycles", "cycles", cycles),
                    Row(varied, "step", "cycles", cycles - before),
                    Row(varied, "nanoseconds", "ns", Fraction(cycles * 1_000_000, machine.nic.clock_khz)),
                ]
                before = cycles
            order = [steps[name] for name in STEPS[direction]]
            rows.append(
                Row(
                    {**case.varied, "direction": direction},
                    "in_order",
                    "bool",
                    order == sorted(order),
                    True,
                    ORDER,
                    "check",
                )
            )
        return rows
