# SPDX-License-Identifier: BSD-2-Clause
"""The job that makes the runs of experiment ``bulk``: loops of software, and packets on the machine."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.net.skb.policy import SkbPolicy
from sim.backends.base import Backend
from sim.bulk.loops import LoopMeasurement, LoopRun, run_loop
from sim.config import MachineConfig
from sim.measurement import Measurement


def run_bulk(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between those on the machine.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`~sim.bulk.loops.LoopRun` (which alone
    has a ``way``), a :class:`~sim.bulk.shared.SharedRun` (a ``run``), a :class:`~sim.bulk.pktgen.PktgenRun` (a
    ``drop_batch``) or a :class:`~sim.run.RunConfig`. Returns ``cases``, the measurements in the same order, and
    ``profiles``, the digest of each cost profile used.
    """
    from sim.bulk.pktgen import Pktgen, PktgenRun  # only inside a simulator
    from sim.bulk.shared import SharedRun, SharedScenario
    from sim.run import RunConfig
    from sim.scenario import Scenario

    measured = []
    fresh = True
    for number, case in enumerate(cases, 1):
        values = case["run"]
        if "way" in values:
            measured.append(run_loop(LoopRun(**values)).as_json())
        else:
            if not fresh:
                backend.reset()
            fresh = False
            scenario: Scenario
            if "drop_batch" in values:
                scenario = Pktgen(backend, machine, PktgenRun(**values | {"skb": SkbPolicy(**values["skb"])}))
            elif "run" in values:
                shared = SharedRun(RunConfig.from_dict(values["run"]), tuple(values["others_leave"]))
                scenario = SharedScenario(backend, machine, shared)
            else:
                scenario = Scenario(backend, machine, RunConfig.from_dict(values))
            measured.append(scenario.run().as_json())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    profiles = {case["run"].get("run", case["run"])["profile"] for case in cases}
    return {"cases": measured, "profiles": {name: Profile.load(name).digest for name in sorted(profiles)}}


class BulkMeasurement:
    """What one of these runs measured."""

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> LoopMeasurement | Measurement:
        """What its ``as_json`` gave these values for."""
        return Measurement.from_json(values) if "operations" in values else LoopMeasurement(**values)
