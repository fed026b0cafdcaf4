# SPDX-License-Identifier: BSD-2-Clause
"""The experiment on protection: a short run of every scene, and that each of its checks can fail."""

from typing import Any

import pytest

from sim.config import MachineConfig
from sim.experiments.protection import Protection
from sim.experiments.runner import plan, run_experiment
from sim.protection.findings import Findings
from sim.protection.intrusion import IntrusionRun
from sim.protection.job import ProtectionRun
from sim.protection.stale import StaleRun
from sim.protection.storm import StormRun
from sim.report import Row

MS = 10**9
STALE = {"writes": 900, "unmapping": 1, "changed_late": 0, "flushes": 2}
GOOD: dict[tuple[str, str], dict[str, int]] = {
    ("stale", "passthrough"): STALE
    | {"landed": 900, "landed_stale": 0, "changed": 6400, "changed_late": 64, "refused": 0, "faults": 0},
    ("stale", "lazy"): STALE
    | {"landed": 500, "landed_stale": 500, "changed": 6400, "refused": 400, "faults": 400}
    | {"age_min": 1000, "age_median": 5 * MS, "age_max": 10 * MS},
    ("stale", "strict"): STALE | {"landed": 0, "landed_stale": 0, "changed": 0, "refused": 900, "faults": 900},
    ("outside", "none"): {
        "writes": 50,
        "write_errors": 50,
        "write_changed": 0,
        "reads": 50,
        "read_errors": 50,
        "read_changed": 0,
        "leaked": 0,
        "faults": 100,
        "strange": 0,
        "pages": 90,
    },
    ("outside", "passthrough"): {
        "writes": 50,
        "write_errors": 0,
        "write_changed": 640,
        "reads": 50,
        "read_errors": 0,
        "read_changed": 0,
        "leaked": 100,
        "faults": 0,
        "strange": 0,
        "pages": 0,
    },
    ("storm", "write"): {
        "before": 1400,
        "during": 1300,
        "after": 1400,
        "window": 10**8,
        "delivered": 4000,
        "dropped": 100,
        "faults": 5000,
        "records": 900,
        "overflows": 3,
        "strange": 0,
        "requests": 5000,
        "errors": 5000,
        "cycles": 30_000,
    },
}


def checks(scene: str, mode: str, **changes: int) -> dict[str, Any]:
    """The checks' values by name, with findings as they should be but for some changes."""
    experiment = Protection()
    planned = plan(experiment, {"scenes": scene})
    case = next(case for case in planned.cases if case.varied["mode"] == mode and "320" not in case.varied["detail"])
    rows = experiment.rows(planned.machine_of(case), case, Findings(GOOD[scene, mode] | changes))
    return {row.name: row.value for row in rows if row.kind == "check"}


@pytest.mark.parametrize(("scene", "mode"), GOOD)
def test_what_should_be_found_passes(scene: str, mode: str) -> None:
    found = checks(scene, mode)
    assert found
    assert all(found.values()), found


@pytest.mark.parametrize(
    ("scene", "mode", "changes", "failing"),
    [
        ("stale", "passthrough", {"changed_late": 0}, "lands_for_ever"),
        ("stale", "lazy", {"landed_stale": 499}, "lands_for_a_while"),
        ("stale", "lazy", {"landed": 0, "landed_stale": 0}, "lands_for_a_while"),
        ("stale", "lazy", {"changed_late": 1}, "ends"),
        ("stale", "lazy", {"age_max": 11 * MS}, "age_is_bounded"),
        ("stale", "lazy", {"age_max": 4 * MS}, "timer_decides"),
        ("stale", "lazy", {"refused": 0, "faults": 0}, "ends"),
        ("stale", "strict", {"landed": 1}, "nothing_lands"),
        ("stale", "strict", {"refused": 0, "faults": 0}, "nothing_lands"),
        ("stale", "strict", {"changed": 1}, "nothing_lands"),
        ("stale", "strict", {"faults": 899}, "every_error_is_recorded"),
        ("outside", "none", {"write_changed": 1}, "nothing_changes"),
        ("outside", "none", {"leaked": 1}, "nothing_leaks"),
        ("outside", "none", {"read_errors": 49}, "everything_is_refused"),
        ("outside", "none", {"faults": 99}, "everything_is_recorded"),
        ("outside", "none", {"strange": 1}, "everything_is_recorded"),
        ("outside", "passthrough", {"leaked": 0}, "reaches_everything"),
        ("storm", "write", {"faults": 4999}, "everything_is_counted"),
        ("storm", "write", {"overflows": 0}, "loss_is_flagged"),
        ("storm", "write", {"records": 5001}, "loss_is_flagged"),
        ("storm", "write", {"strange": 1}, "records_are_true"),
        ("storm", "write", {"after": 1300}, "recovers"),
        ("storm", "write", {"during": 600}, "nobody_starves"),
    ],
)
def test_what_should_not_be_found_does_not_pass(scene: str, mode: str, changes: dict[str, int], failing: str) -> None:
    assert not checks(scene, mode, **changes)[failing]


def test_every_scene_in_short() -> None:
    given = {"timer": "off", "microseconds": "60", "requests": "60", "frames": "1500"}
    result = run_experiment(Protection(), given)
    rows: dict[tuple[str, ...], Row] = {(*map(str, row.case.values()), row.name): row for row in result.rows}
    failed = [key for key, row in rows.items() if row.kind == "check" and row.value is not True]
    assert not failed
    assert len({key[:2] for key in rows}) == 8
    assert rows["storm", "write", "other core", "overflows"].value
    assert set(result.profiles) == {"e5-1650v4"}


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        (StaleRun, ("none", 64, 100), "mode must be one of passthrough, strict, lazy, not 'none'"),
        (StaleRun, ("lazy", 513, 100), "buffers must be in 1..512, not 513"),
        (StaleRun, ("lazy", 1, 0), "microseconds must be in 1..1000000, not 0"),
        (IntrusionRun, ("all", 10), "attachment must be one of passthrough, domain, none, not 'all'"),
        (IntrusionRun, ("none", 1), "count must be an integer in 2..1048576, not 1"),
        (StormRun, ("both", True, 100), "kind must be one of write, read, not 'both'"),
        (StormRun, ("read", True, 2), "frames must be an integer of at least 3, not 2"),
        (ProtectionRun, (), "A run is of one kind"),
    ],
)
def test_runs_that_make_no_sense(run: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*arguments)


def test_protection_without_an_iommu_is_not_looked_at() -> None:
    with pytest.raises(TypeError, match="machine must be a ProtectionMachineConfig"):
        StaleRun("lazy", 1, 1).check(MachineConfig())


def test_a_storm_too_short_to_be_measured() -> None:
    with pytest.raises(ValueError, match="frames must be at least 1339 for rates to be measured, not 1338"):
        plan(Protection(), {"scenes": "storm", "frames": "1338"})
