# SPDX-License-Identifier: BSD-2-Clause
"""A device that is removed in traffic: writes are lost, and reads give all ones."""

from typing import Any

import pytest

from driver_model.cpu.core import ALL_ONES
from driver_model.drivers.device import DeviceGoneError
from driver_model.drivers.strategies import STRATEGIES
from driver_model.drivers.watchdog import TX_TIMEOUT_PS
from driver_model.net.forward import IpForward
from sim.traffic.flows import Flows
from tests.driver_model.stack_bench import MS, StackBench

GONE = "The device is gone: its registers read all ones"


def run(patch: pytest.MonkeyPatch, strategy: str, body: Any, verdict: str = "pass") -> None:
    """Forward more than the ring takes, lose the device with frames on it, and do something; all comes back."""
    flows = Flows(2, 2, seed=5)
    bench = StackBench(
        strategy,
        lambda bench, core: IpForward(bench.routes[core]),
        verdict=verdict,
        cores=2,
        queues=2,
        rx_entries=64,
        tx_entries=16,
    )

    def whole() -> None:
        bench.start()
        patch.setattr(bench.nic, "_send", lambda queue: None)
        for queue in range(2):
            bench.nic.receive(queue, [flows.frame(queue, 60, at) for at in range(30)])
        bench.wait(lambda: bench.total("rx_packets") == 60, "the frames")
        bench.platform.on_write = lambda offset, value: None
        bench.platform.on_read = lambda offset: (ALL_ONES, True)
        body(bench)
        with pytest.raises(DeviceGoneError, match=GONE):
            bench.driver.reset()
        bench.core.sleep_until(bench.core.time + MS)
        bench.nothing_left()
        with pytest.raises(DeviceGoneError, match=GONE):
            bench.driver.reset()

    bench.run(whole)
    assert bench.total("tx_aborted") == 32


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("verdict", ["pass", "tx", "redirect"])
def test_a_reset_brings_all_memory_back(strategy: str, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, strategy, lambda bench: None, verdict)


def test_what_asks_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(bench: StackBench) -> None:
        for ask in (bench.driver.stop, bench.driver.counters, lambda: bench.driver.stop_queue(1)):
            with pytest.raises(DeviceGoneError, match=GONE):
                ask()

    run(monkeypatch, "page_pool", body)


def test_the_check_of_a_queue_that_stands_finds_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(bench: StackBench) -> None:
        bench.core.sleep_until(bench.core.time + 2 * TX_TIMEOUT_PS)
        for queue in bench.driver.queues:
            assert (queue.receiving, queue.tx.running) == (False, False)
            assert (queue.statistics.rx_stopped, queue.statistics.tx_stopped) == (1, 1)

    run(monkeypatch, "page_pool", body)
