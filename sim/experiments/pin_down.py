# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 7: how much memory does an attacker pin who keeps one packet in eight?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.drivers.strategies import hardware_pools
from driver_model.drivers.strategies.base import PoolOptions
from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.net.skb.policy import HeadMemory, SkbPolicy
from hw.abi.pools import MAX_POOL_BUFFERS
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.compare import predicted
from sim.experiments.settings import Setting
from sim.measurement import Measurement
from sim.report import Column, Row, decimals
from sim.run import PAGE_SIZES, RunConfig
from sim.traffic.source import Traffic

QUEUES = 2  #: the attacker's packets come to the first
LIMITED = "page_pool_limit"
PLAIN = ("page_per_packet", "page_flip", "fragments", "copybreak", "page_pool")
ALONE = "fragments_alone"
STRATEGIES = (*PLAIN, LIMITED, "hw_recycle")
BOUNDED = (LIMITED, "hw_recycle")
ORDER_3 = 16  #: fragments of 2 KiB in 32 KiB: an attacker who keeps one of so many has each such page
SOURCE = "Memory vs. Networking, Brouer, NetConf 2016: fragments of order-3 pages pin memory, page_pool bounds it"
OWN_POOL = "a consumer exhausts its own pool only"


class PinDown(Experiment):
    """A connection that nobody reads gets one packet in so many of queue 0, and keeps them; those of others are freed
    at once. What that pins is how much more memory is in use at the end than in a run in which all is freed.

    It is all that the packets lie in: of a read-only buffer's packet also the head that its first bytes are copied
    into, which is a fragment, too. ``fragments_alone`` has heads of kmalloc. Buffers that a pool had before are not
    counted: a pool of the device does not grow."""

    name = "pin_down"
    question = "How much memory does an attacker pin who keeps one packet in eight, by buffer strategy and page size?"
    settings: ClassVar = {
        "strategies": Setting(
            STRATEGIES, f"buffer strategies, joined by +; {LIMITED}: with an in-flight limit", choices=STRATEGIES
        ),
        "page_sizes": Setting(
            tuple(map(str, PAGE_SIZES)), "of the kernel, joined by +", choices=tuple(map(str, PAGE_SIZES))
        ),
        "one_in": Setting(8, "of the packets of queue 0 the attacker has one in so many", low=2, high=1024),
        "held": Setting(256, "packets of the attacker that are sent", low=8, high=10_000),
        "rcvbuf": Setting(1 << 30, "bytes of truesize that the attacker's socket is allowed", low=1),
        "limit": Setting(224, "pages in flight, or buffers outstanding, where there is a limit", low=32, high=16384),
        "size": Setting(512, "bytes of a frame on the wire, with FCS", low=64, high=1518),
        "ring": Setting(128, "entries of each ring, a power of two", low=8, high=4096),
        "load": Setting("0.7", "share of the line that is offered"),
        "references": Setting(True, "the run that the published figure belongs to"),
        "profile": Setting("e5-1650v4", "cost profile of the cores"),
        "checkers": Setting(True, "ownership checker on or off"),
        "seed": Setting(1, "of the payload"),
    }
    short: ClassVar = {"strategies": "page_pool", "page_sizes": "4096", "held": "8", "ring": "32"} | {
        "references": "off"
    }
    columns = (
        Column("held", "held", decimals(0)),
        Column("pinned", "pinned KiB", decimals(0)),
        Column("pinned_per_packet", "KiB/packet", decimals(1)),
        Column("truesize", "charged KiB", decimals(0)),
        Column("pinned_per_charged", "pinned/charged", decimals(2)),
        Column("delivered.attacked", "attacked queue %", decimals(1)),
        Column("delivered.other", "other queue %", decimals(1)),
        Column("dropped", "dropped", decimals(0)),
    )

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Every strategy and page size, each without and with the attacker."""
        chosen = [
            (int(page_size), name, settings["one_in"])
            for page_size in settings["page_sizes"]
            for name in settings["strategies"]
        ]
        if settings["references"]:
            chosen.append((PAGE_SIZE, ALONE, ORDER_3))
        return [
            _case(machine, settings, page_size, name, one_in, attacked=attacked)
            for page_size, name, one_in in chosen
            for attacked in (False, True)
        ]

    def machine(self, preset_name: str) -> MachineConfig:
        """Of the preset, with two queues at least."""
        machine = preset(preset_name)
        return replace(machine, nic=replace(machine.nic, queues=max(QUEUES, machine.nic.queues)))

    def rows(self, machine: MachineConfig, case: Case, measured: Measurement) -> Sequence[Row]:
        """How memory in use has grown, what the attacker holds, and what became of each queue's packets."""
        varied, counts = case.varied, measured.statistics
        growth = counts["memory_after"] - counts["memory_before"]
        rows = [
            Row(varied, "growth", "KiB", Fraction(growth, 1024)),
            Row(varied, "dropped", "packets", sum(measured.dropped.values())),
            *(Row(varied, f"dropped.{reason}", "packets", count) for reason, count in measured.dropped.items()),
        ]
        for queue, name in enumerate(("attacked", "other")):
            offered = measured.offered // QUEUES
            share = Fraction(100 * counts[f"nic_queue{queue}_rx_packets"], offered)
            rows.append(Row(varied, f"delivered.{name}", "%", share))
        if varied["attacked"]:
            truesize = Fraction(counts["pin_truesize"], 1024)
            rows += [
                Row(varied, "held", "packets", counts["pin_held"]),
                Row(varied, "truesize", "KiB", truesize),
            ]
            if varied["strategy"] in BOUNDED:
                page_size, limit = varied["page_size"], case.run.pool.inflight_limit
                goes_on = counts["nic_queue1_rx_packets"] == measured.offered // QUEUES
                rows += [
                    _check(varied, "memory_is_bounded", growth <= limit * page_size, SOURCE),
                    _check(varied, "held_is_bounded", counts["pin_held"] <= limit, SOURCE),
                    _check(varied, "other_queue_goes_on", goes_on, OWN_POOL),
                ]
        return rows

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What is pinned beyond the run without the attacker, and who pins more."""
        growth = {_key(row): row.value for row in rows if row.name == "growth"}
        held = {_key(row): row for row in rows if row.name == "held"}
        truesize = {_key(row): row.value for row in rows if row.name == "truesize"}
        result: list[Row] = []
        each: dict[tuple[int, str], Fraction] = {}
        for key, row in held.items():
            varied = row.case
            pinned = Fraction(growth[key]) - Fraction(growth[*key[:-1], False])
            count, charged = Fraction(row.value), Fraction(truesize[key])
            result.append(Row(varied, "pinned", "KiB", pinned))
            if count:
                result += [
                    Row(varied, "pinned_per_packet", "KiB/packet", pinned / count),
                    Row(varied, "pinned_per_charged", "ratio", pinned / charged),
                ]
                page_size, name, one_in, _ = key
                each[page_size, name] = max(each.get((page_size, name), Fraction(0)), pinned / count)
                if (page_size, name, one_in) == (PAGE_SIZE, ALONE, ORDER_3):
                    pages = pinned * 1024 / PAGE_SIZE / count
                    result.append(predicted(varied, "pages_pinned", "pages/packet", pages, "page_frag.pinned"))
        if {(PAGE_SIZE, "fragments"), (PAGE_SIZE, "page_pool")} <= each.keys():
            more = each[PAGE_SIZE, "fragments"] > each[PAGE_SIZE, "page_pool"]
            result.append(_check({"page_size": PAGE_SIZE}, "fragments_pin_more_than_page_pool", more, SOURCE))
        return result


def _check(varied: Mapping[str, Any], name: str, holds: bool, source: str) -> Row:
    return Row(varied, name, "bool", holds, True, source, "check")


def _key(row: Row) -> tuple[int, str, int, bool]:
    case = row.case
    return case["page_size"], case["strategy"], case["one_in"], case["attacked"]


def _case(
    machine: MachineConfig, settings: Mapping[str, Any], page_size: int, name: str, one_in: int, *, attacked: bool
) -> Case:
    strategy = {LIMITED: "page_pool", ALONE: "fragments"}.get(name, name)
    if hardware_pools(strategy):
        buffers = max(machine.nic.pool_buffers, min(4 * settings["ring"], MAX_POOL_BUFFERS))
        machine = replace(machine, nic=replace(machine.nic, pools=QUEUES, pool_buffers=buffers))
    frames = QUEUES * one_in * settings["held"]
    run = RunConfig(
        Traffic(
            str(settings["size"]),
            frames,
            flows=QUEUES * one_in,
            queues=QUEUES,
            rate=machine.mac_mbps * 1_000_000,
            load=settings["load"],
            seed=settings["seed"],
        ),
        strategy=strategy,
        verdict="none",
        consumer="pin" if attacked else "filter",
        rcvbuf=settings["rcvbuf"],
        skb=SkbPolicy(head_memory=HeadMemory.KMALLOC if name == ALONE else HeadMemory.FRAGMENT),
        page_size=page_size,
        pool=PoolOptions(inflight_limit=settings["limit"] if name in BOUNDED else 0),
        cores=QUEUES,
        queues=QUEUES,
        ring=settings["ring"],
        profile=settings["profile"],
        checkers=settings["checkers"],
    )
    varied = {"page_size": page_size, "strategy": name, "one_in": one_in, "attacked": attacked}
    return Case(varied, run, machine)
