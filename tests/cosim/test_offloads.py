# SPDX-License-Identifier: BSD-2-Clause
"""A small part of ``python -m tests.offloads``: classification, checksums, RSS, insertion and segmentation on the whole
machine, against scapy and the tests' own models."""

from typing import Any

import pytest

from sim.backends.base import launch
from tests.offloads.machine import machine

SEED = 1
PACKETS = 500
LAYERS = {f"{network} {transport}" for network in ("IPV4", "IPV6") for transport in ("TCP", "UDP")}


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """What was compared without a difference."""
    print(f"seed {SEED}")
    return launch("verilator", machine(64), "tests.offloads.job:job", {"packets": PACKETS, "seed": SEED})


def kinds(result: dict[str, Any], wanted: str) -> set[str]:
    """Of one direction."""
    return {kind for direction, kind, _ in result["covered"] if direction == wanted}


def test_many_frames_of_every_alignment_are_compared(result: dict[str, Any]) -> None:
    assert min(result["received"], result["checksums"], result["segments"]) >= PACKETS
    assert min(result["starts"]) > 60


def test_received_frames_are_of_every_kind(result: dict[str, Any]) -> None:
    received = kinds(result, "receive")
    assert {f"{layers} GOOD" for layers in LAYERS} <= received
    assert any(kind.endswith("BAD") for kind in received)
    assert any("FRAGMENT" in kind for kind in received)
    assert any(kind.startswith("MALFORMED") for kind in received)
    assert any("MALFORMED" in kind and "IPV" in kind for kind in received)
    assert any("tagged" in kind for kind in received)
    assert any("stripped" in kind for kind in received)
    assert {f"dropped: {reason}" for reason in ("BAD_FCS", "OVERSIZE", "RUNT")} <= received
    assert {f"published hash {which} ports" for which in ("with", "without")} <= received


def test_sent_frames_are_of_every_kind(result: dict[str, Any]) -> None:
    checksums, segments = kinds(result, "checksum"), kinds(result, "segment")
    for layers in ("IP TCP", "IP UDP", "IPv6 TCP", "IPv6 UDP"):
        assert f"{layers} insert_l4_checksum" in checksums
        assert f"{layers} insert_l4_checksum insert_vlan" in checksums
    assert {"IP TCP", "IPv6 TCP"} <= segments
    assert kinds(result, "refused") == {"context", "no context", "headers", "cut", "length", "tag"}
