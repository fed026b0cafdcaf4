# SPDX-License-Identifier: BSD-2-Clause
"""The same run in both simulators: driver, NIC, link and memory do the same in the same cycles."""

from typing import Any
from unittest import mock

from sim.backends.base import BACKENDS, Access, Backend, launch
from sim.config import MachineConfig, preset
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic

FRAMES = 220


def observe(backend: Backend, machine: MachineConfig, frames: int) -> dict[str, Any]:
    """A run on two queues that sends every frame of a mix back: all accesses of the device to memory, completions
    among them, and all frames sent, with their cycles."""
    traffic = Traffic("imix", frames=frames, flows=8, queues=2, seed=5)
    scenario = Scenario(backend, machine, RunConfig(traffic, verdict="tx", queues=2, ring=256, checkers=False))
    accesses: list[Access] = []
    take = backend.accesses

    def keep() -> list[Access]:
        accesses.extend(new := take())
        return new

    with mock.patch.object(backend, "accesses", keep):
        measurement = scenario.run()
    return {
        "delivered": measurement.delivered,
        "end": backend.cycle,
        "sent": [[frame.first, frame.last, frame.data.hex()] for frame in scenario.sent],
        "accesses": accesses + backend.accesses(),
        "operations": sorted(measurement.operations.items()),
    }


def test_every_access_and_every_frame_has_the_same_cycle() -> None:
    machine = preset("10g", access_log=True)
    verilator, amaranth = (
        launch(each, machine, "tests.cosim.test_backends_agree:observe", FRAMES) for each in BACKENDS
    )
    assert verilator["delivered"] == FRAMES
    assert len(verilator["sent"]) == FRAMES
    assert verilator["sent"] == amaranth["sent"]
    assert len(verilator["accesses"]) > 3 * FRAMES
    assert verilator["accesses"] == amaranth["accesses"]
    assert verilator == amaranth
