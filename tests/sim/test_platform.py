# SPDX-License-Identifier: BSD-2-Clause
"""Cores and the event kernel on simulated hardware: the same cycles in both simulators."""

from typing import Any

import pytest

from driver_model.cpu.core import ALL_ONES, Core
from driver_model.cpu.profile import Profile
from hw.config import NicConfig
from sim.backends.base import BACKENDS, Backend, launch
from sim.platform import SimPlatform
from tests.sim.loop_device import LoopMachineConfig

HERE = "tests.sim.test_platform"
CONFIG = LoopMachineConfig(memory_size=1 << 20, nic=NicConfig(queues=1))
TARGET = 0x3000
US = 10**6


def started(backend: Backend, config: LoopMachineConfig) -> tuple[SimPlatform, Core]:
    platform = SimPlatform(backend, config.cycle_ps, 1 << config.nic.mmio_addr_width)
    return platform, Core(platform, 0, Profile.load("e5-1650v4"))


def run(platform: SimPlatform, core: Core, function: Any, limit: int = 1000 * US) -> None:
    """Run a process to its end."""

    def main() -> None:
        function()
        platform.stop()

    core.spawn("main", main)
    assert platform.run(platform.now + limit), f"process not done within {limit} ps"
    core.shutdown()


def roundtrips(backend: Backend, config: LoopMachineConfig, rounds: int) -> list[Any]:
    """Write a register, poll for what the device stores, take its interrupt, read a register; all times."""
    platform, core = started(backend, config)
    poll = core.op("cpu.load")
    seen: list[Any] = []
    core.request_irq(9, lambda: seen.append(["interrupt", core.time]))

    def main() -> None:
        for count in range(1, rounds + 1):
            core.store(TARGET, bytes(64))
            core.mmio_write(0, TARGET)
            found = core.poll_until(TARGET + 56, TARGET + 64, any, core.time + 100 * US, poll)
            seen.append(["polled", found, core.time, poll.count])
            core.spend(core.op("cache.miss"), 100)
            seen.append(["loaded", core.load_owned(TARGET, 64).hex()])
            core.mmio_write(16, count)
            seen.append(["read", core.mmio_read(8), core.mmio_read(24) == ALL_ONES, core.time])
        core.sync()

    run(platform, core, main)
    seen.append(["refused", [list(entry) for entry in platform.refused], core.mmio_read_errors, platform.now])
    return seen


def test_both_backends_run_software_in_the_same_cycles() -> None:
    seen = launch("amaranth", CONFIG, f"{HERE}:roundtrips", 3)
    assert launch("verilator", CONFIG, f"{HERE}:roundtrips", 3) == seen
    assert [entry[0] for entry in seen].count("interrupt") == 3
    assert [entry[1] for entry in seen if entry[0] == "polled"] == [True] * 3
    last_words = [(count << 8) | 7 for count in (1, 2, 3)]
    assert [entry[1:3] for entry in seen if entry[0] == "read"] == [[word, True] for word in last_words]
    name, refused, read_errors, _ = seen[-1]
    assert name == "refused"
    assert [offset for _, offset in refused] == [16] * 3
    assert read_errors == 3


def spacing(backend: Backend, config: LoopMachineConfig, argument: None) -> list[int]:
    """Where the device's stores land when a store of the CPU comes at different times before them."""
    platform, core = started(backend, config)
    edges: list[int] = []

    def landed() -> None:
        edges.append(platform.now // config.cycle_ps)
        assert platform.now % config.cycle_ps == 0

    platform.watch(TARGET, TARGET + 8, landed)

    def main() -> None:
        for offset in (0, 1, config.cycle_ps - 1, config.cycle_ps):
            core.sync()
            core.sleep_until((core.time // (100 * config.cycle_ps) + 2) * 100 * config.cycle_ps + offset)
            left = core.time // config.cycle_ps
            core.platform.mmio_write(0, TARGET)
            core.sleep_until(core.time + 4 * US)
            edges[-1] -= left

    run(platform, core, main)
    return edges


@pytest.mark.parametrize("backend", BACKENDS)
def test_hardware_sees_software_from_its_next_edge_on(backend: str) -> None:
    delays = launch(backend, CONFIG, f"{HERE}:spacing")
    assert len(set(delays)) == 1, delays


def misuse(backend: Backend, config: LoopMachineConfig, argument: None) -> list[str]:
    """Messages of calls that are refused."""
    platform, core = started(backend, config)
    core.request_irq(3, lambda: None)
    messages = []
    for call in (
        lambda: platform.read(1 << 20, 1),
        lambda: platform.read(-1, 1),
        lambda: platform.write((1 << 20) - 1, b"ab"),
        lambda: platform.mmio_write(4, 0),
        lambda: platform.mmio_write(0, 1 << 32, 4),
        lambda: platform.mmio_write(platform.register_space, 0),
        lambda: core.request_irq(3, lambda: None),
    ):
        try:
            call()
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_misuse_is_refused() -> None:
    space = 1 << CONFIG.nic.mmio_addr_width
    assert launch("amaranth", CONFIG, f"{HERE}:misuse") == [
        "Load of 1 bytes at 0x100000 is outside of 0..0xfffff",
        "Load of 1 bytes at -0x1 is outside of 0..0xfffff",
        "Store of 2 bytes at 0xfffff is outside of 0..0xfffff",
        "Register offset must be a multiple of 8 for an access of 8 bytes, not 4",
        "Register value must be in 0..2**32-1, not 4294967296",
        f"Register offset must be in 0x0..{space - 8:#x}, not {space}",
        "Interrupt vector 3 already has a handler",
    ]
