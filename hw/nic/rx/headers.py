# SPDX-License-Identifier: BSD-2-Clause
"""Headers as they lie on the wire, and what the parts of the RX classifier tell each other about them.

Every header starts two bytes into a 32-bit word of the frame: Ethernet's has 14 bytes, a VLAN tag four, and all others
have whole words. So parts of a frame are found by counting words, and a header's bytes move by whole words only.
"""

from amaranth.hdl import Cat, Value
from amaranth.lib import data

from hw.abi.rings import PacketType
from hw.config import NicConfig
from hw.nic.rx.layouts import FlowTuple

WORD_BITS = 32
ETHERNET_BYTES = 14
TAG_BYTES = 4
IPV6_BYTES = 40
UDP_BYTES = 8
MIN_IPV4_WORDS = 5
MIN_TCP_WORDS = 5

CUSTOMER_TAG = 0x8100  # IEEE 802.1Q
SERVICE_TAG = 0x88A8
VLAN_TYPES = (CUSTOMER_TAG, SERVICE_TAG)
IPV4_TYPE = 0x0800
IPV6_TYPE = 0x86DD
TCP_PROTOCOL = 6
UDP_PROTOCOL = 17
FRAGMENT_PROTOCOL = 44


class Ipv4Header(data.Struct):
    """RFC 791, section 3.1, without options. Fields of two bytes are big-endian: see :func:`swap`."""

    words: 4  #: IHL
    version: 4
    service: 8
    total_length: 16
    identification: 16
    offset_high: 5
    more_fragments: 1
    other_flags: 2
    offset_low: 8
    time_to_live: 8
    protocol: 8
    checksum: 16
    source: 32
    destination: 32


class Ipv6Header(data.Struct):
    """RFC 8200, section 3."""

    class_high: 4
    version: 4
    class_low_and_flow: 24
    payload_length: 16
    next_header: 8
    hop_limit: 8
    source: 128
    destination: 128


class TransportHeader(data.Struct):
    """The four words of the frame in which a TCP or UDP header begins: RFC 9293, section 3.1; RFC 768."""

    network: 16  #: end of the IP header
    source_port: 16
    destination_port: 16
    udp_length: 16
    udp_checksum: 16
    acknowledgement: 32
    reserved: 4
    tcp_words: 4  #: data offset


def swap(value: Value) -> Value:
    """A field of two bytes in the other byte order: the number that a big-endian one stands for."""
    return Cat(value[8:16], value[:8])


def index_bits(config: NicConfig) -> int:
    """Width of a beat's number within its frame. It may wrap in frames that are too long for any completion."""
    return 16 - (config.beat_bytes - 1).bit_length()


class ObservedBeat(data.StructLayout):
    """A beat of a frame as it is stored, and what becomes of that.

    Members
    -------
    data, count, first : as in :class:`hw.bus.packet.PacketBeat`
    keep : the beat ends a frame that was stored; the only ends that matter
    """

    def __init__(self, config: NicConfig):
        count = range(config.beat_bytes + 1)
        super().__init__({"data": config.data_width, "count": count, "first": 1, "keep": 1})


class MeasuredBeat(data.StructLayout):
    """An observed beat, and how many of its bytes, from lane 0, lie before certain ends.

    Members
    -------
    index : of the beat in its frame, from 0
    header_count : before the end of the IP header
    packet_count : before the end of the IP packet. Padding follows
    """

    def __init__(self, config: NicConfig):
        count = range(config.beat_bytes + 1)
        observed = {name: field.shape for name, field in ObservedBeat(config)}
        super().__init__({**observed, "index": index_bits(config), "header_count": count, "packet_count": count})


class ChecksumPlan(data.Struct):
    """How a frame's sums become a verdict. Sums are of little-endian 16-bit words, in ones' complement: the byte order
    changes only the result's (RFC 1071, section 2).

    Members
    -------
    check_header : the sum of all bytes from Ethernet's to the end of the IPv4 header, and ``header_rest``, must be 0
    check_payload : the sum of all bytes from Ethernet's to the end of the packet, and ``payload_rest``, must be 0
    bad : whatever the sums are, the packet's checksum is wrong
    """

    check_header: 1
    check_payload: 1
    bad: 1
    header_rest: 18
    payload_rest: 20


class ParsedHeaders(data.Struct):
    """What a frame's headers say: see :class:`hw.abi.rings.RxCompletion`."""

    packet_type: PacketType
    header_length: 8
    vlan: 16
    vlan_valid: 1
    flow: FlowTuple
