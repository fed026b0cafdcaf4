# SPDX-License-Identifier: BSD-2-Clause
"""Source NAT: forwarding that rewrites headers (``net/netfilter/nf_nat_core.c``, ``nf_conntrack_core.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driver_model.net.checksum import csum_replace
from driver_model.net.forward import IpForward, RouteTable
from driver_model.net.ip import CHECKSUM_OFFSETS, PORTS_BYTES, PROTOCOL_UDP, TRANSPORT_HLEN, Ipv4
from driver_model.net.skb.edit import skb_ensure_writable
from driver_model.net.skb.sk_buff import SkBuff, skb_load, skb_store

if TYPE_CHECKING:
    from driver_model.cpu.profile import Operation
    from driver_model.net.stack import NetStack

FIRST_PORT = 1024
LAST_PORT = 65535


class SourceNat(IpForward):
    """Forwards TCP and UDP packets with another source address and port, the same for all packets of a flow, and
    others as they are. Both checksums are brought up to date, not computed anew.

    Charged is ``net.nat`` for each packet that is translated, beside what forwarding costs.

    Parameters
    ----------
    routes : the table
    address : source address of what leaves
    most : flows that can be translated at once (``nf_conntrack_max``)

    Attributes
    ----------
    table_full : packets dropped because there were more flows, or no port was free
    malformed : packets dropped because they are shorter than their transport header
    """

    def __init__(self, routes: RouteTable, address: int, most: int = 65536) -> None:
        super().__init__(routes)
        if not isinstance(address, int) or not 0 < address < 1 << 32:
            raise ValueError(f"address must be an IPv4 address as a number, not {address!r}")
        if not isinstance(most, int) or most < 1:
            raise ValueError(f"most must be an integer, 1 or more, not {most!r}")
        self.address = address
        self.most = most
        self.table_full = 0
        self.malformed = 0
        self._flows: dict[tuple[int, int, bytes], int] = {}
        self._used: set[tuple[int, int]] = set()
        self._op_nat: Operation

    def attach(self, stack: NetStack) -> None:
        """Resolve what a packet costs."""
        super().attach(stack)
        self._op_nat = stack.core.op("net.nat")

    @property
    def flows(self) -> int:
        """Flows that are translated."""
        return len(self._flows)

    def rewrite(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> bool:
        """Change addresses and port, then what forwarding changes. Fragments pass as they are: the kernel would
        have put their packet together before (``nf_defrag_ipv4``)."""
        if header.protocol not in CHECKSUM_OFFSETS or header.fragment:
            return super().rewrite(stack, skb, header)
        core, start = stack.core, header.header_length
        core.spend(self._op_nat)
        if skb.len < start + TRANSPORT_HLEN[header.protocol]:
            self.malformed += 1
            return False
        if not skb_ensure_writable(stack.skbs, skb, start + TRANSPORT_HLEN[header.protocol]):
            self.statistics.no_memory += 1
            return False
        ports = skb_load(core, skb, start, PORTS_BYTES)
        port = self._port(header, ports)
        if port is None:
            self.table_full += 1
            return False
        old_address, new_address = header.source.to_bytes(4), self.address.to_bytes(4)
        new_port = port.to_bytes(2)
        check = csum_replace(header.checksum, old_address, new_address)
        skb_store(core, skb, 10, check.to_bytes(2) + new_address)
        place = start + CHECKSUM_OFFSETS[header.protocol]
        old = int.from_bytes(skb_load(core, skb, place, 2))
        if old or header.protocol != PROTOCOL_UDP:  # UDP without checksum stays so
            check = csum_replace(old, old_address + ports[:2], new_address + new_port)
            if not check and header.protocol == PROTOCOL_UDP:
                check = 0xFFFF
            skb_store(core, skb, place, check.to_bytes(2))
        skb_store(core, skb, start, new_port)
        return super().rewrite(stack, skb, header)

    def _port(self, header: Ipv4, ports: bytes) -> int | None:
        """The source port of a flow's packets: its own if no other flow has it, else the next that is free."""
        flow = (header.protocol, header.source, ports + header.destination.to_bytes(4))
        port = self._flows.get(flow)
        if port is not None:
            return port
        if len(self._flows) >= self.most:
            return None
        wanted = max(FIRST_PORT, int.from_bytes(ports[:2]))
        span = LAST_PORT - FIRST_PORT + 1
        for step in range(span):
            port = FIRST_PORT + (wanted - FIRST_PORT + step) % span
            if (header.protocol, port) not in self._used:
                self._used.add((header.protocol, port))
                self._flows[flow] = port
                return port
        return None
