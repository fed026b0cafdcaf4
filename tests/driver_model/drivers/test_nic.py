# SPDX-License-Identifier: BSD-2-Clause
"""The driver on a fake device: every verdict with every strategy, and nothing left behind."""

import errno

import pytest

from driver_model.drivers.device import DeviceError
from driver_model.drivers.nic import NicDriver
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies import STRATEGIES, strategy
from driver_model.net.xdp_programs import program
from hw.abi.rings import QueueError, QueueState
from tests.driver_model.bench import Bench, frames

COUNT = 300
STRATEGY = pytest.mark.parametrize("name", list(STRATEGIES))


@STRATEGY
@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
@pytest.mark.parametrize(("cores", "queues"), [(1, 1), (2, 2), (1, 2)])
def test_every_frame_meets_its_verdict(name: str, verdict: str, cores: int, queues: int) -> None:
    sent = [frames(COUNT, seed) for seed in range(queues)]
    bench = Bench(name, verdict, cores=cores, queues=queues, expected=sent, rx_entries=64, tx_entries=64)

    def run() -> None:
        bench.start()
        for start in range(0, COUNT, 50):
            for queue in range(queues):
                bench.nic.receive(queue, sent[queue][start : start + 50])
            bench.core.sleep_until(bench.core.time + 3 * 10**6)
        bench.wait(lambda: bench.total("rx_packets") == COUNT * queues, "every frame")
        bench.finish()

    bench.run(run)
    assert bench.total(f"rx_xdp_{verdict}") == COUNT * queues
    assert bench.total("rx_bytes") == sum(len(frame) for part in sent for frame in part)
    assert bench.collector.received == [COUNT if verdict == "pass" else 0] * queues
    for queue in range(queues):
        assert bench.nic.queues[queue].sent == (sent[queue] if verdict == "tx" else [])
    assert bench.total("tx_packets") == (COUNT * queues if verdict == "tx" else 0)


@STRATEGY
@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
def test_frames_over_several_buffers(name: str, verdict: str) -> None:
    sent = frames(60, 9, low=3000, high=9216)
    bench = Bench(name, verdict, expected=[sent], rx_entries=32, tx_entries=16)

    def run() -> None:
        bench.start()
        for frame in sent:
            bench.nic.receive(0, [frame])
            bench.core.sleep_until(bench.core.time + 5 * 10**6)
        bench.wait(lambda: bench.total("rx_packets") == 60, "every frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_bytes") == sum(map(len, sent))
    if verdict == "tx":
        assert bench.nic.queues[0].sent == sent
        assert bench.total("tx_bytes") == sum(map(len, sent))
    assert bench.collector.received == [60 if verdict == "pass" else 0]


@STRATEGY
def test_stopping_in_full_traffic_handles_all_that_was_completed(name: str) -> None:
    sent = frames(400, 4)
    bench = Bench(name, "tx", rx_entries=64, tx_entries=256)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("rx_packets") >= 100, "the first frames")
        bench.finish()

    bench.run(run)
    completed = len(sent) - len(bench.nic.queues[0].waiting)
    assert 100 <= completed <= 400
    assert bench.total("rx_packets") == completed
    assert bench.nic.queues[0].sent == sent[: bench.total("rx_xdp_tx")]
    assert bench.total("tx_packets") == bench.total("rx_xdp_tx")


@STRATEGY
def test_one_queue_is_stopped_and_the_other_goes_on(name: str) -> None:
    sent = [frames(100, 11), frames(100, 12)]
    bench = Bench(name, "tx", cores=2, queues=2, rx_entries=64, tx_entries=64)

    def run() -> None:
        bench.start()
        for queue in range(2):
            bench.nic.receive(queue, sent[queue][:50])
        bench.wait(lambda: bench.nic.queues[0].sent, "the first frame")
        bench.driver.stop_queue(0)
        bench.nic.receive(1, sent[1][50:])
        bench.wait(lambda: bench.nic.queues[1].sent == sent[1], "the other queue's frames")
        bench.finish()

    bench.run(run)
    stopped = bench.nic.queues[0].sent
    assert stopped == sent[0][: len(stopped)]
    assert bench.total("tx_packets") == bench.total("rx_xdp_tx") == len(stopped) + 100


@STRATEGY
@pytest.mark.parametrize("cores", [1, 2])
def test_reset_in_full_traffic_gives_everything_back(name: str, cores: int) -> None:
    sent = frames(400, 4)
    bench = Bench(name, "tx", cores=cores, queues=2, rx_entries=64, tx_entries=256)

    def run() -> None:
        bench.start()
        for queue in range(2):
            bench.nic.receive(queue, sent)
        bench.wait(lambda: bench.total("rx_packets") >= 200, "the first frames")
        old = bench.nic.queues
        bench.driver.reset()
        received = bench.total("rx_packets")
        assert received == sum(queue.rx_producer for queue in old), "what was completed is handled"
        assert bench.total("tx_packets") + bench.total("tx_aborted") + bench.total("rx_xdp_tx_full") == received
        bench.nothing_left()
        bench.driver.open()
        bench.nic.receive(1, sent[:10])
        bench.wait(lambda: bench.total("tx_packets") == 10, "frames after the reset")
        bench.finish()

    bench.run(run)


