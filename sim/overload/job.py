# SPDX-License-Identifier: BSD-2-Clause
"""The job that makes runs with a slow reader inside a simulator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.memory.pages.gfp import GFP_KERNEL, GFP_NORETRY, GFP_NOWARN
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.page_cache import PageCache
from driver_model.net.local_socket import LocalSocket
from hw.abi.rings import DropReason
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.consumers import Held
from sim.memory_samples import MICROSECOND, MemorySamples
from sim.overload.run import OTHER, QUEUES, SLOW, OverloadMeasurement, OverloadRun, QueueOutcome
from sim.scenario import Scenario

FILE_PAGES = 8  #: read at once (``read_ahead_kb`` of a small machine), and taken at once
ANONYMOUS_GFP = GFP_KERNEL | GFP_NORETRY | GFP_NOWARN  #: of a process that can do with less


def run_overloads(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of an :class:`OverloadRun`. Returns ``cases``, the
    measurements in the same order, and ``profiles``, the digest of each cost profile used.
    """
    measured, profiles = [], {}
    for number, case in enumerate(cases, 1):
        run = OverloadRun.from_dict(case["run"])
        if number > 1:
            backend.reset()
        measured.append(OverloadScenario(backend, machine, run).overload().as_json())
        profiles[run.run.profile] = Profile.load(run.run.profile).digest
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": profiles}


class OverloadScenario(Scenario):
    """A scenario in which the first core's reader is slow for a time, and the last core reads files. When the reader
    keeps up again, a process there takes all memory that it can get.

    Parameters
    ----------
    backend, machine : as of :class:`Scenario`
    run : the run
    """

    def __init__(self, backend: Backend, machine: MachineConfig, run: OverloadRun) -> None:
        super().__init__(backend, machine, run.run)
        self.overload_run = run
        self.samples = MemorySamples(self, run.period_us)
        self.page_cache = PageCache(self.host.zone)
        self.at_begin.append(self._plan)
        self._taken: list[Page] = []
        self._read_before = [0] * QUEUES
        self._read_in_overload = [0] * QUEUES

    def overload(self) -> OverloadMeasurement:
        """Run, and account for every frame and every page."""
        self.run()
        return OverloadMeasurement(
            [self._outcome(queue) for queue in range(QUEUES)],
            self.samples.series,
            {name: count for name, count in self.statistics.items() if not name.startswith("nic_")}
            | asdict(self.host.zone.vmstat)
            | {"claimed_bytes": len(self._taken) * self.host.zone.page_size}
            | {"min_free_bytes": self.host.zone.min * self.host.zone.page_size},
        )

    @property
    def held(self) -> Held:
        """The consumer."""
        assert isinstance(self.consumer, Held)
        return self.consumer

    @property
    def sockets(self) -> Sequence[LocalSocket]:
        """Each core's."""
        return self.held.handlers

    def _open(self) -> None:
        super()._open()
        if self.overload_run.file_us:
            zone = self.host.zone
            self.page_cache.read(self.host.pages[0], max(0, zone.free_pages - zone.high))

    def _close(self) -> None:
        super()._close()
        self.page_cache.drop(self.host.pages[0])
        for page in self._taken:
            self.host.pages[0].put_page(page)

    def _plan(self, first: int, last: int) -> None:
        """What will happen while the wire plays."""
        run, at = self.overload_run, self.platform.at
        begin = first + run.calm_us * MICROSECOND
        at(begin, self._slow_down)
        end = begin + run.overload_us * MICROSECOND
        at(end, self._speed_up)
        if run.file_us:
            self.host.cores[OTHER].spawn("file reader", lambda: self._use_memory(end, last))

    def _slow_down(self) -> None:
        self.sockets[SLOW].pace = self.overload_run.pace_us * MICROSECOND
        self._read_before = self._read()

    def _speed_up(self) -> None:
        self.sockets[SLOW].pace = 0
        self._read_in_overload = [now - before for now, before in zip(self._read(), self._read_before, strict=True)]

    def _read(self) -> list[int]:
        return [socket.statistics.read_packets for socket in self.sockets]

    def _use_memory(self, calm: int, until: int) -> None:
        """Read files, then take memory."""
        core, pages = self.host.cores[OTHER], self.host.pages[OTHER]
        while core.time < calm:
            core.sleep_until(core.time + FILE_PAGES * self.overload_run.file_us * MICROSECOND)
            self.page_cache.read(pages, FILE_PAGES)
        while core.time < until:
            core.sleep_until(core.time + FILE_PAGES * self.overload_run.claim_us * MICROSECOND)
            for _ in range(FILE_PAGES):
                page = pages.alloc_pages(0, ANONYMOUS_GFP)
                if page is None:
                    break
                self._taken.append(page)

    def _outcome(self, queue: int) -> QueueOutcome:
        counts = self.statistics
        dropped = {
            reason.lower(): counts.get(f"nic_queue{queue}_drop_{reason.lower()}", 0)
            for reason in DropReason.__members__
        }
        socket = self.sockets[queue].statistics
        dropped["rcvbuf"] = socket.dropped
        dropped["no_skb"] = self.held.stacks[queue].statistics.no_memory
        return QueueOutcome(
            offered=len(self._expected()[queue]),
            read=socket.read_packets,
            read_in_overload=self._read_in_overload[queue],
            dropped={reason: count for reason, count in dropped.items() if count},
            no_memory=counts[f"queue{queue}_rx_no_memory"],
        )
