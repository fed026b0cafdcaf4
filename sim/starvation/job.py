# SPDX-License-Identifier: BSD-2-Clause
"""The job that searches inside a simulator for enough buffers."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from driver_model.cpu.profile import Profile
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.scenario import Scenario
from sim.starvation.run import Point, StarvationMeasurement, StarvationRun

STARVED = ("no_buffer", "pool_limit")  #: reasons to drop that more buffers remove


def run_searches(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one search after another, with a reset before each run.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`StarvationRun`. Returns ``cases``, the
    measurements in the same order, and ``profiles``, the digest of each cost profile used.
    """
    measured, profiles = [], {}
    for number, case in enumerate(cases, 1):
        run = StarvationRun.from_dict(case["run"])
        found = Search(backend, machine, run).search()
        measured.append(found.as_json())
        profiles[run.run.profile] = Profile.load(run.run.profile).digest
        print(f"[{number}/{len(cases)}] {case['label']}: {found.needed} pages more", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": profiles}


class Search:
    """Runs with none, and with the most extra pages; of the rest as many as halve what lies between the fewest that
    were enough and the most that were not. What lies below the latter gets a run at each quarter, for the curve."""

    def __init__(self, backend: Backend, machine: MachineConfig, run: StarvationRun) -> None:
        self._backend = backend
        self._machine = machine
        self._run = run
        self._points: dict[int, Point] = {}

    def search(self) -> StarvationMeasurement:
        """Find out how many are enough."""
        low, high = 0, self._run.most(self._machine)
        if self._starved(low) and not self._starved(high):
            for quarter in (1, 2, 3):
                self._starved(quarter * high // 4)
            low = max(extra for extra, point in self._points.items() if point.starved)
            high = min(extra for extra in self._points if extra > low)
            while high - low > self._run.resolution:
                middle = (low + high) // 2
                if self._starved(middle):
                    low = middle
                else:
                    high = middle
        return StarvationMeasurement([self._points[extra] for extra in sorted(self._points)])

    def _starved(self, extra: int) -> int:
        """Frames that were dropped for want of a buffer, with so many extra pages."""
        if extra not in self._points:
            self._backend.reset()
            measured = Scenario(self._backend, self._machine, self._run.with_extra(extra)).run()
            starved = sum(measured.dropped.get(reason, 0) for reason in STARVED)
            other = sum(measured.dropped.values()) - starved
            self._points[extra] = Point(extra, measured.offered, starved, other)
        return self._points[extra].starved
