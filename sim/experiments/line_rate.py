# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 15: how many cycles does the hardware need for a packet, if software costs nothing?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from hw.abi.rings import ENTRIES_PER_LINE, LINE_BYTES
from hw.config import IOMMU_PRESETS, NicConfig
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.ceiling import ceilings, demands, link_bytes
from sim.experiments.settings import Setting, parse_integer
from sim.line_rate.run import DIRECTIONS, FORWARD, LineMeasurement, LineRun
from sim.load_tables import PAGE_SIZES
from sim.report import Column, Row, decimals
from sim.stream_rows import COLUMNS, TRANSACTIONS, stream_rows
from sim.streams import AMOUNTS
from sim.traffic.pacing import LineRate

POSTED, RECYCLED = "posted", "recycled"
PAGES = {"none": 0, "4K": PAGE_SIZES[0], "2M": PAGE_SIZES[2]}  #: of the IOMMU's mapping; none: without an IOMMU
MEMORY = 256 << 20
SMALL = 64
MOST_ENTRIES = 512  #: of a ring
#: How much of its ceiling a direction has to reach: less where the link is the bound, whose reads and writes share it.
CLOSE = Fraction(98, 100)
CLOSE_AT_LINK = Fraction(90, 100)
LINK = "link_"
READS = ("axi_read", "link_down")  #: channels that carry what the NIC reads
#: A look at the rings finds completions by lines, so a count may be off by one of each queue.
JITTER = 4
SOURCE = "IEEE 802.3: 84 byte times"
ARITHMETIC = "arithmetic"


