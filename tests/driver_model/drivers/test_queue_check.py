# SPDX-License-Identifier: BSD-2-Clause
"""When a queue is checked, and for how long that is waited for."""

import pytest

from driver_model.drivers.queue_check import QueueCheck
from driver_model.drivers.watchdog import TX_TIMEOUT_PS
from tests.driver_model.bench import Bench, frames


def test_a_ring_that_is_full_for_long_is_checked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow device is none that has stopped."""
    bench = Bench("page_pool", "tx", rx_entries=512, tx_entries=16)
    checks: list[int] = []

    def run() -> None:
        bench.start()
        queue, send = bench.driver.queues[0], bench.nic._send
        real = queue._check.action

        def check() -> None:
            checks.append(bench.core.time)
            real()

        monkeypatch.setattr(queue._check, "action", check)
        monkeypatch.setattr(bench.nic, "_send", lambda queue: None)
        for _ in range(20):
            bench.nic.receive(0, frames(64, 1))
            bench.core.sleep_until(bench.core.time + TX_TIMEOUT_PS // 8)
        assert 1 <= len(checks) <= 2
        monkeypatch.setattr(bench.nic, "_send", send)
        bench.nic.receive(0, frames(1, 2))
        bench.wait(lambda: not queue.tx.outstanding, "all to be sent")
        bench.finish()

    bench.run(run)


def test_who_waits_for_a_check_waits_for_the_arming_behind_it() -> None:
    """It is a register write, in which another process may get the core: one that resets the device."""
    bench = Bench()
    core, order = bench.core, list[str]()

    def arm() -> None:
        core.spend(core.op("mmio.write"), 10**6)
        core.sync()
        order.append("armed")

    def run() -> None:
        check = QueueCheck(core, 0, lambda: None, arm)
        check.start()
        check.wait()
        order.append("waited")

    bench.run(run)
    assert order == ["armed", "waited"]


def test_a_check_that_does_not_end_is_not_waited_for_for_ever() -> None:
    bench = Bench(rx_entries=16)

    def run() -> None:
        bench.start()
        bench.driver.queues[0]._check.running = True
        bench.driver.stop()

    with pytest.raises(TimeoutError, match="Waited 1000 ms for the check of queue 0 to end"):
        bench.run(run, limit=3 * 10**12)
