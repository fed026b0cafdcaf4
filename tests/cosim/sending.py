# SPDX-License-Identifier: BSD-2-Clause
"""Frames that are to be sent with offloads: as they lie in memory, as they are to leave, and what is asked for."""

import errno
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from driver_model.drivers.offload import GsoType, TxRequest
from tests.hw.nic.tx.packets import CHECKSUM_OFFSETS, pseudo_header_sum, random_packet, random_stream_packet, segments

WIRE = 9216  #: longest frame that can arrive, to be sent again
SHORTEST = 60


@dataclass(frozen=True)
class Plan:
    """A request, and in how many frames what it is for arrives; plain, to travel into a simulator."""

    frames: int
    fields: dict[str, Any] = field(default_factory=dict)

    def request(self) -> TxRequest:
        """What the driver is asked for."""
        fields = dict(self.fields)
        if "gso_type" in fields:
            fields["gso_type"] = GsoType[fields["gso_type"]]
        return TxRequest(**fields)


@dataclass(frozen=True)
class Planned:
    """A plan; the frames in which its bytes arrive; those that are to leave, or else the error."""

    plan: Plan
    arrives: list[bytes]
    leaves: list[bytes]
    errno: int = 0


def plan_of(planned: Planned) -> dict[str, Any]:
    """As plain values."""
    return asdict(planned.plan)


def random_plans(rng: random.Random, count: int) -> list[Planned]:
    """Checksums, tags and segmentation, and now and then what cannot be."""
    return [rng.choice((_checksum, _segments, _segments, _impossible))(rng) for _ in range(count)]


def _layers(packet: Packet) -> tuple[int, int]:
    """Where IP and what is behind it begin."""
    ip = packet[IP] if IP in packet else packet[IPv6]
    start = len(packet) - len(ip)
    return start, start + len(ip) - len(ip.payload)


def _memory(packet: Packet) -> tuple[bytes, dict[str, Any]]:
    """The frame as a stack leaves it with CHECKSUM_PARTIAL, and the fields that say so."""
    transport = next((kind for kind in CHECKSUM_OFFSETS if kind in packet), None)
    if transport is None:
        return bytes(packet), {}
    _, start = _layers(packet)
    place = start + CHECKSUM_OFFSETS[transport]
    raw = bytes(packet)
    length = len(raw) - start
    return raw[:place] + pseudo_header_sum(packet, length) + raw[place + 2 :], {
        "csum_start": start,
        "csum_offset": CHECKSUM_OFFSETS[transport],
    }


def _tag(rng: random.Random, frames: list[bytes]) -> tuple[list[bytes], dict[str, Any]]:
    """At times a tag in each frame."""
    if rng.random() < 0.6:
        return frames, {}
    tci = rng.randrange(1 << 16)
    tag = b"\x81\x00" + tci.to_bytes(2, "big")
    return [frame[:12] + tag + frame[12:] for frame in frames], {"vlan_tci": tci}


def _checksum(rng: random.Random) -> Planned:
    packet = random_packet(rng, rng.choice((46, 47, 61, rng.randrange(46, 1400))))
    memory, fields = _memory(packet)
    leaves, tag = _tag(rng, [bytes(packet)])
    return Planned(Plan(1, fields | tag), [memory], leaves)


def _segments(rng: random.Random) -> Planned:
    packet = random_stream_packet(rng, rng.choice((rng.randrange(46, 4000), rng.randrange(4000, 30000))))
    network, _ = _layers(packet)
    memory, fields = _memory(packet)
    mss = rng.randrange(max(8, len(packet[TCP].payload) // 30), 1461)
    leaves, tag = _tag(rng, segments(packet, mss))
    kind = "TCPV4" if IP in packet else "TCPV6"
    fields |= {"gso_type": kind, "gso_size": mss, "network_offset": network, "tcp_hdrlen": 4 * packet[TCP].dataofs}
    cuts = _cut(memory)
    return Planned(Plan(len(cuts), fields | tag), cuts, leaves)


def _cut(memory: bytes) -> list[bytes]:
    """Frames that can arrive."""
    cuts = [memory[at : at + WIRE] for at in range(0, len(memory), WIRE)]
    if len(cuts[-1]) < SHORTEST and len(cuts) > 1:
        both = cuts[-2] + cuts[-1]
        cuts[-2:] = [both[:-SHORTEST], both[-SHORTEST:]]
    return cuts


def _impossible(rng: random.Random) -> Planned:
    packet = random_stream_packet(rng, rng.randrange(46, 1000))
    network, transport = _layers(packet)
    memory, fields = _memory(packet)
    header = 4 * packet[TCP].dataofs
    kind = "TCPV4" if IP in packet else "TCPV6"
    gso = {"gso_type": kind, "gso_size": 500, "network_offset": network, "tcp_hdrlen": header}
    harm, error = rng.choice(
        (
            ({"csum_offset": 63, "csum_start": len(memory) - 64}, errno.EINVAL),
            ({"csum_start": 256}, errno.EINVAL),
            ({"vlan_tci": 1 << 16}, errno.EINVAL),
            (gso | {"gso_size": 0}, errno.EINVAL),
            (gso | {"gso_size": WIRE - transport - header + 1}, errno.EMSGSIZE),
            (gso | {"network_offset": network - 1}, errno.EINVAL),
            (gso | {"tcp_hdrlen": 16}, errno.EINVAL),
            (gso | {"csum_offset": 6}, errno.EINVAL),
        )
    )
    return Planned(Plan(1, fields | harm), [memory], [], error)
