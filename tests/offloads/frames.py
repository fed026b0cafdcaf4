# SPDX-License-Identifier: BSD-2-Clause
"""Frames to be received: sound ones, every kind of bad input, and those of the published RSS hashes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from hw.abi.rings import DropReason
from tests.hw.nic.rx.flows import SUITE
from tests.hw.nic.rx.reference import random_frame
from tests.hw.nic.tx.packets import random_packet

#: Of frames, in percent.
SHARES = {
    "any": 48,
    "sound": 36,
    "one bit wrong": 4,
    "extension": 4,
    "jumbo": 1.5,
    "bad FCS": 3,
    "runt": 3,
    "oversize": 0.5,
}
EXTENSIONS = (IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop)


@dataclass(frozen=True)
class WireFrame:
    """A frame on the wire, without FCS, and whether the MAC finds that damaged."""

    data: bytes
    bad_fcs: bool = False

    def drop(self, min_length: int, max_length: int) -> DropReason | None:
        """Why the port is to drop it between these limits, if it is."""
        if self.bad_fcs:
            return DropReason.BAD_FCS
        if len(self.data) < min_length:
            return DropReason.RUNT
        return DropReason.OVERSIZE if len(self.data) > max_length else None


def wire_frame(rng: random.Random, min_length: int, max_length: int) -> WireFrame:
    """A random one: most are sound, or nearly, and some beyond these limits."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if kind in ("sound", "one bit wrong"):
        data = bytearray(bytes(random_packet(rng, rng.choice((rng.randrange(90), rng.randrange(1500))))))
        if kind == "one bit wrong":
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return WireFrame(bytes(data).ljust(60, b"\0"))
    if kind == "jumbo":
        return WireFrame(bytes(random_packet(rng, rng.randrange(1000, 9000))))
    if kind == "oversize":
        return WireFrame(rng.randbytes(rng.randrange(max_length + 1, max_length + 300)))
    if kind == "extension":
        return WireFrame(bytes(_extended(rng)))
    data = random_frame(rng)
    return WireFrame(data[: rng.randrange(1, max(2, min_length))] if kind == "runt" else data, kind == "bad FCS")


def _extended(rng: random.Random) -> Packet:
    """IPv6 with extension headers."""
    packet = Ether(dst="02:00:00:00:00:01") / IPv6(src="2001:db8::1", dst="2001:db8::2")
    for _ in range(rng.randrange(1, 3)):
        packet /= rng.choice(EXTENSIONS)()
    return packet / rng.choice((TCP, UDP))(sport=1, dport=2) / Raw(rng.randbytes(rng.randrange(90)))


def published() -> Iterator[tuple[WireFrame, int, int]]:
    """A TCP and a UDP frame of each published flow, its hash by addresses, and that by addresses and ports."""
    for destination, destination_port, source, source_port, by_addresses, by_ports in SUITE:
        network = IPv6 if ":" in source else IP
        for transport in (TCP, UDP):
            packet = network(src=source, dst=destination) / transport(sport=source_port, dport=destination_port)
            frame = bytes(Ether(dst="02:00:00:00:00:01") / packet).ljust(60, b"\0")
            yield WireFrame(frame), by_addresses, by_ports
