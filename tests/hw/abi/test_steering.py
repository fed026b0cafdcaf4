# SPDX-License-Identifier: BSD-2-Clause
"""Where rules lie: the hash is the one that is written down, and spreads rules."""

import random
from functools import reduce
from ipaddress import ip_address
from operator import xor

import pytest

from hw.abi.registers import register_map
from hw.abi.rings import NetworkLayer, TransportLayer
from hw.abi.steering import (
    RSS_KEY_BYTES,
    RSS_TABLE_ENTRIES,
    RSS_TABLE_ROW,
    RULE_BANKS,
    RuleError,
    rss_hash,
    rule_hash,
    rule_message,
    rule_places,
    rule_slots,
)
from hw.nic.register_block import register_layout
from hw.nic.rx.interfaces import HashTypes, RuleWindow
from tests.hw.nic.rx.flows import SUITE, SUITE_KEY


def crc32c(message, value=0):
    """Castagnoli's polynomial, bit by bit."""
    for byte in message:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


@pytest.mark.parametrize("seed", range(20))
def test_the_hash_is_crc32c_of_the_folded_addresses_and_the_ports(seed):
    assert crc32c(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF == 0xE3069283, "the published check value"
    rng = random.Random(seed)
    addresses = [rng.randbytes(rng.choice((4, 16))).ljust(16, b"\0") for _ in range(2)]
    ports = [rng.randbytes(2) for _ in range(2)]
    folded = (
        reduce(xor, (int.from_bytes(address[at : at + 4]) for at in range(0, 16, 4))).to_bytes(4)
        for address in addresses
    )
    message = rule_message(*(int.from_bytes(part, "little") for part in (*addresses, *ports)))
    expected = crc32c(b"".join((*folded, *ports)))
    assert rule_hash(message) == expected
    for rules in (64, 128, 256, 512):
        slots = rules // 2
        assert rule_slots(rules) == slots
        places = [bank * slots + expected.to_bytes(4, "little")[bank] % slots for bank in range(RULE_BANKS)]
        assert rule_places(message, rules) == places


def test_the_hash_is_linear_as_hardware_takes_it():
    rng = random.Random(1)
    for _ in range(50):
        left, right = rng.getrandbits(96), rng.getrandbits(96)
        assert rule_hash(left) ^ rule_hash(right) == rule_hash(left ^ right)


@pytest.mark.parametrize("vector", SUITE)
def test_software_hashes_as_the_published_vectors_say(vector):
    destination, destination_port, source, source_port, of_addresses, of_ports = vector
    addresses = ip_address(source).packed + ip_address(destination).packed
    ports = source_port.to_bytes(2) + destination_port.to_bytes(2)
    assert rss_hash(SUITE_KEY, addresses) == of_addresses
    assert rss_hash(SUITE_KEY, addresses + ports) == of_ports
    assert rss_hash(SUITE_KEY, bytes(12)) == 0


def test_registers_are_as_the_hardware_takes_them():
    port = register_map(1).port
    assert len([name for name in port if name.startswith("rss_key")]) * 8 == RSS_KEY_BYTES
    rows = [register for name, register in port.items() if name.startswith("rss_table")]
    assert len(rows) * RSS_TABLE_ROW == RSS_TABLE_ENTRIES
    for row in rows:
        assert row.offset == rows[0].offset + 8 * rows.index(row)
        assert [field.lsb for field in row.fields.values()] == [8 * place for place in range(RSS_TABLE_ROW)]
    # The place of a row in the table is taken from its address.
    assert rows[0].offset % (8 * len(rows)) == 0
    types = register_layout(port["rss_types"])
    assert [(name, field.offset) for name, field in types] == [
        (name, field.offset) for name, field in HashTypes.as_shape()
    ]
    window = RuleWindow().members
    assert port["rule_flow"].fields["network"].width == NetworkLayer.as_shape().width
    assert port["rule_flow"].fields["transport"].width == TransportLayer.as_shape().width
    assert port["rule_flow"].fields["queue"].width == window["queue"].shape
    assert port["rule_command"].fields["index"].width == window["index"].shape
    assert port["rule_status"].fields["error"].width >= RuleError.as_shape().width
