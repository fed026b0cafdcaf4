# SPDX-License-Identifier: BSD-2-Clause
"""Random frames as scapy makes them, and as a driver hands them to a NIC that is to complete them."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from tests.hw.nic.tx.bench import TxBench, context, data

CHECKSUM_OFFSETS = {TCP: 16, UDP: 6}
IPV4_CHECKSUM = 10


@dataclass
class Request:
    """``memory``: the frame that the driver posts; ``sent``: the one that is to leave, without padding; ``ask``,
    ``descriptor`` and ``context``: what it says in its descriptors (``context`` None: it posts none)."""

    memory: bytes
    sent: bytes
    ask: tuple[str, ...] = ()
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
    ask, descriptor, parameters = [], {}, None
    ip = packet[IP] if IP in packet else packet[IPv6]
    l3_start = len(packet) - len(ip)
    l3_length = len(ip) - len(ip.payload)
    transport = next((kind for kind in CHECKSUM_OFFSETS if kind in packet), None)
    if transport is not None and rng.random() < 0.8:
        start, offset = l3_start + l3_length, CHECKSUM_OFFSETS[transport]
        memory[start + offset : start + offset + 2] = pseudo_header_sum(packet, len(ip.payload))
        ask.append("insert_l4_checksum")
        descriptor = {"checksum_start": start, "checksum_offset": offset}
    if IP in packet and rng.random() < 0.5:
        memory[l3_start + IPV4_CHECKSUM : l3_start + IPV4_CHECKSUM + 2] = rng.randbytes(2)
        ask.append("insert_ip_checksum")
        parameters = {"l2_length": l3_start, "l3_length": l3_length}
    if rng.random() < 0.5:
        vlan = rng.randrange(1 << 16)
        sent = sent[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + sent[12:]
        ask.append("insert_vlan")
        parameters = {**(parameters or {}), "vlan": vlan}
    return Request(bytes(memory), sent, tuple(ask), descriptor, parameters)


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


class Placer:
    """Puts pieces of frames into a bench's memory, each at an address of its own, and makes their descriptors."""

    def __init__(self, bench: TxBench, rng: random.Random):
        self.bench, self.rng, self.next = bench, rng, 0

    def put(self, request: Request, *, first: int | None = None) -> list[bytes]:
        """Descriptors of a request, the first of ``first`` bytes; the last asks for a completion."""
        entries = [context(**request.context)] if request.context is not None else []
        pieces = self._cut(request.memory) if first is None else self._cut_behind(request.memory, first)
        for number, piece in enumerate(pieces):
            address = self.next + self.rng.randrange(70)
            self.bench.memory[address : address + len(piece)] = piece
            self.next = address + len(piece)
            if number < len(pieces) - 1:
                entries.append(data(address, len(piece), end=False))
            else:
                entries.append(data(address, len(piece), report=True, ask=request.ask, **request.descriptor))
        assert self.next < len(self.bench.memory)
        return entries

    def _cut(self, frame):
        places = sorted(self.rng.sample(range(1, len(frame)), min(self.rng.randrange(4), len(frame) - 1)))
        return [frame[a:b] for a, b in zip([0, *places], [*places, len(frame)], strict=True)]

    def _cut_behind(self, frame, first):
        return [frame[:first], *(self._cut(frame[first:]) if first < len(frame) else [])]


def padded(frames: Iterable[bytes]) -> list[bytes]:
    """Frames as a MAC's padding makes them."""
    return [frame.ljust(60, b"\0") for frame in frames]


def _ipv4(rng):
    return ".".join(str(rng.randrange(1, 224)) for _ in range(4))


def _ipv6(rng):
    return "2001:db8::" + ":".join(f"{rng.randrange(1, 1 << 16):x}" for _ in range(4))


def random_stream_packet(rng: random.Random, payload: int) -> Packet:
    """A random TCP packet with random flags."""
    while TCP not in (packet := random_packet(rng, payload)):
        pass
    packet[TCP].flags = rng.randrange(256)
    return packet


def segments(packet: Packet, mss: int) -> list[bytes]:
    """What a segmentation request for the packet is to become, as scapy makes it."""
    payload = bytes(packet[TCP].payload)
    frames = []
    for number, place in enumerate(range(0, len(payload), mss)):
        frame = packet.copy()
        tcp = frame[TCP]
        tcp.remove_payload()
        frame /= Raw(payload[place : place + mss])
        tcp = frame[TCP]
        tcp.seq = (tcp.seq + place) % (1 << 32)
        tcp.flags = int(tcp.flags) & ~(0 if place + mss >= len(payload) else 0x09) & ~(0x80 if number else 0)
        del tcp.chksum
        if IP in frame:
            frame[IP].id = (frame[IP].id + number) % (1 << 16)
            del frame[IP].len, frame[IP].chksum
        else:
            del frame[IPv6].plen
        frames.append(bytes(frame))
    return frames


def segmentation(rng: random.Random, packet: Packet, mss: int, vlan: int | None = None) -> Request:
    """The request, as a Linux driver makes it: the pseudo-header's sum without the length, no other field counts."""
    memory = bytearray(bytes(packet))
    ip = packet[IP] if IP in packet else packet[IPv6]
    l3_start = len(packet) - len(ip)
    l3_length = len(ip) - len(ip.payload)
    l4_start = l3_start + l3_length
    memory[l4_start + 16 : l4_start + 18] = pseudo_header_sum(packet, 0)
    for offset, length in ((2, 2), (IPV4_CHECKSUM, 2)) if IP in packet else ((4, 2),):
        memory[l3_start + offset : l3_start + offset + length] = rng.randbytes(length)
    parameters = {"mss": mss, "l2_length": l3_start, "l3_length": l3_length, "l4_length": packet[TCP].dataofs * 4}
    ask: tuple[str, ...] = ("segment", "insert_ip_checksum") if IP in packet else ("segment",)
    if vlan is not None:
        parameters["vlan"] = vlan
        ask += ("insert_vlan",)
    return Request(bytes(memory), b"", ask, {}, parameters)
