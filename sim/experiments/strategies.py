# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 1: what does one packet's memory cost, by buffer strategy and IOMMU mode?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.drivers.queue_config import COMPLETION_CYCLES
from driver_model.drivers.strategies import STRATEGIES, hardware_pools
from hw.config import IommuConfig
from sim.account import account_rows
from sim.config import MachineConfig, preset
from sim.consumers import CONSUMERS
from sim.dma_use import DMA_WAYS
from sim.experiments.base import Case, Experiment
from sim.experiments.ceiling import ceilings
from sim.experiments.compare import predicted
from sim.experiments.floods import flood, with_pools
from sim.experiments.settings import Setting
from sim.measurement import Measurement
from sim.report import Column, Row, decimals
from sim.run import IOMMU_MODES, VERDICTS, RunConfig
from sim.traffic.pacing import FCS_BYTES
from sim.traffic.source import CAPTURE, MAX_FRAMES, Traffic

# Of locks, a packet meets only those of page_pool's ring and of the IOMMU's driver.
MEMORY_OPERATIONS = (
    "page.",
    "page_frag.",
    "page_pool.",
    "mempool.",
    "slab.",
    "dma.",
    "iommu.",
    "iova.",
    "spin.",
    "atomic",
)
SYNC_OPERATIONS = ("dma.sync_",)
POSTING_OPERATIONS = ("rx.refill", "recycle.")  #: the NIC gets an empty buffer: a descriptor, or a return register
#: What a strategy can save: buffers, which are memory and posting, and those two, and looking after what was sent.
SAVED = {
    "": "buffer_cycles",
    ".memory": "memory_cycles",
    ".posting": "posting_cycles",
    ".tx_clean": "cpu_cycles.tx.clean",
}
FEW = "few"  #: IOMMU modes beside none, for a few cases only
FEW_VERDICT, FEW_TRAFFIC = "drop", ("64", "1518")
STEADY = 2000  #: frames, several times as many as a pool has pages
WELL_BELOW = Fraction(4, 5)  #: of the throughput in another mode
KEEPS_UP = Fraction(95, 100)
MEMORY_SOURCE = "Brouer, Memory vs. Networking, NetConf 2016; Generic page-pool recycle facility, LSF/MM 2016"
RECYCLE_SOURCE = "what recycling in hardware is built for"
STRICT_SOURCE = "Fast & Safe IO Memory Protection, SOSP 2024: strict protection costs 20 to 65 % of throughput"
POOL_SOURCE = "page_pool maps its pages once, in every mode"
MAPPED_ONCE = ("page_pool", "hw_recycle")


