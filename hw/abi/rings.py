# SPDX-License-Identifier: BSD-2-Clause
"""Ring entries: every bit of the descriptors and completions that NIC and driver exchange in memory.

All entries are 16 bytes, little-endian, so four share a 64-byte line. The first field of a layout is its least
significant. A ring holds a power of two of entries, :data:`MIN_RING_ENTRIES` to :data:`MAX_RING_ENTRIES`, and its base
is aligned to a line.

Indices are 16 bits wide, free-running and wrap modulo 2**16; the slot is ``index % entries``, so that a full ring and
an empty one differ. A completion's phase bit is the inverse of ``(index // entries) & 1``: on the first pass through a
zeroed ring, written completions carry 1, on the second 0, and so on. It is bit 7 of the last byte, so no byte of the
completion can become visible after it.
"""

from amaranth.lib import data, enum

ENTRY_BYTES = 16
LINE_BYTES = 64
ENTRIES_PER_LINE = LINE_BYTES // ENTRY_BYTES
INDEX_BITS = 16
BUFFER_ID_BITS = 16
MIN_RING_ENTRIES = 8
MAX_RING_ENTRIES = 1 << (INDEX_BITS - 1)


class CompletionError(enum.Enum, shape=4):
    """Why the bytes that a completion describes are not to be trusted."""

    NONE = 0
    READ_FAULT = 1  #: TX: memory answered a read of this frame's data with an error; the frame was not sent.
    WRITE_FAULT = 2  #: RX: memory refused a write of this buffer's data (only where acknowledgements come from memory).
    #: TX: the frame is shorter than 14 bytes, longer than the NIC was built for, or has more descriptors than
    #: CAPABILITIES allows; it was not sent.
    FRAME_LENGTH = 3
    OFFLOAD = 4  #: TX: an offload was asked for that its headers' lengths or contents do not allow; it was not sent.


class QueueError(enum.Enum, shape=4):
    """Why a queue stopped by itself; read from RX_STATUS and TX_STATUS."""

    NONE = 0
    RING_SIZE = 1  #: not a power of two, or outside MIN_RING_ENTRIES..MAX_RING_ENTRIES
    RING_BASE = 2  #: not aligned to a 64-byte line
    DOORBELL = 3  #: a producer index more than a ring ahead, or a consumer index beyond what was completed
    RING_READ = 4  #: memory answered a descriptor fetch with an error
    RING_WRITE = 5  #: memory answered a completion write with an error
    DESCRIPTOR_LENGTH = 6  #: a descriptor with length 0
    DESCRIPTOR_TYPE = 7  #: a TX descriptor of a type that does not exist
    IN_PLACE = 8  #: a queue with a pool whose completion ring lies where its fill ring does


class QueueState(enum.Enum, shape=2):
    """The lifecycle of one direction of a queue pair."""

    DISABLED = 0
    ENABLED = 1
    DRAINING = 2
    ERROR = 3


class DropReason(enum.Enum, shape=4):
    """Why a received frame was not delivered. The first group counts per port, the second per queue."""

    LINK_DOWN = 0  #: reception is switched off, or the link is down
    RUNT = 1  #: shorter than FRAME_LIMITS.min_length
    OVERSIZE = 2  #: longer than FRAME_LIMITS.max_length
    BAD_FCS = 3  #: the MAC marked the frame as damaged, or its beats are not those of a packet stream
    OVERFLOW = 4  #: the packet buffer was full
    QUEUE_DISABLED = 8  #: the frame's queue is not enabled (or draining, in error, or being reset)
    NO_BUFFER = 9  #: too few buffers posted, and no fetch under way or the starvation timeout over
    COMPLETION_FULL = 10  #: too few free completion slots for the whole frame
    POOL_LIMIT = 11  #: the feedback loop of the queue's pool lets no more buffers out


class NetworkLayer(enum.Enum, shape=4):
    """What the parser found behind the Ethernet header and its VLAN tags."""

    OTHER = 0
    IPV4 = 1
    IPV6 = 2
    MALFORMED = 3  #: an EtherType of IP, but not a whole, consistent IP header, or a length beyond the frame


