# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 9: buffers beyond those of the ring, so that the hardware never starves while the stack holds packets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.drivers.queue import REFILL_RETRY_PS
from driver_model.drivers.strategies.base import PoolOptions
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting, SettingError, parse_integer
from sim.picture import Lines
from sim.report import Column, Row, decimals
from sim.run import PAGE_SIZES, RunConfig
from sim.starvation.run import StarvationMeasurement, StarvationRun
from sim.traffic.pacing import FCS_BYTES, OVERHEAD_BYTES
from sim.traffic.source import Traffic

MIB = 1 << 20
MEMORY = 128 * MIB
IDS = 2048
FLOWS = 16
UNBOUNDED = 1 << 40  #: bytes that may wait in the socket
MODERATION_US = 10
SOME_US = 200  #: of traffic, beyond five quarters of the time that a packet is held
FRAGMENT_BYTES = 2048
LONGEST_US = 10_000
S1 = "Memory recycling for Network Interfaces (Apalodimas, BKK19-505): one packet per page costs memory"
LITTLE = "arithmetic: Little's law"


@dataclass(frozen=True)
class Supply:
    """Where buffers come from: the strategy, and whether its pages are cut into fragments."""

    strategy: str
    fragments: bool = False


SUPPLIES = {
    "page_pool": Supply("page_pool"),
    "page_pool_fragments": Supply("page_pool", fragments=True),
    "hw_recycle": Supply("hw_recycle"),
}
PATTERNS = ("steady", "burst")


