# SPDX-License-Identifier: BSD-2-Clause
"""The reference of the classifier's tests agrees with scapy."""

import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_SSRR, in4_chksum
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, in6_chksum
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from hw.abi.rings import ChecksumStatus, NetworkLayer, TransportLayer
from tests.hw.nic.rx.reference import classify, ones_complement_sum, random_frame

TRANSPORTS = {TransportLayer.TCP: (TCP, 6), TransportLayer.UDP: (UDP, 17)}
SOURCE_ROUTES = (IPOption_LSRR, IPOption_SSRR)  # scapy takes the last hop's address for the checksum


@pytest.mark.parametrize("seed", range(4))
def test_what_the_reference_says_of_random_packets_is_what_scapy_says(seed):
    print(f"seed {seed}")
    rng, judged = random.Random(seed), 0
    for _ in range(600):
        frame = random_frame(rng)
        expected = classify(frame)
        if expected.network not in (NetworkLayer.IPV4, NetworkLayer.IPV6):
            continue
        packet, name = Ether(frame), f"{expected} {frame.hex()}"
        if expected.vlan is not None:
            assert expected.vlan == int.from_bytes(packet.payload.original[:2], "big"), name
        v4 = expected.network is NetworkLayer.IPV4
        ip = packet.getlayer(IP if v4 else IPv6)
        if ip is None:
            # scapy gives up on a packet whose extension headers are noise.
            assert expected.transport in (TransportLayer.OTHER, TransportLayer.FRAGMENT), name
            continue
        layer, protocol = TRANSPORTS.get(expected.transport, (None, 0))
        if v4:
            assert (expected.transport is TransportLayer.FRAGMENT) == bool(ip.flags.MF or ip.frag), name
            if scapy_checksum(ip.original[: 4 * ip.ihl]):
                assert expected.status is ChecksumStatus.BAD or expected.transport is TransportLayer.MALFORMED, name
                continue
        if layer is None:
            assert expected.status is ChecksumStatus.NOT_CHECKED, name
            continue
        transport = packet[layer]
        assert expected.ports == tuple(port.to_bytes(2, "big") for port in (transport.sport, transport.dport)), name
        if expected.status is ChecksumStatus.NOT_CHECKED:
            assert layer is UDP, name
            assert transport.chksum == 0 or transport.len < len(transport.original), name
            continue
        if v4 and any(isinstance(option, SOURCE_ROUTES) for option in ip.options):
            continue
        judge = in4_chksum if v4 else in6_chksum
        right = judge(protocol, ip, transport.original) == 0 and (layer is TCP or transport.chksum != 0)
        assert (expected.status is ChecksumStatus.GOOD) == right, name
        judged += 1
    assert judged > 100


@pytest.mark.parametrize(
    ("packet", "network", "transport", "length", "status"),
    [
        (ARP(), "OTHER", "OTHER", 14, "NOT_CHECKED"),
        (Dot1Q(vlan=5) / ARP(), "OTHER", "OTHER", 18, "NOT_CHECKED"),
        (IP() / ICMP(), "IPV4", "OTHER", 34, "NOT_CHECKED"),
        (IP() / UDP() / b"odd", "IPV4", "UDP", 42, "GOOD"),
        (IP() / UDP(chksum=0) / b"odd", "IPV4", "UDP", 42, "NOT_CHECKED"),
        (IP(chksum=1) / UDP(chksum=0), "IPV4", "UDP", 42, "BAD"),
        (IP(chksum=1) / ICMP(), "IPV4", "OTHER", 34, "BAD"),
        (IP(options=b"\1" * 8) / TCP(options=[("MSS", 1460)]), "IPV4", "TCP", 66, "GOOD"),
        (IP(flags="MF") / UDP(), "IPV4", "FRAGMENT", 34, "NOT_CHECKED"),
        (IP(frag=100) / Raw(b"rest"), "IPV4", "FRAGMENT", 34, "NOT_CHECKED"),
        (Dot1Q(prio=7, vlan=5) / IP() / TCP() / b"data", "IPV4", "TCP", 58, "GOOD"),
        (Dot1AD(vlan=9) / Dot1Q(vlan=5) / IPv6() / TCP() / b"data", "IPV6", "TCP", 82, "GOOD"),
        (Dot1AD() / Dot1Q() / Dot1Q() / IP() / TCP(), "OTHER", "OTHER", 22, "NOT_CHECKED"),
        (IPv6() / UDP() / b"data", "IPV6", "UDP", 62, "GOOD"),
        (IPv6() / UDP(chksum=0), "IPV6", "UDP", 62, "BAD"),
        (IPv6() / TCP(chksum=1), "IPV6", "TCP", 74, "BAD"),
        (IPv6() / IPv6ExtHdrFragment() / UDP(), "IPV6", "FRAGMENT", 54, "NOT_CHECKED"),
        (IPv6() / IPv6ExtHdrDestOpt() / UDP(), "IPV6", "OTHER", 54, "NOT_CHECKED"),
        (IPv6() / TCP(dataofs=4), "IPV6", "MALFORMED", 54, "NOT_CHECKED"),
        (IP() / UDP(len=99), "IPV4", "MALFORMED", 34, "NOT_CHECKED"),
        (IP(version=5) / UDP(), "MALFORMED", "OTHER", 14, "NOT_CHECKED"),
        (IP(len=99) / UDP(), "MALFORMED", "OTHER", 14, "NOT_CHECKED"),
    ],
)
def test_packets_that_scapy_builds_are_named_as_they_were_meant(packet, network, transport, length, status):
    frame = bytes(Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / packet).ljust(60, b"\xa5")
    expected = classify(frame)
    found = expected.network.name, expected.transport.name, expected.header_length, expected.status.name
    assert found == (network, transport, length, status)


def test_the_raw_sum_is_that_of_the_published_example():
    # RFC 1071, section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == int.from_bytes(bytes.fromhex("ddf2"), "little")
