# SPDX-License-Identifier: BSD-2-Clause
"""What is handed up of each completion, with each feature on and off."""

import errno
from typing import Any

import pytest

from driver_model.drivers.features import Capabilities, Feature, NetDevice
from driver_model.drivers.metadata import Checksum, RxMetadata
from driver_model.drivers.ring import RX_HASH_PORTS
from driver_model.drivers.rss import ADDRESSES, FlowType
from driver_model.net.xdp_metadata import XdpRssType
from hw.abi.codec import Codec
from hw.abi.rings import ChecksumStatus, NetworkLayer, RxCompletion, TransportLayer
from tests.driver_model.bench import Bench

CODEC = Codec(RxCompletion)
OTHER, GOOD, BAD, NOT = NetworkLayer.OTHER, ChecksumStatus.GOOD, ChecksumStatus.BAD, ChecksumStatus.NOT_CHECKED
V4, V6, TCP, UDP, FRAGMENT = (
    *(NetworkLayer.IPV4, NetworkLayer.IPV6, TransportLayer.TCP),
    *(
        TransportLayer.UDP,
        TransportLayer.FRAGMENT,
    ),
)


def told(network: Any, transport: Any = TransportLayer.OTHER, status: Any = NOT, *flags: str) -> dict[str, Any]:
    """Of a completion, what the hardware found out, as a fake device writes it."""
    word = status.value << (CODEC.mask("flags", "checksum_status").bit_length() - 2)
    for flag in flags:
        word |= CODEC.mask("flags", flag)
    return {"told": (0xDEADBEEF, 0x1234, 0x6ABC, 54, network.value | transport.value << 4), "flags": word}


def metadata(completion: dict[str, Any], netdev: NetDevice | None = None) -> RxMetadata:
    result = RxMetadata(device() if netdev is None else netdev)
    result.entry = (0, 60, *completion["told"], RX_HASH_PORTS * completion.get("hash_ports", 0), completion["flags"])
    return result


def device(features: Feature | None = None) -> NetDevice:
    netdev = NetDevice(Capabilities(queues=2, max_frame=9216, classify=True, rss=True, rules=64))
    if features is not None:
        netdev.set_features(features)
    return netdev


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (told(V4, TCP, GOOD), Checksum.UNNECESSARY),
        (told(V6, UDP, GOOD), Checksum.UNNECESSARY),
        (told(V4, TCP, BAD), Checksum.NONE),
        (told(V4, TransportLayer.OTHER, BAD), Checksum.NONE),
        (told(V4, FRAGMENT, NOT), Checksum.COMPLETE),
        (told(V6, UDP, NOT), Checksum.COMPLETE),
        (told(OTHER), Checksum.NONE),
        (told(NetworkLayer.MALFORMED), Checksum.NONE),
    ],
)
def test_verdicts(completion: dict[str, Any], expected: Checksum) -> None:
    found = metadata(completion)
    assert found.ip_summed is expected
    assert found.csum == 0x1234
    assert found.header_length == 54
    off = metadata(completion, device(Feature.RXHASH))
    assert (off.ip_summed, off.csum) == (Checksum.NONE, None)


@pytest.mark.parametrize(
    ("network", "transport", "ports", "expected"),
    [
        (V4, TCP, True, XdpRssType.L3_IPV4 | XdpRssType.L4 | XdpRssType.L4_TCP),
        (V6, UDP, True, XdpRssType.L3_IPV6 | XdpRssType.L4 | XdpRssType.L4_UDP),
        (V4, UDP, False, XdpRssType.L3_IPV4),
        (V6, TCP, False, XdpRssType.L3_IPV6),
        (V6, FRAGMENT, False, XdpRssType.L3_IPV6),
        (V4, TransportLayer.OTHER, False, XdpRssType.L3_IPV4),
    ],
)
def test_hashes_and_their_types(network: Any, transport: Any, ports: bool, expected: XdpRssType) -> None:
    netdev = device()
    found = metadata(told(network, transport, GOOD, "hash_valid") | {"hash_ports": ports}, netdev)
    assert found.xmo_rx_hash() == (found.hash, found.hash_type) == (0xDEADBEEF, expected)
    netdev.set_features(Feature.RXCSUM)
    assert (found.hash, found.hash_type, found.xmo_rx_hash()) == (None, XdpRssType.NONE, None)
    without = metadata(told(network, transport, GOOD))
    assert (without.hash, without.hash_type, without.xmo_rx_hash()) == (None, XdpRssType.NONE, None)


def test_a_tag_in_the_frame_is_told_but_only_one_that_was_taken_out_of_it_is_the_packets() -> None:
    found = metadata(told(V4, TCP, GOOD, "vlan_valid"))
    assert (found.vlan_tci, found.vlan_tag, found.xmo_rx_vlan_tag()) == (0x6ABC, None, None)
    assert metadata(told(V4, TCP, GOOD)).vlan_tci is None
    for features in (None, Feature.HW_VLAN_CTAG_RX, Feature(0)):
        found = metadata(told(V4, TCP, GOOD, "vlan_valid", "vlan_stripped"), device(features))
        assert found.vlan_tci == 0x6ABC
        assert found.vlan_tag == found.xmo_rx_vlan_tag() == (0x8100, 0x6ABC), "whatever was switched meanwhile"


