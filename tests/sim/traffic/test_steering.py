# SPDX-License-Identifier: BSD-2-Clause
"""Which queue a frame goes to, against a parser and a hash of the tests' own."""

import random

import pytest

from driver_model.drivers.rss import DEFAULT_KEY, DEFAULT_TYPES
from sim.traffic.flows import Flows, queue_mac
from sim.traffic.steering import queue_by_address, queue_by_hash, rss_message
from tests.hw.nic.rx.flows import toeplitz
from tests.hw.nic.rx.reference import classify, random_frame


@pytest.mark.parametrize("types", [DEFAULT_TYPES, frozenset(("ipv4", "udp_ipv6")), frozenset(("tcp_ipv4",))])
def test_what_is_hashed_is_what_a_parser_finds(types):
    seed = 3
    rng = random.Random(seed)
    hashed = 0
    for number in range(3000):
        frame = random_frame(rng)
        found = classify(frame)
        network, transport = found.network.name.lower(), found.transport.name.lower()
        expected = None
        if found.ports is not None and f"{transport}_{network}" in types:
            expected = b"".join(found.addresses + found.ports)
        elif found.addresses is not None and network in types:
            expected = b"".join(found.addresses)
        assert rss_message(frame, types) == expected, f"seed {seed}, frame {number}: {frame.hex()}"
        hashed += expected is not None
    assert hashed > 100


def test_queues_are_those_of_the_hashs_low_bits():
    flows, queue_of = Flows(count=500, queues=5), queue_by_hash(5)
    count = [0] * 5
    for flow in range(500):
        frame = flows.frame(flow, 60, flow)
        queue = toeplitz(DEFAULT_KEY, frame[26:38]) % 128 % 5
        assert queue_of(frame) == queue
        count[queue] += 1
    assert min(count) > 50
    assert queue_of(bytes.fromhex(queue_mac(3).replace(":", "")) + bytes(48)) == 0, "no packet: not hashed"


def test_queues_by_address():
    flows, queue_of = Flows(count=30, queues=3), queue_by_address(3)
    assert [queue_of(flows.frame(flow, 60, 0)) for flow in range(30)] == [flow % 3 for flow in range(30)]
    assert queue_of(bytes(60)) == 0
