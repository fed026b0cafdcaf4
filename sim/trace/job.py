# SPDX-License-Identifier: BSD-2-Clause
"""A traced run: from its configuration to packets' lives, the time of functions, and a file for timeline viewers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from driver_model.events import EventLog
from sim.backends.base import Backend, launch
from sim.config import SERIAL_BITS, MachineConfig
from sim.run import RunConfig
from sim.trace.chrome import chrome_trace
from sim.trace.timeline import FunctionTime, Packet, Step, function_times, join_timeline


@dataclass(frozen=True)
class TracedRun:
    """What a traced run gives.

    Attributes
    ----------
    packets : in the order of their arrival
    functions : what each function cost while there were packets, the dearest first
    chrome : the whole timeline in the Trace Event Format
    """

    packets: list[Packet]
    functions: dict[str, FunctionTime]
    chrome: dict[str, Any]


def trace_run(machine: MachineConfig, run: RunConfig, backend: str) -> TracedRun:
    """Run with everything recorded; the machine has serials and trace points besides, and the same cycles."""
    traced = replace(machine, nic=replace(machine.nic, serial_width=SERIAL_BITS))
    raw = launch(backend, traced, "sim.trace.job:record", asdict(run))
    return TracedRun(
        [Packet(**values | {"steps": [Step(*step) for step in values["steps"]]}) for values in raw["packets"]],
        {name: FunctionTime(*time) for name, time in raw["functions"]},
        raw["chrome"],
    )


def record(backend: Backend, machine: MachineConfig, run: Mapping[str, Any]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: a run, recorded and joined; ``run`` has the fields of a
    :class:`sim.run.RunConfig`."""
    from sim.scenario import Scenario  # only inside a simulator

    config = RunConfig.from_dict(run)
    log = EventLog()
    scenario = Scenario(backend, machine, config, log=log)
    scenario.run()
    timeline = join_timeline(scenario.happened, log.events, machine.cycle_ps)
    about = {"strategy": config.strategy, "verdict": config.verdict, "frames": len(timeline.packets)}
    return {
        "packets": [asdict(packet) for packet in timeline.packets],
        "functions": list(function_times(log.events, *timeline.span).items()),
        "chrome": chrome_trace(timeline, about),
    }
