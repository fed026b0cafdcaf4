# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 8: a reader that is too slow, and what bounds the memory that waits for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.memory.page_pool.params import PP_ALLOC_CACHE_REFILL
from driver_model.memory.pages.page import PAGE_SIZE
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting
from sim.overload.run import OTHER, QUEUES, SLOW, UNBOUNDED, OverloadMeasurement, OverloadRun
from sim.picture import Lines
from sim.report import Column, Row, decimals
from sim.run import RunConfig
from sim.traffic.pacing import FCS_BYTES, OVERHEAD_BYTES
from sim.traffic.source import Traffic

MIB = 1 << 20
MEMORY = 8 * MIB
PCP_BATCH = 1  #: by the kernel's rule (``zone_batchsize``) for so little memory
IDS = 2048  #: of a pool in the device: as many as there are pages
FLOWS = 16
SHORTEST, LONGEST = 64, 1518
MODERATION_US = 10
CONTINUES = Fraction(9, 10)  #: of what a reader could take that does nothing but wait: its own work takes the rest
LINEAR = Fraction(1, 10)  #: by which growth may differ from what came beyond what was read, beside
STEP_BYTES = PP_ALLOC_CACHE_REFILL * PAGE_SIZE  #: as pools grow in steps
BUFFER = {"page_per_packet": PAGE_SIZE, "fragments": 2048, "page_pool": PAGE_SIZE, "hw_recycle": PAGE_SIZE}  #: bytes
S0 = "Memory vs. Networking (Brouer, NetConf 2016): out of memory without a feedback loop"
S0_BREAKER = "Memory vs. Networking (Brouer, NetConf 2016): feedback loop, circuit breaker"
S2 = "Bulk memory-allocation APIs (LWN, 2016): the pool is bounded, and can be shrunk when memory is tight"


@dataclass(frozen=True)
class Variant:
    """How memory is bounded, or not.

    Attributes
    ----------
    strategy : of the driver
    limited : it has a limit
    shrinker : it gives pages back under memory pressure
    device : its pool is the device's, and grows
    """

    strategy: str
    limited: bool = False
    shrinker: bool = False
    device: bool = False


VARIANTS = {
    "page_per_packet": Variant("page_per_packet"),
    "fragments": Variant("fragments"),
    "page_pool": Variant("page_pool"),
    "circuit_breaker": Variant("page_pool", limited=True),
    "shrinker": Variant("page_pool", shrinker=True),
    "breaker_shrinker": Variant("page_pool", limited=True, shrinker=True),
    "hw_recycle": Variant("hw_recycle", device=True),
    "hw_feedback_loop": Variant("hw_recycle", limited=True, device=True),
}


