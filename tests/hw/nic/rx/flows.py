# SPDX-License-Identifier: BSD-2-Clause
"""Flows for benches, and the hash and places that they have, found without the hardware's own functions."""

import random
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from hw.abi.rings import NetworkLayer, TransportLayer

#: Microsoft, "Verifying the RSS Hash Calculation"; Intel 82599 datasheet, 7.1.2.8.3: key, then destination, source,
#: hash of the addresses, hash of addresses and ports.
SUITE_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
SUITE = (
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
)


@dataclass(frozen=True)
class Flow:
    """A packet's flow: addresses and ports as on the wire, and its layers."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    network: NetworkLayer
    transport: TransportLayer

    @classmethod
    def of(cls, source: str, source_port: int, destination: str, destination_port: int, transport: Any) -> "Flow":
        """From text."""
        address = ip_address(source)
        network = NetworkLayer.IPV6 if isinstance(address, IPv6Address) else NetworkLayer.IPV4
        return cls(address.packed, ip_address(destination).packed, source_port, destination_port, network, transport)

    @classmethod
    def random(cls, rng: random.Random) -> "Flow":
        """Of any layers; IPv6 addresses for those that are not IPv4, which nobody may look at where it is neither."""
        network = rng.choice(list(NetworkLayer)) if rng.random() < 0.2 else rng.choice(IP)
        transport = rng.choice(list(TransportLayer)) if rng.random() < 0.3 else rng.choice(WITH_PORTS)
        size = 4 if network is NetworkLayer.IPV4 else 16
        return cls(
            rng.randbytes(size), rng.randbytes(size), rng.randrange(65536), rng.randrange(65536), network, transport
        )

    @property
    def ports(self) -> bytes:
        """As on the wire."""
        return self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")

    @property
    def tuple(self) -> dict[str, int]:
        """As :class:`hw.nic.rx.layouts.FlowTuple`."""
        return {
            "source": int.from_bytes(self.source, "little"),
            "destination": int.from_bytes(self.destination, "little"),
            "source_port": int.from_bytes(self.ports[:2], "little"),
            "destination_port": int.from_bytes(self.ports[2:], "little"),
        }

    @property
    def packet_type(self) -> dict[str, Any]:
        """As :class:`hw.abi.rings.PacketType`."""
        return {"network": self.network, "transport": self.transport}

    def hash(self, key: bytes, types: Any) -> int | None:
        """What RSS makes of it with these hash types (names of register RSS_TYPES); None without a type that fits."""
        if self.network not in IP:
            return None
        addresses = self.source + self.destination
        if self.hash_ports(types):
            return toeplitz(key, addresses + self.ports)
        return toeplitz(key, addresses) if self.network.name.lower() in types else None

    def hash_ports(self, types: Any) -> bool:
        """Whether that is a hash with ports."""
        names = f"{self.transport.name}_{self.network.name}".lower()
        return self.network in IP and self.transport in WITH_PORTS and names in types


IP = (NetworkLayer.IPV4, NetworkLayer.IPV6)
WITH_PORTS = (TransportLayer.TCP, TransportLayer.UDP)


def toeplitz(key: bytes, message: bytes) -> int:
    """The Toeplitz hash: one number whose bits from the left meet the message's from the left."""
    number, length = int.from_bytes(key), 8 * len(key)
    value = 0
    for place in range(8 * len(message)):
        if message[place // 8] >> (7 - place % 8) & 1:
            value ^= number >> (length - 32 - place) & 0xFFFF_FFFF
    return value
