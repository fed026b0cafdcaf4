# SPDX-License-Identifier: BSD-2-Clause
"""A socket that holds packets: what it charges, drops, joins and gives back."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from driver_model.net.local_socket import LocalSocket
from tests.driver_model.net.skb.skb_kit import SkbKit
from tests.driver_model.stack_bench import MS, StackBench

TRUESIZE = 4096 + 256  #: of a packet in a page of its own


def frame(number: int, length: int = 100) -> bytes:
    payload = number.to_bytes(2).ljust(length, b".")
    return bytes(Ether() / IP(src="10.1.1.1", dst="10.2.2.2") / UDP(sport=1, dport=2) / payload)


class Kit:
    """A socket behind the driver, and what was read from it."""

    def __init__(self, strategy: str = "page_per_packet", **options: Any) -> None:
        self.read: list[bytes] = []

        def handler(bench: StackBench, core: int) -> LocalSocket:
            return LocalSocket(bench.host.pages[core], deliver=self.read.append, **options)

        self.bench = StackBench(strategy, handler)
        (socket,) = self.bench.handlers
        assert isinstance(socket, LocalSocket)
        self.socket = socket

    def run(self, frames: Sequence[bytes], then: Callable[[], None] = lambda: None) -> None:
        """Receive frames, do something, close."""
        bench = self.bench

        def body() -> None:
            bench.start()
            bench.send(0, frames)
            bench.wait(lambda: bench.total("rx_packets") == len(frames), "every frame")
            then()
            bench.close()

        bench.run(body)


def test_packets_are_read_when_they_have_lain_long_enough() -> None:
    sent = [frame(at) for at in range(20)]
    kit = Kit(hold=3 * MS)
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        seen.append((len(kit.read), kit.socket.waiting, kit.socket.rmem_alloc))
        kit.bench.core.sleep_until(kit.bench.core.time + 4 * MS)
        seen.append((len(kit.read), kit.socket.waiting, kit.socket.rmem_alloc))

    kit.run(sent, look)
    assert seen == [(0, 20, 20 * TRUESIZE), (20, 0, 0)]
    assert kit.read == [each[14:] for each in sent]
    statistics = kit.socket.statistics
    assert (statistics.queued, statistics.read_packets, statistics.peak_truesize) == (20, 20, 20 * TRUESIZE)
    assert statistics.read_bytes == sum(len(each) - 14 for each in sent)
    count = kit.bench.core.op
    assert [count(name).count for name in ("sock.demux", "sock.enqueue", "syscall", "sock.recv")] == [20] * 4


def test_the_lock_is_taken_for_each_packet_that_comes_and_twice_for_each_that_is_read() -> None:
    kit = Kit(hold=3 * MS)
    bench, locks = kit.bench, kit.bench.core.op("spin.lock")
    counts: list[int] = []

    def body() -> None:
        bench.start()
        counts.append(locks.count)
        bench.send(0, [frame(at) for at in range(20)])
        bench.wait(lambda: kit.socket.waiting == 20, "every frame")
        counts.append(locks.count)
        bench.core.sleep_until(bench.core.time + 4 * MS)
        counts.append(locks.count)
        bench.close()

    bench.run(body)
    begin, came, read = counts
    assert 20 <= came - begin <= 21, "the zone's, too, once at most"
    assert read - came == 2 * 20


def test_a_full_buffer_drops_and_one_packet_may_pass_it() -> None:
    kit = Kit(hold=10 * MS, rcvbuf=3 * TRUESIZE + 1)
    kit.run([frame(at) for at in range(10)])
    statistics = kit.socket.statistics
    assert (statistics.queued, statistics.dropped, statistics.peak_truesize) == (4, 6, 4 * TRUESIZE)
    assert kit.socket.rmem_alloc == 0


def test_what_was_not_read_is_freed_when_the_socket_closes() -> None:
    kit = Kit(hold=50 * MS)
    kit.run([frame(at) for at in range(10)])
    assert (kit.read, kit.socket.waiting, kit.socket.rmem_alloc) == ([], 0, 0)
    assert kit.bench.host.softnets[0].skbs.statistics.freed == 10


def test_a_closed_socket_drops() -> None:
    kit = Kit()

    def close_and_receive() -> None:
        kit.socket.close()
        kit.bench.send(0, [frame(1)])
        kit.bench.wait(lambda: kit.bench.total("rx_packets") == 2, "another frame")

    kit.run([frame(0)], close_and_receive)
    assert kit.socket.statistics.dropped == 1


def test_a_stream_is_joined_and_read_whole() -> None:
    sent = [frame(at, 1000) for at in range(30)]
    kit = Kit(hold=3 * MS, stream=True)
    kit.run(sent, lambda: kit.bench.core.sleep_until(kit.bench.core.time + 6 * MS))
    statistics = kit.socket.statistics
    assert b"".join(kit.read) == b"".join(each[14:] for each in sent)
    assert statistics.queued == 30
    assert statistics.coalesced == 30 - statistics.read_packets > 20
    assert kit.socket.rmem_alloc == 0


def test_packets_of_a_pool_are_joined_among_themselves() -> None:
    sent = [frame(at, 1000) for at in range(30)]
    kit = Kit("page_pool", hold=3 * MS, stream=True)
    kit.run(sent, lambda: kit.bench.core.sleep_until(kit.bench.core.time + 6 * MS))
    assert b"".join(kit.read) == b"".join(each[14:] for each in sent)
    assert kit.socket.statistics.coalesced > 20


def test_a_jumbo_frame_is_copied_in_pieces_of_the_readers_buffer() -> None:
    kit = Kit("fragments")
    sent = [frame(0, 8000), frame(1, 50)]
    kit.run(sent, lambda: kit.bench.core.sleep_until(kit.bench.core.time + 3 * MS))
    assert kit.read == [each[14:] for each in sent]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hold": -1}, "hold must be an integer, 0 or more, not -1"),
        ({"hold": 0.5}, "hold must be an integer, 0 or more, not 0.5"),
        ({"rcvbuf": 0}, "rcvbuf must be an integer, 1 or more, not 0"),
        ({"rcvbuf": True}, "rcvbuf must be an integer, 1 or more, not True"),
    ],
)
def test_parameters(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LocalSocket(SkbKit().pages, **options)


def test_no_memory_for_the_reader() -> None:
    kit = SkbKit(memory=1 << 20)
    while kit.pages.alloc_pages() is not None:
        pass
    with pytest.raises(MemoryError, match="a reader's buffer of 65536 bytes"):
        LocalSocket(kit.pages).open()


def test_a_socket_of_another_core() -> None:
    with pytest.raises(ValueError, match="A socket of core 0 cannot serve the stack of core 1"):
        StackBench("page_pool", lambda bench, core: LocalSocket(bench.host.pages[0]), cores=2, queues=2)
