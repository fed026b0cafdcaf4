# SPDX-License-Identifier: BSD-2-Clause
"""Runs in overload: the job that makes them in a simulator."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.wire_player import AHEAD
from sim.line_rate.frames import FrameError
from sim.line_rate.job import LIMIT, QUIET, LineRateRun
from sim.recycle_overload.consumer import Consumer
from sim.recycle_overload.run import QUEUES, Look, OverloadMeasurement, OverloadRun, QueueMeasurement

SLOW = 0  #: queue that is overloaded
PERIOD_FRAMES = 32  #: of all queues, between two looks, but for the time that reading registers takes
POINTS = 16  #: of a series
HAND_BACK = 512  #: buffers at a time, in the end
REGISTERS = ("buffers", "outstanding", "loop_status")


def run_overloads(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of an :class:`OverloadRun`. Returns ``cases``, the
    measurements in the same order, and ``profiles``: none, as software costs nothing.
    """
    measured = []
    for number, case in enumerate(cases, 1):
        run = OverloadRun(**case["run"])
        run.check(machine)
        if number > 1:
            backend.reset()
        measured.append(OverloadedRun(backend, machine, run).overload().as_json())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": {}}


class OverloadedRun(LineRateRun):
    """A run on a machine just after reset. Every frame's bytes and order are checked, and in the end every frame and
    every buffer is accounted for; otherwise there is a :class:`~sim.line_rate.frames.FrameError`."""

    def __init__(self, backend: Backend, machine: MachineConfig, run: OverloadRun):
        super().__init__(backend, machine, run.line)
        self._overload = run
        self._frame_cycles = self._line.frame_cycles(run.line.length)
        self._consumers = [Consumer(receiver, self._frame_cycles) for receiver in self._receivers]
        for receiver in self._receivers:
            receiver.first = run.buffers
        self._overloaded_at = 0
        self._offers = False  # frames come, also while registers are read

    def overload(self) -> OverloadMeasurement:
        """Set up, run in calm and then in overload, and look whether every frame and every buffer is accounted for."""
        run = self._overload
        self._set_up(receives=True, sends=False)
        self._close_loops()
        self._begin = self._backend.cycle + AHEAD + int(PERIOD_FRAMES * self._frame_cycles)
        self._overloaded_at = self._begin + run.calm_cycles
        self._offers = True
        self._offer()
        calm = [self._look()]
        while self._backend.cycle < self._overloaded_at:
            calm.append(self._turn())
        self._overloaded_at = self._backend.cycle
        self._consumers[SLOW].service = run.overload * QUEUES * self._frame_cycles
        looks = [self._look()]
        while looks[-1][SLOW].cycle < run.overload_cycles(self._line):
            looks.append(self._turn())
        self._offers = False
        if self._player.late:
            raise FrameError(f"{self._player.late} of {self._player.queued} frames came late on the wire: {run!r}")
        dropped = self._end()
        return OverloadMeasurement(
            [
                self._measurement(queue, [look[queue] for look in calm], [look[queue] for look in looks], drops)
                for queue, drops in enumerate(dropped)
            ]
        )

    def _meanwhile(self) -> None:
        if self._offers:
            self._offer()

    def _close_loops(self) -> None:
        run, registers = self._overload, self._registers.pool
        for receiver in self._receivers:
            if run.loop != "off":
                receiver.pool(limit=registers["limit"].pack(limit=run.limit, resume=run.limit * 3 // 4))
            if run.loop == "track":
                receiver.pool(loop=registers["loop"].pack(track=1, window=run.window, slack=run.slack))

    def _turn(self, *, more: bool = True) -> list[Look]:
        """Let the machine run for a while; then consumers work, and buffers are added to pools that run low."""
        self._step(self._backend.cycle + int(PERIOD_FRAMES * self._frame_cycles), True, False, more=more)
        for consumer in self._consumers:
            consumer.work(self._backend.cycle)
        looks = self._look()
        for receiver, look in zip(self._receivers, looks, strict=True):
            if look.free < self._overload.low:
                receiver.join(self._overload.lot)
        return looks

    def _look(self) -> list[Look]:
        """At each pool; of the time before registers are read, as a read waits for the writes before it."""
        cycle = self._backend.cycle - self._overloaded_at
        registers, queues = self._registers.pool, range(len(self._receivers))
        values = self._read_all([self._registers.address(name, pool=pool) for pool in queues for name in REGISTERS])
        looks = []
        for pool in queues:
            buffers, outstanding, status = values[pool * len(REGISTERS) :][: len(REGISTERS)]
            looks.append(
                Look(
                    cycle=cycle,
                    free=registers["buffers"].get(buffers, "free"),
                    outstanding=registers["outstanding"].get(outstanding, "outstanding"),
                    ahead=registers["outstanding"].get(outstanding, "ahead"),
                    limit=registers["loop_status"].get(status, "limit"),
                    closings=registers["loop_status"].get(status, "closings"),
                    joined=self._receivers[pool].joined,
                    held=self._consumers[pool].held,
                    consumed=self._consumers[pool].consumed,
                )
            )
        return looks

    def _end(self) -> list[dict[str, int]]:
        """Wait for what is under way, and count; frames of each queue that were dropped, by reason."""
        quiet, last = 0, self._received
        over = self._begin + self._player.queued * self._frame_cycles
        limit = over + LIMIT
        while quiet < QUIET:
            self._turn(more=False)
            quiet = quiet + 1 if self._backend.cycle > over and self._received == last else 0
            last = self._received
            if self._backend.cycle > limit:
                raise FrameError(f"Frames still came {LIMIT} cycles after the last was due: {self._overload!r}")
        total = self._drops()
        dropped = [self._queue_drops(queue) for queue in range(len(self._receivers))]
        for queue, (receiver, drops) in enumerate(zip(self._receivers, dropped, strict=True)):
            missing = self._offered(queue) - receiver.received - sum(drops.values())
            if missing:
                raise FrameError(f"{missing} frames of queue {queue} never came, and were not dropped: {total!r}")
        self._hand_back()
        return [{reason: count for reason, count in drops.items() if count} for drops in dropped]

    def _offered(self, queue: int) -> int:
        return len(range(queue, self._player.queued, len(self._receivers)))

    def _hand_back(self) -> None:
        """All buffers but those that wait for others to go back with; then none may be missing."""
        while any(consumer.held >= HAND_BACK for consumer in self._consumers):
            for consumer in self._consumers:
                consumer.hand_back(HAND_BACK)
            self._look()
        for consumer in self._consumers:
            consumer.hand_back(HAND_BACK)
        self._look()  # behind every write, which take their time
        for pool, look in enumerate(self._look()):
            if look.outstanding != look.held or look.free + look.ahead + look.outstanding != look.joined:
                raise FrameError(f"Buffers of pool {pool} are lost: {look!r}")

    def _measurement(
        self, queue: int, calm: Sequence[Look], looks: Sequence[Look], dropped: Mapping[str, int]
    ) -> QueueMeasurement:
        named = {"begin": looks[0], "end": looks[-1]}
        for name, found in (
            ("closed", [look for look in looks if look.closings]),
            ("exhausted", [look for look in looks if look.joined == self._overload.ids and not look.free]),
        ):
            if found:
                named[name] = found[0]
        return QueueMeasurement(
            offered=self._offered(queue),
            received=self._receivers[queue].received,
            dropped=dropped,
            calm_used=max(look.used for look in calm),
            used=max(look.used for look in looks),
            held=max(look.held for look in looks),
            limit=max(look.limit for look in looks),
            settled_limit=max((look.limit for look in looks if look.closings), default=0),
            looks=named,
            series=[looks[place] for place in np.linspace(0, len(looks) - 1, POINTS).astype(int).tolist()],
        )