class LineRateExperiment(Experiment):
    """Frames of each size at line rate, in each direction and in both at once, on one queue and on all."""

    name = "line_rate"
    question = "How many cycles does the hardware need for a packet, if software costs nothing?"
    settings: ClassVar = {
        "directions": Setting(
            DIRECTIONS,
            f"rx, tx, both at once, and {FORWARD}: what was received is sent; joined by +",
            choices=(*DIRECTIONS, FORWARD),
        ),
        "buffers": Setting(
            (POSTED,),
            f"of RX: {POSTED} by software as descriptors, or {RECYCLED} in hardware, joined by +",
            choices=(POSTED, RECYCLED),
        ),
        "sizes": Setting(
            ("64", "65", "72", "128", "256", "512", "1024", "1518", "9000"),
            "bytes of a frame on the wire, with FCS, joined by +",
        ),
        "queues": Setting(("1", "16"), "queue pairs in use, joined by +"),
        "iommu": Setting(("none", "2M"), "without an IOMMU, or page sizes, joined by +", choices=tuple(PAGES)),
        "frames": Setting(20_000, "frames of each run, in each direction", low=100, high=10_000_000),
        "warm": Setting(6_000, "frames before those; sixteen queues first fetch all of their descriptors", low=1),
        "ring": Setting(4096, "entries of all rings of a kind together, 512 of each at most", low=128, high=32768),
        "headroom": Setting(256, "bytes of a buffer before the frame", high=1024),
        "wait": Setting(1024, "cycles that a completion waits for others to share its line", high=65535),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"directions": "rx", "sizes": "64", "queues": "1", "iommu": "none", "frames": "200"} | {
        "warm": "20",
        "ring": "128",
    }
    columns = (
        Column("rx_cycles", "RX cycles", decimals(3)),
        Column("tx_cycles", "TX cycles", decimals(3)),
        Column("ceiling_cycles", "ceiling", decimals(3)),
        Column("bound", "by"),
        Column("share", "% of it", decimals(1)),
        Column("throughput", "Mpps", decimals(2)),
        Column("bandwidth", "Gbit/s", decimals(1), optional=True),
        Column("dropped", "dropped", decimals(0)),
        *COLUMNS,
    )
    job = "sim.line_rate.job:run_lines"
    measurement = LineMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, with as many queues as any case uses, memory for all their buffers, its IOMMU, and the account
        of streams."""
        machine = preset(preset_name)
        nic = replace(machine.nic, queues=16, probes=True)
        return replace(machine, nic=nic, memory_size=MEMORY, iommu=IOMMU_PRESETS[preset_name])

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Direction by direction, size by size."""
        return [
            Case(
                {"direction": direction, "size": size, "queues": queues, "iommu": iommu, "buffers": buffers},
                LineRun(
                    direction=direction,
                    recycle=buffers == RECYCLED,
                    size=parse_integer("sizes", size),
                    queues=parse_integer("queues", queues),
                    frames=settings["frames"],
                    warm=settings["warm"],
                    ring=_ring(settings["ring"], parse_integer("queues", queues)),
                    headroom=settings["headroom"],
                    page=PAGES[iommu],
                    wait=settings["wait"],
                    seed=settings["seed"],
                ),
                _machine(machine, recycle=buffers == RECYCLED, iommu=bool(PAGES[iommu])),
            )
            for direction in settings["directions"]
            for size in settings["sizes"]
            for queues in settings["queues"]
            for iommu in settings["iommu"]
            for buffers in settings["buffers"]
            if direction != "tx" or buffers == settings["buffers"][0]
        ]

    def rows(self, machine: MachineConfig, case: Case, measured: LineMeasurement) -> Sequence[Row]:
        """Cycles a frame beside the ceiling, and drops by reason."""
        run = case.run
        line = LineRate(machine.mac_mbps * 1_000_000, machine.nic.clock_khz)
        parts = (machine.nic, machine.link, line, {run.length: 1})
        place: dict[str, Any] = {"offset": run.headroom, "host_width": machine.host_width, "recycle": run.recycle}
        ways = {"rx": run.direction != "tx", "tx": run.direction != "rx"}
        bounds = ceilings(*parts, receive=ways["rx"], transmit=ways["tx"], **place)
        needs = {
            way: demands(*parts, receive=way == "rx", transmit=way == "tx", **place)
            for way, used in ways.items()
            if used
        }
        counts = {"rx": measured.received, "tx": measured.sent}
        # How much of its time each channel was in use at best; who takes most of it bounds a direction.
        loads = _loads(needs, counts, measured.cycles)
        busiest = {way: max(needs[way], key=lambda channel: loads[channel]) for way in needs}
        share = min(loads[channel] for channel in busiest.values())
        certain = {way: count - JITTER * run.queues for way, count in counts.items()}
        sure = _loads(needs, certain, measured.cycles)
        if measured.streams:
            read = {way: min(count, _frames_read(way, machine.nic, run, measured)) for way, count in certain.items()}
            loads_of_reads = _loads(needs, read, measured.cycles)
            sure |= {channel: loads_of_reads[channel] for channel in READS if channel in sure}
        clock = machine.nic.clock_khz * 1000
        slowest = max(measured.cycles_per_frame(way) for way in needs)
        close = CLOSE_AT_LINK if any(channel.startswith(LINK) for channel in busiest.values()) else CLOSE
        rows = [
            *(Row(case.varied, f"{way}_cycles", "cycles/packet", measured.cycles_per_frame(way)) for way in needs),
            Row(case.varied, "ceiling_cycles", "cycles/packet", clock / min(bounds.values())),
            Row(case.varied, "bound", "name", "+".join(dict.fromkeys(busiest.values()))),
            Row(case.varied, "share", "%", 100 * share),
            Row(case.varied, "throughput", "Mpps", clock / slowest / 1_000_000),
            Row(case.varied, "bandwidth", "Gbit/s", clock / slowest * 8 * run.size / 10**9),
            Row(case.varied, "dropped", "frames", sum(measured.dropped.values())),
            Row(case.varied, "within_ceiling", "bool", max(sure.values()) <= 1, True, ARITHMETIC, "check"),
            Row(
                case.varied, "close_to_ceiling", "bool", share >= close, True, "what the hardware is built for", "check"
            ),
        ]
        rows += [Row(case.varied, f"ceiling.{name}", "Mpps", value / 1_000_000) for name, value in bounds.items()]
        rows += [Row(case.varied, f"drop.{name}", "frames", count) for name, count in measured.dropped.items()]
        at_line_rate = run.size == SMALL and min(bounds, key=lambda name: bounds[name]) == "wire"
        rows += _account_rows(machine, case, measured, at_line_rate)
        if at_line_rate:
            rows.append(
                Row(case.varied, "nothing_dropped", "bool", not sum(measured.dropped.values()), True, SOURCE, "check")
            )
        return rows