class Strategies(Experiment):
    """Every strategy under every verdict and IOMMU mode, by frame size, on IMIX and on a capture."""

    name = "strategies"
    question = "What does one packet's memory cost, by buffer strategy, IOMMU mode and frame size?"
    settings: ClassVar = {
        "strategies": Setting(
            ("page_per_packet", "fragments", "page_pool", "hw_recycle"),
            "buffer strategies, joined by +",
            choices=tuple(STRATEGIES),
            own=True,
        ),
        "verdicts": Setting(("drop", "tx", "pass"), "XDP programs, joined by +", choices=VERDICTS, own=True),
        "consumer": Setting("collector", "who takes frames that pass", choices=CONSUMERS),
        "page_size": Setting(4096, "of the kernel, 4096 or 65536", low=4096, high=65536),
        "traffic": Setting(
            ("64", "128", "256", "512", "1024", "1518", "imix", CAPTURE),
            "frame sizes on the wire, mixes, or capture, joined by +",
        ),
        "iommu": Setting(
            (FEW,),
            f"IOMMU modes, joined by +; {FEW}: none, and for {FEW_VERDICT} of {' and '.join(FEW_TRAFFIC)} bytes all",
            choices=(FEW, *IOMMU_MODES),
        ),
        "dma": Setting("direct", "how addresses come about without an IOMMU", choices=tuple(DMA_WAYS)),
        "microseconds": Setting(400, "wire time of each run but a capture's", low=1, high=1_000_000),
        "frames": Setting(0, "frames of each run; 0: as many as last so long, or the whole capture", high=10_000_000),
        "flows": Setting(16, "UDP flows", low=1, high=65536),
        "queues": Setting(1, "queue pairs in use, each with its own NAPI and pool", low=1, high=16),
        "cores": Setting(1, "CPU cores", low=1, high=16),
        "ring": Setting(512, "entries of each ring, a power of two", low=8, high=32768),
        "moderation_cycles": Setting(0, "hardware cycles after which an interrupt comes; 0: not by time", high=65535),
        "moderation_count": Setting(0, "completions at which an interrupt comes; 0: not by count", high=65535),
        "completion_cycles": Setting(
            COMPLETION_CYCLES,
            "hardware cycles that a completion waits for others to share its line of four",
            high=65535,
        ),
        "load": Setting("1", "share of the line that is offered"),
        "timing": Setting("rate", "a capture at line rate or at its own times", choices=("rate", "capture")),
        "profile": Setting("e5-1650v4", "cost profile of the cores"),
        "checkers": Setting(True, "ownership checker on or off"),
        "seed": Setting(1, "of sizes, order and payload"),
    }
    short: ClassVar = {"strategies": "page_pool", "verdicts": "tx", "traffic": "imix", "frames": "24", "ring": "32"} | {
        "iommu": "none"
    }
    columns = (
        Column("throughput", "Mpps", decimals(2)),
        Column("ceiling", "ceiling", decimals(2)),
        Column("bandwidth", "Gbit/s", decimals(2), optional=True),
        Column("hardware_cycles", "hw cycles", decimals(1)),
        Column("cpu_cycles", "CPU cycles", decimals(0)),
        Column("memory_cycles", "of it memory", decimals(0)),
        Column("posting_cycles", "posting", decimals(0)),
        Column("memory_share", "share %", decimals(1), optional=True),
        Column("iotlb_misses", "IOTLB misses", decimals(3), optional=True),
        Column("busiest", "busiest", optional=True),
        Column("busiest_share", "busy %", decimals(1), optional=True),
        Column("dropped", "dropped", decimals(0)),
    )
    explanations: ClassVar = {
        "strict_adds": (
            "The largest part is the page table, at what is recalled of rIOMMU (ASPLOS 2015), 286 ns; the wait for the "
            "invalidation is simulated, and ends after 233 ns. There it took 2,130 cycles of 3.1 GHz by itself: VT-d "
            "answers three times as late as this IOMMU, whose queue and fence nothing else holds up. What else a "
            "packet of that test maps is not published"
        ),
    }

    def machine(self, preset_name: str) -> MachineConfig:
        """With the IOMMU of those cases that have one."""
        return replace(preset(preset_name), iommu=IommuConfig())

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Verdict by verdict, traffic by traffic, so that strategies stand side by side in the table. If one of them
        recycles in hardware, all run on a NIC that can, with pools of as many buffers as both rings have entries."""
        if any(map(hardware_pools, settings["strategies"])):
            machine = with_pools(machine, settings["ring"])
        return [
            Case(
                {"verdict": verdict, "traffic": traffic, "iommu": mode, "strategy": strategy},
                RunConfig(
                    traffic=_traffic(machine, traffic, settings, capture),
                    strategy=strategy,
                    verdict=verdict,
                    consumer=settings["consumer"],
                    page_size=settings["page_size"],
                    cores=settings["cores"],
                    queues=settings["queues"],
                    ring=settings["ring"],
                    moderation_cycles=settings["moderation_cycles"],
                    moderation_count=settings["moderation_count"],
                    completion_cycles=settings["completion_cycles"],
                    profile=settings["profile"],
                    iommu=mode,
                    dma=settings["dma"],
                    checkers=settings["checkers"],
                ),
                machine if mode != "none" else replace(machine, iommu=None),
            )
            for verdict in settings["verdicts"]
            for traffic in settings["traffic"]
            for mode in _modes(settings["iommu"], verdict, traffic)
            for strategy in settings["strategies"]
        ]

    def rows(self, machine: MachineConfig, case: Case, measured: Measurement) -> Sequence[Row]:
        """Throughput, its ceiling, cycles of each stage and of the CPU by operation, and drops by reason."""
        transmit = case.run.verdict == "tx"
        line = case.run.traffic.line(machine.nic.clock_khz)
        ways = {"transmit": transmit, "recycle": hardware_pools(case.run.strategy)}
        bounds = ceilings(machine.nic, machine.link, line, measured.lengths, host_width=machine.host_width, **ways)
        ceiling, throughput = min(bounds.values()), measured.packets_per_second
        rows = [
            Row(case.varied, "throughput", "Mpps", throughput / 1_000_000),
            Row(case.varied, "ceiling", "Mpps", ceiling / 1_000_000),
            Row(case.varied, "bandwidth", "Gbit/s", throughput * 8 * _mean_size(measured.lengths) / 1_000_000_000),
            Row(case.varied, "hardware_cycles", "cycles/packet", measured.cycles_per_packet),
            Row(case.varied, "within_ceiling", "bool", throughput <= ceiling, True, "arithmetic", "check"),
        ]
        rows += [Row(case.varied, f"ceiling.{name}", "Mpps", value / 1_000_000) for name, value in bounds.items()]
        rows += account_rows(case.varied, machine, case.run, measured)
        costs = {name: measured.cpu_cycles(name) for name in measured.operations}
        total = sum(costs.values(), Fraction(0))
        memory, sync, posting = (
            sum((cost for name, cost in costs.items() if name.startswith(group)), Fraction(0))
            for group in (MEMORY_OPERATIONS, SYNC_OPERATIONS, POSTING_OPERATIONS)
        )
        rows += [
            Row(case.varied, "cpu_cycles", "cycles/packet", total),
            Row(case.varied, "cpu_time", "ns/packet", total * 1_000_000 / measured.core_khz),
            Row(case.varied, "memory_cycles", "cycles/packet", memory),
            Row(case.varied, "sync_cycles", "cycles/packet", sync),
            Row(case.varied, "posting_cycles", "cycles/packet", posting),
            Row(case.varied, "buffer_cycles", "cycles/packet", memory + posting),
            Row(case.varied, "memory_share", "%", 100 * memory / total if total else 0),
        ]
        rows += [Row(case.varied, f"cpu_cycles.{name}", "cycles/packet", cost) for name, cost in costs.items()]
        for name, is_write in (("memory_reads", False), ("memory_writes", True)):
            count = sum(count for (write, *_), count in measured.accesses.items() if write == is_write)
            rows.append(Row(case.varied, name, "1/packet", Fraction(count, measured.delivered)))
        for name, operation in (("interrupts", "irq.entry"), ("polls", "napi.poll")):
            count, _ = measured.operations.get(operation, (0, 0))
            rows.append(Row(case.varied, name, "1/packet", Fraction(count, measured.delivered)))
        rows += [
            Row(case.varied, name, "1/packet", Fraction(measured.statistics[counter], measured.delivered))
            for name, counter in (("iotlb_misses", "iommu_tlb_miss"), ("table_reads", "iommu_table_read"))
            if counter in measured.statistics
        ]
        rows += [
            Row(case.varied, "offered", "packets", measured.offered),
            Row(case.varied, "delivered", "packets", measured.delivered),
            Row(case.varied, "dropped", "packets", sum(measured.dropped.values())),
        ]
        return rows + [
            Row(case.varied, f"dropped.{reason}", "packets", n) for reason, n in measured.dropped.items() if n
        ]

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What must hold between cases that differ in one thing alone, wherever both ran."""
        return [*_strategy_checks(rows), *_mode_checks(rows), *_protection(rows)]


