# SPDX-License-Identifier: BSD-2-Clause
"""Packets that come in two pieces: where their headers are, whose they are, and what is not believed of them."""

import errno
from dataclasses import replace
from typing import Any

import pytest

from driver_model.drivers.ethtool import TcpDataSplit
from driver_model.drivers.header_buffers import HEADER_BUFFER_BYTES
from driver_model.drivers.ring import RX_HEADER_SPLIT
from driver_model.net.xdp import XdpAction, XdpProgram
from hw.abi.rings import CompletionError
from tests.driver_model.bench import Bench, frames

ENTRIES = 16


def headers_of(frame: bytes) -> int:
    """Bytes of a frame's headers, which the fake device splits off: most have some, many none that fit."""
    return frame[0] % 5 * 40


def split_bench(verdict: str = "pass", **more: Any) -> Bench:
    return Bench("page_pool", verdict, headers=headers_of, rx_entries=ENTRIES, **more)


def enable(bench: Bench) -> None:
    """Probe, and switch splitting on; in a process."""
    bench.driver.probe()
    assert bench.driver.ethtool.tcp_data_split is TcpDataSplit.DISABLED
    bench.driver.ethtool.set_tcp_data_split(enable=True)


def test_headers_and_what_is_behind_them_make_the_frame_round_after_round() -> None:
    """Over one buffer or several; the header buffers are the device's and the CPU's alike, as the checker sees it."""
    sent = frames(200, seed=4, high=5000)
    bench = split_bench(expected=[sent])

    def run() -> None:
        enable(bench)
        bench.driver.open()
        for start in range(0, len(sent), 8):
            bench.nic.receive(0, sent[start : start + 8])
            bench.wait(lambda done=start + 8: bench.total("rx_packets") == done, "frames")
        bench.finish()

    bench.run(run)
    lengths = [headers_of(frame) for frame in sent if headers_of(frame) < len(frame)]
    split = [length for length in lengths if 0 < length <= HEADER_BUFFER_BYTES]
    assert bench.collector.received == [len(sent)]
    assert bench.total("rx_hsplit_packets") == len(split) > 100
    assert bench.total("rx_hsplit_bytes") == sum(split)
    assert bench.total("rx_bytes") == sum(map(len, sent))
    assert bench.total("rx_errors") == 0


@pytest.mark.parametrize("name", ["page_pool", "page_per_packet"])
@pytest.mark.parametrize("high", [1514, 9000])
def test_a_split_frame_is_sent_whole_and_its_header_buffer_given_back(name: str, high: int) -> None:
    sent = frames(200, seed=5, low=200, high=high)
    bench = Bench(name, "tx", headers=headers_of, rx_entries=ENTRIES, tx_entries=ENTRIES)

    def run() -> None:
        enable(bench)
        bench.driver.open()
        for number, frame in enumerate(sent):
            bench.nic.receive(0, [frame])
            bench.wait(lambda done=number + 1: bench.total("tx_packets") == done, "the frame")
        bench.finish()

    bench.run(run)
    assert bench.nic.queues[0].sent == sent
    assert bench.total("tx_bytes") == bench.total("rx_bytes") == sum(map(len, sent))
    assert bench.total("rx_xdp_tx") == len(sent)


def test_copying_headers_to_send_them_fetches_the_lines_that_the_device_wrote() -> None:
    missed: dict[int, int] = {}
    for kind in range(4):
        bench = split_bench("tx")

        def run(bench: Bench = bench, kind: int = kind) -> None:
            enable(bench)
            bench.driver.open()
            bench.nic.receive(0, [bytes([kind]) + bytes(199)])
            bench.wait(lambda: bench.total("tx_packets") == 1, "the frame")
            missed[kind] = bench.core.device_line.count
            bench.finish()

        bench.run(run)
    assert [missed[kind] - missed[0] for kind in range(4)] == [0, 1, 2, 2]


def test_a_split_frame_of_more_pieces_than_the_device_sends_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.driver_model.fake_nic.MAX_DESCRIPTORS", 1)
    sent = [bytes([kind]) + bytes(size - 1) for kind, size in ((1, 3520), (1, 3561), (0, 7040))]
    bench = split_bench("tx")

    def run() -> None:
        enable(bench)
        bench.driver.open()
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("rx_packets") == 3, "the frames")
        bench.finish()

    bench.run(run)
    assert bench.nic.queues[0].sent == [sent[0], sent[2]]
    assert bench.total("rx_xdp_tx_full") == 1


def test_a_consumer_gets_headers_beside_the_fragments_and_none_of_a_frame_that_came_whole() -> None:
    got: list[Any] = []

    def take(queue: Any, fragments: Any, metadata: Any) -> None:
        header = metadata.header
        got.append((None if header is None else queue.core.load_owned(*header), sum(size for _, _, size in fragments)))
        for buffer, _, _ in fragments:
            queue.release(buffer)

    sent = [bytes([kind]) + frame[1:300] for kind, frame in zip((1, 0, 2, 4), frames(4, seed=1, low=300), strict=True)]
    bench = split_bench(consumer=take)

    def run() -> None:
        enable(bench)
        bench.driver.open()
        bench.nic.receive(0, sent)
        bench.wait(lambda: len(got) == len(sent), "frames")
        bench.finish()

    bench.run(run)
    assert got == [(sent[0][:40], 260), (None, 300), (sent[2][:80], 220), (None, 300)]