def _machine(machine: MachineConfig, *, recycle: bool, iommu: bool) -> MachineConfig:
    """With what a case needs."""
    nic = replace(machine.nic, pools=machine.nic.queues, pool_buffers=MOST_ENTRIES) if recycle else machine.nic
    return replace(machine, nic=nic, iommu=machine.iommu if iommu else None)


def _ring(together: int, queues: int) -> int:
    """Entries of each ring: a power of two."""
    each = min(MOST_ENTRIES, together // max(1, queues))
    return 1 << max(0, each.bit_length() - 1)


def _loads(needs: Mapping[str, Mapping[str, Fraction]], counts: Mapping[str, int], cycles: int) -> dict[str, Fraction]:
    """Share of its time that each channel needs for so many frames of each direction in so many cycles."""
    loads: dict[str, Fraction] = {}
    for way, channels in needs.items():
        for channel, each in channels.items():
            loads[channel] = loads.get(channel, Fraction(0)) + each * counts[way] / cycles
    return loads


def _frames_read(way: str, nic: NicConfig, run: LineRun, measured: LineMeasurement) -> int:
    """For how many frames at most the NIC read memory in the measured time, but for the little by which the account's
    time is another: more went on descriptors, or were sent from the packet buffer, that it had read before."""
    beats = {}
    if way == "tx" or not run.recycle:
        beats[f"{way}_fetched"] = Fraction(-(-LINE_BYTES // nic.beat_bytes), ENTRIES_PER_LINE)
    if way == "tx":
        beats["tx_data"] = Fraction(-(-run.length // nic.beat_bytes))
    limits = [Fraction(measured.received if way == "rx" else measured.sent)]
    limits += [Fraction(measured.streams[name].rate * measured.cycles) / each for name, each in beats.items()]
    return int(min(limits))


def _account_rows(machine: MachineConfig, case: Case, measured: LineMeasurement, at_line_rate: bool) -> list[Row]:
    """From the account of streams: who limits, what a frame takes of each channel and of the link, and, of small ones
    ``at_line_rate``, whether one takes more than its share of lines of four descriptors and of four completions. (Where
    frames come more slowly, completions wait in vain for others.)"""
    run = case.run
    counts = {"rx": measured.received, "tx": measured.sent}
    rates = {way: Fraction(count, measured.cycles) for way, count in counts.items() if count}
    if not measured.streams or not rates:
        return []
    rows = stream_rows(case.varied, machine, measured.streams, rates)
    if at_line_rate and "rx" in rates:
        streams = (TRANSACTIONS["rx"][name] for name in ("rx_descriptor_reads", "rx_completion_writes"))
        lines = max(measured.streams[stream].rate for stream in streams) / rates["rx"]
        few = lines - Fraction(JITTER * run.queues, measured.received) <= Fraction(1, ENTRIES_PER_LINE)
        rows.append(Row(case.varied, "four_to_a_line", "bool", few, True, ARITHMETIC, "check"))
        if run.recycle:
            read = measured.streams[TRANSACTIONS["rx"]["rx_descriptor_reads"]].moved
            rows.append(Row(case.varied, "no_descriptors_read", "bool", not read, True, ARITHMETIC, "check"))
    if not machine.link.wires:
        ways = {"receive": "rx" in rates, "transmit": "tx" in rates}
        place: dict[str, Any] = {"offset": run.headroom, "host_width": machine.host_width, "recycle": run.recycle}
        best = link_bytes(machine.nic, machine.link, {run.length: 1}, **ways, **place)
        for name, amount in zip(AMOUNTS, best, strict=True):
            rows.append(Row(case.varied, f"{name}.best", "B/packet", amount))
    return rows
