# SPDX-License-Identifier: BSD-2-Clause
"""The sample capture: what a small server's port sees, made with scapy, the same bytes every time.

ARP and neighbour discovery, DNS, pings, and TCP over IPv4 and IPv6, one connection in a VLAN, with handshake, requests,
full segments and acknowledgements. Frames are as captured at their sender: short ones are not padded.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from sim.traffic.capture import Captured, write_capture
from sim.traffic.flows import SOURCE_MAC, queue_mac

CONNECTIONS = 40
SEGMENT = 1440  #: bytes of TCP payload; with IPv6 and a VLAN tag the frame still fits into 1518 bytes
EPOCH = 1_460_000_000 * 1_000_000_000


def sample_capture(path: Path, connections: int = CONNECTIONS) -> Path:
    """Make the sample capture at ``path`` unless it is there, and return the path."""
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        write_capture(part, _frames(connections))
        part.replace(path)
    return path


def _frames(connections: int) -> Iterator[Captured]:
    rng = random.Random(1)
    time = EPOCH
    for number in range(connections):
        for packet in _conversation(rng, number):
            yield Captured(time, bytes(packet))
            time += rng.randint(2, 12) * 1000


def _conversation(rng: random.Random, number: int) -> Iterator[Packet]:
    broadcast = Ether(src=SOURCE_MAC, dst="ff:ff:ff:ff:ff:ff")
    link = Ether(src=SOURCE_MAC, dst=queue_mac(0))
    client, client6 = f"192.0.2.{10 + number}", f"2001:db8::{10 + number:x}"
    yield broadcast / ARP(op="who-has", hwsrc=SOURCE_MAC, psrc=client, pdst="192.0.2.1")
    if number % 4 == 1:
        multicast = Ether(src=SOURCE_MAC, dst="33:33:ff:00:00:01")
        yield multicast / IPv6(src=client6, dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="2001:db8::1")
    name = f"host-{number}.example.net"
    yield link / IP(src=client, dst="192.0.2.1") / UDP(sport=40000 + number, dport=53) / DNS(qd=DNSQR(qname=name))
    if number % 3 == 0:
        yield link / IP(src=client, dst="192.0.2.1") / ICMP(id=number, seq=1) / Raw(bytes(range(56)))
    if number % 4 == 1:
        network: Packet = link / IPv6(src=client6, dst="2001:db8::1")
    elif number % 4 == 2:
        network = link / Dot1Q(vlan=100) / IP(src=client, dst="192.0.2.1")
    else:
        network = link / IP(src=client, dst="192.0.2.1")
    yield from _connection(rng, network, 50000 + number)


def _connection(rng: random.Random, network: Packet, port: int) -> Iterator[Packet]:
    sequence, peer = rng.getrandbits(31), rng.getrandbits(31)

    def segment(flags: str, payload: bytes = b"") -> Packet:
        return network / TCP(sport=port, dport=80, flags=flags, seq=sequence, ack=peer) / Raw(payload)

    yield network / TCP(sport=port, dport=80, flags="S", seq=sequence, options=[("MSS", 1460)])
    sequence += 1
    yield segment("A")
    request = b"POST /upload HTTP/1.1\r\nHost: server.example.net\r\nContent-Length: 20000\r\n\r\n"
    yield segment("PA", request)
    sequence += len(request)
    left = rng.randint(2_000, 20_000)
    while left:
        payload = rng.randbytes(min(left, SEGMENT))
        yield segment("A" if left > SEGMENT else "PA", payload)
        sequence += len(payload)
        left -= len(payload)
    for _ in range(rng.randint(2, 8)):
        peer += rng.randint(1, 3) * SEGMENT
        yield segment("A")
    yield segment("FA")
