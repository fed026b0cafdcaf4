# SPDX-License-Identifier: BSD-2-Clause
"""Requests are what they say, and the comparison of sent frames finds whatever is wrong with them."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from hw.abi.rings import ENTRY_BYTES, CompletionError
from tests.hw.nic.tx.packets import Placer
from tests.offloads.send import (
    COMPLETION,
    ENTRIES,
    MARK,
    RING_BYTES,
    SendQueue,
    checksum_request,
    refused_request,
    segmentation_request,
)

LONGEST = 9216


class Device:
    """Sends requests as the NIC does."""

    def __init__(self):
        self.rng = random.Random(2)
        memory = np.zeros(RING_BYTES + (1 << 20), np.uint8)
        self.completions = memory[ENTRIES * ENTRY_BYTES :]
        self.queue = SendQueue(memory, 0, number=3)
        self.placer = Placer(SimpleNamespace(memory=memory.data), self.rng)
        self.placer.next = RING_BYTES
        self.sending = segmentation_request(self.rng)
        self.queue.post(self.sending, self.placer)

    def complete(self, **wrong: int) -> None:
        """The request, with wrong bits in fields of its completion."""
        values = {"buffer_id": 0, "index": self.queue.ring.produced, "error": 0, "flags": 0x80}
        values |= {name: values[name] ^ bits for name, bits in wrong.items()}
        self.completions[:ENTRY_BYTES] = np.frombuffer(COMPLETION.pack(**values), np.uint8)


def test_right_frames_pass_and_carry_queue_and_number() -> None:
    device = Device()
    assert device.queue.waiting.startswith("frame")
    for frame in list(device.queue.awaited):
        assert frame[MARK] == bytes([2, 3, 0, 0, 0, 0])
        device.queue.sent(frame)
    assert device.queue.waiting.startswith("the completion")
    device.complete()
    assert device.queue.poll()
    assert not device.queue.waiting


@pytest.mark.parametrize("field", ["buffer_id", "index", "error"])
def test_a_wrong_completion_is_found(field: str) -> None:
    device = Device()
    device.complete(**{field: 1})
    with pytest.raises(AssertionError, match="instead of"):
        device.queue.poll()


def test_a_wrong_byte_and_a_frame_too_many_are_found() -> None:
    device = Device()
    first = bytearray(device.queue.awaited[0])
    first[-1] ^= 1
    with pytest.raises(AssertionError, match="left, not"):
        device.queue.sent(bytes(first))
    device.queue.awaited.clear()
    with pytest.raises(AssertionError, match="none is awaited"):
        device.queue.sent(bytes(first))


def test_frames_that_are_to_leave_have_right_checksums() -> None:
    rng = random.Random(3)
    print("seed 3")
    for _ in range(30):
        for sending in (checksum_request(rng, LONGEST), segmentation_request(rng)):
            assert sending.frames
            assert sending.error is CompletionError.NONE
            for frame in sending.frames:
                packet = Ether(frame)
                for layer in (IP, TCP, UDP):
                    if layer in packet:
                        packet[layer].chksum = None
                assert bytes(packet) == frame, sending.kind


def test_what_is_to_be_refused_sends_nothing() -> None:
    rng = random.Random(4)
    print("seed 4")
    sendings = [refused_request(rng, LONGEST) for _ in range(100)]
    assert {sending.kind for sending in sendings} == {"context", "no context", "headers", "cut", "length", "tag"}
    for sending in sendings:
        assert not sending.frames
        assert sending.error is not CompletionError.NONE
