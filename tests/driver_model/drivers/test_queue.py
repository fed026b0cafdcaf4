# SPDX-License-Identifier: BSD-2-Clause
"""A queue pair when the device, memory or the consumer misbehave, and its wake-ups."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.events import EventLog
from driver_model.memory.dma.api import DMA_MAPPING_ERROR, Device, DmaDirection
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.page_pool.params import PP_ALLOC_CACHE_REFILL
from driver_model.memory.pages.page import Page
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from hw.abi.rings import CompletionError
from tests.driver_model.bench import Bench, frames
from tests.driver_model.fake_nic import FakeNic, FakeQueue


def inject(bench: Bench, *completions: dict[str, Any]) -> None:
    """The device completes buffers by itself: ids and lengths as given, then an interrupt."""
    queue = bench.nic.queues[0]
    for completion in completions:
        queue.fill_consumer += 1
        bench.nic.complete(queue, **completion)
    bench.nic.receive(0, [])


@pytest.mark.parametrize(
    ("completion", "counter"),
    [
        ({"buffer_id": 0, "length": 3521}, "rx_length_errors"),
        ({"buffer_id": 0, "length": 0}, "rx_length_errors"),
        ({"buffer_id": 0, "length": 60, "error": CompletionError.WRITE_FAULT}, "rx_write_fault"),
        ({"buffer_id": 65535, "length": 60}, "rx_bad_buffer"),
    ],
)
@pytest.mark.parametrize("name", ["page_pool", "page_per_packet"])
def test_a_bad_completion_is_dropped_and_counted(name: str, completion: dict[str, Any], counter: str) -> None:
    seen: list[int] = []
    program = XdpProgram("spy", lambda xdp: seen.append(xdp.data_end - xdp.data) or XdpAction.DROP)
    bench = Bench(name, rx_entries=16)
    bench.driver.config = QueueConfig(bench.driver.config.strategy, program, rx_entries=16)

    def run() -> None:
        bench.start()
        inject(bench, completion, {"buffer_id": 1, "length": 77})
        bench.wait(lambda: bench.total("rx_completed") == 2, "both frames")
        bench.finish()

    bench.run(run)
    assert bench.total(counter) == 1
    assert bench.total("rx_errors") == 1
    assert bench.total("rx_xdp_drop") == 1
    assert (bench.total("rx_packets"), bench.total("rx_bytes")) == (1, 77), "good frames alone"
    assert seen == [77], "the program must not see a frame that the device could not deliver"


def test_one_buffer_named_twice() -> None:
    bench = Bench(rx_entries=16)

    def run() -> None:
        bench.start()
        inject(bench, {"buffer_id": 3, "length": 60}, {"buffer_id": 3, "length": 60})
        bench.wait(lambda: bench.total("rx_completed") == 2, "both frames")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_bad_buffer") == 1


def test_an_error_in_one_buffer_drops_the_whole_frame() -> None:
    bench = Bench(rx_entries=16)

    def run() -> None:
        bench.start()
        inject(
            bench,
            {"buffer_id": 0, "length": 3520, "end": False, "error": CompletionError.WRITE_FAULT},
            {"buffer_id": 1, "length": 3520, "end": False},
            {"buffer_id": 2, "length": 100},
        )
        bench.wait(lambda: bench.total("rx_errors") == 1, "the frame")
        bench.finish()

    bench.run(run)
    assert (bench.total("rx_packets"), bench.total("rx_bytes"), bench.total("rx_xdp_drop")) == (0, 0, 0)


@pytest.mark.parametrize(("single_buffer", "sizes"), [(True, [60, 1514]), (False, [60, 3520, 1514])])
def test_a_program_that_must_have_frames_whole_gets_no_part_of_one(single_buffer: bool, sizes: list[int]) -> None:
    seen: list[int] = []
    program = XdpProgram(
        "spy", lambda xdp: seen.append(xdp.data_end - xdp.data) or XdpAction.DROP, single_buffer=single_buffer
    )
    bench = Bench(rx_entries=16)
    bench.driver.config = QueueConfig(bench.driver.config.strategy, program, rx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, [bytes(60), bytes(9000), bytes(1514)])
        bench.wait(lambda: bench.total("rx_packets") == 3, "every frame")
        bench.finish()

    bench.run(run)
    assert seen == sizes
    assert bench.total("rx_xdp_frags") == single_buffer
    assert bench.total("rx_xdp_drop") == len(sizes)
    assert bench.total("rx_bytes") == 60 + 9000 + 1514


def test_a_full_transmit_ring_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNic, "_send", lambda self, queue: None)
    bench = Bench("page_pool", "tx", rx_entries=32, tx_entries=8)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(20, 0))
        bench.wait(lambda: bench.total("rx_packets") == 20, "every frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_xdp_tx") == 8
    assert bench.total("rx_xdp_tx_full") == 12
    assert bench.total("tx_aborted") == 8


def test_a_frame_that_cannot_be_mapped_for_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("page_per_packet", "tx", rx_entries=16)
    ops = bench.host.devices[0].ops
    real = ops.map
    calls: list[int] = []

    def refuse(dev: Device, address: int, size: int, direction: DmaDirection, attrs: int = 0) -> int:
        if direction is DmaDirection.TO_DEVICE:
            calls.append(size)
            if len(calls) == 2:
                return DMA_MAPPING_ERROR
        return real(dev, address, size, direction, attrs)

    monkeypatch.setattr(ops, "map", refuse)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(1, 0, low=9000, high=9000))
        bench.wait(lambda: bench.total("rx_packets") == 1, "the frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_xdp_tx_full") == 1
    assert bench.nic.queues[0].sent == []


@pytest.mark.parametrize("name", ["page_pool", "page_per_packet"])
@pytest.mark.parametrize("index", [0, 3, 9, 0xFFFF])
def test_a_completion_of_what_is_not_queued_is_counted_and_ignored(name: str, index: int) -> None:
    bench = Bench(name, "tx", rx_entries=16)
    send = bench.nic._send
    sent = frames(3, 0)

    def lie(queue: FakeQueue) -> None:
        """A completion that names an index; only with a third frame all go."""
        if queue.tx_producer == 2 and not queue.tx_done:
            entry = index.to_bytes(2, "little")
            bench.nic.write(queue.registers["tx_completion_base"], bytes(2) + entry + bytes(11) + b"\x80")
            queue.tx_done += 1
        elif queue.tx_producer == 3:
            send(queue)

    def run() -> None:
        bench.start()
        bench.nic._send = lie
        bench.nic.receive(0, sent[:2])
        bench.wait(lambda: bench.total("tx_bad_completion") == 1, "the driver to notice")
        assert bench.driver.queues[0].tx.outstanding == 2, "nothing is given back"
        bench.nic.receive(0, sent[2:])
        bench.wait(lambda: bench.total("tx_packets") == 3, "all frames to be sent")
        bench.finish()

    bench.run(run)
    assert bench.nic.queues[0].sent == sent
    assert bench.total("tx_bad_completion") == 1


@pytest.mark.parametrize("run_", [lambda xdp: XdpAction.ABORTED, lambda xdp: 17], ids=["aborted", "no verdict"])
def test_other_verdicts_drop_and_count(run_: Callable[[XdpBuff], Any]) -> None:
    bench = Bench(rx_entries=16)
    bench.driver.config = QueueConfig(PagePoolStrategy, XdpProgram("odd", run_), rx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(3, 0))
        bench.wait(lambda: bench.total("rx_packets") == 3, "every frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_xdp_aborted") == 3


@pytest.mark.parametrize("name", ["page_pool", "page_per_packet"])
def test_a_consumer_that_holds_every_buffer_does_not_end_reception(name: str) -> None:
    """With memory exhausted the ring runs dry; when buffers come back, no interrupt tells, a timer does."""
    held: list[Any] = []

    def hold(queue: Any, fragments: Any, metadata: Any) -> None:
        held.extend(fragments)

    bench = Bench(name, "pass", consumer=hold, memory=128 * 4096, rx_entries=64)
    sent = frames(400, 3, high=60)

    def run() -> None:
        bench.start()
        queue = bench.driver.queues[0]
        bench.nic.receive(0, sent)
        for _ in range(20):
            bench.core.sleep_until(bench.core.time + 2 * 10**9)
            for buffer, _, _ in held:
                queue.release(buffer)
            held.clear()
        bench.wait(lambda: bench.total("rx_packets") == 400, "every frame")
        for buffer, _, _ in held:
            queue.release(buffer)
        bench.finish()

    bench.run(run)
    assert bench.total("rx_xdp_pass") == 400
    assert bench.total("rx_no_memory") > 0


@pytest.mark.parametrize("seed", range(8))
def test_no_wake_up_is_lost(seed: int) -> None:
    """Frames one at a time, at moments that fall into every part of poll, completion and arming."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench("page_pool", "tx", rx_entries=16, tx_entries=16)
    sent = frames(150, seed, high=60)

    def run() -> None:
        bench.start()
        at = bench.core.time
        for frame in sent:
            at += rng.randrange(0, 3_000_000)
            bench.platform.at(at, lambda frame=frame: bench.nic.receive(0, [frame]))
        bench.wait(lambda: bench.total("tx_packets") == len(sent), "every frame to be sent")
        bench.finish()

    bench.run(run)
    assert bench.nic.queues[0].sent == sent
    assert 1 < bench.total("interrupts") <= 2 * len(sent)


