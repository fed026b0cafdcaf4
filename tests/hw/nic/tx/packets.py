# SPDX-License-Identifier: BSD-2-Clause
"""Random frames as scapy makes them, and as a driver hands them to a NIC that is to complete them."""

import random
from dataclasses import dataclass, field

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

CHECKSUM_OFFSETS = {TCP: 16, UDP: 6}
IPV4_CHECKSUM = 10


@dataclass
class Request:
    """``memory``: the frame that the driver posts; ``sent``: the one that is to leave, without padding; ``insert``,
    ``descriptor`` and ``context``: what it says in its descriptors (``context`` None: it posts none)."""

    memory: bytes
    sent: bytes
    insert: tuple[str, ...] = ()
    descriptor: dict[str, int] = field(default_factory=dict)
    context: dict[str, int] | None = None


def random_packet(rng: random.Random, payload: int) -> Packet:
    """Ethernet, up to two tags, IPv4 (with options) or IPv6, TCP (with options), UDP or ICMP, ``payload`` bytes."""
    packet = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    for _ in range(rng.choice((0, 0, 1, 2))):
        packet /= Dot1Q(vlan=rng.randrange(4096))
    if rng.random() < 0.5:
        options = [IPOption(b"\x01" * (4 * rng.randrange(1, 11)))] if rng.random() < 0.3 else []
        packet /= IP(src=_ipv4(rng), dst=_ipv4(rng), id=rng.randrange(1 << 16), tos=rng.randrange(256), options=options)
        transports = (TCP, UDP, ICMP)
    else:
        packet /= IPv6(src=_ipv6(rng), dst=_ipv6(rng), fl=rng.randrange(1 << 20))
        transports = (TCP, UDP)
    transport = rng.choice(transports)
    ports = {"sport": rng.randrange(1 << 16), "dport": rng.randrange(1 << 16)}
    if transport is TCP:
        options = [("NOP", None)] * rng.choice((0, 0, 4, 12, 40))
        packet /= TCP(**ports, seq=rng.getrandbits(32), options=options)
    elif transport is UDP:
        packet /= UDP(**ports)
    else:
        packet /= ICMP(id=rng.randrange(1 << 16))
    return Ether(bytes(packet / Raw(rng.randbytes(payload))))


def random_request(rng: random.Random, payload: int) -> Request:
    """A random packet, and some of the offloads that it allows."""
    packet = random_packet(rng, payload)
    sent, memory = bytes(packet), bytearray(bytes(packet))
    insert, descriptor, context = [], {}, None
    ip = packet[IP] if IP in packet else packet[IPv6]
    l3_start = len(packet) - len(ip)
    l3_length = len(ip) - len(ip.payload)
    transport = next((kind for kind in CHECKSUM_OFFSETS if kind in packet), None)
    if transport is not None and rng.random() < 0.8:
        start, offset = l3_start + l3_length, CHECKSUM_OFFSETS[transport]
        memory[start + offset : start + offset + 2] = pseudo_header_sum(packet, len(ip.payload))
        insert.append("l4_checksum")
        descriptor = {"checksum_start": start, "checksum_offset": offset}
    if IP in packet and rng.random() < 0.5:
        memory[l3_start + IPV4_CHECKSUM : l3_start + IPV4_CHECKSUM + 2] = rng.randbytes(2)
        insert.append("ip_checksum")
        context = {"l2_length": l3_start, "l3_length": l3_length}
    if rng.random() < 0.5:
        vlan = rng.randrange(1 << 16)
        sent = sent[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + sent[12:]
        insert.append("vlan")
        context = {**(context or {}), "vlan": vlan}
    return Request(bytes(memory), sent, tuple(insert), descriptor, context)


def pseudo_header_sum(packet: Packet, length: int) -> bytes:
    """What Linux leaves in the checksum field: the sum of the pseudo-header for ``length`` bytes, not inverted."""
    protocol = (6 if TCP in packet else 17).to_bytes(1, "big")
    if IP in packet:
        raw = bytes(packet[IP])
        header = raw[12:20] + b"\0" + protocol + length.to_bytes(2, "big")
    else:
        raw = bytes(packet[IPv6])
        header = raw[8:40] + length.to_bytes(4, "big") + b"\0\0\0" + protocol
    return (0xFFFF ^ checksum(header)).to_bytes(2, "big")


def cut(rng: random.Random, frame: bytes) -> list[bytes]:
    """The frame in one to four pieces of at least a byte."""
    places = sorted(rng.sample(range(1, len(frame)), rng.randrange(4)))
    return [frame[a:b] for a, b in zip([0, *places], [*places, len(frame)], strict=True)]


def _ipv4(rng):
    return ".".join(str(rng.randrange(1, 224)) for _ in range(4))


def _ipv6(rng):
    return "2001:db8::" + ":".join(f"{rng.randrange(1, 1 << 16):x}" for _ in range(4))