@STRATEGY
def test_it_opens_again_after_a_stop(name: str) -> None:
    sent = frames(100, 2)
    bench = Bench(name, "pass", expected=[sent * 3], rx_entries=32)

    def run() -> None:
        bench.driver.probe()
        for _ in range(3):
            bench.driver.open()
            bench.nic.receive(0, sent)
            bench.wait(lambda: bench.total("rx_packets") == 100, "every frame")
            bench.finish()

    bench.run(run)
    assert bench.collector.received == [300]


def test_page_pool_costs_less_than_a_page_per_packet() -> None:
    busy = {}
    for name in ("page_per_packet", "page_pool"):
        sent = frames(1000, 1, high=60)
        bench = Bench(name, "drop", checked=False)

        def run(bench: Bench = bench, sent: list[bytes] = sent) -> None:
            bench.start()
            before = bench.core.softirq.busy_ps
            bench.nic.receive(0, sent)
            bench.wait(lambda: bench.total("rx_packets") == 1000, "every frame")
            busy[bench.driver.config.strategy.name] = (bench.core.softirq.busy_ps - before) // 1000
            bench.finish()

        bench.run(run)
    assert busy["page_per_packet"] > busy["page_pool"] + 40_000, "at least 150 cycles of 0.278 ns lie between them"


def test_xdp_drop_costs_what_its_benchmark_says() -> None:
    """24 Mpps on one core (XDP paper) come back out of the driver when polls are full and nothing waits."""
    bench = Bench("page_pool", "drop", checked=False, rx_entries=2048, memory=64 << 20)
    sent = frames(4096, 1, high=60)

    def run() -> int:
        bench.start()
        bench.nic.receive(0, sent[:2048])
        bench.wait(lambda: bench.total("rx_packets") == 2048, "the first round, which fills the pool")
        before = bench.core.softirq.busy_ps
        bench.nic.receive(0, sent[2048:])
        bench.wait(lambda: bench.total("rx_packets") == 4096, "every frame")
        spent = bench.core.softirq.busy_ps - before
        bench.finish()
        return spent

    spent = bench.run(run)
    assert spent / 2048 == pytest.approx(1e12 / 24e6, rel=0.05)


def test_probe_refuses_another_device() -> None:
    bench = Bench()
    bench.nic.magic = 0x12345678
    with pytest.raises(DeviceError, match="No Pagewheel NIC of register map version 1: its ID .* reads 0x112345678"):
        bench.run(bench.driver.probe)


def test_probe_refuses_more_queues_than_there_are() -> None:
    bench = Bench(queues=2)
    driver = NicDriver(bench.host, bench.driver.config, queues=3)
    with pytest.raises(DeviceError, match="The device has 2 queue pairs, not 3"):
        bench.run(driver.probe)


def test_a_reset_that_does_not_end() -> None:
    bench = Bench()
    bench.nic.stuck = True
    with pytest.raises(DeviceError, match="Waited 10 ms for the function reset to end"):
        bench.run(bench.driver.probe)


def test_a_queue_that_does_not_stop() -> None:
    bench = Bench()

    def run() -> None:
        bench.start()
        bench.nic.stuck = True
        bench.driver.stop()

    with pytest.raises(DeviceError, match="Queue 0 rx did not stop within 10 ms: DISABLED"):
        bench.run(run)


@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("kib", [8, 100, 300, 600])
def test_without_memory_for_every_queue_none_is_open_and_nothing_is_left(cores: int, kib: int) -> None:
    bench = Bench(queues=4, cores=cores, memory=kib << 10, rx_entries=64, tx_entries=64)

    def run() -> None:
        driver = bench.driver
        driver.probe()
        for _ in range(3):
            with pytest.raises(OSError, match="No memory for a ring of 64 entries") as refusal:
                driver.open()
            assert refusal.value.errno == errno.ENOMEM
            assert not driver.netdev.running
            assert bench.nic.control == 0
            assert all(queue.napi.disabled for queue in driver.queues)
            assert {(queue.rx, queue.tx) for queue in bench.nic.queues} == {(QueueState.DISABLED, QueueState.DISABLED)}
            bench.nothing_left()
        with pytest.raises(DeviceError, match="is not open"):
            driver.stop()
        driver.reset()
        bench.nothing_left()

    bench.run(run)


