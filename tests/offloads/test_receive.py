# SPDX-License-Identifier: BSD-2-Clause
"""The comparison of received frames finds whatever is wrong with a completion or with memory."""

import random

import numpy as np
import pytest

from hw.abi.rings import ENTRY_BYTES
from tests.hw.nic.rx.reference import classify
from tests.hw.nic.tx.packets import random_packet
from tests.offloads.receive import (
    BUFFER_BYTES,
    COMPLETION,
    ENTRIES,
    FILL,
    PHASE,
    RING_BYTES,
    Awaited,
    ReceiveQueue,
    said,
)

BUFFERS = RING_BYTES


class Device:
    """Receives frames as the NIC does."""

    def __init__(self, *, rss_hash: int | None = 0x12345678):
        self.rng = random.Random(1)
        self.memory = np.zeros(RING_BYTES + BUFFER_BYTES, np.uint8)
        self.queue = ReceiveQueue(self.memory, 0, BUFFERS, self.rng)
        data = bytes(random_packet(self.rng, 300))
        self.frame = Awaited(data, classify(data), rss_hash, hash_ports=False)
        self.queue.awaited.append(self.frame)
        self.used = 0

    def receive(self, **wrong: int) -> None:
        """The frame, with wrong bits in fields of its last completion."""
        done = 0
        while done < len(self.frame.data):
            fill = FILL.unpack(self.memory[self.used * ENTRY_BYTES :][:ENTRY_BYTES].tobytes())
            piece = self.frame.data[done : done + fill.length]
            done += len(piece)
            self.memory[fill.address : fill.address + len(piece)] = np.frombuffer(piece, np.uint8)
            completion = said(self.frame, fill.buffer_id, len(piece), done == len(self.frame.data))
            values = completion._replace(flags=completion.flags | PHASE)._asdict()
            if done == len(self.frame.data):
                values |= {name: values[name] ^ bits for name, bits in wrong.items()}
            place = (ENTRIES + self.used) * ENTRY_BYTES
            self.memory[place : place + ENTRY_BYTES] = np.frombuffer(COMPLETION.pack(**values), np.uint8)
            self.used += 1
        self.last = fill.address


def test_a_right_frame_passes_and_is_counted() -> None:
    device = Device()
    assert not device.queue.poll()
    assert device.queue.waiting
    device.receive()
    assert device.queue.poll()
    device.queue.check_memory()
    assert device.queue.received == 1
    assert not device.queue.waiting


@pytest.mark.parametrize("field", [name for name in COMPLETION.fields if name not in ("reserved", "flags")])
def test_a_wrong_field_is_found(field: str) -> None:
    device = Device()
    device.receive(**{field: 1})
    with pytest.raises(AssertionError, match="instead of RxCompletion"):
        device.queue.poll()


@pytest.mark.parametrize("flag", ["end_of_packet", "hash_valid", "vlan_valid", "checksum_status", "header_split"])
def test_a_wrong_flag_is_found(flag: str) -> None:
    device = Device()
    device.receive(flags=COMPLETION.mask("flags", flag))
    with pytest.raises(AssertionError, match="instead of RxCompletion"):
        device.queue.poll()


def test_a_hash_counts_only_where_there_is_to_be_one() -> None:
    device = Device(rss_hash=None)
    device.receive(rss_hash=1)
    assert device.queue.poll()


def test_wrong_bytes_inside_and_outside_of_a_frame_are_found() -> None:
    device = Device()
    device.receive()
    device.memory[device.last] ^= 1
    with pytest.raises(AssertionError, match="came: byte"):
        device.queue.poll()
    device = Device()
    device.receive()
    device.memory[device.last - 1] ^= 1
    device.queue.poll()
    with pytest.raises(AssertionError, match="1 bytes outside of frames changed"):
        device.queue.check_memory()


def test_a_frame_that_nobody_sent_is_found() -> None:
    device = Device()
    device.queue.awaited.clear()
    device.receive()
    with pytest.raises(AssertionError, match="no frame is awaited"):
        device.queue.poll()
