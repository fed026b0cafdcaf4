# SPDX-License-Identifier: BSD-2-Clause
"""The core's time against the hardware's, on simulated hardware: neither is early or late by an edge."""

from typing import Any
from unittest import mock

import pytest

from sim.backends.base import BACKENDS, Backend, launch
from tests.sim.loop_device import LoopMachineConfig
from tests.sim.test_platform import CONFIG, TARGET, US, run, started

HERE = "tests.sim.test_time"
READ = TARGET + 56  #: what a read of the device's register 8 reads from memory


def preempted(backend: Backend, config: LoopMachineConfig, argument: None) -> dict[str, int]:
    """An interrupt arrives while a process spends a long time."""
    platform, core = started(backend, config)
    times: dict[str, int] = {}

    def handler() -> None:
        times["handler"] = core.time
        core.spend(core.op("cache.miss"), 10)

    def arrive() -> None:
        times["arrived"] = platform.now
        core.interrupt(handler)

    platform.on_interrupt(9, arrive)
    entry, leave, miss = core.op("irq.entry"), core.op("irq.exit"), core.op("cache.miss")

    def main() -> None:
        core.mmio_write(0, TARGET)
        times["begin"] = core.time
        core.spend(miss, 200)
        core.sync()
        times["end"] = core.time

    run(platform, core, main)
    return times | {"entry": entry.ps, "exit": leave.ps, "miss": miss.ps}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_preempts_a_spent_interval_at_its_own_cycle(backend: str) -> None:
    times = launch(backend, CONFIG, f"{HERE}:preempted")
    assert times["arrived"] % CONFIG.cycle_ps == 0
    assert times["begin"] < times["arrived"] < times["begin"] + 200 * times["miss"]
    assert times["handler"] == times["arrived"] + times["entry"]
    assert times["end"] == times["begin"] + 210 * times["miss"] + times["entry"] + times["exit"]


def stores(backend: Backend, config: LoopMachineConfig, argument: None) -> list[list[Any]]:
    """Stores at times around the edge at which the device reads: distance to that edge, and whether it saw them."""
    platform, core = started(backend, config)
    step = core.op("cpu.load")
    seen: list[list[Any]] = []

    def attempt(number: int, steps: int) -> int:
        """One read and one store; edges from the register read's start to the device's read."""
        core.store(READ, bytes(8))
        backend.accesses()
        values: list[int] = []
        start = core.time
        platform.mmio_read(8, lambda value, error: values.append(value))
        core.spend(step, steps)
        core.store(READ, number.to_bytes(8, "little"))
        stored = core.time
        core.sleep_until(start + 3 * US)
        edges = [access.cycle for access in backend.accesses() if not access.is_write]
        assert len(edges) == len(values) == 1
        seen.append([stored - edges[0] * config.cycle_ps, values == [number]])
        return edges[0] * config.cycle_ps - start

    def main() -> None:
        core.mmio_write(0, TARGET)
        core.sleep_until(core.time + 3 * US)
        late = attempt(1, 0)
        for number in range(2, 16):
            attempt(number, (late + (number - 10) * config.cycle_ps // 4) // step.ps)

    run(platform, core, main)
    return seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_hardware_sees_a_store_from_the_cores_time_on_not_before_or_after(backend: str) -> None:
    config = LoopMachineConfig(memory_size=CONFIG.memory_size, nic=CONFIG.nic, access_log=True)
    seen = launch(backend, config, f"{HERE}:stores")
    assert all(visible == (distance < 0) for distance, visible in seen), seen
    assert min(distance for distance, visible in seen if not visible) < config.cycle_ps
    assert max(distance for distance, visible in seen if visible) >= -config.cycle_ps


CYCLES = 1_000_000


def poll(backend: Backend, config: LoopMachineConfig, cycles: int) -> dict[str, int]:
    """Poll for a write of the device that comes after so many cycles; calls of the simulator meanwhile."""
    platform, core = started(backend, config)
    look = core.op("cpu.load")
    advance = backend.advance
    calls: list[int] = []

    def counted(until: int) -> int:
        calls.append(until)
        return advance(until)

    result: dict[str, int] = {}

    def main() -> None:
        core.store(TARGET, bytes(64))
        core.sync()
        start = core.time
        platform.at(start + cycles * config.cycle_ps, lambda: platform.mmio_write(0, TARGET))
        before = look.count
        with mock.patch.object(backend, "advance", counted):
            assert core.poll_until(READ, READ + 8, any, start + 2 * cycles * config.cycle_ps, look)
        result.update(polls=look.count - before, waited=core.time - start, poll_ps=look.ps)

    run(platform, core, main, limit=3 * cycles * config.cycle_ps)
    return result | {"calls": len(calls)}


def test_a_poll_of_a_million_cycles_costs_no_python_per_cycle() -> None:
    result = launch("verilator", CONFIG, f"{HERE}:poll", CYCLES)
    assert result["calls"] < 20
    assert result["waited"] == result["polls"] * result["poll_ps"]
    assert CYCLES * CONFIG.cycle_ps < result["waited"] < (CYCLES + 1000) * CONFIG.cycle_ps