def test_a_queue_that_does_not_stop_when_an_opening_fails_keeps_the_device_open_until_its_reset() -> None:
    bench = Bench(queues=4, cores=2, memory=600 << 10, rx_entries=64, tx_entries=64)

    def run() -> None:
        driver = bench.driver
        driver.probe()
        bench.nic.stuck = True
        with pytest.raises(DeviceError, match="did not stop within 10 ms"):
            driver.open()
        bench.nic.stuck = False
        with pytest.raises(DeviceError, match="is open already"):
            driver.open()
        assert bench.host.pages_in_use > 0
        driver.reset()
        bench.nothing_left()

    bench.run(run)


def test_an_interrupt_that_comes_while_its_queue_is_not_open_yet_is_ignored() -> None:
    bench = Bench(queues=2, cores=2)

    def run() -> None:
        bench.start()
        bench.driver.stop()
        bench.platform.at(bench.platform.now + 1000, lambda: bench.platform.interrupt(1))
        bench.driver.open()
        bench.nic.receive(1, frames(3, 1))
        bench.wait(lambda: bench.total("rx_packets") == 3, "the frames")
        bench.finish()

    bench.run(run)


def test_calls_in_the_wrong_order() -> None:
    bench = Bench()
    with pytest.raises(DeviceError, match="must be probed before it is opened"):
        bench.run(bench.driver.open)
    bench = Bench()
    with pytest.raises(DeviceError, match="is not open"):
        bench.run(bench.driver.stop)

    bench = Bench(queues=2)

    def stop_twice() -> None:
        bench.start()
        bench.driver.stop_queue(1)
        bench.driver.stop_queue(1)

    with pytest.raises(DeviceError, match="Queue pair 1 is not open"):
        bench.run(stop_twice)

    bench = Bench()

    def twice() -> None:
        bench.start()
        bench.driver.open()

    with pytest.raises(DeviceError, match="is open already"):
        bench.run(twice)


def test_status_and_counters() -> None:
    bench = Bench(queues=2)

    def run() -> None:
        bench.start()
        assert bench.driver.status(1, "rx") == (QueueState.ENABLED, False, QueueError.NONE)
        counters = bench.driver.counters()
        assert counters["rx_frames"] == 0
        reasons = ("queue_disabled", "no_buffer", "completion_full", "pool_limit")
        assert [counters[f"nic_queue1_drop_{reason}"] for reason in reasons] == [0] * 4
        with pytest.raises(ValueError, match="Direction must be rx or tx, not 'up'"):
            bench.driver.status(0, "up")
        names = bench.driver.ethtool_statistics()
        assert names["queue0_rx_packets"] == 0
        assert names["rx_pp_alloc_slow"] > 0
        bench.finish()
        assert bench.driver.status(0, "tx").stopped

    bench.run(run)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rx_entries": 100}, ValueError, r"rx_entries must be a power of two in 8\.\.32768, not 100"),
        ({"tx_entries": 4}, ValueError, r"tx_entries must be a power of two in 8\.\.32768, not 4"),
        ({"tx_entries": 8.0}, TypeError, r"tx_entries must be an integer, not 8\.0"),
        ({"moderation_cycles": 1 << 16}, ValueError, r"moderation_cycles must be in 0\.\.65535, not 65536"),
        ({"moderation_count": "4"}, ValueError, r"moderation_count must be in 0\.\.65535, not '4'"),
        ({"pool_size": 65537}, ValueError, r"pool_size must be in 0\.\.65536, not 65537"),
        ({"completion_cycles": -1}, ValueError, r"completion_cycles must be in 0\.\.65535, not -1"),
    ],
)
def test_bad_configuration(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        QueueConfig(**{"strategy": strategy("page_pool"), "program": program("drop"), **change})


@pytest.mark.parametrize("cycles", [0, 108, 65535])
def test_the_wait_of_completions_is_set_again_after_a_reset(cycles: int) -> None:
    bench = Bench(completion_cycles=cycles)
    timeouts = bench.nic.map.port["timeouts"]
    word = timeouts.pack(starvation=timeouts.fields["starvation"].reset, completion=cycles)

    def run() -> None:
        bench.start()
        assert bench.nic.port["timeouts"] == word
        bench.driver.reset()
        assert "timeouts" not in bench.nic.port
        bench.driver.open()
        assert bench.nic.port["timeouts"] == word
        bench.finish()

    bench.run(run)


def test_the_wait_of_completions_stays_that_after_a_reset_unless_it_is_set() -> None:
    bench = Bench()

    def run() -> None:
        bench.start()
        assert "timeouts" not in bench.nic.port
        bench.finish()

    bench.run(run)


def test_unknown_strategy_and_bad_queue_count() -> None:
    expected = f"Buffer strategy must be one of {', '.join(STRATEGIES)}, or FILE.py:CLASS, not 'order3'"
    with pytest.raises(ValueError, match=expected):
        strategy("order3")
    bench = Bench()
    with pytest.raises(ValueError, match="queues must be 1 or more, not 0"):
        NicDriver(bench.host, bench.driver.config, queues=0)
    with pytest.raises(TypeError, match="queues must be an integer or None, not '2'"):
        NicDriver(bench.host, bench.driver.config, queues="2")
