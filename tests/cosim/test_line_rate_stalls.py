# SPDX-License-Identifier: BSD-2-Clause
"""At line rate, with every stream held back at random, nothing is lost, doubled or out of order.

:class:`sim.line_rate.job.LineRateRun` checks each frame's bytes and order, and counts all of them in the end: those
that were dropped by the reasons that the NIC gives.
"""

from dataclasses import replace
from typing import Any

import pytest

from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.line_rate.job import LineRateRun
from sim.line_rate.run import LineMeasurement, LineRun

SEEDS = range(50)
SIZES = (64, 65, 128, 1518)


def stalled(backend: Backend, machine: MachineConfig, argument: None) -> list[Any]:
    """A run of each seed, and what it measured."""
    measured = []
    for seed in SEEDS:
        backend.reset()
        run = LineRun(
            direction="both",
            size=SIZES[seed % len(SIZES)],
            queues=(1, 2)[seed // 2 % 2],
            frames=150,
            warm=50,
            ring=256,
            headroom=(256, 3)[seed // 3 % 2],
            stalls=(16, 64, 128)[seed % 3],
            seed=seed,
        )
        try:
            measured.append(LineRateRun(backend, machine, run).measure().as_json())
        except Exception as error:
            raise RuntimeError(f"seed {seed}: {run!r}") from error
    return measured


@pytest.mark.parametrize("name", ["10g", "100g"])
def test_nothing_is_lost_doubled_or_reordered(name: str) -> None:
    machine = preset(name, stalls=True)
    machine = replace(machine, nic=replace(machine.nic, queues=2))
    found = launch("verilator", machine, f"{__name__}:stalled")
    measured = [LineMeasurement.from_json(values) for values in found]
    assert len(measured) == len(SEEDS)
    assert all(each.received and each.sent for each in measured)
    assert any(each.dropped for each in measured), "no seed held back the NIC enough to drop a frame"
    assert any(not each.dropped for each in measured), "each seed dropped frames"
