# SPDX-License-Identifier: BSD-2-Clause
"""IPv4 headers as scapy makes them, and those that a host drops."""

import pytest
from scapy.layers.inet import IP, UDP

from driver_model.net.ip import address, decrease_ttl, network, parse


def header(**fields: object) -> bytes:
    return bytes(IP(src="10.1.2.3", dst="10.4.5.6", **fields) / UDP(sport=7, dport=9) / b"payload")


def test_fields() -> None:
    raw = header(ttl=63)
    parsed = parse(raw[:20], len(raw))
    assert parsed is not None
    assert parsed[:5] == (20, len(raw), False, 63, 17)
    assert (parsed.source, parsed.destination) == (address("10.1.2.3"), address("10.4.5.6"))
    assert parsed.checksum == IP(raw).chksum


@pytest.mark.parametrize(
    ("fields", "fragment"), [({"flags": "MF"}, True), ({"frag": 9}, True), ({"flags": "DF"}, False)]
)
def test_fragments(fields: dict[str, object], fragment: bool) -> None:
    raw = header(**fields)
    parsed = parse(raw[:20], len(raw))
    assert parsed is not None
    assert parsed.fragment is fragment


def test_options() -> None:
    raw = bytes(IP(options=b"\x01\x01\x01\x01") / UDP())
    parsed = parse(raw[:24], len(raw))
    assert parsed is not None
    assert parsed.header_length == 24
    assert parse(raw[:20], len(raw)) is None


def test_headers_that_are_dropped() -> None:
    raw = header()
    bad = {
        "short": (raw[:19], len(raw)),
        "version": (bytes([0x65]) + raw[1:20], len(raw)),
        "header length": (bytes([0x44]) + raw[1:20], len(raw)),
        "truncated": (raw[:20], len(raw) - 1),
        "total length": (bytes(IP(len=19) / UDP())[:20], 28),
        "checksum": (raw[:8] + bytes([raw[8] ^ 1]) + raw[9:20], len(raw)),
    }
    assert parse(raw[:20], len(raw)) is not None
    for why, (data, available) in bad.items():
        assert parse(data, available) is None, why


def test_one_hop_less() -> None:
    for ttl in range(2, 256):
        raw, less = header(ttl=ttl), header(ttl=ttl - 1)
        assert decrease_ttl(raw[:12]) == less[:12], ttl


def test_addresses() -> None:
    assert address("192.168.7.1") == 0xC0A80701
    assert network("10.0.0.0/8") == (0x0A000000, 8)
    assert network("0.0.0.0/0") == (0, 0)
    for text in ("10.0.0", "10.0.0.256", "10.0.0.x", "10.0.0.-1", ""):
        with pytest.raises(ValueError, match=rf"must be four numbers of 0..255 with dots between, not '{text}'"):
            address(text)
    for text in ("10.0.0.0", "10.0.0.0/33", "10.0.0.0/x"):
        with pytest.raises(ValueError, match="a length of 0..32"):
            network(text)
    with pytest.raises(ValueError, match="no bits behind its length"):
        network("10.0.0.1/8")
