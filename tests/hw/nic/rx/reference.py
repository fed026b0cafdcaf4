# SPDX-License-Identifier: BSD-2-Clause
"""What a frame's completion says of it, computed from its bytes alone; and random frames of every kind."""

import random
import struct
from dataclasses import dataclass, replace

from hw.abi.rings import ChecksumStatus, NetworkLayer, TransportLayer

VLAN_TYPES = (0x8100, 0x88A8)


@dataclass(frozen=True)
class Expected:
    """``flow`` is (source, destination, ports), each as bytes, or None where they do not count. ``stripped``: the tag
    that ``vlan`` is of was on the wire, and is not in the frame."""

    network: NetworkLayer
    transport: TransportLayer
    header_length: int
    vlan: int | None
    checksum: int
    status: ChecksumStatus
    addresses: tuple[bytes, bytes] | None = None
    ports: tuple[bytes, bytes] | None = None
    stripped: bool = False


def ones_complement_sum(data: bytes) -> int:
    """Of little-endian words; a zero follows an odd last byte. RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"<{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def strip(frame: bytes) -> tuple[bytes, int | None]:
    """The frame without its outer C-tag, and that tag's control information; None where there is none."""
    if len(frame) < 18 or frame[12:14] != b"\x81\x00":
        return frame, None
    return frame[:12] + frame[16:], int.from_bytes(frame[14:16], "big")


def classify_stripped(frame: bytes) -> Expected:
    """Everything about a frame in memory whose outer C-tag was taken out on the way there."""
    left, tag = strip(frame)
    return classify(left) if tag is None else replace(classify(left), vlan=tag, stripped=True)


def classify(frame: bytes) -> Expected:
    """Everything about a frame."""
    checksum, start, vlan = ones_complement_sum(frame[14:]), 14, None
    for _ in range(2):
        if int.from_bytes(frame[start - 2 : start], "big") in VLAN_TYPES and len(frame) >= start:
            vlan = int.from_bytes(frame[14:16], "big")
            start += 4
    none = ChecksumStatus.NOT_CHECKED
    if len(frame) < start:
        return Expected(NetworkLayer.OTHER, TransportLayer.OTHER, 0, None, checksum, none)
    ethertype, ip = int.from_bytes(frame[start - 2 : start], "big"), frame[start:]
    if ethertype == 0x0800:
        return _ipv4(ip, start, vlan, checksum)
    if ethertype == 0x86DD:
        return _ipv6(ip, start, vlan, checksum)
    return Expected(NetworkLayer.OTHER, TransportLayer.OTHER, start, vlan, checksum, none)


def _ipv4(ip: bytes, start: int, vlan: int | None, checksum: int) -> Expected:
    malformed = Expected(
        NetworkLayer.MALFORMED, TransportLayer.OTHER, start, vlan, checksum, ChecksumStatus.NOT_CHECKED
    )
    if len(ip) < 20:
        return malformed
    header, total = 4 * (ip[0] & 15), int.from_bytes(ip[2:4], "big")
    if ip[0] >> 4 != 4 or header < 20 or total < header or total > len(ip):
        return malformed
    payload, addresses = ip[header:total], (ip[12:16], ip[16:20])
    if int.from_bytes(ip[6:8], "big") & 0x3FFF:
        transport, length, status, ports = TransportLayer.FRAGMENT, 0, ChecksumStatus.NOT_CHECKED, None
    else:
        transport, length, status, ports = _transport(ip[9], payload, ip[12:20], ipv6=False)
    if ones_complement_sum(ip[:header]) != 0xFFFF and transport is not TransportLayer.MALFORMED:
        status = ChecksumStatus.BAD
    return Expected(NetworkLayer.IPV4, transport, start + header + length, vlan, checksum, status, addresses, ports)


def _ipv6(ip: bytes, start: int, vlan: int | None, checksum: int) -> Expected:
    end = 40 + int.from_bytes(ip[4:6], "big")
    if len(ip) < 40 or ip[0] >> 4 != 6 or end > len(ip):
        return Expected(NetworkLayer.MALFORMED, TransportLayer.OTHER, start, vlan, checksum, ChecksumStatus.NOT_CHECKED)
    addresses = (ip[8:24], ip[24:40])
    if ip[6] == 44:
        transport, length, status, ports = TransportLayer.FRAGMENT, 0, ChecksumStatus.NOT_CHECKED, None
    else:
        transport, length, status, ports = _transport(ip[6], ip[40:end], ip[8:40], ipv6=True)
    return Expected(NetworkLayer.IPV6, transport, start + 40 + length, vlan, checksum, status, addresses, ports)


def _transport(
    protocol: int, payload: bytes, addresses: bytes, *, ipv6: bool
) -> tuple[TransportLayer, int, ChecksumStatus, tuple[bytes, bytes] | None]:
    """Layer, bytes of its header, verdict, ports."""
    if protocol not in (6, 17):
        return TransportLayer.OTHER, 0, ChecksumStatus.NOT_CHECKED, None
    malformed = TransportLayer.MALFORMED, 0, ChecksumStatus.NOT_CHECKED, None
    pseudo = addresses + struct.pack(">II", len(payload), protocol)
    good = ones_complement_sum(pseudo + payload) == 0xFFFF
    status = ChecksumStatus.GOOD if good else ChecksumStatus.BAD
    ports = payload[:2], payload[2:4]
    if protocol == 6:
        length = 4 * (payload[12] >> 4) if len(payload) >= 20 else 0
        if not 20 <= length <= len(payload):
            return malformed
        return TransportLayer.TCP, length, status, ports
    length = int.from_bytes(payload[4:6], "big") if len(payload) >= 8 else 0
    if not 8 <= length <= len(payload):
        return malformed
    if payload[6:8] == b"\0\0":
        status = ChecksumStatus.BAD if ipv6 else ChecksumStatus.NOT_CHECKED
    elif length < len(payload):
        status = ChecksumStatus.NOT_CHECKED
    return TransportLayer.UDP, 8, status, ports


