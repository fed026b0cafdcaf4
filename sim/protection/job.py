# SPDX-License-Identifier: BSD-2-Clause
"""The job that makes the runs of the experiment on protection inside a simulator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from driver_model.cpu.profile import Profile
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.intruder import ProtectionMachineConfig
from sim.protection.intrusion import Intrusion, IntrusionRun
from sim.protection.stale import StaleRun, StaleWindow
from sim.protection.storm import Storm, StormRun

PROFILE = "e5-1650v4"


@dataclass(frozen=True)
class ProtectionRun:
    """One run of one kind; the others are None."""

    stale: StaleRun | None = None
    intrusion: IntrusionRun | None = None
    storm: StormRun | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, each.name) is not None for each in fields(self)) != 1:
            raise ValueError(f"A run is of one kind, not {self!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise unless the run fits on a machine."""
        for each in fields(self):
            run = getattr(self, each.name)
            if run is not None:
                run.check(machine)


def run_cases(backend: Backend, machine: ProtectionMachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`ProtectionRun`. Returns ``cases``, the
    findings in the same order, and ``profiles``, the digest of the cost profile.
    """
    found = []
    for number, case in enumerate(cases, 1):
        ((kind, values),) = [(kind, values) for kind, values in case["run"].items() if values is not None]
        if number > 1:
            backend.reset()
        if kind == "stale":
            result = StaleWindow(backend, machine, StaleRun(**values)).run()
        elif kind == "intrusion":
            result = Intrusion(backend, machine, IntrusionRun(**values)).find()
        else:
            result = Storm(backend, machine, StormRun(**values)).find()
        found.append(result.as_json())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": found, "profiles": {PROFILE: Profile.load(PROFILE).digest}}