class TransportLayer(enum.Enum, shape=4):
    """What the parser found behind an IP header."""

    OTHER = 0  #: no IP, or another protocol, or one behind IPv6 extension headers that are not looked into
    TCP = 1
    UDP = 2
    FRAGMENT = 3  #: part of a packet, the first included
    MALFORMED = 4  #: TCP or UDP, but not a whole, consistent header


class PacketType(data.Struct):
    """What the parser recognised; both OTHER where none is built in."""

    network: NetworkLayer
    transport: TransportLayer


class ChecksumStatus(enum.Enum, shape=2):
    """Verdict of checksum validation."""

    #: A layer is malformed; or no IPv4 header checksum is wrong, and no TCP or UDP checksum could be looked at (there
    #: is none, the packet is a fragment, or UDP's length ends before the packet does).
    NOT_CHECKED = 0
    GOOD = 1  #: that of TCP or UDP is right, and that of the IPv4 header where there is one
    BAD = 2  #: one of them is wrong


class FillDescriptor(data.Struct):
    """RX fill ring: an empty buffer that software hands to the NIC. On a queue with a pool: one of the pool's that it
    hands back, and only ``buffer_id`` counts."""

    address: 64
    length: 16  #: bytes, 1..65535; 0 stops the queue with DESCRIPTOR_LENGTH
    buffer_id: BUFFER_ID_BITS  #: opaque cookie, returned in the completion; with a pool, the buffer's id there
    reserved: 32


class RxCompletionFlags(data.Struct):
    """Last byte of an RX completion."""

    end_of_packet: 1
    hash_valid: 1
    vlan_valid: 1
    checksum_status: ChecksumStatus
    #: The frame's first ``header_length`` bytes are in the header buffer of this completion's slot; this buffer, the
    #: frame's first, begins with the byte after them, and ``length`` counts from there. An error of either's write
    #: shows here.
    header_split: 1
    vlan_stripped: 1  #: the tag that ``vlan`` tells of is not in the frame any more: a C-tag, so its TPID was 0x8100
    phase: 1


class RxCompletion(data.Struct):
    """RX completion ring: one filled buffer. A frame over several buffers has one each, in order.

    It describes the frame as it lies in memory: without the four bytes of a tag that was stripped, which is not
    in ``checksum`` either. Linux's CHECKSUM_COMPLETE covers what follows the Ethernet header in ``skb->data``, where
    such a tag is not.

    With ``header_split``, slot n of the ring has header buffer n of register RX_HEADER beside it, which goes to
    software with the completion, and back to the NIC with the consumer index: it needs no ring of its own.
    """

    buffer_id: BUFFER_ID_BITS
    length: 16  #: bytes of the frame in this buffer
    rss_hash: 32
    checksum: 16  #: ones' complement sum of all bytes behind the 14 of the Ethernet header, in the wire's byte order
    vlan: 16  #: tag control information of the first tag on the wire
    header_length: 8  #: bytes from the frame's first to the last of the headers that the parser recognised
    packet_type: PacketType
    error: CompletionError
    #: With ``hash_valid``: the hash is of addresses and ports of a packet that is TCP or UDP; off, of IP addresses
    #: alone. It says what was hashed when the packet came, whatever register RSS_TYPES says since.
    hash_ports: 1
    reserved: 3
    flags: RxCompletionFlags


class TxDescriptorType(enum.Enum, shape=4):
    """What a TX descriptor is. Zero is no type, so that a cleared ring is never sent."""

    INVALID = 0
    DATA = 1
    CONTEXT = 2


class TxDataFlags(data.Struct):
    """Flags of a TX data descriptor. Those of offloads count in a frame's last descriptor, where the offload is built
    in."""

    end_of_packet: 1
    report: 1  #: ask for a completion when this descriptor's bytes have been read
    recycle: 1  #: when the bytes have been read, hand the buffer back to ``pool``; not together with ``segment``
    insert_ip_checksum: 1  #: of the IPv4 header that the context places
    insert_l4_checksum: 1  #: as checksum_start and checksum_offset say
    insert_vlan: 1  #: a VLAN tag with the context's tag control information, behind the source address
    segment: 1  #: cut into TCP segments, as the context says
    reserved: 1


