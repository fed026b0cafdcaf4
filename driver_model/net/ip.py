# SPDX-License-Identifier: BSD-2-Clause
"""IPv4 as far as the path of a packet needs it (``net/ipv4/ip_input.c``, ``ip_forward.c``; RFC 791)."""

from typing import NamedTuple

from driver_model.net.checksum import csum_fold, csum_partial, csum_replace

ETH_HLEN = 14
ETH_P_IP = 0x0800
ETH_P_8021Q = 0x8100
VLAN_HLEN = 4
IPV4_HLEN = 20
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PORTS_BYTES = 4
CHECKSUM_OFFSETS = {PROTOCOL_TCP: 16, PROTOCOL_UDP: 6}  #: of the transport header
TRANSPORT_HLEN = {PROTOCOL_TCP: 20, PROTOCOL_UDP: 8}
MORE_FRAGMENTS_AND_OFFSET = 0x3FFF


class Ipv4(NamedTuple):
    """An IPv4 header's fields; addresses are numbers, as they read."""

    header_length: int
    total_length: int
    fragment: bool  #: not a whole datagram
    ttl: int
    protocol: int
    checksum: int
    source: int
    destination: int


def parse(header: bytes, available: int) -> Ipv4 | None:
    """``ip_rcv``'s checks of a header that begins with these bytes, of ``available`` in the packet: version, lengths,
    checksum. None for a header that it drops."""
    if len(header) < IPV4_HLEN or header[0] >> 4 != 4:
        return None
    length = (header[0] & 15) * 4
    total = int.from_bytes(header[2:4])
    if length < IPV4_HLEN or len(header) < length or not length <= total <= available:
        return None
    if csum_fold(csum_partial(header[:length])):
        return None
    return Ipv4(
        length,
        total,
        bool(int.from_bytes(header[6:8]) & MORE_FRAGMENTS_AND_OFFSET),
        header[8],
        header[9],
        int.from_bytes(header[10:12]),
        int.from_bytes(header[12:16]),
        int.from_bytes(header[16:20]),
    )


def decrease_ttl(header: bytes) -> bytes:
    """``ip_decrease_ttl``: the header's first 12 bytes with one hop less, and the checksum to match."""
    old = header[8:10]
    new = bytes([header[8] - 1, header[9]])
    check = csum_replace(int.from_bytes(header[10:12]), old, new)
    return header[:8] + new + check.to_bytes(2)


def address(text: str) -> int:
    """An address as a number. Raises ``ValueError`` for anything but four numbers of 0..255."""
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        raise ValueError(f"IPv4 address must be four numbers of 0..255 with dots between, not {text!r}")
    return int.from_bytes(bytes(map(int, parts)))


def network(text: str) -> tuple[int, int]:
    """A prefix such as ``10.0.0.0/8``: address and length. Raises ``ValueError``."""
    place, _, bits = text.partition("/")
    if not bits.isascii() or not bits.isdigit() or int(bits) > 32:
        raise ValueError(f"Prefix must be an IPv4 address and a length of 0..32, such as 10.0.0.0/8, not {text!r}")
    value, length = address(place), int(bits)
    if value & (1 << 32 - length) - 1:
        raise ValueError(f"Prefix must have no bits behind its length, not {text!r}")
    return value, length
