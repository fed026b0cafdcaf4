# SPDX-License-Identifier: BSD-2-Clause
"""A queue that receives: buffers anywhere in memory, and every completion compared with what it is to say."""

import random
from collections import deque
from typing import NamedTuple

import numpy as np

from hw.abi.codec import Codec
from hw.abi.rings import ENTRY_BYTES, FillDescriptor, RxCompletion
from sim.line_rate.rings import CompletionRing, DescriptorRing
from tests.hw.nic.rx.reference import Expected

ENTRIES = 512
RING_BYTES = 2 * ENTRIES * ENTRY_BYTES
SLOT = 4096  #: bytes of memory in which a buffer lies anywhere
BUFFER_BYTES = ENTRIES * SLOT
FILL, COMPLETION = Codec(FillDescriptor), Codec(RxCompletion)
PHASE = COMPLETION.mask("flags", "phase")


class Awaited(NamedTuple):
    """A frame that is to come, as it is to lie in memory, what is known of it, its hash if it is to have one, and
    whether ports are in that."""

    data: bytes
    expected: Expected
    rss_hash: int | None
    hash_ports: bool


class Buffer(NamedTuple):
    """Where a piece of a frame goes."""

    address: int
    size: int


class ReceiveQueue:
    """Rings of ``ENTRIES`` at ``rings`` and as many buffers from ``buffers`` on, all of them posted again as soon as
    they are completed, at another place of another size.

    Attributes
    ----------
    awaited : frames that are to come, in order
    received : frames that came
    starts : where in a line of 64 bytes buffers began that were used
    """

    def __init__(self, memory: np.ndarray, rings: int, buffers: int, rng: random.Random):
        self._memory, self._rng = memory, rng
        self.fill = DescriptorRing(memory, rings, ENTRIES)
        self.completions = CompletionRing(memory, rings + ENTRIES * ENTRY_BYTES, ENTRIES)
        self._region = memory[buffers : buffers + BUFFER_BYTES]
        self._region[:] = np.frombuffer(rng.randbytes(BUFFER_BYTES), np.uint8)
        self._shadow = self._region.copy()
        self._base = buffers
        self._posted: deque[tuple[int, Buffer]] = deque()
        self._done = 0  # bytes of the first awaited frame that came
        self.awaited: deque[Awaited] = deque()
        self.received = 0
        self.starts: set[int] = set()
        self._post(range(ENTRIES))

    @property
    def waiting(self) -> str:
        """What is to come next; empty if nothing."""
        return f"the rest of {self.awaited[0]} behind byte {self._done}" if self.awaited else ""

    def _post(self, slots: range | list[int]) -> None:
        """Buffers in these slots of memory."""
        rng, descriptors = self._rng, bytearray()
        for slot in slots:
            size = rng.choice((2048, 2048, 2048, rng.randrange(256, 2048), rng.randrange(1, 256)))
            buffer = Buffer(self._base + slot * SLOT + rng.randrange(SLOT - size), size)
            descriptors += FILL.pack(address=buffer.address, length=size, buffer_id=slot)
            self._posted.append((slot, buffer))
        self.fill.post(np.frombuffer(descriptors, np.uint8).reshape(-1, ENTRY_BYTES))

    def poll(self) -> bool:
        """Compare what came; whether something did. ``AssertionError`` tells the first difference."""
        slots = []
        for entry in self.completions.take():
            slot, buffer = self._posted.popleft()
            self._compare(COMPLETION.unpack(entry.tobytes()), slot, buffer)
            slots.append(slot)
        if slots:
            self._post(slots)
        return bool(slots)

    def _compare(self, completion, slot: int, buffer: Buffer) -> None:
        assert self.awaited, f"{completion} came, and no frame is awaited"
        frame = self.awaited[0]
        piece = frame.data[self._done : self._done + buffer.size]
        ends = self._done + len(piece) == len(frame.data)
        wanted = said(frame, slot, len(piece), ends)
        found = completion._replace(flags=completion.flags & ~PHASE)
        if frame.rss_hash is None:
            found = found._replace(rss_hash=0)  # no hash is valid, so none counts
        name = f"byte {self._done} of {len(frame.data)} to {buffer}: {frame.expected}, {frame.data.hex()}"
        assert found == wanted, f"{found} instead of {wanted}: {name}"
        place = slice(buffer.address, buffer.address + len(piece))
        assert self._memory[place].tobytes() == piece, f"{self._memory[place].tobytes().hex()} came: {name}"
        low = buffer.address - self._base
        self._shadow[low : low + len(piece)] = np.frombuffer(piece, np.uint8)
        self.starts.add(buffer.address % 64)
        self._done = 0 if ends else self._done + len(piece)
        if ends:
            self.awaited.popleft()
            self.received += 1

    def check_memory(self) -> None:
        """No byte around buffers may have changed; ``AssertionError`` names the first that did."""
        wrong = np.flatnonzero(self._region != self._shadow)
        assert not wrong.size, f"{wrong.size} bytes outside of frames changed, the first at {self._base + wrong[0]:#x}"


def said(frame: Awaited, slot: int, length: int, ends: bool):
    """The completion of a piece of a frame, its phase left out."""
    expected = frame.expected
    flags = {
        "end_of_packet": ends,
        "hash_valid": frame.rss_hash is not None,
        "vlan_valid": expected.vlan is not None,
        "vlan_stripped": expected.stripped,
        "checksum_status": expected.status.value,
    }
    types = {"network": expected.network.value, "transport": expected.transport.value}
    return COMPLETION.unpack(
        COMPLETION.pack(
            buffer_id=slot,
            length=length,
            rss_hash=frame.rss_hash or 0,
            hash_ports=int(frame.hash_ports),
            checksum=expected.checksum,
            vlan=expected.vlan or 0,
            header_length=expected.header_length,
            packet_type=sum(_place("packet_type", name, value) for name, value in types.items()),
            flags=sum(_place("flags", name, int(value)) for name, value in flags.items()),
        )
    )


def _place(field: str, name: str, value: int) -> int:
    mask = COMPLETION.mask(field, name)
    return value * (mask & -mask)
