# SPDX-License-Identifier: BSD-2-Clause
"""Packets for a device that takes fewer: most are dropped by the qdisc, and freed as the policy says."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from driver_model.net.skb.policy import Delay, HeadMemory, SkbPolicy
from sim.backends.base import launch
from sim.bulk.job import BulkMeasurement
from sim.bulk.pktgen import PktgenRun
from sim.config import preset
from sim.measurement import Measurement

MACHINE = replace(preset("10g"), mac_mbps=173, access_log=True)
SLOWLY = SkbPolicy(bulk_lists=False)
POLICIES = {
    "one_by_one": SLOWLY,
    "bulk": SkbPolicy(),
    "under_lock": replace(SLOWLY, delay=Delay.NONE),
    "bulk_heads": SkbPolicy(head_memory=HeadMemory.KMALLOC, bulk_heads=True),
    "rcu": replace(SLOWLY, delay=Delay.RCU),
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"packets": 0}, "packets must be an integer, 1 or more, not 0"),
        ({"profile": "z80"}, "profile must be one of .*e5-1650v4.*, not 'z80'"),
    ],
)
def test_refusals_say_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PktgenRun(**values)


def test_what_is_dropped_is_freed_in_bulk_or_one_by_one() -> None:
    runs = [PktgenRun(policy, 640, limit=256, ring=64, checkers=True) for policy in POLICIES.values()]
    cases = [{"label": name, "run": asdict(run)} for name, run in zip(POLICIES, runs, strict=True)]
    raw = launch("verilator", MACHINE, "sim.bulk.job:run_bulk", cases)
    found = dict(zip(POLICIES, map(BulkMeasurement.from_json, raw["cases"]), strict=True))
    frees = {}
    for name, each in found.items():
        assert isinstance(each, Measurement)
        assert each.delivered >= 640
        assert each.dropped["qdisc"] > 0.85 * each.delivered
        frees[name] = [
            each.operations.get(f"slab.{operation}", (0, 0))[0] / each.delivered
            for operation in ("free", "free_bulk", "free_slow")
        ]
    assert frees["one_by_one"] == frees["under_lock"]
    single, bulk, slow = frees["one_by_one"]
    assert single > 1.7, "the sk_buff, and its head from kmalloc"
    assert bulk < 0.2
    assert slow > 1.7
    for name in ("bulk", "rcu"):
        single, bulk, slow = frees[name]
        assert 0.85 < single < 1.01, "the head"
        assert bulk > 0.9
        assert slow - single < bulk / 8
    single, bulk, slow = frees["bulk_heads"]
    assert single == 0
    assert bulk > 1.8
    assert slow < bulk / 8
