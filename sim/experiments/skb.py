# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 5: what does an SKB cost, by where it lies, how it is cleared, and what the CPU may do with the page?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar

from driver_model.cpu.profile import Profile
from driver_model.drivers.strategies import STRATEGIES
from driver_model.net.skb.policy import Clearing, Head, HeadMemory, Place, SkbPolicy
from driver_model.net.stack import RX_HEADER_BYTES
from sim.config import MachineConfig
from sim.experiments.base import Case, Experiment
from sim.experiments.compare import given, predicted
from sim.experiments.settings import Setting
from sim.measurement import Measurement
from sim.picture import Stacked
from sim.report import Column, Row, decimals
from sim.run import RunConfig
from sim.traffic.pacing import FCS_BYTES
from sim.traffic.source import Traffic

COPYBREAK = "copybreak"  #: the only way that is the strategy's
WAYS: Mapping[str, SkbPolicy] = {
    "copied": SkbPolicy(head=Head.COPY, head_memory=HeadMemory.FRAGMENT),
    "copied_kmalloc": SkbPolicy(head=Head.COPY, head_memory=HeadMemory.KMALLOC),
    COPYBREAK: SkbPolicy(head_memory=HeadMemory.FRAGMENT),
    "build": SkbPolicy(),
    "headroom": SkbPolicy(place=Place.HEADROOM),
    "tailroom": SkbPolicy(place=Place.TAILROOM),
}
COLD = "_cold"  #: ends the name of a way whose lines nobody prefetches
DETAILS: Mapping[str, SkbPolicy] = {
    **{f"build_{each.value}": SkbPolicy(clearing=each) for each in Clearing if each is not Clearing.MEMSET},
    **{way + COLD: replace(WAYS[way], prefetchw=False) for way in ("build", "headroom", "tailroom")},
}  #: what does not depend on the packet's size
VARIANTS: Mapping[str, SkbPolicy] = MappingProxyType({**WAYS, **DETAILS})
#: The published cycles of clearing an SKB, by variant: the benchmark of a profile, and the figure's name.
CLEARED = {
    "build": ("SKB clear, 256 bytes, memset", "memset"),
    "build_movq": ("SKB clear, 256 bytes, MOVQ", "movq"),
    "build_avx2": ("SKB clear, 256 bytes, AVX2", "avx2"),
}
EPYC = "epyc-9684x"  #: the profile that is nearest to the EPYC 7351, of which only clearing is published
WRITABLE = tuple(name for name, strategy in STRATEGIES.items() if strategy.writable)
CONSUMERS = ("filter", "forward")
SIZES = ("64", "256", "1024", "1518")
MODERATION = 3125  #: hardware cycles, 20 us at 10g: so that long frames, which leave the core idle, come in polls, too
#: What is done for an SKB alone: it, its head, and the copy into that.
SKB_OPERATIONS = ("skb.", "slab.", "page_frag.", "cpu.copy_line", "cpu.prefetchw", "llc.load")
BUILD_SOURCE = "Linux, i40e: build_skb instead of copying headers: no head is allocated, no header copied"

Costs = dict[str, tuple[Mapping[str, Any], Any]]  #: by variant: the case, and its cycles


