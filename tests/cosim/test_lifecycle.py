# SPDX-License-Identifier: BSD-2-Clause
"""Queues stopped, and the function reset, in full traffic on the whole machine: nothing is written or read afterwards,
and every frame is accounted for."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest

from hw.abi.rings import ENTRY_BYTES
from sim.backends.base import Access, Backend, launch
from sim.config import MachineConfig, preset
from sim.run import RunConfig
from sim.scenario import LEAD_CYCLES, Scenario
from sim.traffic.source import Traffic

MACHINE = preset("10g", access_log=True)
FRAMES = 600
MIDDLE = 40 * 10**6  #: picoseconds of traffic before anything is stopped
LIMIT = 10**9
STEP = 2 * 10**6


class Interrupted(Scenario):
    """A run in whose traffic something happens."""

    def __init__(self, backend: Backend, machine: MachineConfig, verdict: str) -> None:
        traffic = Traffic("imix", frames=FRAMES, flows=8, queues=2, seed=6)
        super().__init__(backend, machine, RunConfig(traffic, verdict=verdict, queues=2, cores=2, ring=64))
        self.log: list[Access] = []
        self.last = 0

    def begin(self) -> None:
        """Set up, and play a part of the traffic."""
        self._process("set-up", self._open)
        start = self.backend.cycle + LEAD_CYCLES
        self.player.play(frame._replace(start=start + frame.start) for frame in self.frames)
        self.last = (start + self.frames[-1].start) * self.machine.cycle_ps
        self.platform.run(self.platform.now + MIDDLE)
        assert self.platform.now < self.last - MIDDLE, "the traffic is over too soon"

    def in_process(self, name: str, function: Callable[[], Any]) -> Any:
        """What a function returns that is run in a process on the first core, while the traffic goes on."""
        results = []
        self._process(name, lambda: results.append(function()))
        return results[0]

    def finish(self) -> None:
        """Play the rest, and stop the driver."""
        self._settle(self.last)
        self._process("closing", self._close)
        self._check_sent()
        self.checker.finish()

    def stop_direction(self, queue: int, direction: str) -> int:
        """Stop one direction by its register alone; the cycle in which its ``stopped`` was read."""
        driver = self.driver
        core, registers = driver.core, driver.registers
        core.mmio_write(registers.address(f"{direction}_control", queue), 0)
        while not driver.status(queue, direction).stopped:
            assert core.time < self.platform.now + LIMIT
            core.sleep_until(core.time + STEP)
        return self.backend.cycle


def ring(memory: Any, entries: int) -> range:
    return range(memory.dma_address, memory.dma_address + entries * ENTRY_BYTES)


def touching(log: list[Access], addresses: range, after: int) -> list[Access]:
    """Accesses to a range after a cycle."""
    return [
        access
        for access in log
        if access.cycle > after and access.address < addresses.stop and access.address + access.length > addresses.start
    ]


def job(backend: Backend, machine: MachineConfig, name: str) -> Any:
    """Run one of the functions below on a machine whose accesses are kept."""
    run = Interrupted(backend, machine, "drop" if name == "stop_rx" else "tx")
    take = backend.accesses

    def keep() -> list[Access]:
        run.log.extend(new := take())
        return new

    with mock.patch.object(backend, "accesses", keep):
        {"stop_rx": stop_rx, "stop_tx": stop_tx, "reset": reset}[name](run)
    assert run.host.pages_in_use == 0
    assert run.driver.in_flight == 0


def stop_rx(run: Interrupted) -> None:
    """Queue 0, then queue 1: no more frames, descriptors or completions for it; at the end none at all."""
    run.begin()
    first, second = run.driver.queues
    stopped = run.in_process("stop rx 0", partial(run.stop_direction, 0, "rx"))
    run.platform.run(run.platform.now + MIDDLE)
    silent = run.in_process("stop rx 1", partial(run.stop_direction, 1, "rx"))
    run.finish()
    for memory in (first.rx.supply.ring.memory, first.rx.completions.memory):
        assert touching(run.log, ring(memory, 64), 0)
        assert not touching(run.log, ring(memory, 64), stopped)
    assert touching(run.log, ring(second.rx.completions.memory, 64), stopped)
    assert not [access for access in run.log if access.cycle > silent]
    dropped = run._dropped()
    assert dropped["queue_disabled"] > 50
    assert len(run.times) > 50
    assert run.statistics["rx_frames"] == FRAMES == len(run.times) + sum(dropped.values())


def stop_tx(run: Interrupted) -> None:
    """One queue stops sending, with descriptors posted; its receiving and the other queue go on."""
    run.begin()
    first, second = run.driver.queues
    stopped = run.in_process("stop tx 0", partial(run.stop_direction, 0, "tx"))
    run.platform.run(run.platform.now + MIDDLE)
    run.in_process("stop queue 0", partial(run.driver.stop_queue, 0))
    run.finish()
    for memory in (first.tx.ring.memory, first.tx.completions.memory):
        assert touching(run.log, ring(memory, 64), 0)
        assert not touching(run.log, ring(memory, 64), stopped)
    assert touching(run.log, ring(second.tx.completions.memory, 64), stopped)
    statistics = run.statistics
    sent, other = run.left.received
    assert sent == statistics["nic_queue0_tx_packets"] > 20
    assert other == statistics["nic_queue1_tx_packets"] == second.statistics.rx_xdp_tx > sent
    # A frame that left without a completion is one that the driver gave up.
    assert first.statistics.tx_packets <= sent <= first.statistics.rx_xdp_tx
    assert first.statistics.tx_packets + first.statistics.tx_aborted == first.statistics.rx_xdp_tx
    received = first.statistics.rx_packets + second.statistics.rx_packets
    hardware = {name: count for name, count in statistics.items() if "_drop_" in name}
    assert statistics["rx_frames"] == FRAMES == received + sum(hardware.values())
    assert first.statistics.rx_packets == first.statistics.rx_xdp_tx + first.statistics.rx_xdp_tx_full


def reset(run: Interrupted) -> None:
    """A function reset, and the device opened again in the same traffic."""
    run.begin()
    driver, wait, ended = run.driver, run.driver._wait_clear, []

    def note(*arguments: str) -> None:
        wait(*arguments)
        ended.append(run.backend.cycle)

    with mock.patch.object(driver, "_wait_clear", note):
        run.in_process("reset", driver.reset)
    assert run.host.pages_in_use == 0
    run.platform.run(run.platform.now + MIDDLE)
    opened = run.backend.cycle
    before = [queue.statistics.rx_packets for queue in driver.queues]
    run.in_process("open", run._open)
    run.finish()
    assert all(count > 20 for count in before)
    assert not [access for access in run.log if ended[0] < access.cycle <= opened]
    assert [access for access in run.log if access.cycle > opened]
    statistics = run.statistics
    received = sum(queue.statistics.rx_packets for queue in driver.queues)
    dropped = sum(count for name, count in statistics.items() if "_drop_" in name)
    assert statistics["rx_frames"] == received + dropped
    assert received == sum(queue.statistics.rx_xdp_tx + queue.statistics.rx_xdp_tx_full for queue in driver.queues)
    assert received > 50
    left = [frame for frame in run.sent if frame.first > opened]
    assert len(left) == statistics["tx_frames"] == sum(queue.statistics.tx_packets for queue in driver.queues)
    assert not [frame for frame in run.sent if ended[0] < frame.first <= opened]


@pytest.mark.parametrize("name", ["stop_rx", "stop_tx", "reset"])
def test_in_full_traffic(name: str) -> None:
    launch("verilator", MACHINE, f"{__name__}:job", name)
