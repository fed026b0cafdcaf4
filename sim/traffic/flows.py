# SPDX-License-Identifier: BSD-2-Clause
"""Frames of many UDP flows: templates made with scapy, then patched with a sequence number.

Building a frame in scapy takes about a millisecond, patching one about a microsecond. A flow's frames of one size
differ only in the sequence number, so the UDP checksum is brought up to date incrementally (RFC 1624, equation 3).
"""

import random

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from hw.abi.registers import MAX_FRAME
from sim.traffic.pacing import MIN_FRAME

ETHERNET_HEADER = 14
HEADERS = 42  #: Ethernet 14, IPv4 20, UDP 8
SEQUENCE = slice(HEADERS, HEADERS + 8)
UDP_CHECKSUM = slice(40, 42)
SOURCE_MAC = "02:00:00:00:ff:01"
MAX_FLOWS = 65536
MAX_QUEUES = 16


def queue_mac(queue: int) -> str:
    """The (locally administered) MAC address of frames for a queue."""
    if not 0 <= queue < MAX_QUEUES:
        raise ValueError(f"Queue must be in 0..{MAX_QUEUES - 1}, not {queue!r}")
    return f"02:00:00:00:00:{queue:02x}"


def mac_value(address: str) -> int:
    """A MAC address as the register MAC_ADDRESS holds it: first byte on the wire lowest."""
    return int.from_bytes(bytes.fromhex(address.replace(":", "")), "little")


def sequence_of(frame: bytes) -> int:
    """The sequence number in a frame of :class:`Flows`."""
    return int.from_bytes(frame[SEQUENCE], "big")


class Flows:
    """UDP/IPv4 flows that differ in addresses and ports, spread evenly over queues by destination MAC address, where
    queues are told apart by that.

    Parameters
    ----------
    count : flows, 1 to 65536
    queues : queue pairs that the flows are spread over, flow *i* to queue *i* mod *queues*
    seed : of the payload's filling
    """

    def __init__(self, count: int = 1, queues: int = 1, seed: int = 0) -> None:
        for name, value, high in (("flows", count, MAX_FLOWS), ("queues", queues, MAX_QUEUES)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not 1 <= value <= high:
                raise ValueError(f"{name} must be in 1..{high}, not {value!r}")
        self.count = count
        self.queues = queues
        self._filling = random.Random(seed).randbytes(MAX_FRAME)
        self._templates: dict[tuple[int, int], tuple[bytes, int, bytes]] = {}

    def queue(self, flow: int) -> int:
        """The queue that a flow is addressed to."""
        return flow % self.queues

    def frame(self, flow: int, length: int, sequence: int) -> bytes:
        """A frame of ``length`` bytes (without FCS) with valid checksums.

        The 64-bit sequence number begins the UDP payload (:func:`sequence_of` reads it).
        """
        template = self._templates.get((flow, length))
        if template is None:
            template = self._templates[flow, length] = self._template(flow, length)
        head, checksum, tail = template
        number = sequence.to_bytes(8, "big")
        # The template's sequence number is zero, so only the new words are added; a sum of zero is sent as all ones.
        total = (~checksum & 0xFFFF) + (sequence >> 48) + (sequence >> 32 & 0xFFFF)
        total += (sequence >> 16 & 0xFFFF) + (sequence & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        return head + ((~total & 0xFFFF) or 0xFFFF).to_bytes(2, "big") + number + tail

    def _template(self, flow: int, length: int) -> tuple[bytes, int, bytes]:
        if not MIN_FRAME <= length <= MAX_FRAME:
            raise ValueError(f"A frame must be {MIN_FRAME}..{MAX_FRAME} bytes long, not {length!r}")
        payload = bytes(8) + self._filling[: length - SEQUENCE.stop]
        packet = (
            Ether(dst=queue_mac(self.queue(flow)), src=SOURCE_MAC)
            / IP(src=f"10.1.{flow >> 8}.{flow & 255}", dst="10.0.0.1", ttl=64, id=0)
            / UDP(sport=1024 + flow % 60000, dport=9)
            / payload
        )
        raw = bytes(packet)
        return raw[: UDP_CHECKSUM.start], int.from_bytes(raw[UDP_CHECKSUM], "big"), raw[SEQUENCE.stop :]
