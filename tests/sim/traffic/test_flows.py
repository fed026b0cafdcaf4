# SPDX-License-Identifier: BSD-2-Clause
import random

import pytest
from scapy.layers.l2 import Ether

from sim.traffic.flows import Flows, mac_value, queue_mac, sequence_of


def test_frames_have_valid_checksums_whatever_the_sequence_number():
    seed = 20
    rng = random.Random(seed)
    flows = Flows(count=300, queues=2)
    for _ in range(200):
        flow, length = rng.randrange(300), rng.randint(60, 1514)
        sequence = rng.choice([0, 1, 0xFFFF, 0xFFFF_FFFF_FFFF_FFFF, rng.getrandbits(64)])
        raw = flows.frame(flow, length, sequence)
        assert len(raw) == length
        assert sequence_of(raw) == sequence
        packet = Ether(raw)
        del packet["IP"].chksum, packet["UDP"].chksum
        assert bytes(packet) == raw, f"seed {seed}: flow {flow}, length {length}, sequence {sequence:#x}"


def test_flows_differ_and_are_addressed_to_their_queue():
    flows = Flows(count=1000, queues=3)
    packets = [Ether(flows.frame(flow, 60, 0)) for flow in range(1000)]
    assert len({(p["IP"].src, p["UDP"].sport) for p in packets}) == 1000
    assert all(p.dst == queue_mac(flows.queue(flow)) for flow, p in enumerate(packets))


def test_mac_register_value_has_the_first_wire_byte_lowest():
    assert mac_value("02:00:00:00:00:0f") == 0x0F00_0000_0002


def test_refused_parameters():
    with pytest.raises(ValueError, match="flows must be in 1..65536, not 0"):
        Flows(0)
    with pytest.raises(ValueError, match="queues must be in 1..16, not 17"):
        Flows(1, 17)
    with pytest.raises(TypeError, match="flows must be an integer, not '2'"):
        Flows("2")
    with pytest.raises(ValueError, match="60..9216 bytes long, not 59"):
        Flows().frame(0, 59, 0)
    with pytest.raises(ValueError, match="Queue must be in 0..15, not 16"):
        queue_mac(16)