def test_one_doorbell_publishes_a_poll() -> None:
    bench = Bench("page_pool", "drop", rx_entries=128)
    writes: list[int] = []
    real = bench.nic._write

    def spy(offset: int, value: int) -> None:
        writes.append(offset)
        real(offset, value)

    bench.platform.on_write = spy

    def run() -> None:
        bench.start()
        polls = bench.driver.queues[0].napi.polls
        writes.clear()
        bench.nic.receive(0, frames(100, 0))
        bench.wait(lambda: bench.total("rx_packets") == 100, "every frame")
        assert bench.driver.queues[0].napi.polls - polls == 2
        names = [bench.nic._locate(offset)[1] for offset in writes]
        assert names == ["rx_doorbell", "rx_doorbell", "arm"]
        bench.finish()

    bench.run(run)


def test_a_poll_that_finds_nothing_writes_no_doorbell() -> None:
    bench = Bench("page_pool", "tx", rx_entries=16)
    writes: list[str] = []
    real = bench.nic._write

    def spy(offset: int, value: int) -> None:
        writes.append(bench.nic._locate(offset)[1])
        real(offset, value)

    bench.platform.on_write = spy

    def run() -> None:
        bench.start()
        bench.core.sync()
        writes.clear()
        bench.platform.interrupt(0)
        bench.wait(lambda: bench.driver.queues[0].napi.polls == 1, "the poll")
        assert writes == ["arm"]
        bench.finish()

    bench.run(run)


