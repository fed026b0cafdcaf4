# SPDX-License-Identifier: BSD-2-Clause
"""Runs on a machine whose devices do not see into the CPU caches: the hardware reads and writes memory alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from unittest.mock import patch

import pytest

from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.net.collector import CollectorError
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.measurement import Measurement
from sim.run import RunConfig, run_cases
from sim.traffic.source import Traffic

HERE = "tests.sim.test_noncoherent"
MACHINE = replace(preset("10g"), access_log=True)
SEEDS = range(6)


def config(**given: Any) -> RunConfig:
    defaults = {"profile": "cortex-a53", "ring": 32, "verdict": "pass"}
    return RunConfig(Traffic("300", frames=150, flows=4, load="0.02"), **defaults | given)


def cases(*runs: RunConfig) -> list[dict[str, Any]]:
    return [{"label": "test", "run": asdict(run)} for run in runs]


def _hand_up(strategy: PagePoolStrategy, buffer: Any, length: int) -> Any:
    return buffer


def run_forgetful(backend: Backend, machine: MachineConfig, argument: Sequence[Mapping[str, Any]]) -> list[str]:
    """Job: runs of a driver that hands up what it did not sync; what came of each."""
    outcomes = []
    with patch.object(PagePoolStrategy, "received", _hand_up):
        for case in argument:
            backend.reset()
            try:
                run_cases(backend, machine, [case])
                outcomes.append("whole")
            except CollectorError:
                outcomes.append("stale")
            except OwnershipError as error:
                outcomes.append(error.violation.rule)
    return outcomes


@pytest.mark.parametrize("consumer", ["collector", "no_protocol", "forward"])
@pytest.mark.parametrize("strategy", ["copybreak", "page_pool", "page_flip", "fragments"])
def test_every_frame_arrives_whole(strategy: str, consumer: str) -> None:
    run = config(strategy=strategy, consumer=consumer, verdict="pass" if consumer == "collector" else "none")
    measured = launch("verilator", MACHINE, "sim.run:run_cases", cases(run))["cases"][0]
    found = Measurement.from_json(measured)
    assert (found.delivered, found.dropped) == (150, {})
    assert found.operations["dma.cache_invalidate_line"][0] >= 150 * 5
    assert found.operations["cpu.uncached"][0] >= 150
    assert ("xdp.run" in found.operations) == (consumer == "collector")


def test_a_driver_without_a_sync_sees_stale_bytes() -> None:
    runs = [config(cache_seed=seed, checkers=False) for seed in SEEDS]
    outcomes = launch("verilator", MACHINE, f"{HERE}:run_forgetful", cases(*runs))
    assert "stale" in outcomes


def test_the_checker_names_the_access_that_the_sync_is_missing_for() -> None:
    outcomes = launch("verilator", MACHINE, f"{HERE}:run_forgetful", cases(config()))
    assert outcomes[0] in ("cpu access of device memory", "stale")