class Starvation(Experiment):
    """One queue, whose socket holds each packet for a time, under a load that the core can carry. The fewest pages are
    looked for with which no frame is dropped for want of a buffer.

    How large a page is makes no difference to the number of buffers: so bursts, and the pool in the device, are looked
    at with pages of 4 KiB alone.
    """

    name = "starvation"
    question = "How many buffers beyond the ring's does it take that the hardware never starves?"
    settings: ClassVar = {
        "supplies": Setting(tuple(SUPPLIES), "where buffers come from, joined by +", choices=tuple(SUPPLIES)),
        "patterns": Setting(PATTERNS, "of the traffic, joined by +", choices=PATTERNS),
        "holds": Setting(("0", "50", "100", "500"), "microseconds that packets are held, joined by +"),
        "page_sizes": Setting(tuple(map(str, PAGE_SIZES)), "of the kernel", choices=tuple(map(str, PAGE_SIZES))),
        "kpps": Setting(800, "thousand packets a second", low=1, high=2000),
        "size": Setting(512, "bytes of a frame on the wire, with FCS", low=64, high=1518),
        "burst": Setting(32, "frames of a burst", low=2, high=1024),
        "ring": Setting(64, "entries of each ring, a power of two", low=32, high=1024),
        "resolution": Setting(8, "buffers to which the search goes", low=1, high=1024),
        "profile": Setting("e5-1650v4", "cost profile of the cores"),
        "checkers": Setting(False, "ownership checker on or off"),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"supplies": "page_pool", "patterns": "steady", "holds": "50", "page_sizes": "4096"} | {
        "ring": "32",
        "resolution": "16",
    }
    columns = (
        Column("extra_pages", "extra pages", decimals(0)),
        Column("pages", "pages", decimals(0)),
        Column("buffers", "buffers", decimals(0)),
        Column("held", "rate x hold", decimals(0)),
        Column("enough", "with the ring", decimals(0)),
        Column("memory", "MiB", decimals(2)),
        Column("dropped", "dropped without", decimals(1)),
    )
    remarks = (
        "Packets that wait are rate x hold (Little's law). While they, and those on their way, fit into the buffers of "
        "the ring, no page is needed beyond; then as many as are lacking: on their way is what comes while an "
        f"interrupt waits, {MODERATION_US} us, and in a poll. Nobody published figures of this.",
        "A queue that has starved, and whose packets the stack still holds, gets no completion and so no poll, until "
        f"the driver's timer comes after {REFILL_RETRY_PS // 10**9} ms: few pages too few cost many frames. A pool in "
        "the device gets its buffers back without a poll.",
    )
    picture = Lines("memory", "hold_us", "MiB with which the hardware never starves", log_up=True)
    job = "sim.starvation.job:run_searches"
    measurement = StarvationMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, with pools, and memory for large pages."""
        machine = preset(preset_name)
        nic = replace(machine.nic, pools=machine.nic.queues, pool_buffers=IDS)
        return replace(machine, nic=nic, memory_size=MEMORY)

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """By supply, page size, pattern, and time."""
        holds = []
        for text in settings["holds"]:
            hold = parse_integer("holds", text)
            if not 0 <= hold <= LONGEST_US:
                raise SettingError(f"Parameter holds must be in 0..{LONGEST_US}, not {text!r}")
            holds.append(hold)
        return [
            Case(
                {"supply": name, "page_size": page_size, "pattern": pattern, "hold_us": hold},
                StarvationRun(
                    _run(machine, SUPPLIES[name], page_size, pattern, hold, settings),
                    max(1, settings["resolution"] * FRAGMENT_BYTES // page_size)
                    if SUPPLIES[name].fragments
                    else settings["resolution"],
                ),
            )
            for name in settings["supplies"]
            for page_size in map(int, settings["page_sizes"])
            for pattern in settings["patterns"]
            if (page_size == PAGE_SIZES[0] or SUPPLIES[name].strategy == "page_pool")
            and (pattern == PATTERNS[0] or (page_size == PAGE_SIZES[0] and not SUPPLIES[name].fragments))
            for hold in holds
        ]

    def rows(self, machine: MachineConfig, case: Case, measured: StarvationMeasurement) -> Sequence[Row]:
        """Drops by number of pages, the number at which they end, and what that takes."""
        run, varied = case.run, case.varied
        rows = [
            Row({**varied, "extra": point.extra * run.per_page}, "starved", "%", _share(point.starved, point.offered))
            for point in measured.points
        ]
        none = measured.points[0]
        other = sum(point.other for point in measured.points)
        rows.append(Row(varied, "dropped", "%", _share(none.starved, none.offered)))
        rows.append(_check(varied, "nothing_else_is_dropped", not other, "the load is below the core's capacity"))
        needed = measured.needed
        rows.append(_check(varied, "enough_is_enough", needed is not None, LITTLE))
        if needed is None:
            return rows
        held = run.arrivals(machine, run.run.hold_us)
        pages = run.ring_pages + needed
        most = run.ring_pages + run.most(machine)
        # A page that is cut has buffers of packets that came at about the same time; at either end of what is held
        # there is one of which only a part is.
        least = held // run.per_page - (2 if run.per_page > 1 else 1)
        return [
            *rows,
            Row(varied, "extra_pages", "pages", needed),
            Row(varied, "pages", "pages", pages),
            Row(varied, "buffers", "buffers", pages * run.per_page),
            Row(varied, "held", "buffers", held),
            Row(varied, "enough", "buffers", held + run.run.ring),
            Row(varied, "memory", "MiB", Fraction(pages * run.run.page_size, MIB)),
            _check(varied, "at_least_what_is_held", needed == 0 or pages >= least, LITTLE),
            _check(varied, "at_most_as_much_as_the_ring_more", pages <= most, LITTLE),
        ]

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Large pages take more memory for one packet each, and fragments less of it, where packets are held."""
        memory = {tuple(row.case.values()): float(row.value) for row in rows if row.name == "memory"}
        result = []
        for (supply, page_size, pattern, hold), value in memory.items():
            small = memory.get((supply, PAGE_SIZES[0], pattern, hold))
            whole = memory.get(("page_pool", page_size, pattern, hold))
            varied = {"supply": supply, "page_size": page_size, "pattern": pattern, "hold_us": hold}
            if page_size > PAGE_SIZES[0] and small is not None and not SUPPLIES[supply].fragments:
                result.append(Row(varied, "times_the_memory", "times", value / small))
                result.append(_check(varied, "large_pages_take_more", value > small, S1))
            if SUPPLIES[supply].fragments and whole is not None:
                result.append(Row(varied, "saved_by_fragments", "times", whole / value))
                result.append(_check(varied, "fragments_take_less", value < whole, S1))
        return result


def _run(
    machine: MachineConfig, supply: Supply, page_size: int, pattern: str, hold: int, settings: Mapping[str, Any]
) -> RunConfig:
    rate, kpps = machine.mac_mbps * 1_000_000, settings["kpps"]
    load = Fraction(kpps * 1000 * 8 * (settings["size"] - FCS_BYTES + OVERHEAD_BYTES), rate)
    return RunConfig(
        Traffic(
            str(settings["size"]),
            max(1, (hold * 5 // 4 + SOME_US) * kpps // 1000),
            FLOWS,
            rate=rate,
            load=str(load),
            seed=settings["seed"],
            burst=settings["burst"] if pattern == "burst" else 1,
        ),
        strategy=supply.strategy,
        verdict="none",
        consumer="socket",
        hold_us=hold,
        rcvbuf=UNBOUNDED,
        page_size=page_size,
        pool=PoolOptions(fragment_bytes=FRAGMENT_BYTES if supply.fragments else 0),
        ring=settings["ring"],
        moderation_cycles=MODERATION_US * machine.nic.clock_khz // 1000,
        profile=settings["profile"],
        checkers=settings["checkers"],
    )


def _share(part: int, whole: int) -> Fraction:
    return Fraction(100 * part, whole)


def _check(varied: Mapping[str, Any], name: str, holds: bool, source: str) -> Row:
    return Row(varied, name, "bool", holds, True, source, "check")
