# SPDX-License-Identifier: BSD-2-Clause
"""From a driver's buffers to a handler: how SKBs are built, and what becomes of frames that a host drops."""

from collections.abc import Sequence
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from driver_model.net.ip import Ipv4
from driver_model.net.skb.memory import ReceivedBuffer
from driver_model.net.skb.policy import Clearing, Head, HeadMemory, Place, SkbPolicy
from driver_model.net.skb.sk_buff import SIZEOF_SK_BUFF, SkBuff
from driver_model.net.stack import NetStack
from tests.driver_model.net.skb.skb_kit import HEADROOM, SkbKit


class Keep:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[SkBuff] = []
        self.headers: list[Ipv4] = []

    def attach(self, stack: NetStack) -> None:
        """Nothing to do."""

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """Keep it."""
        self.got.append(skb)
        self.headers.append(header)

    def close(self) -> None:
        """Nothing to do."""


class Metadata:
    """Headers that lie apart."""

    def __init__(self, header: tuple[int, int] | None = None) -> None:
        self.header = header


class Queue:
    """A queue pair with buffers of a page."""

    def __init__(self, kit: SkbKit, *, writable: bool = True, recycles: bool = False) -> None:
        self.core, self.kit, self.strategy = kit.core, kit, self
        self.writable, self.recycles = writable, recycles

    def memory(self, owner: Any, buffer: Any) -> ReceivedBuffer:
        """As a strategy does."""
        return ReceivedBuffer(owner, buffer, buffer.size, writable=self.writable, recycles=self.recycles)

    def release(self, buffer: Any) -> None:
        """Free the page."""
        self.kit.pages.put_page(buffer)


class Kit(SkbKit):
    """A stack with a handler that keeps."""

    def __init__(self, policy: SkbPolicy | None = None, **options: Any) -> None:
        super().__init__(policy, **options)
        self.keep = Keep()
        self.stack = NetStack(self.host.softnets[0], self.keep)

    def receive(self, *pieces: bytes, header: bytes | None = None, **queue: Any) -> None:
        """A frame in so many buffers, and perhaps headers that lie apart."""
        buffers = [self.buffer(piece).buffer for piece in pieces]
        fragments = [(buffer, HEADROOM, len(piece)) for buffer, piece in zip(buffers, pieces, strict=True)]
        apart = None
        if header is not None:
            page = self.pages.alloc_pages()
            assert page is not None
            self.platform.device_write(page.address, header)
            apart = page.address, len(header)
        self.stack(Queue(self, **queue), fragments, Metadata(apart))
        if header is not None:
            assert page is not None
            self.pages.put_page(page)

    def end(self) -> None:
        """Free what the handler has; nothing is left."""
        self.freeing.kfree_skb_list(self.keep.got)
        self.finish()

    def counted(self) -> dict[str, int]:
        """Statistics that are not 0."""
        return {name: value for name, value in self.stack.statistics.as_dict().items() if value}


def frame(payload: int = 100, *, vlan: int | None = None, **fields: object) -> bytes:
    packet = Ether() if vlan is None else Ether() / Dot1Q(vlan=vlan)
    return bytes(packet / IP(src="10.1.1.1", dst="10.2.2.2", **fields) / UDP() / bytes(range(256))[:payload])


def test_an_skb_is_built_around_a_writable_buffer() -> None:
    kit = Kit()
    kit.receive(frame(), recycles=True)
    (skb,) = kit.keep.got
    assert (skb.len, skb.data_len, skb.headroom) == (128, 0, HEADROOM + 14)
    assert (skb.pp_recycle, skb.truesize, skb.network_header) == (True, 4096 + SIZEOF_SK_BUFF, skb.data)
    assert kit.counts("cpu.copy_line", "skb.frag") == {}
    assert kit.core.device_line.count == 1, "only the line with the headers was looked at"
    assert kit.bytes(skb) == frame()[14:]
    kit.end()


def test_a_short_packet_of_a_read_only_buffer_is_copied_and_the_buffer_given_back_at_once() -> None:
    kit = Kit()
    kit.receive(frame(), writable=False)
    (skb,) = kit.keep.got
    assert kit.pages.in_use == 2, "slabs of an sk_buff and of a head"
    assert kit.count("cpu.copy_line") == 3
    assert (skb.len, skb.data_len, skb.truesize) == (128, 0, 1024 + SIZEOF_SK_BUFF)
    assert kit.bytes(skb) == frame()[14:]
    kit.end()


