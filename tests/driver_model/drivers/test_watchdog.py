# SPDX-License-Identifier: BSD-2-Clause
"""A TX ring that is full and does not move is looked at, also where nothing else brings a poll."""

from typing import Any

import pytest

from driver_model.drivers.watchdog import TX_TIMEOUT_PS, Watchdog
from driver_model.net.forward import IpForward
from hw.abi.rings import QueueError
from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench
from tests.driver_model.stack_bench import StackBench

FLOWS = Flows(1, 1, seed=3)


def bench() -> StackBench:
    """It forwards, by a small ring."""
    return StackBench("page_pool", lambda bench, core: IpForward(bench.routes[core]), rx_entries=64, tx_entries=8)


def test_an_interrupt_that_is_lost_stops_no_ring_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = bench()

    def run() -> None:
        forward.start()
        real = forward.platform.interrupt
        delivered: list[int] = []

        def only_the_first(vector: int) -> None:
            delivered.append(vector)
            if len(delivered) == 1:
                real(vector)

        monkeypatch.setattr(forward.platform, "interrupt", only_the_first)
        forward.nic.receive(0, [FLOWS.frame(0, 60, at) for at in range(20)])
        forward.core.sleep_until(forward.core.time + TX_TIMEOUT_PS // 2)
        assert (len(forward.sent()), forward.qdiscs[0].backlog) == (8, 12)
        monkeypatch.setattr(forward.platform, "interrupt", real)
        forward.wait(lambda: len(forward.sent()) == 20, "the watchdog")
        forward.close()

    forward.run(run)


def test_a_ring_that_an_error_has_stopped_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = bench()

    def run() -> None:
        forward.start()
        (queue,) = forward.driver.queues
        monkeypatch.setattr(forward.nic, "_send", lambda queue: None)
        forward.nic.receive(0, [FLOWS.frame(0, 60, at) for at in range(20)])
        forward.wait(lambda: queue.tx.stopped, "the ring to be full")
        forward.nic.fail(0, "tx", QueueError.DESCRIPTOR_TYPE)
        forward.wait(lambda: queue.statistics.tx_stopped, "the driver to notice")
        forward.core.sleep_until(forward.core.time + TX_TIMEOUT_PS // 10)
        polls = queue.polling.polls
        forward.core.sleep_until(forward.core.time + 3 * TX_TIMEOUT_PS)
        assert queue.polling.polls == polls
        forward.close()

    forward.run(run)


def test_a_ring_that_moves_now_and_then_has_not_stopped() -> None:
    kit = Bench()
    watchdog, asked = Watchdog(kit.core), []
    watchdog.expired = lambda: asked.append(kit.core.time)

    def run() -> list[Any]:
        steps = []
        for _ in range(8):
            watchdog.full()
            kit.core.sleep_until(kit.core.time + TX_TIMEOUT_PS // 2)
            steps.append(watchdog.timed_out())
            watchdog.moved()
        watchdog.full()
        kit.core.sleep_until(kit.core.time + TX_TIMEOUT_PS + TX_TIMEOUT_PS // 4)
        return [*steps, watchdog.timed_out(), watchdog.timed_out()]

    assert kit.run(run) == [False] * 8 + [True, False]
    assert len(asked) == 1


def test_a_ring_that_was_closed_is_not_looked_at() -> None:
    kit = Bench()
    watchdog, asked = Watchdog(kit.core), []
    watchdog.expired = lambda: asked.append(kit.core.time)

    def run() -> bool:
        watchdog.full()
        watchdog.stop()
        kit.core.sleep_until(kit.core.time + 3 * TX_TIMEOUT_PS)
        return watchdog.timed_out()

    assert not kit.run(run)
    assert asked == []
