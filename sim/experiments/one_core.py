# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 2: 14.88 million packets a second on one 3 GHz core: who makes it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.drivers.strategies import hardware_pools
from driver_model.net.skb.policy import POLICY_2016, SkbPolicy
from sim.config import MachineConfig
from sim.experiments.base import Case, Experiment
from sim.experiments.compare import difference, fitted, predicted
from sim.experiments.floods import flood, with_pools
from sim.experiments.published import figure
from sim.experiments.residual import Residual
from sim.experiments.settings import Setting
from sim.measurement import Measurement
from sim.picture import Stacked
from sim.report import Column, Row, decimals
from sim.run import RunConfig
from sim.traffic.source import Traffic

RESIDUAL = Residual.load("stack-2016")
#: Parts of a packet's cycles, by the beginnings of operations' names; what is none of these is ``other``.
PARTS: Mapping[str, tuple[str, ...]] = {
    "memory": ("page.", "page_frag.", "page_pool.", "mempool.", "slab.", "dma.", "iommu.", "iova.", "atomic", "spin."),
    "skb": ("skb.", "cpu.copy_line"),
    "stack": ("net.", "sock.", "stack."),
    "driver": ("rx.", "tx.", "xdp.", "pmd.", "napi.", "mmio.", "cpu.load", "cpu.store", "llc.", "cache."),
    "interrupts": ("irq.", "softirq.", "context.", "task."),
}
PUBLISHED = {"xdp_drop": "line_rate.10g", "bypass": "dpdk.2016"}  #: figures that variants stand beside
MAKES_IT = Fraction(999, 1000)  #: of line rate, from the first frame to the last
FALLS_SHORT = Fraction(1, 2)


@dataclass(frozen=True)
class Variant:
    """One way to handle packets.

    Attributes
    ----------
    strategy, verdict, consumer, skb : of the run
    residual : the stack's residual is charged
    shown : what it is
    """

    shown: str
    strategy: str
    verdict: str = "drop"
    consumer: str = "collector"
    skb: SkbPolicy = field(default_factory=SkbPolicy)
    residual: bool = False


VARIANTS: Mapping[str, Variant] = {
    "stack_2016": Variant(
        "2016: half pages, copied headers, SKBs one by one", "page_flip", "none", "filter", POLICY_2016, True
    ),
    "stack_2016_page": Variant(
        "the same with a page for each packet", "page_per_packet", "none", "filter", POLICY_2016, True
    ),
    "stack_2016_frag": Variant("the same with fragments of order 3", "fragments", "none", "filter", POLICY_2016, True),
    "stack_pool": Variant(
        "the same stack on page_pool, build_skb, NAPI's cache", "page_pool", "none", "filter", residual=True
    ),
    "receive_pool": Variant("the same without the residual: dropped on reception", "page_pool", "none", "filter"),
    "xdp_page": Variant("XDP_DROP, a page for each packet", "page_per_packet"),
    "xdp_drop": Variant("XDP_DROP, page_pool", "page_pool"),
    "xdp_tx": Variant("XDP_TX, page_pool", "page_pool", "tx"),
    "xdp_redirect": Variant("XDP_REDIRECT, page_pool", "page_pool", "redirect"),
    "hw_recycle": Variant("XDP_TX, recycled by the NIC", "hw_recycle", "tx"),
    "bypass": Variant("poll mode, mempool, dropped", "bypass"),
    "bypass_tx": Variant("poll mode, mempool, sent back", "bypass", "tx"),
}


