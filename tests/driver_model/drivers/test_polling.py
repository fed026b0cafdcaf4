# SPDX-License-Identifier: BSD-2-Clause
"""A process that polls instead of NAPI: it begins, ends, and shares its core."""

import pytest

from driver_model.drivers.polling import BURST
from tests.driver_model.bench import Bench, frames

US = 10**6
MS = 10**9


def test_a_process_polls_from_open_to_stop() -> None:
    bench = Bench("bypass", "drop")

    def run() -> None:
        bench.start()
        (queue,) = bench.driver.queues
        bench.core.sleep_until(bench.core.time + MS)
        polls = queue.polling.polls
        assert polls > 1
        assert not queue.polling.busy
        bench.finish()
        polls = queue.polling.polls
        bench.core.sleep_until(bench.core.time + 10 * MS)
        assert queue.polling.polls == polls, "it still runs"
        assert bench.core.idle_ps > 9 * MS

    bench.run(run)


def test_a_burst_takes_so_many_frames() -> None:
    bench = Bench("bypass", "drop")
    bursts: list[int] = []

    def run() -> None:
        bench.start()
        (queue,) = bench.driver.queues
        burst = queue.burst
        queue.burst = lambda budget: bursts.append(burst(budget)) or bursts[-1]
        bench.nic.receive(0, frames(300, 2))
        bench.wait(lambda: bench.total("rx_packets") == 300, "every frame")
        bench.finish()

    bench.run(run)
    assert max(bursts) == BURST
    assert sum(bursts) == 300


def test_looks_at_an_empty_ring_are_charged_for_as_long_as_it_is_empty() -> None:
    bench = Bench("bypass", "drop")
    looks: list[int] = []

    def run() -> None:
        bench.start()
        op = bench.core.op("pmd.poll")
        before = op.count
        bench.core.sleep_until(bench.core.time + 2 * MS)
        looks.append((op.count - before) * op.ps)
        bench.finish()

    bench.run(run)
    assert 1.5 * MS < looks[0] <= 2.1 * MS


def test_two_queues_share_a_core() -> None:
    sent = frames(200, 3)
    bench = Bench("bypass", "tx", queues=2, memory=32 << 20)

    def run() -> None:
        bench.start()
        for queue in (0, 1):
            bench.nic.receive(queue, sent)
        bench.wait(lambda: bench.total("tx_packets") == 400, "every frame", 10**11)
        bench.finish()

    bench.run(run)
    assert [queue.sent for queue in bench.nic.queues] == [sent, sent]


def test_a_process_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver_model.drivers.polling.STOP_TIMEOUT_PS", MS)
    bench = Bench("bypass", "drop")

    def run() -> None:
        bench.start()
        (queue,) = bench.driver.queues
        polling = queue.polling
        monkeypatch.setattr(
            type(polling), "_ending", property(lambda self: False, lambda self, value: None), raising=False
        )
        with pytest.raises(TimeoutError, match="the process that polls queue 0 to end"):
            polling.disable()
        monkeypatch.undo()
        polling.disable()
        polling.enable()
        bench.finish()

    bench.run(run)


def test_all_that_was_received_is_handled_before_a_queue_stops() -> None:
    """A burst that was full says nothing of what is behind it."""
    bench = Bench("bypass", "drop", rx_entries=1024, memory=32 << 20)
    core = bench.core
    core.op("pmd.run").ps = 10**6  # as slow as a program can be, so that it is behind when the queue is to stop

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(1000, 4))
        core.sleep_until(core.time + 20 * US)
        bench.finish()

    bench.run(run)
    assert bench.total("rx_packets") == 1000
