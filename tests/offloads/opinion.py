# SPDX-License-Identifier: BSD-2-Clause
"""A second opinion on a frame's checksums: scapy's, which shares nothing with the reference of the tests."""

from scapy.layers.inet import IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.utils import checksum

from hw.abi.rings import ChecksumStatus, NetworkLayer, TransportLayer
from tests.hw.nic.rx.reference import Expected

PROTOCOLS = {TransportLayer.TCP: (TCP, 6), TransportLayer.UDP: (UDP, 17)}
TAGS = (Dot1Q, Dot1AD)


def scapy_verdict(frame: bytes, expected: Expected) -> ChecksumStatus | None:
    """What scapy thinks of the checksums of a frame whose headers are the expected ones; None where it has no opinion:
    no IP, or a malformed layer."""
    if expected.network not in (NetworkLayer.IPV4, NetworkLayer.IPV6) or (
        expected.transport is TransportLayer.MALFORMED
    ):
        return None
    start, packet = 14, Ether(frame[:22] + bytes(22))  # enough for two tags; what follows is not to be dissected
    while isinstance(packet.payload, TAGS) and start < 22:
        packet, start = packet.payload, start + 4
    if expected.network is NetworkLayer.IPV4:
        words = frame[start] & 15
        ip = IP(frame[start : start + 4 * words])
        if checksum(frame[start : start + 4 * words]):
            return ChecksumStatus.BAD
        payload = frame[start + 4 * words : start + ip.len]
    else:
        ip = IPv6(frame[start : start + 40])
        payload = frame[start + 40 : start + 40 + ip.plen]
    if expected.transport not in PROTOCOLS:
        return ChecksumStatus.NOT_CHECKED
    layer, protocol = PROTOCOLS[expected.transport]
    header = layer(payload[:20])
    if layer is UDP and header.chksum == 0:
        return ChecksumStatus.BAD if isinstance(ip, IPv6) else ChecksumStatus.NOT_CHECKED
    if layer is UDP and header.len < len(payload):
        return ChecksumStatus.NOT_CHECKED
    # Of addresses alone: scapy would take the last hop of a source route among the options.
    if isinstance(ip, IPv6):
        wrong = in6_chksum(protocol, IPv6(src=ip.src, dst=ip.dst), payload)
    else:
        wrong = in4_chksum(protocol, IP(src=ip.src, dst=ip.dst), payload)
    return ChecksumStatus.BAD if wrong else ChecksumStatus.GOOD