class TxDescriptor(data.Struct):
    """TX ring, type DATA: one contiguous piece of a frame. A frame ends at ``end_of_packet``.

    ``insert_l4_checksum`` is Linux's CHECKSUM_PARTIAL: software has left the sum of the pseudo-header in the two bytes
    at ``checksum_start + checksum_offset``; into them goes the inverted ones' complement sum of all bytes from
    ``checksum_start`` on, 0xFFFF in place of 0 (``skb_checksum_help``).

    ``segment`` makes the frame a request of up to 65,535 bytes, TCP over IPv4 (with ``insert_ip_checksum``) or IPv6
    without extension headers: headers as the context says, all in the first data descriptor, and payload. Each ``mss``
    bytes of it leave with the headers, in which lengths, IPv4 identification and checksum, sequence number, FIN, PSH,
    CWR and TCP checksum are each segment's own. Software has left the pseudo-header's sum without the length in the
    TCP checksum (``tcp_v6_gso_csum_prep``) and asks for a completion in the last descriptor at most. What cannot be
    done is completed with OFFLOAD.
    """

    address: 64
    length: 16  #: bytes, 1..65535; 0 stops the queue with DESCRIPTOR_LENGTH
    buffer_id: BUFFER_ID_BITS  #: opaque cookie, returned in the completion
    type: TxDescriptorType
    checksum_start: 8  #: in the frame's last descriptor: bytes before the TCP or UDP header (``csum_start``)
    checksum_offset: 6  #: likewise: from there to the checksum (``csum_offset``)
    pool: 4  #: with ``recycle``: the pool whose buffer ``buffer_id`` is
    reserved: 2
    flags: TxDataFlags


class TxContext(data.Struct):
    """TX ring, type CONTEXT: offload parameters of the frame among whose descriptors it is, best as the first; of
    several the last counts. It carries no data and is skipped where no offload is built in."""

    mss: 16  #: payload bytes of a segment
    l2_length: 8  #: bytes before the IP header
    l3_length: 8  #: bytes of the IP header
    l4_length: 8  #: bytes of the TCP header of a request for segmentation
    reserved: 8
    vlan: 16  #: tag control information
    reserved_high: 32
    type: TxDescriptorType
    reserved_top: 28


class TxCompletionFlags(data.Struct):
    """Last byte of a TX completion."""

    reserved: 7
    phase: 1


class TxCompletion(data.Struct):
    """TX completion ring: all descriptors before ``index`` have been read and their buffers are software's again."""

    buffer_id: BUFFER_ID_BITS
    index: INDEX_BITS  #: free-running ring index one past the completed descriptor
    reserved_low: 32
    reserved: 48
    error: CompletionError
    reserved_high: 4
    flags: TxCompletionFlags


class RxDoorbell(data.Struct):
    """Register RX_DOORBELL: one write publishes both indices of a queue's RX side."""

    fill_producer: INDEX_BITS
    completion_consumer: INDEX_BITS


class TxDoorbell(data.Struct):
    """Register TX_DOORBELL: one write publishes both indices of a queue's TX side."""

    producer: INDEX_BITS
    completion_consumer: INDEX_BITS


class Arm(data.Struct):
    """Register ARM: arms the queue pair's interrupt, once. Completions beyond either index count as new
    ones: it fires at once, or as MODERATION says. While a direction is in ERROR it fires at once."""

    rx_consumer: INDEX_BITS
    tx_consumer: INDEX_BITS


class AddressType(enum.Enum, shape=2):
    """How an IOMMU is to take an address (AXI sideband)."""

    UNTRANSLATED = 0
    TRANSLATION_REQUEST = 1
    TRANSLATED = 2
    PREFETCH = 3


class Sideband(data.Struct):
    """AxUSER: who asks, for the IOMMU."""

    device_id: 24
    process_id: 20
    process_id_valid: 1
    address_type: AddressType
