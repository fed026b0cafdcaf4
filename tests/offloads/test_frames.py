# SPDX-License-Identifier: BSD-2-Clause
"""What is received is of every kind, and scapy agrees with the reference about it."""

import random

import pytest

from hw.abi.rings import ChecksumStatus, DropReason, TransportLayer
from tests.hw.nic.rx.reference import classify
from tests.offloads.frames import WireFrame, published, wire_frame
from tests.offloads.opinion import scapy_verdict
from tests.offloads.settings import Settings


@pytest.mark.parametrize("seed", range(2))
def test_scapy_agrees_about_checksums_and_sees_a_changed_bit(seed: int) -> None:
    print(f"seed {seed}")
    rng, good = random.Random(seed), 0
    for _ in range(400):
        frame = wire_frame(rng, 60, 9216).data
        expected = classify(frame)
        assert scapy_verdict(frame, expected) in (None, expected.status), f"{expected} {frame.hex()}"
        if expected.status is ChecksumStatus.GOOD:
            good += 1
            changed = bytearray(frame)
            changed[expected.header_length - (4 if expected.transport is TransportLayer.TCP else 8)] ^= 1
            assert scapy_verdict(bytes(changed), expected) is ChecksumStatus.BAD, f"{expected} {frame.hex()}"
    assert good > 40


def test_frames_are_of_every_kind_that_the_port_drops() -> None:
    rng = random.Random(5)
    print("seed 5")
    reasons = {wire_frame(rng, 60, 9216).drop(60, 9216) for _ in range(1000)}
    assert reasons == {None, DropReason.BAD_FCS, DropReason.RUNT, DropReason.OVERSIZE}


def test_a_damaged_frame_is_that_before_it_is_too_short_or_too_long() -> None:
    assert WireFrame(bytes(59), bad_fcs=True).drop(60, 100) is DropReason.BAD_FCS
    assert WireFrame(bytes(59)).drop(60, 100) is DropReason.RUNT
    assert WireFrame(bytes(101)).drop(60, 100) is DropReason.OVERSIZE
    assert WireFrame(bytes(100)).drop(60, 100) is None


def test_settings_give_the_published_hashes() -> None:
    hashes = [
        [Settings.published(4, ports=ports).hash(classify(frame.data)) for frame, *_ in published()]
        for ports in (False, True)
    ]
    assert list(zip(*hashes, strict=True)) == [(plain, ports) for _, plain, ports in published()]
    for ports in (False, True):
        settings = Settings.published(4, ports=ports)
        assert {settings.hash_ports(classify(frame.data)) for frame, *_ in published()} == {ports}
        assert (settings.hash(classify(bytes(60))), settings.hash_ports(classify(bytes(60)))) == (None, False)
