# SPDX-License-Identifier: BSD-2-Clause
"""Samples of memory: when they are taken, what they say, and that they change nothing."""

from dataclasses import asdict
from typing import Any, cast

import pytest

from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.memory_samples import MemorySamples
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic

MACHINE = preset("10g")
RUN = RunConfig(Traffic("64", frames=600, flows=4, load="0.1"), verdict="pass", consumer="socket", hold_us=20, ring=64)


def job(backend: Backend, machine: MachineConfig, cases: list[dict[str, Any]]) -> Any:
    """Runs with samples of these periods; 0: none."""
    found = []
    for number, case in enumerate(cases):
        if number:
            backend.reset()
        scenario = Scenario(backend, machine, RunConfig.from_dict(case["run"]))
        samples = MemorySamples(scenario, case["period"]) if case["period"] else None
        measured = scenario.run().as_json()
        found.append((measured, [asdict(sample) for sample in samples.series] if samples else []))
    return found


@pytest.fixture(scope="module")
def found() -> Any:
    cases = [{"run": asdict(RUN), "period": period} for period in (0, 10)]
    return launch("verilator", MACHINE, "tests.sim.test_memory_samples:job", cases)


def test_samples_change_nothing(found: Any) -> None:
    assert found[0][0] == found[1][0]


def test_samples_are_of_equal_times_while_frames_come(found: Any) -> None:
    times = [sample["time_us"] for sample in found[1][1]]
    assert times == list(range(0, 10 * len(times), 10))
    assert 390 <= times[-1] <= 404  # 600 frames of 0.672 us each at a tenth of that rate


def test_samples_say_what_is_held(found: Any) -> None:
    first, *_, last = found[1][1]
    assert (first["waiting"], first["delivered"]) == (0, 0)
    assert 20 <= last["waiting"] <= 60  # about 30 come in 20 us
    assert last["delivered"] + last["waiting"] <= 600
    assert last["inflight_mem"][0] >= (64 + last["waiting"]) * 4096
    assert last["used"] > last["inflight_mem"][0]
    assert last["used"] + last["free"] <= MACHINE.memory_size
    assert last["page_cache"] == 0


@pytest.mark.parametrize("period", [0, -1, True, 1.5])
def test_a_period_that_makes_no_sense(period: Any) -> None:
    with pytest.raises(ValueError, match="period_us must be an integer, 1 or more, not"):
        MemorySamples(cast(Scenario, None), period)
