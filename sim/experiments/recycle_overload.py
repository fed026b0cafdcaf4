# SPDX-License-Identifier: BSD-2-Clause
"""Does a feedback loop in hardware bound the memory of a pool whose consumer is too slow?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting
from sim.line_rate.run import RX_BUFFER
from sim.recycle_overload.run import LOOPS, QUEUES, Look, OverloadMeasurement, OverloadRun, QueueMeasurement
from sim.report import Column, Row, decimals
from sim.traffic.pacing import FCS_BYTES, LineRate

MEMORY = 256 << 20
IDS = 8192  #: of each pool
SLOW, FAST = "too slow", "fast"  #: consumers: of queue 0, and of the others
TRAFFIC = Fraction(98, 100)  #: of what the slow consumer could take
LINEAR = Fraction(5, 100)  #: by which growth may differ from what is offered beyond the consumer's rate
PUBLISHED = "Memory vs. Networking (Brouer, NetConf 2016): out of memory without a feedback loop"
BUILT_FOR = "what the feedback loop is built for"
OWN_POOL = "a consumer exhausts its own pool only"


class RecycleOverload(Experiment):
    """An equal share of line rate for each of four queues with a pool of its own; one consumer takes a part of that. So
    software does that costs nothing, and adds buffers to a pool that runs low, without a bound of its own."""

    name = "recycle_overload"
    question = "Does a feedback loop in hardware bound the memory of a pool whose consumer is too slow?"
    settings: ClassVar = {
        "loops": Setting(LOOPS, "off, at a fixed limit, or one that tracks the steady state; joined by +", LOOPS),
        "overload": Setting(2, "times its rate that the slow consumer is offered", low=2, high=100),
        "frames": Setting(200_000, "frames in overload, of all queues together", low=1000, high=10_000_000),
        "size": Setting(64, "bytes of a frame on the wire, with FCS", low=64, high=RX_BUFFER + FCS_BYTES),
        "limit": Setting(1024, "buffers outstanding or in advance, at most", low=64, high=65536),
        "slack": Setting(256, "buffers beyond the steady state, where the loop tracks it", high=65535),
        "window": Setting(12, "cycles of its windows: 1 << window", low=8, high=20),
        "ids": Setting(IDS, f"buffers that each pool can have, a power of two up to {IDS}", low=128, high=IDS),
        "buffers": Setting(256, "of each pool at first", low=64, high=IDS),
        "low": Setting(128, "buffers of a pool are added when fewer than so many are free", low=1, high=IDS),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"loops": "fixed", "frames": "1200", "window": "8", "limit": "128", "ids": "512"} | {
        "buffers": "256"
    }
    columns = (
        Column("offered", "offered", decimals(0)),
        Column("received", "received", decimals(0)),
        Column("drop.no_buffer", "no buffer", decimals(0)),
        Column("drop.pool_limit", "pool limit", decimals(0)),
        Column("consumed", "consumed kpps", decimals(1)),
        Column("share", "% of its rate", decimals(1)),
        Column("outstanding_max", "most out", decimals(0)),
        Column("outstanding", "out at end", decimals(0)),
        Column("joined", "joined", decimals(0)),
        Column("memory", "MiB", decimals(1)),
        Column("limit", "limit at end", decimals(0)),
        Column("closings", "closings", decimals(0)),
        Column("exhausted", "exhausted after ms", decimals(2), optional=True),
        Column("would_be_exhausted", "would be after ms", decimals(2), optional=True),
    )
    job = "sim.recycle_overload.job:run_overloads"
    measurement = OverloadMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, with a pool for each queue, and memory for all buffers."""
        machine = preset(preset_name)
        nic = replace(machine.nic, queues=QUEUES, pools=QUEUES, pool_buffers=IDS)
        return replace(machine, nic=nic, memory_size=MEMORY)

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Loop by loop."""
        same = {name: value for name, value in settings.items() if name != "loops"}
        return [Case({"loop": loop}, OverloadRun(loop=loop, **same)) for loop in settings["loops"]]

    def rows(self, machine: MachineConfig, case: Case, measured: OverloadMeasurement) -> Sequence[Row]:
        """Figures of each queue and its pool, and what must hold."""
        run, clock = case.run, machine.nic.clock_khz
        frame = LineRate(machine.mac_mbps * 1_000_000, clock).frame_cycles(run.line.length)
        rows = []
        for queue, found in enumerate(measured.queues):
            varied = {**case.varied, "queue": queue, "consumer": FAST if queue else SLOW}
            rows += _figures(varied, found, clock)
            rows += [
                Row({**varied, "time_us": int(1000 * _ms(look, clock))}, f"series.{name}", "buffers", value)
                for look in found.series
                for name, value in (("joined", look.joined), ("outstanding", look.outstanding))
            ]
            if queue:
                rows.append(_check(varied, "nothing_dropped", not found.dropped, OWN_POOL))
        slow, varied = measured.queues[0], {**case.varied, "queue": 0, "consumer": SLOW}
        share = _rate(slow) * run.overload * QUEUES * frame
        rows += [
            Row(varied, "share", "%", 100 * share),
            _check(varied, "traffic_continues", share >= TRAFFIC, BUILT_FOR),
        ]
        if run.loop == "off":
            return rows + _growth(varied, run, slow, QUEUES * frame, clock)
        return rows + _bounds(varied, run, slow)


def _check(varied: Mapping[str, Any], name: str, holds: bool, source: str) -> Row:
    return Row(varied, name, "bool", holds, True, source, "check")


def _ms(look: Look, clock_khz: int) -> Fraction:
    return Fraction(look.cycle, clock_khz)


def _rate(found: QueueMeasurement) -> Fraction:
    """Frames a cycle that were consumed in overload, since the loop first closed if it did."""
    start, end = found.looks.get("closed", found.looks["begin"]), found.looks["end"]
    return Fraction(end.consumed - start.consumed, max(1, end.cycle - start.cycle))


def _figures(varied: Mapping[str, Any], found: QueueMeasurement, clock_khz: int) -> list[Row]:
    end = found.looks["end"]
    return [
        Row(varied, "offered", "frames", found.offered),
        Row(varied, "received", "frames", found.received),
        *(Row(varied, f"drop.{reason}", "frames", count) for reason, count in found.dropped.items()),
        Row(varied, "consumed", "kpps", _rate(found) * clock_khz),
        Row(varied, "outstanding_max", "buffers", found.used),
        Row(varied, "held_max", "buffers", found.held),
        Row(varied, "outstanding", "buffers", end.outstanding),
        Row(varied, "joined", "buffers", end.joined),
        Row(varied, "memory", "MiB", Fraction(end.joined * RX_BUFFER, 1 << 20)),
        Row(varied, "limit", "buffers", end.limit),
        Row(varied, "limit_max", "buffers", found.limit),
        Row(varied, "closings", "times", end.closings),
    ]


def _growth(
    varied: Mapping[str, Any], run: OverloadRun, slow: QueueMeasurement, spacing: Fraction, clock_khz: int
) -> list[Row]:
    """Without a loop: all that the consumer does not take stays, until there is no buffer left. A frame comes every
    ``spacing`` cycles."""
    begin, end = slow.looks["begin"], slow.looks.get("exhausted", slow.looks["end"])
    each = spacing / (1 - Fraction(1, run.overload))  # cycles, after which one more stays
    excess = Fraction(end.cycle - begin.cycle) / each
    growth = end.held - begin.held
    # Where memory lasts longer than the run does: when it would be exhausted.
    name, left = "exhausted", Fraction(0)
    if "exhausted" not in slow.looks:
        name, left = "would_be_exhausted", (run.ids - end.outstanding) * each
    return [
        Row(varied, "growth", "buffers", growth),
        Row(varied, "excess", "frames", excess),
        Row(varied, name, "ms", (end.cycle + left) / Fraction(clock_khz)),
        _check(varied, "grows_by_the_excess", abs(growth - excess) <= LINEAR * excess, PUBLISHED),
    ]


def _bounds(varied: Mapping[str, Any], run: OverloadRun, slow: QueueMeasurement) -> list[Row]:
    """With a loop: no more is out than it allows, and no more memory is added than that takes."""
    end = slow.looks["end"]
    rows = [
        _check(varied, "closes", end.closings > 0, BUILT_FOR),
        _check(varied, "never_above_limit", max(slow.used, slow.held) <= slow.limit, BUILT_FOR),
        _check(
            varied,
            "memory_is_bounded",
            end.joined <= max(run.buffers, slow.limit + run.low + run.lot),
            BUILT_FOR,
        ),
    ]
    if run.loop == "fixed":
        return [*rows, _check(varied, "limit_is_in_force", slow.limit == end.limit == run.limit, BUILT_FOR)]
    # Of the calm before the overload no more was always out than was at most. The first way up follows calm windows, so
    # it raises the limit, until the loop closes.
    bound = slow.calm_used * 3 // 2 + run.slack
    return [
        *rows,
        Row(varied, "limit_bound", "buffers", bound),
        _check(varied, "limit_is_tracked", slow.looks["begin"].limit < run.limit, BUILT_FOR),
        _check(varied, "limit_does_not_creep", slow.settled_limit <= bound, BUILT_FOR),
    ]