class OneCore(Experiment):
    """The stack of 2016, what came after it, and a driver that goes around the kernel, on one core at line rate. Up the
    stack there is no XDP program. Its residual is fitted once: of the stack only differences are predictions."""

    name = "one_core"
    question = "14.88 million packets a second on one 3 GHz core: who makes it?"
    settings: ClassVar = {
        "variants": Setting(tuple(VARIANTS), "ways to handle packets, joined by +", choices=tuple(VARIANTS)),
        "size": Setting("64", "frame size on the wire"),
        "microseconds": Setting(1000, "wire time of each run", low=1, high=1_000_000),
        "profile": Setting("budget-3ghz", "cost profile of the core"),
        "ring": Setting(512, "entries of each ring, a power of two", low=8, high=32768),
        "checkers": Setting(False, "ownership checker on or off"),
        "seed": Setting(1, "of payload"),
    }
    short: ClassVar = {"variants": "xdp_drop", "microseconds": "20", "ring": "64"}
    columns = (
        Column("throughput", "Mpps", decimals(2)),
        Column("dropped_share", "dropped %", decimals(1)),
        Column("cpu_cycles", "cycles", decimals(0)),
        Column("saved", "saved", decimals(0)),
        *(Column(f"part.{name}", name, decimals(0)) for name in (*PARTS, "other")),
    )
    picture = Stacked("cpu_cycles.", "CPU cycles a packet")
    explanations: ClassVar = {}

    def digests(self) -> Mapping[str, str]:
        """The residual's."""
        return {RESIDUAL.name: RESIDUAL.digest}

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """One run for each variant; the NIC has pools for those that need them."""
        traffic = flood(machine, settings["size"], settings["microseconds"], seed=settings["seed"])
        if any(hardware_pools(VARIANTS[name].strategy) for name in settings["variants"]):
            machine = with_pools(machine, settings["ring"])
        return [self._case(machine, name, traffic, settings) for name in settings["variants"]]

    def _case(self, machine: MachineConfig, name: str, traffic: Traffic, settings: Mapping[str, Any]) -> Case:
        variant = VARIANTS[name]
        run = RunConfig(
            traffic,
            variant.strategy,
            variant.verdict,
            variant.consumer,
            skb=variant.skb,
            ring=settings["ring"],
            profile=settings["profile"],
            residual_cycles=RESIDUAL.cycles if variant.residual else 0,
            checkers=settings["checkers"],
        )
        return Case({"variant": name}, run, machine)

    def rows(self, machine: MachineConfig, case: Case, measured: Measurement) -> Sequence[Row]:
        """Throughput, and the cycles of a packet by operation and by part."""
        name = case.varied["variant"]
        variant = VARIANTS[name]
        rate = measured.packets_per_second / 1_000_000
        fits = (RESIDUAL.name,) if variant.residual else ()
        if name == RESIDUAL.variant and case.run.profile == RESIDUAL.profile:
            first = fitted(case.varied, "throughput", "Mpps", rate, RESIDUAL.figure, fits)
        elif name in PUBLISHED:
            first = predicted(case.varied, "throughput", "Mpps", rate, PUBLISHED[name], fits)
        else:
            first = Row(case.varied, "throughput", "Mpps", rate, fits=fits)
        costs = {each: measured.cpu_cycles(each) for each in measured.operations}
        total = sum(costs.values(), Fraction(0))
        parts = {part: _sum(costs, starts) for part, starts in PARTS.items()}
        parts["other"] = total - sum(parts.values(), Fraction(0))
        return [
            first,
            Row(case.varied, "dropped_share", "%", Fraction(100 * sum(measured.dropped.values()), measured.offered)),
            Row(case.varied, "cpu_cycles", "cycles/packet", total, fits=fits),
            *(Row(case.varied, f"part.{part}", "cycles/packet", value, fits=fits) for part, value in parts.items()),
            *(Row(case.varied, f"cpu_cycles.{each}", "cycles/packet", value) for each, value in costs.items()),
        ]

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Who must make it, who cannot, and what the pool saves the stack."""
        rates, cycles = (
            {row.case["variant"]: Fraction(row.value) for row in rows if row.name == name}
            for name in ("throughput", "cpu_cycles")
        )
        line = Fraction(figure("line_rate.10g").value).limit_denominator(100)
        found = []
        for name, makes_it, source in (
            ("xdp_drop", True, figure("line_rate.10g").source),
            ("bypass", True, figure("dpdk.2016").source),
            ("stack_2016", False, figure("stack.2016").source),
        ):
            if name in rates:
                reached = rates[name] >= MAKES_IT * line if makes_it else rates[name] <= FALLS_SHORT * line
                title = "makes_line_rate" if makes_it else "falls_short"
                found.append(Row({"variant": name}, title, "bool", reached, True, source, "check"))
        for name in ("stack_2016_page", "stack_2016_frag", "stack_pool"):
            if name in cycles and "stack_2016" in cycles:
                saved = cycles["stack_2016"] - cycles[name]
                found.append(difference({"variant": name}, "saved", "cycles/packet", saved, (RESIDUAL.name,)))
        return found


def _sum(costs: Mapping[str, Fraction], starts: tuple[str, ...]) -> Fraction:
    return sum((cost for name, cost in costs.items() if name.startswith(starts)), Fraction(0))
