# SPDX-License-Identifier: BSD-2-Clause
"""The receive path of the stack: from a driver's buffers to an IPv4 packet's handler (``net/core/dev.c``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from driver_model.net.ip import ETH_HLEN, ETH_P_8021Q, ETH_P_IP, IPV4_HLEN, VLAN_HLEN, Ipv4, parse
from driver_model.net.skb.edit import pskb_may_pull, pskb_trim, skb_add_rx_frag
from driver_model.net.skb.memory import ReceivedBuffer
from driver_model.net.skb.sk_buff import MAX_SKB_FRAGS, SkBuff, skb_load, skb_pull, skb_put, skb_reserve

if TYPE_CHECKING:
    from driver_model.net.napi import Softnet
    from driver_model.net.skb.alloc import SkbAllocator
    from driver_model.net.skb.free import SkbFreeing

RX_HEADER_BYTES = 256  #: of a head of its own (``IXGBE_RX_HDR_SIZE``): a packet that fits is copied whole


class Handler(Protocol):
    """What becomes of an IPv4 packet: forwarding, a socket, a filter. It serves one stack."""

    def attach(self, stack: NetStack) -> None:
        """The stack that packets will come from."""

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """Take the SKB, whose data begins with the IPv4 header."""

    def close(self) -> None:
        """Nothing more will come: free what is kept."""


@dataclass(slots=True)
class StackStatistics:
    """Frames that did not get as far as a handler, and those that did."""

    no_memory: int = 0  #: no SKB could be made, or be cut (``rx_dropped``)
    length_errors: int = 0  #: shorter than an Ethernet header, or in more pieces than an SKB takes
    no_handler: int = 0  #: another protocol than those registered (``rx_nohandler``)
    header_errors: int = 0  #: ``IpInHdrErrors``, ``IpInTruncatedPkts``
    delivered: int = 0  #: ``IpInDelivers``: handed to the handler

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {f"stack_{name}": value for name, value in asdict(self).items()}


class NetStack:
    """A consumer of the driver's frames: builds an SKB of each, and passes it up to an IPv4 handler. One serves all
    queue pairs of one core.

    The driver's part is a matter of policy and buffers: where the CPU may write to a received buffer and there is room,
    the SKB is built around it; else up to 256 bytes are copied into a head of its own, and a buffer with more behind
    them becomes a fragment. Charged are what the SKB costs, ``skb.eth_type_trans``, ``net.receive``, ``net.ip_rcv``,
    the first touch of lines that the device wrote, and ``stack.residual``.

    Parameters
    ----------
    softnet : network state of the core
    handler : what becomes of packets; None: no protocol is registered, and each is dropped as one of another
    """

    def __init__(self, softnet: Softnet, handler: Handler | None) -> None:
        self.softnet = softnet
        self.core = core = softnet.core
        self.handler = handler
        self.statistics = StackStatistics()
        self._spend = core.spend
        self._op_type = core.op("skb.eth_type_trans")
        self._op_receive = core.op("net.receive")
        self._op_ip = core.op("net.ip_rcv")
        self._op_residual = core.op("stack.residual")
        if handler is not None:
            handler.attach(self)

    @property
    def skbs(self) -> SkbAllocator:
        """Where SKBs are made."""
        return self.softnet.skbs

    @property
    def freeing(self) -> SkbFreeing:
        """Where they end."""
        return self.softnet.freeing

    def __call__(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Take a frame: the driver's consumer, in its poll."""
        if len(fragments) > MAX_SKB_FRAGS:
            self.statistics.length_errors += 1
            for buffer, _, _ in fragments:
                queue.release(buffer)
            return
        skb = self.build(queue, fragments, metadata.header)
        if skb is None:
            self.statistics.no_memory += 1
            return
        skb.holder = "stack"
        self._spend(self._op_type)
        if not pskb_may_pull(self.skbs, skb, ETH_HLEN):
            self.statistics.length_errors += 1
            self.freeing.consume_skb(skb)
            return
        ethertype = int.from_bytes(skb_load(self.core, skb, ETH_HLEN - 2, 2))
        header_length = ETH_HLEN
        if ethertype == ETH_P_8021Q and pskb_may_pull(self.skbs, skb, ETH_HLEN + VLAN_HLEN):
            ethertype = int.from_bytes(skb_load(self.core, skb, ETH_HLEN + VLAN_HLEN - 2, 2))
            header_length += VLAN_HLEN
        skb_pull(skb, header_length)
        self.skbs.finish_clearing(skb)
        self._spend(self._op_receive)
        handler = self.handler
        if ethertype != ETH_P_IP or handler is None:
            self.statistics.no_handler += 1
            self.freeing.consume_skb(skb)
            return
        self._ip_rcv(skb, handler)

    def build(
        self, queue: Any, fragments: Sequence[tuple[Any, int, int]], header: tuple[int, int] | None
    ) -> SkBuff | None:
        """The driver's part: an SKB of received buffers, and of headers that lie apart. None without memory; the
        buffers have been given back then."""
        strategy = queue.strategy
        pieces = [(strategy.memory(queue, buffer), offset, length) for buffer, offset, length in fragments]
        first, offset, length = pieces[0]
        if header is None and self.skbs.fits(first, offset, length):
            skb = self.skbs.build_skb(first)
            if skb is not None:
                skb_reserve(skb, first.address + offset - skb.start)
                skb_put(skb, length)
                first.attach()
                rest = pieces[1:]
        else:
            skb = self.skbs.napi_alloc_skb(RX_HEADER_BYTES)
            if skb is not None:
                rest = self._copy_headers(skb, pieces, header)
        if skb is None:
            for memory, _, _ in pieces:
                memory.put(self.skbs)
            return None
        for memory, offset, length in rest:
            skb_add_rx_frag(self.skbs, skb, memory, memory.address + offset, length)
            memory.attach()
            skb.pp_recycle = skb.pp_recycle or memory.recycles
        return skb

    def _copy_headers(
        self, skb: SkBuff, pieces: Sequence[tuple[ReceivedBuffer, int, int]], header: tuple[int, int] | None
    ) -> list[tuple[ReceivedBuffer, int, int]]:
        """Copy headers into an SKB's head, or the whole of a short packet; returns the pieces that are left."""
        core = self.core
        first, offset, length = pieces[0]
        if header is None:
            count = min(length, RX_HEADER_BYTES)
            address = first.address + offset
        else:
            address, count = header
        core.spend(core.device_line, -(-count // 64))
        core.copy_owned(skb_put(skb, count), address, count)
        skb.touched = skb.tail
        if header is not None:
            return list(pieces)
        if count < length:
            return [(first, offset + count, length - count), *pieces[1:]]
        first.put(self.skbs)
        return list(pieces[1:])

    def _ip_rcv(self, skb: SkBuff, handler: Handler) -> None:
        self._spend(self._op_ip)
        self._spend(self._op_residual)
        skb.network_header = skb.data
        header = None
        if pskb_may_pull(self.skbs, skb, IPV4_HLEN):
            raw = skb_load(self.core, skb, 0, IPV4_HLEN)
            length = (raw[0] & 15) * 4
            if length > IPV4_HLEN and pskb_may_pull(self.skbs, skb, length):
                raw = skb_load(self.core, skb, 0, length)
            header = parse(raw, skb.len)
        if header is None:
            self.statistics.header_errors += 1
            self.freeing.consume_skb(skb)
            return
        # What Ethernet padded is cut off.
        if header.total_length < skb.len and not pskb_trim(self.skbs, skb, header.total_length):
            self.statistics.no_memory += 1
            self.freeing.consume_skb(skb)
            return
        if self.skbs.checker is not None:
            self.skbs.checker.check(skb)
        self.statistics.delivered += 1
        handler.handle(self, skb, header)
