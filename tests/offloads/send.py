# SPDX-License-Identifier: BSD-2-Clause
"""A queue that sends: random requests for offloads, and what is to become of each."""

import random
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from hw.abi.codec import Codec
from hw.abi.rings import (
    BUFFER_ID_BITS,
    ENTRY_BYTES,
    INDEX_BITS,
    CompletionError,
    TxCompletion,
    TxDescriptor,
    TxDescriptorType,
)
from sim.line_rate.rings import CompletionRing, DescriptorRing
from tests.hw.nic.tx.packets import (
    Placer,
    Request,
    padded,
    random_request,
    random_stream_packet,
    segmentation,
    segments,
)

ENTRIES = 2048
RING_BYTES = 2 * ENTRIES * ENTRY_BYTES
DESCRIPTOR, COMPLETION = Codec(TxDescriptor), Codec(TxCompletion)
DATA = TxDescriptorType.DATA.value
SHORTEST = 14  #: bytes of a frame
PAYLOADS = (0, 1, 2, 3, 7, 17, 18, 19, 45, 64, 100, 301)
SEGMENT_SIZES = (1, 7, 8, 63, 100, 216, 512, 999, 1000, 1448, 1460)
MARK = slice(6, 12)  #: the source address, which tells a frame's request
TAG_BYTES = 4


@dataclass(frozen=True)
class Sending:
    """A request, the frames that are to leave, and how it is to be completed.

    Attributes
    ----------
    direction, kind : ``checksum``, ``segment``, ``plain`` or ``refused``, and what more there is to say
    first : bytes of the first descriptor; None: any
    """

    direction: str
    kind: str
    request: Request
    frames: tuple[bytes, ...]
    error: CompletionError = CompletionError.NONE
    first: int | None = None

    def numbered(self, queue: int, number: int) -> "Sending":
        """The same, with its queue and number for a source address, and as buffer the number."""
        mark = bytes([2, queue]) + number.to_bytes(4, "big")
        descriptor = self.request.descriptor | {"buffer_id": number % (1 << BUFFER_ID_BITS)}
        request = replace(self.request, memory=_marked(self.request.memory, mark), descriptor=descriptor)
        return replace(self, request=request, frames=tuple(_marked(frame, mark) for frame in self.frames))


def _marked(frame: bytes, mark: bytes) -> bytes:
    return frame[: MARK.start] + mark[: max(0, len(frame) - MARK.start)] + frame[MARK.stop :]


def checksum_request(rng: random.Random, max_length: int) -> Sending:
    """A frame of its own that asks for some of the offloads that are right for it."""
    payload = rng.choice((*PAYLOADS, rng.randrange(100), rng.randrange(1600), rng.randrange(1600)))
    if rng.random() < 0.01:
        payload = rng.randrange(max_length - 200)
    request = random_request(rng, payload)
    packet, sent = Ether(request.memory), request.sent
    layers = [layer.__name__ for layer in (IP, IPv6, TCP, UDP, ICMP) if layer in packet]
    if "insert_l4_checksum" in request.ask:
        at = sum(request.descriptor.values()) + (TAG_BYTES if "insert_vlan" in request.ask else 0)
        sent = _never_zero(sent, at)
    direction = "checksum" if any("checksum" in name for name in request.ask) else "plain"
    return Sending(direction, " ".join([*layers, *request.ask]), request, tuple(padded([sent])))


def segmentation_request(rng: random.Random) -> Sending:
    """A request for segments."""
    mss = rng.choice((*SEGMENT_SIZES, rng.randrange(1, 1500)))
    payload = rng.randrange(1, rng.choice((3, 5, 5, 40)) * mss + 1)
    packet = random_stream_packet(rng, payload)
    vlan = rng.randrange(1 << 16) if rng.random() < 0.3 else None
    request = segmentation(rng, packet, mss, vlan)
    at = request.context["l2_length"] + request.context["l3_length"] + 16
    frames = [_never_zero(frame, at) for frame in segments(packet, mss)]
    if vlan is not None:
        frames = [frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:] for frame in frames]
    first = rng.randrange(_headers(request), len(request.memory) + 1)
    kind = f"{'IP' if IP in packet else 'IPv6'} TCP{'' if vlan is None else ' insert_vlan'}"
    return Sending("segment", kind, request, tuple(padded(frames)), first=first)