class Skb(Experiment):
    """Each way to make an SKB, with each consumer and size; its clearing and prefetchw with the first size."""

    name = "skb"
    question = "What does an SKB cost: page read-only, build_skb, or the SKB inside of the page; and its clearing?"
    settings: ClassVar = {
        "variants": Setting(
            tuple(VARIANTS),
            f"where SKB and head lie, how the SKB is cleared, and {COLD}: without prefetchw; joined by +",
            choices=tuple(VARIANTS),
        ),
        "consumers": Setting(CONSUMERS, "what becomes of the packet, joined by +", choices=CONSUMERS),
        "bytes": Setting(SIZES, "frame sizes on the wire, joined by +; clearing and prefetchw are of the first"),
        "strategy": Setting("page_pool", "buffer strategy of all variants but copybreak", choices=WRITABLE),
        "microseconds": Setting(200, "wire time of each run", low=20, high=100_000),
        "ring": Setting(512, "entries of each ring, a power of two", low=8, high=32768),
        "moderation_cycles": Setting(MODERATION, "hardware cycles after which an interrupt comes", high=65535),
        "profile": Setting("e5-1650v4", "cost profile of the cores", choices=tuple(Profile.names())),
        "checkers": Setting(False, "ownership checker on or off"),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"variants": "copied+build", "consumers": "filter", "bytes": "1024", "ring": "64"} | {
        "microseconds": "40"
    }
    columns = (
        Column("throughput", "Mpps", decimals(2)),
        Column("cpu_cycles", "CPU cycles", decimals(0)),
        Column("skb_cycles", "of it SKB", decimals(0)),
        Column("clear_cycles", "clearing", decimals(0)),
        Column("saved", "saved", decimals(0)),
        Column("rank", "rank", decimals(0)),
        Column("dropped", "dropped", decimals(0), optional=True),
    )
    picture = Stacked("cpu_cycles.", "CPU cycles a packet", only={"consumer": "filter", "bytes": 64})
    explanations: ClassVar = {
        "build_skb.gain": (
            "The figure is the most that was seen, with VXLAN, and its author names the cause: pulling headers. There "
            "the copying driver walked outer and inner headers of each packet to know how much to copy "
            "(eth_get_headlen); here it copies 256 bytes of whatever comes, and what is gained is the head's "
            "allocation, the copy and the fragment alone"
        ),
        "clear.": (
            "No figure of this machine is in a profile. The EPYC 9684X borrows clearing from the E5-1650 v4; the EPYC "
            "7351, of the first generation of that name, takes 2.1 to 3.4 times as many cycles"
        ),
    }

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Consumer by consumer, size by size, so that the variants stand side by side in the table."""
        variants, (first, *_) = settings["variants"], settings["bytes"]
        cases = [
            _case(machine, settings, settings["profile"], consumer, size, variant)
            for consumer in settings["consumers"]
            for size in settings["bytes"]
            for variant in variants
            if size == first or variant in WAYS
        ]
        if "build" in variants and len(cleared := [each for each in CLEARED if each in variants]) > 1:
            consumer = settings["consumers"][0]
            cases += [_case(machine, settings, EPYC, consumer, first, variant) for variant in cleared]
        return cases

    def rows(self, machine: MachineConfig, case: Case, measured: Measurement) -> Sequence[Row]:
        """Throughput, and the CPU's cycles by operation."""
        costs = {name: measured.cpu_cycles(name) for name in measured.operations}
        return [
            Row(case.varied, "throughput", "Mpps", measured.packets_per_second / 1_000_000),
            Row(case.varied, "cpu_cycles", "cycles/packet", _sum(costs, "")),
            Row(case.varied, "skb_cycles", "cycles/packet", _sum(costs, SKB_OPERATIONS)),
            Row(case.varied, "clear_cycles", "cycles/packet", _sum(costs, "skb.clear")),
            Row(case.varied, "delivered", "packets", measured.delivered),
            Row(case.varied, "dropped", "packets", sum(measured.dropped.values())),
            *(Row(case.varied, f"cpu_cycles.{name}", "cycles/packet", cost) for name, cost in costs.items()),
        ]

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What each variant saves against the first of its kind, and its rank; what prefetchw saves; what is published,
        and that build_skb is the cheaper one where a packet does not fit into a head."""
        groups: dict[tuple[Any, ...], Costs] = {}
        for row in rows:
            if row.name == "cpu_cycles":
                case = row.case
                group = groups.setdefault((case["profile"], case["consumer"], case["bytes"]), {})
                group[case["skb"]] = case, row.value
        found = [row for group in groups.values() for row in (*_ranking(group), *_prefetched(group), *_built(group))]
        return [*found, *_gain(groups.values()), *_cleared(rows)]


def _case(
    machine: MachineConfig, settings: Mapping[str, Any], profile: str, consumer: str, size: str, variant: str
) -> Case:
    rate = machine.mac_mbps * 1_000_000
    run = RunConfig(
        traffic=Traffic.lasting(settings["microseconds"], size, rate=rate, seed=settings["seed"]),
        strategy=COPYBREAK if variant == COPYBREAK else settings["strategy"],
        verdict="none",
        consumer=consumer,
        skb=VARIANTS[variant],
        ring=settings["ring"],
        moderation_cycles=settings["moderation_cycles"],
        profile=profile,
        checkers=settings["checkers"],
    )
    return Case({"profile": profile, "consumer": consumer, "bytes": int(size), "skb": variant}, run)


def _sum(costs: Mapping[str, Fraction], names: str | tuple[str, ...]) -> Fraction:
    """Of operations whose names begin so."""
    return sum((cost for name, cost in costs.items() if name.startswith(names)), Fraction(0))


def _ranking(group: Costs) -> list[Row]:
    """Cycles that each variant saves against the first one, and its place, the cheapest first."""
    order = sorted(cost for _, cost in group.values())
    _, first = next(iter(group.values()))
    return [
        row
        for case, cost in group.values()
        for row in (
            Row(case, "saved", "cycles/packet", first - cost),
            Row(case, "rank", "place", order.index(cost) + 1),
        )
    ]


def _prefetched(group: Costs) -> list[Row]:
    """What prefetchw saves."""
    return [
        Row(case, "saved_by_prefetchw", "cycles/packet", group[way + COLD][1] - cost)
        for way, (case, cost) in group.items()
        if way + COLD in group
    ]


def _built(group: Costs) -> list[Row]:
    if not group.keys() >= {"copied", "build"}:
        return []
    case, cost = group["build"]
    if case["bytes"] - FCS_BYTES <= RX_HEADER_BYTES:
        return []
    return [Row(case, "build_is_cheaper", "bool", cost < group["copied"][1], True, BUILD_SOURCE, "check")]


def _gain(groups: Iterable[Costs]) -> list[Row]:
    """By how much more packets build_skb lets a core handle, at best."""
    both = [group for group in groups if group.keys() >= {"copied", "build"}]
    if not both:
        return []
    gain, case = max(
        ((group["copied"][1] / group["build"][1] - 1, group["build"][0]) for group in both), key=lambda each: each[0]
    )
    return [predicted(case, "build_skb.gain", "%", 100 * gain, "build_skb.gain")]


def _cleared(rows: Sequence[Row]) -> list[Row]:
    """Clearing beside its published cycles, once for each machine that they are known of."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.name == "clear_cycles" and row.case["skb"] in CLEARED:
            found.setdefault((row.case["profile"], row.case["skb"]), row)
    compared = []
    for (profile, variant), row in found.items():
        benchmark, name = CLEARED[variant]
        shown = row.case, f"clear.{name}", row.unit, row.value
        if profile == EPYC:
            compared.append(predicted(*shown, f"skb.clear.epyc_7351.{name}"))
        elif any(each.name == benchmark for each in Profile.load(profile).benchmarks):
            compared.append(given(*shown, profile, benchmark))
    return compared