def random_frame(rng: random.Random) -> bytes:
    """A frame, mostly sound: any mix of tags, options, protocols, lengths and padding; at times something is wrong."""
    kind = rng.choice(("ipv4", "ipv4", "ipv6", "ipv6", "other"))
    size = rng.choice((0, 1, 2, 3, 6, 10, 26, rng.randrange(90), rng.randrange(90), rng.randrange(1600)))
    data = rng.choice((rng.randbytes, rng.randbytes, bytes, lambda n: b"\xff" * n))(size)
    if kind == "other":
        ethertype, packet = rng.choice((0x0806, 0x88F7, 0x86DC, 0x0801, rng.randrange(1 << 16))), data
    else:
        ethertype = 0x0800 if kind == "ipv4" else 0x86DD
        addresses = rng.randbytes(8 if kind == "ipv4" else 32)
        protocol = rng.choice((6, 6, 17, 17, 17, 1, 58, 44, 0, 50, 60))
        payload = _random_transport(rng, protocol, data, addresses)
        packet = (_random_ipv4 if kind == "ipv4" else _random_ipv6)(rng, protocol, payload, addresses)
    tags = b"".join(
        struct.pack(">HH", rng.choice(VLAN_TYPES), rng.randrange(1 << 16))
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 2, 3)))
    )
    frame = rng.randbytes(12) + tags + struct.pack(">H", ethertype) + packet
    frame += rng.randbytes(max(60 - len(frame), rng.choice((0, 0, 0, 1, 5, 30))))
    return _damage(rng, frame, 14 + len(tags)) if rng.random() < 0.25 else frame


def _nudge(rng: random.Random, number: int, chance: float, limit: int) -> int:
    """A number that is sometimes a little wrong."""
    wrong = number + rng.choice((-21, -8, -4, -1, 1, 4, 8, 33))
    return wrong if rng.random() < chance and 0 <= wrong <= limit else number


def _random_transport(rng: random.Random, protocol: int, data: bytes, addresses: bytes) -> bytes:
    """TCP or UDP with the right checksum, or just data."""
    if protocol == 6:
        words = rng.choice((5, 5, 8, rng.randrange(5, 16)))
        said = _nudge(rng, words, 0.1, 15) << 4
        header = rng.randbytes(12) + bytes([said | rng.randrange(16)]) + rng.randbytes(3) + bytes(2)
        payload, at = header + rng.randbytes(4 * words - 18) + data, 16
    elif protocol == 17:
        payload, at = rng.randbytes(4) + struct.pack(">HH", _nudge(rng, 8 + len(data), 0.1, 0xFFFF), 0) + data, 6
    else:
        return data
    pseudo = addresses + struct.pack(">II", len(payload), protocol)
    checksum = ones_complement_sum(pseudo + payload) ^ 0xFFFF
    if protocol == 17:
        checksum = rng.choice((checksum, checksum, checksum, 0)) or rng.choice((0, 0xFFFF))
    return payload[:at] + checksum.to_bytes(2, "little") + payload[at + 2 :]


def _random_ipv4(rng: random.Random, protocol: int, payload: bytes, addresses: bytes) -> bytes:
    words = rng.choice((5, 5, 5, 6, 10, 15, rng.randrange(5, 16)))
    fragment = rng.choice((0, 0, 0, 0, 0x4000, 0x4000, 0x4000, 0x8000, rng.choice((0x2000, 1, 0x2010, 0x100))))
    total = _nudge(rng, 4 * words + len(payload), 0.06, 0xFFFF)
    first, service, identification = 0x40 | _nudge(rng, words, 0.03, 15), rng.randrange(256), rng.randrange(1 << 16)
    header = struct.pack(">BBHHH", first, service, total, identification, fragment)
    header += bytes([rng.randrange(256), protocol, 0, 0]) + addresses + rng.randbytes(4 * words - 20)
    checksum = ones_complement_sum(header) ^ 0xFFFF
    return header[:10] + checksum.to_bytes(2, "little") + header[12:] + payload


def _random_ipv6(rng: random.Random, protocol: int, payload: bytes, addresses: bytes) -> bytes:
    start = 6 << 28 | rng.randrange(1 << 28)
    length = _nudge(rng, len(payload), 0.06, 0xFFFF)
    return struct.pack(">IHBB", start, length, protocol, rng.randrange(256)) + addresses + payload


def _damage(rng: random.Random, frame: bytes, start: int) -> bytes:
    """A flipped bit, a wrong byte in a header, an end too early, or nothing but noise behind the Ethernet header."""
    harm = rng.choice(("bit", "header", "cut", "noise"))
    damaged = bytearray(frame)
    if harm == "bit":
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    elif harm == "header":
        damaged[min(start + rng.randrange(64), len(damaged) - 1)] = rng.randrange(256)
    elif harm == "cut":
        del damaged[rng.randrange(1, min(len(damaged), start + 100)) :]
    else:
        damaged[start:] = rng.randbytes(len(damaged) - start)
    return bytes(damaged)