def refused_request(rng: random.Random, max_length: int) -> Sending:
    """One that cannot be done."""
    offload = CompletionError.OFFLOAD
    kind = rng.choice(("context", "no context", "headers", "cut", "length", "tag"))
    if kind == "length":
        length = rng.choice((rng.randrange(1, SHORTEST), rng.randrange(max_length + 1, max_length + 500)))
        return Sending("refused", kind, Request(rng.randbytes(length), b""), (), CompletionError.FRAME_LENGTH)
    if kind == "tag":
        return Sending("refused", kind, Request(rng.randbytes(100), b"", ("insert_vlan",)), (), offload)
    packet = random_stream_packet(rng, rng.randrange(1, 400))
    request = segmentation(rng, packet, 100)
    assert request.context is not None
    first = _headers(request)
    if kind == "context":
        l2 = request.context["l2_length"]
        changes = ({"mss": 0}, {"mss": 65535}, {"l2_length": l2 + 1}, {"l3_length": 22}, {"l4_length": 16})
        request = replace(request, context=request.context | rng.choice(changes))
    elif kind == "no context":
        request = replace(request, context=None)
    elif kind == "headers":
        memory = bytearray(request.memory)
        memory[request.context["l2_length"]] ^= 0x80  # the IP version
        request = replace(request, memory=bytes(memory))
    else:
        first -= 1
    return Sending("refused", kind, request, (), offload, first)


def _headers(request: Request) -> int:
    return sum(request.context[name] for name in ("l2_length", "l3_length", "l4_length"))


def _never_zero(frame: bytes, at: int) -> bytes:
    """With 0xFFFF for a checksum of 0, as ``skb_checksum_help`` does; scapy does so for UDP only."""
    return frame[:at] + b"\xff\xff" + frame[at + 2 :] if frame[at : at + 2] == b"\0\0" else frame


class SendQueue:
    """Rings of ``ENTRIES`` at ``rings``; every request asks for one completion.

    Attributes
    ----------
    awaited : frames that are to leave, in order
    starts : where in a line of 64 bytes buffers began
    """

    def __init__(self, memory: np.ndarray, rings: int, number: int):
        self.ring = DescriptorRing(memory, rings, ENTRIES)
        self.completions = CompletionRing(memory, rings + ENTRIES * ENTRY_BYTES, ENTRIES)
        self.number = number
        self.awaited: deque[bytes] = deque()
        self._open: deque[tuple[int, Sending]] = deque()  # index behind its last descriptor
        self._count = 0
        self.starts: set[int] = set()

    @property
    def waiting(self) -> str:
        """What is to come next; empty if nothing."""
        if self.awaited:
            return f"frame {self.awaited[0].hex()}"
        return f"the completion of {self._open[0]}" if self._open else ""

    def post(self, sending: Sending, placer: Placer) -> None:
        """Put a request on the ring."""
        sending = sending.numbered(self.number, self._count)
        entries = placer.put(sending.request, first=sending.first)
        self.starts |= {each.address % 64 for each in map(DESCRIPTOR.unpack, entries) if each.type == DATA}
        self.ring.post(np.frombuffer(b"".join(entries), np.uint8).reshape(-1, ENTRY_BYTES))
        self._open.append((self.ring.produced, sending))
        self.awaited += sending.frames
        self._count += 1

    def poll(self) -> bool:
        """Compare completions; whether some came. ``AssertionError`` tells the first difference."""
        entries = self.completions.take()
        for entry in entries:
            completion = COMPLETION.unpack(entry.tobytes())
            assert self._open, f"{completion} came, and no request is open"
            index, sending = self._open.popleft()
            found = completion.buffer_id, completion.index, CompletionError(completion.error)
            wanted = sending.request.descriptor["buffer_id"], index % (1 << INDEX_BITS), sending.error
            assert found == wanted, f"{found} instead of {wanted}: {sending}"
        return len(entries) > 0

    def sent(self, frame: bytes) -> None:
        """Compare a frame that left."""
        assert self.awaited, f"{frame.hex()} left, and none is awaited"
        wanted = self.awaited.popleft()
        assert frame == wanted, f"{frame.hex()} left, not {wanted.hex()}"