def test_nonsense_of_the_device_is_nothing() -> None:
    found = metadata({"told": (1, 2, 3, 4, 0xFF), "flags": 0xFF, "hash_ports": True})
    assert found.packet_type == (NetworkLayer.OTHER, TransportLayer.OTHER)
    assert (found.ip_summed, found.hash_type) == (Checksum.NONE, XdpRssType.NONE)
    assert found.vlan_tag == (0x8100, 3)
    assert metadata(told(V4, FRAGMENT, NOT, "hash_valid") | {"hash_ports": True}).hash_type is XdpRssType.L3_IPV4


def test_a_device_without_parser_tells_nothing_and_says_so() -> None:
    found = RxMetadata(NetDevice(Capabilities(queues=2, max_frame=9216)))
    assert (found.ip_summed, found.csum, found.hash, found.vlan_tci) == (Checksum.NONE, None, None, None)
    for kfunc, message in ((found.xmo_rx_hash, "does not tell"), (found.xmo_rx_vlan_tag, "takes no tags out")):
        with pytest.raises(OSError, match=message) as refusal:
            kfunc()
        assert refusal.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (NOT, Checksum.COMPLETE, Checksum.NONE),
        (GOOD, Checksum.UNNECESSARY, Checksum.UNNECESSARY),
        (BAD, Checksum.NONE, Checksum.NONE),
    ],
)
def test_the_sum_of_a_frame_that_a_program_writes_to_is_not_handed_up(
    status: Any, before: Checksum, after: Checksum
) -> None:
    found = metadata(told(V4, FRAGMENT, status))
    assert found.ip_summed is before
    found.frame_changes()
    assert found.ip_summed is after


def test_the_driver_hands_each_frames_metadata_up_counts_verdicts_and_charges_it() -> None:
    got: list[Any] = []

    def take(queue: Any, fragments: Any, found: RxMetadata) -> None:
        got.append((found.ip_summed, found.hash, found.vlan_tci, len(fragments)))
        for buffer, _, _ in fragments:
            queue.release(buffer)

    bench = Bench("page_pool", "pass", consumer=take, rss=True, rx_entries=16)
    good, bad = told(V4, TCP, GOOD, "hash_valid"), told(V4, TCP, BAD, "hash_valid", "vlan_valid")
    untagged = told(V6, TransportLayer.OTHER, NOT, "vlan_valid", "vlan_stripped")

    def run() -> None:
        bench.start()
        queue = bench.nic.queues[0]
        for number, (completion, end) in enumerate(((good, True), (bad, False), (bad, True), (untagged, True))):
            queue.fill_consumer += 1
            bench.nic.complete(queue, number, 60, end=end, **completion)
        bench.nic.receive(0, [])
        bench.wait(lambda: len(got) == 3, "three frames")
        bench.finish()

    bench.run(run)
    assert got == [
        (Checksum.UNNECESSARY, 0xDEADBEEF, None, 1),
        (Checksum.NONE, 0xDEADBEEF, 0x6ABC, 2),
        (Checksum.COMPLETE, None, 0x6ABC, 1),
    ]
    counted = {name: bench.total(f"rx_csum_{name}") for name in ("unnecessary", "complete", "none", "bad")}
    assert counted == {"unnecessary": 1, "complete": 1, "none": 1, "bad": 1}
    assert bench.total("rx_removed_vlan_packets") == 1
    assert bench.core.op("rx.metadata").count == 3


def test_a_hash_is_told_as_the_device_made_it_and_not_as_it_would_make_it_now() -> None:
    got: list[Any] = []

    def take(queue: Any, fragments: Any, found: RxMetadata) -> None:
        got.append(found.xmo_rx_hash())
        for buffer, _, _ in fragments:
            queue.release(buffer)

    bench = Bench("page_pool", "pass", consumer=take, rss=True, rx_entries=16)

    def run() -> None:
        bench.start()
        queue = bench.nic.queues[0]
        for number, ports in enumerate((True, False)):
            queue.fill_consumer += 1
            bench.nic.complete(queue, number, 60, hash_ports=ports, **told(V4, UDP, GOOD, "hash_valid"))
        bench.driver.ethtool.set_rxfh_fields(FlowType.UDP_V4, ADDRESSES)
        bench.nic.receive(0, [])
        bench.wait(lambda: len(got) == 2, "two frames")
        bench.finish()

    bench.run(run)
    with_ports = XdpRssType.L3_IPV4 | XdpRssType.L4 | XdpRssType.L4_UDP
    assert got == [(0xDEADBEEF, with_ports), (0xDEADBEEF, XdpRssType.L3_IPV4)]


def test_without_features_nothing_is_charged() -> None:
    bench = Bench("page_pool", "pass", expected=[[bytes(60)]], rx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, [bytes(60)])
        bench.wait(lambda: bench.total("rx_packets") == 1, "the frame")
        bench.finish()

    bench.run(run)
    assert bench.core.op("rx.metadata").count == 0
    assert bench.total("rx_csum_none") == 1