def _strategy_checks(rows: Sequence[Row]) -> list[Row]:
    """page_pool must spend fewer cycles on a packet's buffers than page_per_packet, and hw_recycle fewer still; none
    but those of syncs where frames are sent from where they came. Fragments must lie between the first two, if the run
    is long enough for a pool's first pages not to count."""
    result = _fragment_checks(rows)
    for dear, cheap, source in (
        ("page_per_packet", "page_pool", MEMORY_SOURCE),
        ("page_pool", "hw_recycle", RECYCLE_SOURCE),
    ):
        for part, name in SAVED.items():
            for case, cost in _compared(rows, name, "strategy"):
                if cost.keys() >= {dear, cheap}:
                    saved = cost[dear] - cost[cheap]
                    result.append(Row(case, f"saved_by_{cheap}{part}", "cycles/packet", saved))
                    if not part:
                        result.append(Row(case, f"{cheap}_is_cheaper", "bool", saved > 0, True, source, "check"))
    syncs = _compared(rows, "sync_cycles", "strategy")
    for (case, cost), (_, sync) in zip(_compared(rows, "buffer_cycles", "strategy"), syncs, strict=True):
        if "hw_recycle" in cost and case["verdict"] == "tx":
            free = cost["hw_recycle"] == sync["hw_recycle"]
            result.append(Row(case, "forwarding_costs_syncs_alone", "bool", free, True, RECYCLE_SOURCE, "check"))
    return result


