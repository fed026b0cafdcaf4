# SPDX-License-Identifier: BSD-2-Clause
"""Frames whose completions do not all come at once, or never end."""

from collections.abc import Sequence
from typing import Any

import pytest

from driver_model.drivers.ring import FILL_FORMAT, RX_HEADER_SPLIT
from tests.driver_model.bench import Bench


@pytest.mark.parametrize("strategy", ["page_pool", "page_flip"])
def test_a_frame_that_never_ends_does_not_take_all_memory(strategy: str) -> None:
    bench = Bench(strategy, "pass", rx_entries=16)

    def run() -> None:
        bench.start()
        (queue,), (device,) = bench.driver.queues, bench.nic.queues
        most = -(-bench.driver.netdev.capabilities.max_frame // queue.strategy.buffer_length)
        for at in range(200):
            bench.nic.complete(device, at % 16, 60, end=False)
            bench.nic._schedule()
            bench.core.sleep_until(bench.core.time + 5 * 10**6)
            assert len(queue.rx._fragments) <= most
        bench.nic.complete(device, 200 % 16, 60)
        bench.nic._schedule()
        bench.wait(lambda: bench.total("rx_errors") == 1, "its end")
        assert bench.total("rx_length_errors") == 1
        bench.finish()

    bench.run(run)


def deliver(bench: Bench, data: bytes, header: bytes, *, end: bool) -> None:
    """The device fills its next buffer, and the header buffer beside the completion's slot."""
    (queue,), read = bench.nic.queues, bench.nic.read
    setup, register = queue.registers, bench.nic.map.queue["rx_header"]
    at = setup["rx_fill_base"] + 16 * (queue.fill_consumer % setup["rx_fill_size"])
    address, _, buffer_id, _ = FILL_FORMAT.unpack(read(at, 16))
    queue.fill_consumer += 1
    if header:
        word, slot = setup["rx_header"], queue.rx_producer % setup["rx_completion_size"]
        place = register.get(word, "address") << 6
        bench.nic.write(place + slot * (64 << register.get(word, "size")), header)
    bench.nic.write(address, data)
    told, flags = (0, 0, 0, len(header), 0), RX_HEADER_SPLIT if header else 0
    bench.nic.complete(queue, buffer_id, len(data), end=end, told=told, flags=flags)
    bench.nic._schedule()


@pytest.mark.parametrize("polls", [1, 2])
def test_headers_outlast_the_poll_that_saw_a_frame_begin(polls: int) -> None:
    """The device has their buffer again by then, and fills it for the frame a ring later."""
    got: list[tuple[bytes, bytes]] = []

    def take(queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        pieces = [queue.core.load_owned(buffer.address + offset, size) for buffer, offset, size in fragments]
        got.append((b"" if metadata.header is None else queue.core.load_owned(*metadata.header), b"".join(pieces)))
        for buffer, _, _ in fragments:
            queue.release(buffer)

    bench = Bench("page_pool", "pass", headers=len, rx_entries=8, consumer=take)
    others = [(bytes([at]) * 60, bytes([at]) * 40) for at in range(8)]

    def run() -> None:
        bench.driver.probe()
        bench.driver.ethtool.set_tcp_data_split(enable=True)
        bench.driver.open()
        for poll in range(polls):
            deliver(bench, b"b" * 100, b"" if poll else b"a" * 40, end=False)
            bench.wait(lambda poll=poll: bench.nic.queues[0].rx_consumer == poll + 1, "a poll")
        deliver(bench, b"c" * 70, b"", end=True)
        for data, header in others[polls:]:
            deliver(bench, data, header, end=True)
        bench.wait(lambda: len(got) == 1 + len(others[polls:]), "the frames")
        bench.finish()

    bench.run(run)
    assert got == [(b"a" * 40, b"b" * 100 * polls + b"c" * 70), *((header, data) for data, header in others[polls:])]
