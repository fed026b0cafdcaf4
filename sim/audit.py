# SPDX-License-Identifier: BSD-2-Clause
"""The account of a run: nothing is missing, changed or left over, and what it measured."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from hw.abi.rings import DropReason
from sim.measurement import Measurement

if TYPE_CHECKING:
    from sim.scenario import Scenario

SHOWN_FAULTS = 3

Operations = dict[str, tuple[int, int]]  #: count and picoseconds by name
Accesses = dict[tuple[bool, int, int], int]  #: count by kind: a write or not, place in a line, length


class RunError(Exception):
    """A run ended with frames or memory that nobody accounts for, or did not end."""


class Audit:
    """Of one run, when it has ended."""

    def __init__(self, run: Scenario) -> None:
        self.run = run

    def check_device(self) -> None:
        """Neither the device nor the IOMMU reported an error, or was asked for what it must refuse."""
        run = self.run
        run._check_iommu()
        faults = [f"The device reported an error: {fault}" for fault in run.driver.faults]
        if problems := faults + run.driver.warnings:
            raise RunError("; ".join(problems))
        if run.platform.refused:
            names = Counter(run.driver.registers.describe(write.offset) for write in run.platform.refused)
            refused = ", ".join(f"{count} to {name}" for name, count in names.items())
            raise RunError(f"The device refused register writes: {refused}")
        if run.platform.posted_errors:
            raise RunError(
                f"Memory refused {run.platform.posted_errors} writes of the device: they were outside of "
                f"0..{run.machine.memory_size - 1:#x}"
            )

    def check_memory(self) -> None:
        """Nothing is left over of what was allocated."""
        run = self.run
        if run.checker is not None:
            run.checker.finish()
        if run.host.live_skbs:
            first = ", ".join(map(repr, run.host.live_skbs[:SHOWN_FAULTS]))
            raise RunError(f"{len(run.host.live_skbs)} SKBs were never freed, the first of them: {first}")
        if run.host.pages_in_use or run.driver.in_flight:
            raise RunError(
                f"After the driver stopped, {run.host.pages_in_use} allocations and {run.driver.in_flight} pages in "
                f"flight remain"
            )

    def check_iommu(self) -> None:
        """The IOMMU refused nothing."""
        run = self.run
        if run.iommu is not None and run.iommu.faults:
            count, first = run.iommu.driver.faults.count, "; ".join(map(str, run.iommu.faults[:SHOWN_FAULTS]))
            raise RunError(f"The IOMMU refused {count} accesses, the first of them: {first}")

    def account(self, before: Operations, after: Operations, accesses: Accesses) -> Measurement:
        """Check that nothing is missing or left over, and sum up."""
        run = self.run
        self.check_sent()
        times = sorted(run.times + [frame.last * run.machine.cycle_ps for frame in run.sent])
        if run.whole or not run.times:
            lengths = Counter(run.lengths + [len(frame.data) for frame in run.sent])
        else:
            lengths = Counter(len(frame.data) for frame in run.frames)
        offered, delivered, dropped = len(run.frames), len(times), self.dropped()
        if delivered + sum(dropped.values()) != offered:
            raise RunError(f"{offered} frames were sent, {delivered} delivered, and dropped by reason: {dropped}")
        if run.statistics["rx_frames"] != offered:
            raise RunError(f"{offered} frames were sent, and the device counted {run.statistics['rx_frames']}")
        for queue in range(run.config.queues):
            ours = run.driver.queues[queue].statistics.rx_completed
            its = run.statistics[f"nic_queue{queue}_rx_packets"]
            if ours != its:
                raise RunError(f"Of queue {queue}, the driver received {ours} frames and the device delivered {its}")
        if not delivered:
            raise RunError(f"None of {offered} frames was delivered; dropped by reason: {dropped}")
        if run.player.late:
            raise RunError(f"{run.player.late} frames came too late for their start on the wire")
        self.check_memory()
        return Measurement(
            clock_khz=run.machine.nic.clock_khz,
            core_khz=run.profile.khz,
            offered=offered,
            delivered=delivered,
            dropped=dropped,
            lengths=lengths,
            cycles=self._cycles(times),
            operations={
                name: (count - before.get(name, (0, 0))[0], ps - before.get(name, (0, 0))[1])
                for name, (count, ps) in after.items()
                if count > before.get(name, (0, 0))[0]
            },
            statistics=run.statistics,
            accesses=accesses,
        )

    def dropped(self) -> dict[str, int]:
        """Frames that were not delivered, by those reasons that happened: the hardware's, which alone knows of all
        that it refused to send, then the software's."""
        run = self.run
        dropped: Counter[str] = Counter()
        for reason in map(str.lower, DropReason.__members__):
            places = ("rx", *(f"nic_queue{queue}" for queue in range(run.machine.nic.queues)))
            dropped[reason] = sum(run.statistics.get(f"{place}_drop_{reason}", 0) for place in places)
        dropped["tx_error"] = run.statistics["tx_errors"]
        for queue in run.driver.queues:
            counts = queue.statistics
            dropped["rx_error"] += counts.rx_errors
            dropped["xdp_aborted"] += counts.rx_xdp_aborted
            dropped["xdp_frags"] += counts.rx_xdp_frags
            dropped["tx_ring_full"] += counts.rx_xdp_tx_full
            dropped["tx_aborted"] += counts.tx_aborted
            dropped["tx_dropped"] += counts.tx_dropped
            dropped["redirect_full"] += counts.tx_xdp_xmit_full
        dropped.update(run.consumer.dropped)
        return {reason: count for reason, count in dropped.items() if count}

    def check_sent(self) -> None:
        """Every frame that left is one that came, unchanged, whole and in its queue's order."""
        run = self.run
        for frame in run.sent:
            if frame.error or frame.underrun:
                raise RunError(f"A frame left damaged in cycle {frame.last}: {frame!r}")
            run.left.check(run.leaves_by(frame.data), frame.data)

    def _cycles(self, times: list[int]) -> Fraction:
        """Hardware cycles for the deliveries at these times: what they took from when software first had a frame, or
        what the wire took if longer.

        Frames leave a whole poll at a time: from the first that left on, a burst would count whose work was done
        before, and of few frames that is most. So the time of ``tx`` has the first frame's way out in it.
        """
        run = self.run
        traffic = run.config.traffic
        line = traffic.line(run.machine.nic.clock_khz)
        if traffic.timing == "capture":
            first, last = run.frames[0], run.frames[-1]
            wire = last.start - first.start + line.frame_cycles(len(last.data))
        else:
            wire = sum((line.frame_cycles(len(frame.data)) for frame in run.frames), Fraction(0)) / line.load
        if len(times) < 2:
            return wire
        if run.began is not None and run.began < times[0]:
            return max(wire, Fraction(times[-1] - run.began, run.machine.cycle_ps))
        return max(wire, Fraction(times[-1] - times[0], run.machine.cycle_ps) * len(times) / (len(times) - 1))