class ForgetsToSync(PagePoolStrategy):
    """A driver bug: the CPU looks at the frame without sync_for_cpu."""

    def received(self, buffer: Page, length: int) -> Page:
        """Nothing is synced."""
        return buffer


class ReleasesTwice(PagePoolStrategy):
    """A driver bug: every buffer is given back twice."""

    def release(self, buffer: Page) -> None:
        """Twice."""
        super().release(buffer)
        super().release(buffer)


@pytest.mark.parametrize(
    ("broken", "verdict", "rule", "line"),
    [
        (ForgetsToSync, "pass", "cpu access of device memory", r"driver_model/net/collector\.py:\d+"),
        (ReleasesTwice, "drop", "double put", r"driver_model/drivers/strategies/page_pool\.py:\d+"),
    ],
)
def test_a_broken_driver_is_caught_at_its_line(
    broken: type[PagePoolStrategy], verdict: str, rule: str, line: str
) -> None:
    sent = frames(3, 0)
    bench = Bench("page_pool", verdict, expected=[sent], rx_entries=16)
    config = bench.driver.config
    bench.driver.config = QueueConfig(broken, config.program, config.consumer, rx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("rx_packets") == 3, "every frame")

    with pytest.raises(OwnershipError, match=rf"{rule}: .* at {line} on core 0"):
        bench.run(run)


def test_the_pool_settles_at_the_ring_size() -> None:
    bench = Bench("page_pool", "drop", rx_entries=64)

    def run() -> None:
        bench.start()
        for number in range(20):
            bench.nic.receive(0, frames(60, number, high=60))
            bench.wait(lambda number=number: bench.total("rx_packets") == 60 * (number + 1), "every frame")
        assert bench.driver.in_flight == PP_ALLOC_CACHE_REFILL
        assert bench.driver.ethtool_statistics()["rx_pp_alloc_slow"] == 1
        bench.finish()

    bench.run(run)


def test_the_event_log_follows_a_buffer() -> None:
    bench = Bench("page_pool", "tx", rx_entries=16)
    log = EventLog()
    bench.core.log = log

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames(1, 0))
        bench.wait(lambda: bench.total("tx_packets") == 1, "the frame to be sent")
        bench.finish()

    bench.run(run)
    buffer = next(event.buffer for event in log.events if event.kind == "receive")
    life = [event for event in log.events if event.buffer == buffer]
    name = life[0].buffer_id
    assert name is not None
    assert [(event.kind, event.function, event.buffer_id) for event in life] == [
        ("post", "refill", name),
        ("receive", "rx_completion", name),
        ("verdict", "tx", None),
        ("send", "xdp_tx", 0),
        ("clean", "tx_clean", 0),
        ("return", "transmitted", None),
    ]
    assert {event.queue for event in life} == {0}
    assert [event.time for event in life] == sorted(event.time for event in life)
    assert life[0].context == "test"
    assert {event.context for event in life[1:]} <= {"softirq", "ksoftirqd/0"}