def test_it_is_switched_while_the_device_is_closed_and_outlasts_that() -> None:
    sent = [bytes([1]) + bytes(99)] * 3
    bench = split_bench(expected=[sent * 3])
    seen: list[int] = []

    def run() -> None:
        enable(bench)
        ethtool = bench.driver.ethtool
        for round_, on in enumerate((True, True, False)):
            if not on:
                ethtool.set_tcp_data_split(enable=False)
            assert ethtool.tcp_data_split is (TcpDataSplit.ENABLED if on else TcpDataSplit.DISABLED)
            bench.driver.open()
            with pytest.raises(OSError, match="only while the device is closed") as refusal:
                ethtool.set_tcp_data_split(enable=not on)
            assert refusal.value.errno == errno.EBUSY
            bench.nic.receive(0, sent)
            bench.wait(lambda done=round_ + 1: bench.collector.received == [3 * done], "frames")
            if round_:
                bench.finish()
            else:
                bench.driver.reset()
                bench.nothing_left()
            seen.append(bench.total("rx_hsplit_packets"))

    bench.run(run)
    assert seen == [3, 3, 0]


def test_a_device_that_cannot_split_and_a_program_that_needs_whole_packets_are_named() -> None:
    picky = split_bench()
    picky.driver.config = replace(picky.driver.config, program=XdpProgram("picky", lambda xdp: XdpAction.PASS))
    for bench, number, message in (
        (Bench("page_pool", "pass"), errno.EOPNOTSUPP, "has no tcp-data-split"),
        (picky, errno.EINVAL, "single buffer XDP"),
    ):

        def run(bench: Bench = bench, number: int = number, message: str = message) -> None:
            bench.start()
            bench.driver.stop()
            ethtool = bench.driver.ethtool
            with pytest.raises(OSError, match=message) as refusal:
                ethtool.set_tcp_data_split(enable=True)
            assert refusal.value.errno == number
            able = number == errno.EINVAL
            assert ethtool.tcp_data_split is (TcpDataSplit.DISABLED if able else TcpDataSplit.UNKNOWN)

        bench.run(run)


@pytest.mark.parametrize("on", [True, False])
def test_headers_that_cannot_be_are_errors_of_their_frame_alone(on: bool) -> None:
    """Of a length that does not fit, in the middle of a frame, or where nothing is to be split."""
    bench = split_bench(expected=[[bytes(60)]])

    def run() -> None:
        bench.driver.probe()
        bench.driver.ethtool.set_tcp_data_split(enable=on)
        bench.driver.open()
        nic, queue = bench.nic, bench.nic.queues[0]
        lengths = ((0, True), (HEADER_BUFFER_BYTES + 1, True), (40, False), (40, True)) if on else ((40, True),)
        for number, (length, end) in enumerate(lengths):
            nic.complete(queue, number, 60, end=end, told=(0, 0, 0, length, 0), flags=RX_HEADER_SPLIT)
        queue.fill_consumer += len(lengths)
        nic.receive(0, [bytes(60)])
        bench.wait(lambda: bench.collector.received == [1], "the good frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_errors") == bench.total("rx_length_errors") == (3 if on else 1)
    assert bench.total("rx_hsplit_packets") == 0


def test_headers_are_the_cpus_until_the_rest_of_their_frame_has_come() -> None:
    """The device may be a whole ring further by then: it must not have been given their buffer again."""
    bench = split_bench(expected=[[bytes(40 + 60 + 50)]])

    def run() -> None:
        enable(bench)
        bench.driver.open()
        nic, queue = bench.nic, bench.nic.queues[0]
        nic.complete(queue, 0, 60, end=False, told=(0, 0, 0, 40, 0), flags=RX_HEADER_SPLIT)
        queue.fill_consumer += 1
        nic.receive(0, [])
        bench.wait(lambda: queue.fill_producer == ENTRIES + 1, "the first buffer to be posted again")
        assert queue.rx_consumer == 0
        nic.complete(queue, 1, 50)
        queue.fill_consumer += 1
        nic.receive(0, [])
        bench.wait(lambda: queue.rx_consumer == 2, "both completions to be given back")
        bench.finish()

    bench.run(run)
    assert bench.collector.received == [1]


def test_headers_whose_write_was_refused_drop_their_frame() -> None:
    bench = split_bench()

    def run() -> None:
        enable(bench)
        bench.driver.open()
        queue = bench.nic.queues[0]
        fault = CompletionError.WRITE_FAULT
        bench.nic.complete(queue, 0, 60, error=fault, told=(0, 0, 0, 40, 0), flags=RX_HEADER_SPLIT)
        queue.fill_consumer += 1
        bench.nic.receive(0, [])
        bench.wait(lambda: bench.total("rx_errors") == 1, "the frame")
        bench.finish()

    bench.run(run)
    assert bench.total("rx_write_fault") == 1
    assert bench.collector.received == []