def _fragment_checks(rows: Sequence[Row]) -> list[Row]:
    result = []
    delivered = {tuple(case.items()): frames for case, frames in _compared(rows, "delivered", "strategy")}
    for case, cost in _compared(rows, "buffer_cycles", "strategy"):
        frames = delivered.get(tuple(case.items()), {})
        for dear, cheap in (("page_per_packet", "fragments"), ("fragments", "page_pool")):
            if min(frames.get(dear, 0), frames.get(cheap, 0)) >= STEADY:
                name, cheaper = f"{cheap}_is_cheaper_than_{dear}", cost[cheap] < cost[dear]
                result.append(Row(case, name, "bool", cheaper, True, MEMORY_SOURCE, "check"))
    return result


def _mode_checks(rows: Sequence[Row]) -> list[Row]:
    """Strict protection must cost page_per_packet much of its throughput, unless the machine's ceiling hides it, and
    those that map their pages once hardly any, in whichever mode."""
    ceilings = _compared(rows, "ceiling", "iommu")
    result = []
    for (case, rate), (_, ceiling) in zip(_compared(rows, "throughput", "iommu"), ceilings, strict=True):
        if case["strategy"] == "page_per_packet" and "strict" in rate:
            others = [value for mode, value in rate.items() if mode != "strict"]
            if others and rate["strict"] < WELL_BELOW * ceiling["strict"]:
                below = rate["strict"] <= WELL_BELOW * min(others)
                result.append(Row(case, "strict_is_well_below", "bool", below, True, STRICT_SOURCE, "check"))
        strategy = case["strategy"]
        if strategy in MAPPED_ONCE and "passthrough" in rate:
            for mode in [mode for mode in rate if mode not in ("none", "passthrough")]:
                keeps_up = rate[mode] >= KEEPS_UP * rate["passthrough"]
                varied = case | {"iommu": mode}
                result.append(Row(varied, f"{strategy}_keeps_up", "bool", keeps_up, True, POOL_SOURCE, "check"))
    return result


def _protection(rows: Sequence[Row]) -> list[Row]:
    """What strict protection adds to a small packet whose page is mapped and unmapped, beside what was published."""
    return [
        predicted(case, "strict_adds", "ns/packet", time["strict"] - time["none"], "iommu.strict.added")
        for case, time in _compared(rows, "cpu_time", "iommu")
        if {"none", "strict"} <= time.keys()
        and (case["verdict"], case["traffic"], case["strategy"]) == (FEW_VERDICT, FEW_TRAFFIC[0], "page_per_packet")
    ]


def _compared(rows: Sequence[Row], name: str, key: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Values of rows of a name by the value of one key of their case, for each case without that key."""
    found: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for row in rows:
        if row.name == name:
            common = tuple((other, value) for other, value in row.case.items() if other != key)
            found.setdefault(common, {})[row.case[key]] = row.value
    return [(dict(common), values) for common, values in found.items()]


def _modes(chosen: Sequence[str], verdict: str, traffic: str) -> Sequence[str]:
    """The IOMMU modes of a verdict and traffic, each once."""
    few = IOMMU_MODES if verdict == FEW_VERDICT and traffic in FEW_TRAFFIC else IOMMU_MODES[:1]
    return tuple(dict.fromkeys(mode for each in chosen for mode in (few if each == FEW else (each,))))


def _mean_size(lengths: Mapping[int, int]) -> Fraction:
    """Mean size on the wire, with FCS."""
    return Fraction(sum(length * count for length, count in lengths.items()), sum(lengths.values())) + FCS_BYTES


def _traffic(machine: MachineConfig, name: str, settings: Mapping[str, Any], capture: str) -> Traffic:
    rate, load, seed, frames = machine.mac_mbps * 1_000_000, settings["load"], settings["seed"], settings["frames"]
    if name == CAPTURE:
        frames = frames or MAX_FRAMES
        return Traffic(CAPTURE, frames, rate=rate, load=load, seed=seed, capture=capture, timing=settings["timing"])
    wanted = {name: settings[name] for name in ("flows", "queues", "load", "seed")}
    return flood(machine, name, settings["microseconds"], frames=frames, **wanted)
