# SPDX-License-Identifier: BSD-2-Clause
"""Drivers that break a rule of memory ownership, on the whole machine: caught, explained, and told in one line."""

from typing import Any
from unittest import mock

import pytest

from driver_model.drivers.hardware_pool import ID_BITS, HardwarePool
from driver_model.drivers.strategies.page_per_packet import PagePerPacket
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.memory.dma.api import DmaDirection, dma_map_page
from sim.backends.base import Backend, JobError, launch
from sim.config import MachineConfig, preset
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic

HERE = "tests.cosim.test_ownership"
FRAMES = 40


def forgets_to_sync(strategy: PagePoolStrategy, buffer: Any, length: int) -> Any:
    """Reads a frame that is still the device's."""
    return buffer


def frees_twice(strategy: PagePerPacket, buffer: Any) -> None:
    """Gives each page back twice."""
    strategy.dev.pages.put_page(buffer)
    strategy.dev.pages.put_page(buffer)


def maps_twice(strategy: PagePerPacket, buffer: Any, length: int) -> None:
    """Maps a page for the device that is mapped already."""
    dma_map_page(strategy.dev, buffer, strategy.headroom, length, DmaDirection.FROM_DEVICE)


OVERLAP = "DMA-API: cacheline tracking EEXIST, overlapping mappings aren't supported"
BROKEN: dict[str, tuple[type, str, Any, str]] = {
    "cpu access of device memory": (PagePoolStrategy, "received", forgets_to_sync, "net/collector.py"),
    "double free": (PagePerPacket, "release", frees_twice, "tests/cosim/test_ownership.py"),
    OVERLAP: (PagePerPacket, "received", maps_twice, "tests/cosim/test_ownership.py"),
}


def play(backend: Backend, machine: MachineConfig, rule: str) -> None:
    """A run with a driver that breaks a rule."""
    strategy, method, broken, _ = BROKEN[rule]
    config = RunConfig(Traffic("64", frames=FRAMES), strategy=strategy.name, verdict="pass", ring=64)
    with mock.patch.object(strategy, method, broken):
        Scenario(backend, machine, config).run()


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_driver_is_caught_at_its_line(rule: str) -> None:
    with pytest.raises(JobError) as error:
        launch("verilator", preset("10g", access_log=True), f"{HERE}:play", rule)
    assert error.value.kind == "driver_model.memory.dma.ownership.OwnershipError"
    assert error.value.reason.startswith(f"{rule}: ")
    assert BROKEN[rule][3] in error.value.reason
    assert "\n" not in error.value.reason


def returns_twice(pool: HardwarePool, buffer_id: int) -> None:
    """Gives each buffer back to the NIC twice, which no checker of memory can see."""
    pool.core.mmio_write(pool._returns[1], buffer_id << ID_BITS | buffer_id)


def play_recycled(backend: Backend, machine: MachineConfig, _: None) -> None:
    """A run with that driver."""
    config = RunConfig(Traffic("64", frames=FRAMES), strategy="hw_recycle", verdict="drop", ring=64)
    with mock.patch.object(HardwarePool, "give_back", returns_twice):
        Scenario(backend, machine, config).run()


def test_a_driver_whose_hand_backs_the_device_refuses_is_told_in_its_words() -> None:
    with pytest.raises(JobError) as error:
        launch("verilator", preset("10g-recycle", access_log=True), f"{HERE}:play_recycled", None)
    assert error.value.kind == "sim.audit.RunError"
    assert "Pool 0 refused buffer" in error.value.reason
    assert "from a return register: the NIC has it: it was handed back a second time" in error.value.reason
    assert f"({FRAMES} refused in all)" in error.value.reason
