# SPDX-License-Identifier: BSD-2-Clause
"""Which queue a frame goes to, said by software: by destination address, or by RSS as the driver sets it up."""

from collections.abc import Callable

from driver_model.drivers.rss import DEFAULT_KEY, DEFAULT_TYPES, ethtool_rxfh_indir_default
from hw.abi.steering import RSS_TABLE_ENTRIES, rss_hash
from sim.traffic.flows import mac_value, queue_mac

VLAN_TYPES = (0x8100, 0x88A8)
MAX_TAGS = 2
IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP, FRAGMENT_HEADER = 6, 17, 44
NAMES = {TCP: "tcp", UDP: "udp"}
IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER = 20, 40, 20, 8


def queue_by_address(queues: int) -> Callable[[bytes], int]:
    """By the destination addresses of :func:`sim.traffic.flows.queue_mac`; queue 0 for what is addressed to none."""
    queue_of = {mac_value(queue_mac(queue)).to_bytes(6, "little"): queue for queue in range(queues)}
    return lambda frame: queue_of.get(frame[:6], 0)


def queue_by_hash(queues: int) -> Callable[[bytes], int]:
    """By RSS with the driver's defaults over so many queues; queue 0 for what is not hashed."""
    known: dict[bytes, int] = {}

    def queue_of(frame: bytes) -> int:
        message = rss_message(frame)
        if message is None:
            return 0
        if message not in known:
            index = rss_hash(DEFAULT_KEY, message) % RSS_TABLE_ENTRIES
            known[message] = ethtool_rxfh_indir_default(index, queues)
        return known[message]

    return queue_of


def rss_message(frame: bytes, types: frozenset[str] = DEFAULT_TYPES) -> bytes | None:
    """What of a frame is hashed, with these types of register RSS_TYPES on: addresses, and ports of whole TCP and UDP
    packets. None for what is no sound IP packet, or of a type that is off."""
    start, tags = 14, 0
    while int.from_bytes(frame[start - 2 : start]) in VLAN_TYPES and tags < MAX_TAGS:
        start, tags = start + 4, tags + 1
    ethertype, packet = int.from_bytes(frame[start - 2 : start]), frame[start:]
    if ethertype == IPV4 and len(packet) >= IPV4_HEADER:
        header, end = 4 * (packet[0] & 15), int.from_bytes(packet[2:4])
        version, family, protocol, addresses = 4, "ipv4", packet[9], packet[12:20]
        whole = not int.from_bytes(packet[6:8]) & 0x3FFF
        sound = IPV4_HEADER <= header <= end <= len(packet)
    elif ethertype == IPV6 and len(packet) >= IPV6_HEADER:
        header, end = IPV6_HEADER, IPV6_HEADER + int.from_bytes(packet[4:6])
        version, family, protocol, addresses = 6, "ipv6", packet[6], packet[8:40]
        whole = protocol != FRAGMENT_HEADER
        sound = end <= len(packet)
    else:
        return None
    if packet[0] >> 4 != version or not sound:
        return None
    segment = packet[header:end]
    if whole and _has_ports(protocol, segment) and f"{NAMES[protocol]}_{family}" in types:
        return addresses + segment[:4]
    return addresses if family in types else None


def _has_ports(protocol: int, segment: bytes) -> bool:
    """It is TCP or UDP with a whole, consistent header."""
    if protocol == TCP:
        return len(segment) >= TCP_HEADER and TCP_HEADER <= 4 * (segment[12] >> 4) <= len(segment)
    return protocol == UDP and len(segment) >= UDP_HEADER <= int.from_bytes(segment[4:6]) <= len(segment)
