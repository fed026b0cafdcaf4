# SPDX-License-Identifier: BSD-2-Clause
"""What the stages of the RX path hand to each other."""

from amaranth.lib import data

from hw.abi.rings import BUFFER_ID_BITS, ChecksumStatus, PacketType
from hw.config import NicConfig


class RxFrame(data.StructLayout):
    """A whole, good frame in the packet buffer. Frames lie there one behind the other, each from a word's start.

    Members
    -------
    length : bytes, without those of a tag that was stripped
    destination : destination MAC address, first byte on the wire lowest
    stripped, tag : only where ``config.classify``: a VLAN tag was, and had this tag control information
    serial : simulation-only number
    """

    def __init__(self, config: NicConfig):
        members = {"length": 16, "destination": 48}
        if config.classify:
            members |= {"stripped": 1, "tag": 16}
        super().__init__(members | {"serial": config.serial_width})


class PacketInfo(data.StructLayout):
    """What the NIC found out about a frame, for its completions: see :class:`hw.abi.rings.RxCompletion`.
    ``vlan_stripped`` is there only where ``config.classify``."""

    def __init__(self, config: NicConfig):
        members = {
            "packet_type": PacketType,
            "header_length": 8,
            "vlan": 16,
            "vlan_valid": 1,
            "checksum": 16,
            "checksum_status": ChecksumStatus,
            "rss_hash": 32,
            "hash_valid": 1,
            "hash_ports": 1,
        }
        if config.classify:
            members["vlan_stripped"] = 1
        super().__init__(members)


class FlowTuple(data.Struct):
    """Whose frame it is, of an IP packet: what RSS hashes and steering rules name. First byte on the wire lowest.

    IPv4 addresses are in the low 32 bits, with zeros above. Ports count where the packet's transport layer is TCP or
    UDP.
    """

    source: 128
    destination: 128
    source_port: 16
    destination_port: 16


class ParsedFrame(data.StructLayout):
    """A frame in the packet buffer (:class:`RxFrame`), and what is known of it; a stripped tag is in ``info``."""

    def __init__(self, config: NicConfig):
        frame = {name: field.shape for name, field in RxFrame(config) if name not in ("stripped", "tag")}
        super().__init__({**frame, "info": PacketInfo(config), "flow": FlowTuple})


class SteeredFrame(data.StructLayout):
    """A frame and its queue. ``routed`` is off where no such queue exists: the frame is to be dropped."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "length": 16,
                "queue": range(config.queues),
                "routed": 1,
                "info": PacketInfo(config),
                "serial": config.serial_width,
            },
        )


class PlannedSegment(data.StructLayout):
    """A :class:`Segment` of a frame whose headers have none yet. ``split``: theirs is to go before it."""

    def __init__(self, config: NicConfig):
        segment = {name: field.shape for name, field in Segment(config) if name != "header"}
        super().__init__({"split": 1, **segment})


class Segment(data.StructLayout):
    """The next bytes of the packet buffer, and where they go.

    Members
    -------
    drop : nowhere; ``length`` is the whole frame's, and nothing else counts
    address, length, buffer_id : the buffer, and how many bytes of the frame it takes
    header : the bytes are the frame's headers, ``info.header_length`` of them, and what is at ``address`` takes no
        others: no completion tells of it but the next segment's, which the frame has
    end_of_packet : the frame ends here
    info : of the frame
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "address": 64,
                "length": 16,
                "buffer_id": BUFFER_ID_BITS,
                "queue": range(config.queues),
                "header": 1,
                "end_of_packet": 1,
                "drop": 1,
                "info": PacketInfo(config),
                "serial": config.serial_width,
            }
        )
