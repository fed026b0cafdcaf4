# SPDX-License-Identifier: BSD-2-Clause
"""IPv4 forwarding (``net/ipv4/ip_forward.c``, ``fib_trie.c``, ``ip_output.c``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from driver_model.net.ip import ETH_HLEN, ETH_P_IP, Ipv4, decrease_ttl, network
from driver_model.net.skb.edit import skb_cow_head
from driver_model.net.skb.sk_buff import SkBuff, skb_load, skb_push, skb_store

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.cpu.profile import Operation
    from driver_model.net.qdisc import Qdisc
    from driver_model.net.stack import NetStack

TTL_BYTES = 12  #: of an IPv4 header, up to the checksum's end


class Route(NamedTuple):
    """Where a prefix goes: by which queue, and the Ethernet addresses of the next hop and of the device."""

    qdisc: Qdisc
    neighbour: bytes
    source: bytes
    mtu: int = 1500


class RouteTable:
    """Routes by prefix; the longest that matches counts."""

    def __init__(self) -> None:
        self._routes: dict[int, dict[int, Route]] = {}
        self._lengths: list[int] = []

    def add(self, prefix: str, route: Route) -> None:
        """A route for a prefix such as ``10.0.0.0/8``."""
        for name, value in (("neighbour", route.neighbour), ("source", route.source)):
            if len(value) != 6:
                raise ValueError(f"{name} must be an Ethernet address of 6 bytes, not {value!r}")
        place, length = network(prefix)
        self._routes.setdefault(length, {})[place] = route
        self._lengths = sorted(self._routes, reverse=True)

    def __iter__(self) -> Iterator[Route]:
        for routes in self._routes.values():
            yield from routes.values()

    def lookup(self, destination: int) -> Route | None:
        """The route of an address; None without one."""
        for length in self._lengths:
            mask = -1 << 32 - length
            route = self._routes[length].get(destination & mask)
            if route is not None:
                return route
        return None


@dataclass(slots=True)
class ForwardStatistics:
    """Packets by what became of them, as SNMP counts them."""

    forwarded: int = 0  #: ``IpForwDatagrams``
    no_route: int = 0  #: ``IpInAddrErrors``/``IpOutNoRoutes``
    ttl_exceeded: int = 0  #: ``IpInHdrErrors``; no ICMP is sent
    too_big: int = 0  #: ``IpFragFails``: longer than the device takes; nothing is fragmented
    no_memory: int = 0
    qdisc_dropped: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {f"forward_{name}": value for name, value in asdict(self).items()}


class IpForward:
    """Sends each packet on: route, one hop less, new Ethernet addresses.

    The packet's first line is written to, so a head that is not the SKB's own is copied first. Charged are
    ``net.fib_lookup``, ``net.ip_forward``, and the qdisc's own.

    Parameters
    ----------
    routes : the table; its qdiscs are of the stack's core
    """

    def __init__(self, routes: RouteTable) -> None:
        self.routes = routes
        self.statistics = ForwardStatistics()
        self._op_lookup: Operation
        self._op_forward: Operation

    def attach(self, stack: NetStack) -> None:
        """Resolve what a packet costs."""
        self._op_lookup = stack.core.op("net.fib_lookup")
        self._op_forward = stack.core.op("net.ip_forward")

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """Forward one packet, or drop it and say why."""
        core, statistics = stack.core, self.statistics
        core.spend(self._op_lookup)
        route = self.routes.lookup(header.destination)
        if route is None:
            statistics.no_route += 1
        elif header.ttl <= 1:
            statistics.ttl_exceeded += 1
        elif header.total_length > route.mtu:
            statistics.too_big += 1
        else:
            core.spend(self._op_forward)
            if self.rewrite(stack, skb, header):
                self._send(core, skb, route)
                return
        stack.freeing.consume_skb(skb)

    def close(self) -> None:
        """Drop what waits in the qdiscs."""
        for route in self.routes:
            route.qdisc.reset()

    def rewrite(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> bool:
        """Change the IPv4 header; False, and counted, if that cannot be."""
        if not skb_cow_head(stack.skbs, skb, ETH_HLEN):
            self.statistics.no_memory += 1
            return False
        skb_store(stack.core, skb, 0, decrease_ttl(skb_load(stack.core, skb, 0, TTL_BYTES)))
        return True

    def _send(self, core: Core, skb: SkBuff, route: Route) -> None:
        """``ip_finish_output``: the Ethernet header goes before the packet again."""
        core.store_owned(skb_push(skb, ETH_HLEN), route.neighbour + route.source + ETH_P_IP.to_bytes(2))
        if route.qdisc.dev_queue_xmit(skb):
            self.statistics.forwarded += 1
        else:
            self.statistics.qdisc_dropped += 1
