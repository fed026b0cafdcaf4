# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 14: do recycled buffers that carry their translation hold line rate where an IOTLB does not?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from amaranth.hdl import Shape

from hw.abi.rings import MIN_RING_ENTRIES
from hw.config import IOMMU_PRESETS, RECYCLE, CacheConfig, IommuConfig
from hw.iommu.interfaces import PageSize
from hw.iommu.tlb import LeafRules
from hw.nic.recycle.carried_use import Carried
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting, SettingError, parse_integer
from sim.line_rate.run import CARRIED, FORWARD, PREFETCHED, UNTRANSLATED, LineMeasurement, LineRun
from sim.load_tables import PAGE_SIZES
from sim.report import Column, Row, decimals
from sim.traffic.pacing import LineRate

#: Kinds of the table: how the NIC helps the IOMMU, and the size of the pages that buffers are mapped with.
KINDS = {
    "iotlb": (UNTRANSLATED, PAGE_SIZES[0]),
    "prefetch": (PREFETCHED, PAGE_SIZES[0]),
    "carried": (CARRIED, PAGE_SIZES[0]),
    "2M": (UNTRANSLATED, PAGE_SIZES[2]),
}
WAYS = 4
MEMORY = 512 << 20
MOST_BUFFERS = 1 << 16
RING = 512
LAPS = 4  #: of the pool before it is measured: in the first ones translations are asked for
HOLDS = Fraction(101, 100)
SOURCE = "what carrying translations is built for"


class CarriedTranslation(Experiment):
    """Forwarding of 64-byte frames from pools of 4 KiB buffers in their turn, with an IOTLB that is too small."""

    name = "carried_translation"
    question = "Does recycling that carries translations hold line rate where an IOTLB does not?"
    settings: ClassVar = {
        "pools": Setting(("256", "1024", "4096", "16384", "65536"), "buffers of the pool, joined by +"),
        "iotlbs": Setting(("64", "256", "1024"), "entries of the IOTLB for 4 KiB, joined by +"),
        "kinds": Setting(tuple(KINDS), "how addresses are translated, joined by +", choices=tuple(KINDS)),
        "frames": Setting(20_000, "frames that are measured", low=100, high=10_000_000),
        "size": Setting(64, "bytes of a frame on the wire, with FCS", low=64, high=1518),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"pools": "64", "iotlbs": "16", "kinds": "carried", "frames": "200"}
    columns = (
        Column("cycles", "cycles/packet", decimals(3)),
        Column("throughput", "Mpps", decimals(2)),
        Column("dropped", "dropped", decimals(0)),
        Column("kilobits", "kbit on chip", decimals(0)),
        Column("equal_iotlb", "IOTLB of equal bits", decimals(0), optional=True),
        Column("protection", "protection rests on"),
    )
    job = "sim.line_rate.job:run_lines"
    measurement = LineMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset with recycling, one queue and its pool, and an IOMMU."""
        machine = preset(preset_name.removesuffix(RECYCLE))
        nic = replace(machine.nic, queues=1, pools=1, pool_buffers=MOST_BUFFERS, recycle_ahead=32, ats=True)
        return replace(machine, nic=nic, memory_size=MEMORY, iommu=IOMMU_PRESETS[preset_name])

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """IOTLB by IOTLB, pool by pool, so that the kinds stand side by side."""
        assert machine.iommu is not None
        found = []
        for iotlb in settings["iotlbs"]:
            entries = parse_integer("iotlbs", iotlb)
            sets = entries // WAYS
            if entries % WAYS or sets & (sets - 1) or not sets:
                raise SettingError(f"Parameter iotlbs must be powers of two from {WAYS} up, not {iotlb!r}")
            iommu = replace(machine.iommu, tlb_4k=CacheConfig(sets, WAYS))
            for pool in settings["pools"]:
                buffers = parse_integer("pools", pool)
                if not MIN_RING_ENTRIES <= buffers <= MOST_BUFFERS:
                    raise SettingError(
                        f"Parameter pools must be integers in {MIN_RING_ENTRIES}..{MOST_BUFFERS}, not {pool!r}"
                    )
                for kind in settings["kinds"]:
                    translation, page = KINDS[kind]
                    run = LineRun(
                        direction=FORWARD,
                        recycle=True,
                        translation=translation,
                        pool=buffers,
                        size=settings["size"],
                        frames=settings["frames"],
                        warm=LAPS * buffers,
                        ring=min(RING, 1 << buffers.bit_length() - 1),
                        page=page,
                        wait=1024,
                        seed=settings["seed"],
                    )
                    varied = {"iotlb": entries, "pool": buffers, "translation": kind}
                    found.append(Case(varied, run, replace(machine, iommu=iommu)))
        return found

    def rows(self, machine: MachineConfig, case: Case, measured: LineMeasurement) -> Sequence[Row]:
        """Cycles a packet, what it takes on chip, and who protects memory."""
        run = case.run
        clock = machine.nic.clock_khz * 1000
        line = LineRate(machine.mac_mbps * 1_000_000, machine.nic.clock_khz).frame_cycles(run.length)
        cycles = max(measured.cycles_per_frame("rx"), measured.cycles_per_frame("tx"))
        assert machine.iommu is not None
        entry = iotlb_entry_bits(machine.iommu)
        bits = case.varied["iotlb"] * entry
        carried = run.pool * Shape.cast(Carried).width if run.translation == CARRIED else 0
        holder = "NIC and IOMMU" if carried else "IOMMU"
        rows = [
            Row(case.varied, "cycles", "cycles/packet", cycles),
            Row(case.varied, "throughput", "Mpps", clock / cycles / 1_000_000),
            Row(case.varied, "dropped", "frames", sum(measured.dropped.values())),
            Row(case.varied, "kilobits", "kbit", Fraction(bits + carried, 1000)),
            Row(case.varied, "protection", "part", holder),
        ]
        if carried:
            rows.append(Row(case.varied, "equal_iotlb", "entries", (bits + carried) // entry))
        rows.append(Row(case.varied, "line", "cycles/packet", line))
        return rows

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Carried translations must hold line rate, or, where the pool is too small for that, what 2 MiB pages do, of
        which hardly any misses."""
        found = [row for row in rows if row.name in ("cycles", "line")]
        cycles, lines = (
            {tuple(row.case.values()): Fraction(row.value) for row in found if row.name == name}
            for name in ("cycles", "line")
        )
        result = []
        for row in found:
            if row.name == "line" and row.case["translation"] == "carried":
                case = iotlb, pool, _ = tuple(row.case.values())
                bound = max(lines[case], cycles.get((iotlb, pool, "2M"), Fraction(0)))
                holds = cycles[case] <= HOLDS * bound
                result.append(Row(row.case, "holds_line_rate", "bool", holds, True, SOURCE, "check"))
        return result


def iotlb_entry_bits(iommu: IommuConfig) -> int:
    """Bits of an entry of the IOTLB for 4 KiB: tag, content, and whether there is one."""
    size: Any = PageSize.SIZE_4K
    leaf = LeafRules(iommu, size)
    return Shape.cast(leaf.tag).width + Shape.cast(leaf.content).width + 1
