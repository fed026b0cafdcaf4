# SPDX-License-Identifier: BSD-2-Clause
"""A queue that the device stops: the driver says which and why, once, and the others go on."""

import pytest

from driver_model.drivers.fault import QueueFault
from driver_model.drivers.strategies import STRATEGIES, strategy
from driver_model.events import EventLog
from hw.abi.rings import QueueError
from tests.driver_model.bench import Bench, frames

US = 10**6


@pytest.mark.parametrize("error", [error for error in QueueError if error is not QueueError.NONE])
def test_every_error_is_explained(error: QueueError) -> None:
    text = str(QueueFault(12_345_678, 1, "rx", error))
    assert text.startswith(f"queue 1 rx stopped with {error.name}: ")
    assert text.endswith("(seen at 12.346 us)")
    assert "no reason" not in text


@pytest.mark.parametrize("name", list(STRATEGIES))
@pytest.mark.parametrize("direction", ["rx", "tx"])
@pytest.mark.parametrize("busy", [False, True])
def test_one_direction_stops_and_the_other_queue_goes_on(name: str, direction: str, busy: bool) -> None:
    sent = frames(200, 3)
    bench = Bench(name, "tx", queues=2, rx_entries=64, tx_entries=64)
    log = bench.core.log = EventLog()

    def run() -> None:
        bench.start()
        first = bench.driver.queues[0]
        if busy:
            bench.nic.receive(0, sent)
            bench.wait(lambda: first.statistics.rx_packets >= 50, "traffic on the queue that fails")
        bench.nic.fail(0, direction, QueueError.RING_READ)
        # Nothing interrupts who polls: only a queue that has been quiet for long is asked whether it still runs, and
        # the two that poll share a core by time slices.
        limit = 20000 if strategy(name).poll_mode else 100
        bench.wait(lambda: bench.driver.faults, "the driver to notice", limit=limit * US)
        bench.nic.receive(1, sent)
        bench.wait(lambda: bench.driver.queues[1].statistics.tx_packets == 200, "frames of the other queue")
        assert getattr(first.statistics, f"{direction}_stopped") == 1
        assert (first.receiving, first.tx.running) == ((False, True) if direction == "rx" else (True, False))
        interrupts = first.statistics.interrupts
        bench.core.sleep_until(bench.core.time + 100 * US)
        assert first.statistics.interrupts == interrupts, "the failed queue keeps interrupting"
        bench.driver.stop()
        bench.host.drain()
        assert (bench.driver.in_flight, bench.host.pages_in_use) == (0, 0)
        bench.nic.queues[0].waiting.clear()
        bench.driver.open()
        bench.nic.receive(0, sent[:10])
        bench.wait(lambda: bench.driver.queues[0].statistics.tx_packets == 10, "frames after starting again")
        bench.driver.stop()

    bench.run(run)
    assert [fault[1:] for fault in bench.driver.faults] == [(0, direction, QueueError.RING_READ)]
    assert [event.function for event in log.events if event.kind == "fault"] == [str(bench.driver.faults[0])]


def test_a_stop_finds_what_no_interrupt_told() -> None:
    bench = Bench(queues=2)

    def run() -> None:
        bench.start()
        bench.nic.queues[1].armed = None
        bench.nic.fail(1, "rx", QueueError.DOORBELL)
        bench.finish()

    bench.run(run)
    assert [fault[1:] for fault in bench.driver.faults] == [(1, "rx", QueueError.DOORBELL)]


def test_a_full_ring_that_does_not_move_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receiving goes on without pause, so no poll after an interrupt finds nothing."""
    monkeypatch.setattr("driver_model.drivers.watchdog.TX_TIMEOUT_PS", 50 * US)
    bench = Bench("page_pool", "tx", rx_entries=64, tx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(8, 1))
        bench.wait(lambda: bench.total("tx_packets") == 8, "the first frames")
        bench.nic.fail(0, "tx", QueueError.DESCRIPTOR_TYPE)
        bench.nic.receive(0, frames(2000, 2))
        bench.wait(lambda: bench.driver.faults, "the driver to notice")
        assert bench.total("rx_packets") < 2000, "noticed only after the traffic"
        bench.driver.stop()

    bench.run(run)
    assert bench.driver.faults[0].error is QueueError.DESCRIPTOR_TYPE
