# SPDX-License-Identifier: BSD-2-Clause
"""What can a buggy or malicious device do under each IOMMU mode?"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any, ClassVar

from driver_model.memory.dma.flush_queue import ENTRIES, TIMEOUT_PS
from sim.config import MachineConfig
from sim.config import preset as machine_preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import Setting
from sim.intruder import ProtectionMachineConfig
from sim.protection.findings import Findings
from sim.protection.intrusion import ATTACHMENTS, IntrusionRun
from sim.protection.job import ProtectionRun
from sim.protection.stale import StaleRun
from sim.protection.storm import KINDS, StormRun
from sim.report import Column, Row, decimals
from sim.scenario import MICROSECOND

SCENES = ("stale", "outside", "storm")
FEW, MANY = 64, 320  #: buffers: fewer than the flush queue's ring holds, and more
LAZY_TIMER_US = 10_300  #: until buffers are looked at where only the timer flushes
FLUSH_PS = 100 * MICROSECOND  #: that a flush may take after its timer
FAIR = Fraction(1, 2)  #: of its throughput, that a device keeps beside another that wants everything
RECOVERED = Fraction(95, 100)
MODE_SOURCE = "the mode's own promise (Linux, Documentation/arch/x86/iommu.rst: iommu.strict)"
TIMER_SOURCE = f"the flush queue's {ENTRIES} entries and {TIMEOUT_PS // 10**9} ms (drivers/iommu/dma-iommu.c)"
SPECIFICATION = "RISC-V IOMMU 1.0: a request that faults changes and reads nothing, and is recorded"
ARITHMETIC = "arithmetic"


class Protection(Experiment):
    """Writes after unmap in each mode, accesses outside of every mapping, and a storm of faults."""

    name = "protection"
    question = "What can a buggy or malicious device do under each IOMMU mode?"
    settings: ClassVar = {
        "scenes": Setting(SCENES, "what the device does, joined by +", choices=SCENES),
        "microseconds": Setting(300, "that it goes on after unmap, where no timer counts", low=1, high=100_000),
        "timer": Setting(True, "also wait for the timer of the flush queue, 10 ms"),
        "requests": Setting(500, "writes, and reads, outside of its mappings", low=2, high=1 << 20),
        "frames": Setting(3000, "that the NIC receives around the storm", low=300, high=10_000_000),
    }
    short: ClassVar = {"scenes": "outside", "requests": "20"}
    columns = (
        Column("landed", "landed after unmap", decimals(0)),
        Column("age_median", "median age us", decimals(1)),
        Column("age_max", "max age us", decimals(1)),
        Column("changed", "bytes changed", decimals(0)),
        Column("leaked", "beats leaked", decimals(0)),
        Column("errors", "errors", decimals(0)),
        Column("faults", "faults", decimals(0)),
        Column("records", "records", decimals(0)),
        Column("overflows", "overflows", decimals(0)),
        Column("throughput_before", "NIC Mpps before", decimals(2)),
        Column("throughput_during", "during", decimals(2)),
        Column("throughput_after", "after", decimals(2)),
    )
    job = "sim.protection.job:run_cases"
    measurement = Findings

    def machine(self, preset_name: str) -> MachineConfig:
        """That of the preset, with an intruder and an IOMMU. Memory is four times as wide as the NIC, so that what two
        devices want at once fits through it."""
        base = machine_preset(preset_name)
        values: dict[str, Any] = {each.name: getattr(base, each.name) for each in fields(base) if each.name != "iommu"}
        return ProtectionMachineConfig(**values | {"host_width": 4 * base.nic.data_width, "access_log": True})

    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """Scene by scene."""
        span = settings["microseconds"]
        stale = [("passthrough", FEW, span), ("lazy", MANY, span), ("strict", FEW, span)]
        if settings["timer"]:
            stale.insert(2, ("lazy", FEW, LAZY_TIMER_US))
        cases = {
            "stale": [
                Case(
                    {"scene": "stale", "mode": mode, "detail": f"{buffers} buffers"},
                    ProtectionRun(stale=StaleRun(mode, buffers, microseconds)),
                )
                for mode, buffers, microseconds in stale
            ],
            "outside": [
                Case(
                    {"scene": "outside", "mode": attachment, "detail": ""},
                    ProtectionRun(intrusion=IntrusionRun(attachment, settings["requests"])),
                )
                for attachment in ATTACHMENTS
            ],
            "storm": [
                Case(
                    {"scene": "storm", "mode": kind, "detail": "NIC's core" if same else "other core"},
                    ProtectionRun(storm=StormRun(kind, same, settings["frames"])),
                )
                for kind in KINDS
                for same in (False, True)
            ],
        }
        return [case for scene in settings["scenes"] for case in cases[scene]]

    def rows(self, machine: MachineConfig, case: Case, measured: Findings) -> Sequence[Row]:
        """What was found, and what must hold."""
        rows = {"stale": _stale, "outside": _outside, "storm": _storm}[case.varied["scene"]]
        return rows(case, measured.values)


def _check(case: Case, name: str, holds: bool, source: str) -> Row:
    return Row(case.varied, name, "bool", holds, True, source, "check")


def _stale(case: Case, found: Mapping[str, int]) -> list[Row]:
    run = case.run.stale
    rows = [
        Row(case.varied, name, unit, found[name])
        for name, unit in (
            ("writes", "writes"),
            ("landed", "writes"),
            ("changed", "bytes"),
            ("changed_late", "bytes"),
            ("flushes", "flushes"),
            ("faults", "faults"),
        )
    ]
    rows.append(Row(case.varied, "errors", "responses", found["refused"]))
    rows += [
        Row(case.varied, name, "us", Fraction(found[name], MICROSECOND))
        for name in ("age_min", "age_median", "age_max")
        if name in found
    ]
    rows.append(_check(case, "every_error_is_recorded", found["faults"] == found["refused"], SPECIFICATION))
    if run.mode == "passthrough":
        rows.append(_check(case, "lands_for_ever", found["changed_late"] > 0 == found["refused"], MODE_SOURCE))
        return rows
    if run.mode == "strict":
        return [
            *rows,
            _check(case, "nothing_lands", found["landed"] == found["changed"] == 0 < found["refused"], MODE_SOURCE),
        ]
    oldest = found.get("age_max", 0)
    rows += [
        _check(case, "lands_for_a_while", found["landed"] == found["landed_stale"] > 0, MODE_SOURCE),
        _check(case, "age_is_bounded", oldest <= TIMEOUT_PS + FLUSH_PS, TIMER_SOURCE),
    ]
    if run.buffers >= ENTRIES:
        # Besides the one when the device is detached.
        rows.append(_check(case, "full_queue_flushes", found["flushes"] > 1, TIMER_SOURCE))
    if run.microseconds * MICROSECOND > TIMEOUT_PS:
        rows += [
            _check(case, "timer_decides", oldest >= TIMEOUT_PS // 2, TIMER_SOURCE),
            _check(case, "ends", found["changed_late"] == 0 < found["refused"], TIMER_SOURCE),
        ]
    return rows


def _outside(case: Case, found: Mapping[str, int]) -> list[Row]:
    changed, errors = found["write_changed"] + found["read_changed"], found["write_errors"] + found["read_errors"]
    requests = found["writes"] + found["reads"]
    rows = [
        Row(case.varied, "requests", "requests", requests),
        Row(case.varied, "changed", "bytes", changed),
        Row(case.varied, "leaked", "beats", found["leaked"]),
        Row(case.varied, "errors", "requests", errors),
        Row(case.varied, "faults", "faults", found["faults"]),
    ]
    if case.run.intrusion.attachment == "passthrough":
        reached = changed > 0 < found["leaked"] and errors == 0
        return [*rows, _check(case, "reaches_everything", reached, MODE_SOURCE)]
    return [
        *rows,
        _check(case, "nothing_changes", changed == 0, SPECIFICATION),
        _check(case, "nothing_leaks", found["leaked"] == 0, SPECIFICATION),
        _check(case, "everything_is_refused", errors == requests, SPECIFICATION),
        _check(case, "everything_is_recorded", found["faults"] == requests and not found["strange"], SPECIFICATION),
    ]


def _storm(case: Case, found: Mapping[str, int]) -> list[Row]:
    rows = [
        Row(case.varied, name, unit, found[name])
        for name, unit in (
            ("requests", "requests"),
            ("errors", "responses"),
            ("faults", "faults"),
            ("records", "records"),
            ("overflows", "overflows"),
            ("dropped", "packets"),
        )
    ]
    rows += [
        Row(case.varied, f"throughput_{name}", "Mpps", Fraction(found[name] * MICROSECOND, found["window"]))
        for name in ("before", "during", "after")
    ]
    lost = found["faults"] - found["records"]
    rows += [
        Row(case.varied, "lost", "records", lost),
        Row(case.varied, "fault_cycles", "cycles/fault", Fraction(found["cycles"], found["requests"])),
        _check(case, "everything_is_counted", found["faults"] == found["requests"], ARITHMETIC),
        _check(case, "loss_is_flagged", lost >= 0 and (lost > 0) == (found["overflows"] > 0), SPECIFICATION),
        _check(case, "records_are_true", found["strange"] == 0, SPECIFICATION),
        _check(case, "recovers", found["after"] >= RECOVERED * found["before"], ARITHMETIC),
    ]
    if not case.run.storm.same_core:
        rows.append(_check(case, "nobody_starves", found["during"] >= FAIR * found["before"], "an equal share of two"))
    return rows