def test_of_a_longer_one_the_headers_are_copied_and_the_rest_is_a_fragment() -> None:
    kit = Kit(SkbPolicy(head_memory=HeadMemory.FRAGMENT))
    data = frame(255)[:42] + bytes(1000)
    data = bytes(Ether(data[:14]) / IP(src="10.1.1.1", dst="10.2.2.2") / UDP() / bytes(1000))
    kit.receive(data, writable=False, recycles=True)
    (skb,) = kit.keep.got
    assert (skb.headlen, skb.data_len) == (256 - 14, len(data) - 256)
    assert (skb.truesize, skb.pp_recycle) == (256 + 64 + 320 + SIZEOF_SK_BUFF + 4096, True)
    assert kit.bytes(skb) == data[14:]
    kit.end()


@pytest.mark.parametrize("policy", [SkbPolicy(), SkbPolicy(head=Head.COPY), SkbPolicy(place=Place.HEADROOM)])
def test_a_packet_over_several_buffers(policy: SkbPolicy) -> None:
    kit = Kit(policy)
    data = bytes(Ether() / IP(src="10.1.1.1", dst="10.2.2.2") / UDP() / bytes(5000))
    kit.receive(data[:2000], data[2000:4000], data[4000:])
    (skb,) = kit.keep.got
    assert len(skb.shinfo.frags) == (3 if policy.head is Head.COPY else 2)
    assert kit.bytes(skb) == data[14:]
    kit.end()


def test_headers_that_lie_apart() -> None:
    kit = Kit()
    data = frame(200)
    kit.receive(data[42:], header=data[:42])
    (skb,) = kit.keep.got
    assert (skb.headlen, skb.data_len) == (28, 200)
    assert kit.bytes(skb) == data[14:]
    kit.end()


def test_what_ethernet_padded_is_cut_off() -> None:
    kit = Kit()
    data = bytes(Ether() / IP(src="10.1.1.1", dst="10.2.2.2") / UDP() / b"x").ljust(60, b"\0")
    kit.receive(data)
    kit.receive(data[:20], data[20:50], data[50:])
    assert [kit.bytes(skb) for skb in kit.keep.got] == [data[14:43]] * 2
    kit.end()


def test_a_vlan_tag_is_passed_over() -> None:
    kit = Kit()
    kit.receive(frame(vlan=5))
    assert kit.bytes(kit.keep.got[0]) == frame()[14:]
    kit.end()


def test_headers_over_buffers_are_pulled_together() -> None:
    kit = Kit()
    data = frame(options=b"\x01" * 8)
    kit.receive(data[:6], data[6:20], data[20:])
    kit.receive(data[30:], header=data[:30])
    assert [header.header_length for header in kit.keep.headers] == [28, 28]
    assert [kit.bytes(skb) for skb in kit.keep.got] == [data[14:]] * 2
    kit.end()


@pytest.mark.parametrize(
    ("pieces", "counter"),
    [
        ([bytes(Ether() / ARP())], "stack_no_handler"),
        ([bytes(13)], "stack_length_errors"),
        ([bytes(5), bytes(8)], "stack_length_errors"),
        ([bytes([0] * 12) + b"\x81\x00" + bytes(3)], "stack_no_handler"),
        ([frame()[:33]], "stack_header_errors"),
        ([frame()[:100]], "stack_header_errors"),
        ([frame(options=b"\x01" * 8)[:36]], "stack_header_errors"),
        ([bytes(1)] * 18, "stack_length_errors"),
    ],
)
def test_frames_that_are_dropped(pieces: Sequence[bytes], counter: str) -> None:
    kit = Kit()
    kit.receive(*pieces)
    assert kit.counted() == {counter: 1}
    kit.end()


def test_the_rest_is_cleared_when_the_packet_goes_up() -> None:
    kit = Kit(SkbPolicy(clearing=Clearing.DELAYED))
    kit.receive(frame())
    assert kit.count("skb.clear") == 1
    kit.end()


def test_without_memory_the_buffers_go_back() -> None:
    for queue in ({}, {"writable": False}):
        kit = Kit(memory=1 << 20)
        pages = [kit.buffer(frame()) for _ in range(60)]
        hoard = list(iter(kit.pages.alloc_pages, None))
        for memory in pages:
            kit.stack(Queue(kit, **queue), [(memory.buffer, HEADROOM, 142)], Metadata())
            hoard += list(iter(kit.pages.alloc_pages, None))
        statistics = kit.stack.statistics
        assert statistics.no_memory > 0
        assert statistics.no_memory + statistics.delivered == 60
        for page in hoard:
            kit.pages.put_page(page)
        kit.end()


def test_what_a_packet_costs() -> None:
    kit = Kit()
    kit.receive(frame())
    names = (
        "skb.eth_type_trans",
        "net.receive",
        "net.ip_rcv",
        "stack.residual",
        "skb.init",
        "skb.clear",
        "skb.napi_get",
    )
    assert kit.counts(*names) == dict.fromkeys(names, 1)
    kit.end()