class Overload(Experiment):
    """Two queues with a core and a socket each, of any number of packets. The reader of one is slow for a time; the
    other one keeps up. All memory that nobody needs holds files, of which more are read all the time. When the overload
    is over, a process takes all memory that it can get.
    """

    name = "overload"
    question = "What bounds the memory of a receiver whose reader is too slow, and does other traffic go on?"
    settings: ClassVar = {
        "variants": Setting(tuple(VARIANTS), "what bounds memory, joined by +", choices=tuple(VARIANTS)),
        "kpps": Setting(400, "thousand packets a second that each queue is offered", low=1, high=2000),
        "size": Setting(512, "bytes of a frame on the wire, with FCS", low=SHORTEST, high=LONGEST),
        "calm": Setting(500, "microseconds before the reader is slow", low=1, high=1_000_000),
        "overload": Setting(8000, "microseconds for which it is", low=1, high=1_000_000),
        "recovery": Setting(3000, "microseconds after that", low=1, high=1_000_000),
        "pace": Setting(10, "microseconds that the slow reader waits between two packets", low=1, high=10_000),
        "limit": Setting(600, "pages that the pool may have, or buffers that the device may have out", low=1),
        "file": Setting(40, "microseconds in which a page of a file is read; 0: memory is free", high=10_000),
        "claim": Setting(1, "microseconds in which another process takes a page, then", low=1, high=10_000),
        "ring": Setting(256, "entries of each ring, a power of two", low=8, high=256),
        "period": Setting(250, "microseconds between two samples of memory", low=1, high=1_000_000),
        "profile": Setting("e5-1650v4", "cost profile of the cores"),
        "checkers": Setting(True, "ownership checker on or off"),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"variants": "circuit_breaker", "calm": "50", "overload": "300", "recovery": "100"} | {
        "ring": "32",
        "limit": "100",
        "period": "50",
        "file": "0",
    }
    columns = (
        Column("peak", "most MiB", decimals(2)),
        Column("bound", "bound MiB", decimals(2)),
        Column("final", "MiB at end", decimals(2)),
        Column("least_free", "least free MiB", decimals(2)),
        Column("waiting_max", "most waiting", decimals(0)),
        Column("exhausted_after", "exhausted after us", decimals(0)),
        Column("read_kpps", "slow reader kpps", decimals(1)),
        Column("dropped", "dropped", decimals(0)),
        Column("other_lost", "of the other queue", decimals(0)),
        Column("rx_no_memory", "no memory", decimals(0)),
        Column("slabs_reclaimed", "pages shrunk", decimals(0)),
        Column("claimed", "MiB claimed", decimals(2)),
    )
    remarks = (
        "What bounds memory is a limit, in the page_pool or in the device, and traffic goes on. A shrinker alone "
        "bounds nothing: what waits in a socket is in use, and a pool has few idle pages just then; it gives back what "
        "is idle afterwards, when another process wants memory. A pool in the device that may grow does so as fast as "
        "a process lets buffers join, and keeps what has joined. Nobody published figures of this.",
    )
    picture = Lines("inflight_mem", "time_us", "MiB that the slow queue's buffers take")
    job = "sim.overload.job:run_overloads"
    measurement = OverloadMeasurement

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, with a pool for each queue, and little memory."""
        machine = preset(preset_name)
        nic = replace(machine.nic, queues=QUEUES, pools=QUEUES, pool_buffers=IDS)
        return replace(machine, nic=nic, memory_size=MEMORY)

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Variant by variant."""
        rate = machine.mac_mbps * 1_000_000
        packets = QUEUES * settings["kpps"] * 1000
        load = Fraction(packets * 8 * (settings["size"] - FCS_BYTES + OVERHEAD_BYTES), rate)
        microseconds = settings["calm"] + settings["overload"] + settings["recovery"]
        traffic = Traffic(
            str(settings["size"]),
            max(1, microseconds * packets // 1_000_000),
            FLOWS,
            QUEUES,
            rate,
            str(load),
            settings["seed"],
        )
        common = {
            "calm_us": settings["calm"],
            "overload_us": settings["overload"],
            "pace_us": settings["pace"],
            "file_us": settings["file"],
            "claim_us": settings["claim"],
            "period_us": settings["period"],
        }
        return [
            Case({"variant": name}, OverloadRun(_run(machine, VARIANTS[name], traffic, settings), **common))
            for name in settings["variants"]
        ]

    def rows(self, machine: MachineConfig, case: Case, measured: OverloadMeasurement) -> Sequence[Row]:
        """Memory over time, its most, what became of packets, and what must hold."""
        run, variant, varied = case.run, VARIANTS[case.varied["variant"]], case.varied
        slow, other = measured.queues[SLOW], measured.queues[OTHER]
        series, counts = measured.series, measured.statistics
        held = [sample.inflight_mem[SLOW] for sample in series]
        kpps = Fraction(slow.read_in_overload * 1000, run.overload_us)
        rows = [
            Row({**varied, "time_us": sample.time_us}, name, unit, value)
            for sample in series
            for name, unit, value in (
                ("inflight_mem", "MiB", Fraction(sample.inflight_mem[SLOW], MIB)),
                ("other_inflight_mem", "MiB", Fraction(sample.inflight_mem[OTHER], MIB)),
                ("free", "MiB", Fraction(sample.free, MIB)),
                ("page_cache", "MiB", Fraction(sample.page_cache, MIB)),
                ("waiting", "packets", sample.waiting),
            )
        ]
        rows += [
            Row(varied, "peak", "MiB", Fraction(max(held), MIB)),
            Row(varied, "final", "MiB", Fraction(held[-1], MIB)),
            Row(varied, "least_free", "MiB", Fraction(min(sample.free for sample in series), MIB)),
            Row(varied, "claimed", "MiB", Fraction(counts["claimed_bytes"], MIB)),
            Row(varied, "waiting_max", "packets", max(sample.waiting for sample in series)),
            Row(varied, "offered", "packets", slow.offered),
            Row(varied, "read", "packets", slow.read),
            Row(varied, "read_kpps", "kpps", kpps),
            Row(varied, "dropped", "packets", sum(slow.dropped.values())),
            Row(varied, "other_lost", "packets", sum(other.dropped.values())),
            Row(varied, "rx_no_memory", "polls", slow.no_memory),
            Row(varied, "other_rx_no_memory", "polls", other.no_memory),
        ]
        rows += [Row(varied, f"drop.{reason}", "packets", count) for reason, count in slow.dropped.items()]
        rows += [Row(varied, f"other_drop.{reason}", "packets", count) for reason, count in other.dropped.items()]
        rows += [Row(varied, name, "pages", counts[name]) for name in VMSTAT]
        rows += [Row(varied, name, "times", counts[name]) for name in POOL if name in counts]
        every = slow.read + sum(slow.dropped.values()) == slow.offered
        rows.append(_check(varied, "every_frame_is_accounted_for", every, "arithmetic"))
        if variant.limited:
            return rows + _bounds(varied, run, variant, measured)
        return rows + _growth(varied, run, measured)

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """A shrinker gives memory back that a pool without one keeps, and another process gets it."""
        final, claimed = (
            {row.case["variant"]: float(row.value) for row in rows if row.name == name} for name in ("final", "claimed")
        )
        shrunk = {row.case["variant"]: float(row.value) for row in rows if row.name == "slabs_reclaimed"}
        result = []
        for without, name in (("page_pool", "shrinker"), ("circuit_breaker", "breaker_shrinker")):
            if {without, name} <= final.keys():
                back = shrunk[name] > 0 and final[name] < final[without]
                result.append(_check({"variant": name}, "gives_memory_back", back, S2))
                got = claimed[name] > claimed[without]
                result.append(_check({"variant": name}, "another_process_gets_it", got, S2))
        return result


VMSTAT = ("slabs_reclaimed", "pgsteal_kswapd", "pgsteal_direct", "allocstall", "pageoutrun")
POOL = ("rx_pp_alloc_limited", "rx_pp_shrunk", "rx_pp_recycle_ring_full", "hwp_joined")


def _run(machine: MachineConfig, variant: Variant, traffic: Traffic, settings: Mapping[str, Any]) -> RunConfig:
    limit = settings["limit"] if variant.limited else 0
    return RunConfig(
        traffic,
        strategy=variant.strategy,
        verdict="none",
        consumer="socket",
        rcvbuf=UNBOUNDED,
        pool=PoolOptions(inflight_limit=limit, shrinker=variant.shrinker),
        pool_max=machine.nic.pool_buffers if variant.device else 0,
        cores=QUEUES,
        queues=QUEUES,
        ring=settings["ring"],
        pcp_batch=PCP_BATCH,
        moderation_cycles=MODERATION_US * machine.nic.clock_khz // 1000,
        profile=settings["profile"],
        checkers=settings["checkers"],
    )


def _check(varied: Mapping[str, Any], name: str, holds: bool, source: str) -> Row:
    return Row(varied, name, "bool", holds, True, source, "check")


def _bounds(varied: Mapping[str, Any], run: OverloadRun, variant: Variant, measured: OverloadMeasurement) -> list[Row]:
    """With a limit: never more than it allows, and both readers go on."""
    slow, other = measured.queues[SLOW], measured.queues[OTHER]
    limit, page = run.run.pool.inflight_limit, run.run.page_size
    if variant.device:
        # Buffers join until the limit leaves none to give: those that are free then are a step's and its threshold's.
        # The page_pool that they come from has its cache.
        first = 2 * run.run.ring
        limit = max(first, limit + 2 * (first // 4)) + PP_ALLOC_CACHE_REFILL
    peak = max(sample.inflight_mem[SLOW] for sample in measured.series)
    most = min(Fraction(run.overload_us, run.pace_us), _offered(run))
    tripped = "pool_limit" in slow.dropped if variant.device else measured.statistics["rx_pp_alloc_limited"] > 0
    return [
        Row(varied, "bound", "MiB", Fraction(limit * page, MIB)),
        _check(varied, "never_above_limit", peak <= limit * page, S0_BREAKER),
        _check(varied, "limit_is_met", tripped, S0_BREAKER),
        _check(varied, "slow_reader_goes_on", slow.read_in_overload >= CONTINUES * most, S0_BREAKER),
        _check(varied, "other_traffic_goes_on", other.read == other.offered, S0_BREAKER),
    ]


def _growth(varied: Mapping[str, Any], run: OverloadRun, measured: OverloadMeasurement) -> list[Row]:
    """Without a limit: memory grows by what is not read, until there is none."""
    end = run.calm_us + run.overload_us
    series = [sample for sample in measured.series if run.calm_us <= sample.time_us <= end]
    least = measured.statistics["min_free_bytes"]
    exhausted = [each.time_us for each in series if each.free <= least and each.page_cache <= least]
    rows = []
    if exhausted:
        rows.append(Row(varied, "exhausted_after", "us", exhausted[0] - run.calm_us))
        series = [sample for sample in series if sample.time_us <= exhausted[0]]
    # What was idle in the pool is used before it grows.
    idle = measured.series[0].inflight_mem[SLOW]
    growing = [sample for sample in series if sample.inflight_mem[SLOW] > idle]
    if len(growing) > 1:
        first, last = growing[0], growing[-1]
        share = Fraction(last.time_us - first.time_us, run.overload_us)
        excess = (_offered(run) - measured.queues[SLOW].read_in_overload) * share * BUFFER[run.run.strategy]
        growth = last.inflight_mem[SLOW] - first.inflight_mem[SLOW]
        rows += [
            Row(varied, "growth", "MiB", Fraction(growth, MIB)),
            Row(varied, "excess", "MiB", excess / MIB),
        ]
        # A pool in the device grows as fast as a process lets buffers join.
        if run.run.strategy != "hw_recycle":
            holds = abs(growth - excess) <= LINEAR * excess + STEP_BYTES
            rows.append(_check(varied, "grows_by_the_excess", holds, S0))
    return rows


def _offered(run: OverloadRun) -> Fraction:
    """Frames that each queue is offered while the reader is slow."""
    traffic = run.run.traffic
    bits = 8 * (int(traffic.sizes) - FCS_BYTES + OVERHEAD_BYTES)
    return traffic.rate * Fraction(traffic.load) * run.overload_us / (bits * QUEUES * 1_000_000)
