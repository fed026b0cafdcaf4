# SPDX-License-Identifier: BSD-2-Clause
"""Offloads from the wire to what the driver hands up: queues, hashes, verdicts, sums, tags, and ethtool's settings."""

import errno
import random
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from driver_model.drivers.features import Feature
from driver_model.drivers.metadata import Checksum
from driver_model.drivers.rss import ADDRESSES, DEFAULT_KEY, FlowType
from driver_model.drivers.steering import Flow
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from driver_model.net.xdp_metadata import XdpRssType, bpf_xdp_metadata_rx_hash, bpf_xdp_metadata_rx_vlan_tag
from hw.abi.rings import TransportLayer
from sim.backends.base import Backend, launch
from sim.config import MachineConfig
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.flows import Flows, sequence_of
from sim.traffic.source import Traffic
from tests.cosim.offloads import LOAD, MACHINE, QUEUES, captured_traffic
from tests.hw.nic.rx.flows import toeplitz
from tests.hw.nic.rx.reference import strip

HERE = "tests.cosim.test_receive_offloads"
FLOWS, FLOW_FRAMES = 40, 400
KINDS = ("good", "good", "good", "checksum", "payload", "ip header")  #: what is damaged


def hand_up(backend: Backend, machine: MachineConfig, runs: list[Mapping[str, Any]]) -> list[Any]:
    """Run after run, what was handed up and what programs could know of it, and the counters; at last the first run
    again with headers split off, and once more with tags taken out too."""
    results = []
    for number, traffic in enumerate(runs):
        if number:
            backend.reset()
        results.append(receive(backend, machine, traffic))
    for kind in (Split, Untagged):
        backend.reset()
        results.append(receive(backend, machine, runs[0], kind))
    return results


class Split(Scenario):
    """With packets split, after the device was closed for it."""

    def _open(self) -> None:
        super()._open()
        self.driver.stop()
        self.driver.ethtool.set_tcp_data_split(enable=True)
        self.driver.open()
        self.driver.status(0, "rx")  # behind it, every register write has arrived


class Untagged(Split):
    """With packets split, and ``ethtool -K … rx-vlan-offload on``."""

    def _open(self) -> None:
        super()._open()
        ethtool = self.driver.ethtool
        ethtool.set_features(ethtool.features | Feature.HW_VLAN_CTAG_RX)
        self.driver.status(0, "rx")

    def _expected(self) -> list[list[bytes]]:
        return [[strip(frame)[0] for frame in queue] for queue in super()._expected()]


def receive(
    backend: Backend, machine: MachineConfig, traffic: Mapping[str, Any], kind: type[Scenario] = Scenario
) -> dict[str, Any]:
    handed: list[list[Any]] = []
    hints: list[list[Any]] = []
    split: list[int] = []

    def look(xdp: XdpBuff) -> XdpAction:
        found: list[Any] = []
        for kfunc in (bpf_xdp_metadata_rx_hash, bpf_xdp_metadata_rx_vlan_tag):
            try:
                found.append(list(kfunc(xdp)))
            except OSError as error:
                found.append(error.errno)
        hints.append(found)
        return XdpAction.PASS

    def take(queue: Any, fragments: Any, metadata: Any) -> None:
        frame = b"".join(queue.core.load_owned(buffer.address + at, length) for buffer, at, length in fragments)
        apart = 0
        if metadata.header is not None:
            apart, frame = metadata.header[1], queue.core.load_owned(*metadata.header) + frame
        network, transport = metadata.packet_type
        checked = [metadata.ip_summed, metadata.csum, metadata.hash, metadata.hash_type, metadata.vlan_tci]
        handed.append([queue.index, frame.hex(), network.name, transport.name, metadata.header_length, *checked])
        split.append(apart)
        scenario.passed(queue, fragments, metadata)

    config = RunConfig(Traffic(**traffic), verdict="pass", cores=2, queues=QUEUES)
    scenario = kind(backend, machine, config, program=XdpProgram("look", look, single_buffer=False), consumer=take)
    return {"statistics": dict(scenario.run().statistics), "handed": handed, "hints": hints, "split": split}


def random_received(rng: random.Random) -> bytes:
    """A frame of scapy's, at times damaged where a checksum covers it."""
    packet = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        packet /= Dot1Q(vlan=rng.randrange(1, 4096), prio=rng.randrange(8))
    kind = rng.choice(("tcp", "tcp", "udp", "udp", "udp without", "icmp", "fragment", "arp"))
    if kind == "arp":
        return bytes(packet / ARP(psrc="10.0.0.1", pdst="10.0.0.2")).ljust(60, b"\0")
    six = rng.random() < 0.5 and kind not in ("icmp", "udp without")
    if six:
        packet /= IPv6(src=f"2001:db8::{rng.randrange(1, 50):x}", dst="2001:db8::ffff")
    else:
        packet /= IP(src=f"10.1.0.{rng.randrange(1, 50)}", dst="10.0.0.1", id=rng.randrange(1 << 16))
    ports = {"sport": rng.randrange(1024, 65536), "dport": rng.choice((80, 443, 53))}
    data = rng.randbytes(rng.choice((1, 2, 18, rng.randrange(1, 1400))))
    if kind == "fragment":
        packet = packet / IPv6ExtHdrFragment(offset=0, m=1, nh=17) if six else packet
        if not six:
            packet[IP].flags = "MF"
    if kind == "icmp":
        packet /= ICMP(id=7)
    elif kind == "tcp":
        packet /= TCP(**ports, seq=rng.getrandbits(32), flags="PA")
    else:
        packet /= UDP(**ports) if kind != "udp without" else UDP(**ports, chksum=0)
    raw = bytearray(bytes(packet / Raw(data)))
    damage = rng.choice(KINDS)
    if damage == "payload":
        raw[-1] ^= 1 << rng.randrange(8)
    elif damage == "checksum" and kind in ("tcp", "udp"):
        place = bytes(raw).index(bytes(Ether(bytes(raw))[TCP if kind == "tcp" else UDP])) + (16 if kind == "tcp" else 6)
        raw[place] ^= 0x40
    elif damage == "ip header" and not six:
        raw[len(raw) - len(Ether(bytes(raw))[IP]) + 8] ^= 0x20  # time to live
    return bytes(raw).ljust(60, b"\0")


def truth(frame: bytes) -> tuple[Checksum, int]:
    """How the frame is to be handed up, and the sum that comes with it, as scapy computes checksums."""
    value = 0xFFFF ^ checksum(frame[14:])
    csum = int.from_bytes(value.to_bytes(2, "big"), "little")
    packet = Ether(frame)
    if ARP in packet:
        return Checksum.NONE, csum
    again = packet.copy()
    if IP in packet:
        del again[IP].chksum
        again = Ether(bytes(again))
        if again[IP].chksum != packet[IP].chksum:
            return Checksum.NONE, csum
    fragment = packet[IP].flags.MF if IP in packet else IPv6ExtHdrFragment in packet
    transport = next((layer for layer in (TCP, UDP) if layer in packet), None)
    if fragment or transport is None or (transport is UDP and packet[UDP].chksum == 0):
        return Checksum.COMPLETE, csum
    del again[transport].chksum
    good = Ether(bytes(again))[transport].chksum == packet[transport].chksum
    return Checksum.UNNECESSARY if good else Checksum.NONE, csum


def hashed(packet: Packet) -> tuple[int, XdpRssType] | None:
    """The packet's hash by the driver's defaults, and its type."""
    if ARP in packet:
        return None
    six = IPv6 in packet
    ip = packet[IPv6] if six else packet[IP]
    message = bytes(ip)[8:40] if six else bytes(ip)[12:20]
    kind = XdpRssType.L3_IPV6 if six else XdpRssType.L3_IPV4
    fragment = IPv6ExtHdrFragment in packet if six else packet[IP].flags.MF
    for layer, bit in ((TCP, XdpRssType.L4_TCP), (UDP, XdpRssType.L4_UDP)):
        if layer in packet and not fragment:
            message += packet[layer].sport.to_bytes(2) + packet[layer].dport.to_bytes(2)
            kind |= XdpRssType.L4 | bit
    return toeplitz(DEFAULT_KEY, message), kind


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], list[Any]]:
    """Frames of every kind, and many flows: what came of both."""
    rng = random.Random(5)
    frames = [random_received(rng) for _ in range(300)]
    many = {"sizes": "64", "frames": FLOW_FRAMES, "flows": FLOWS, "queues": QUEUES, "load": LOAD}
    path = tmp_path_factory.mktemp("offloads") / "received.pcap"
    return frames, launch("verilator", MACHINE, f"{HERE}:hand_up", [captured_traffic(path, frames), many])


def test_each_packet_comes_to_its_hashs_queue_with_scapys_verdict_its_tag_and_its_sum(received: Any) -> None:
    frames, (result, *_) = received
    expected: list[list[bytes]] = [[] for _ in range(QUEUES)]
    for frame in frames:
        found = hashed(Ether(frame))
        expected[0 if found is None else found[0] % 128 % QUEUES].append(frame)
    got = [[bytes.fromhex(entry[1]) for entry in result["handed"] if entry[0] == queue] for queue in range(QUEUES)]
    assert got == expected
    assert all(len(queue) > 20 for queue in expected)

    seen = dict.fromkeys((Checksum.NONE, Checksum.UNNECESSARY, Checksum.COMPLETE), 0)
    for _, raw, network, transport, header_length, summed, csum, value, kind, tag in result["handed"]:
        frame = bytes.fromhex(raw)
        packet = Ether(frame)
        assert (Checksum(summed), csum) == truth(frame), packet.summary()
        assert (None if value is None else (value, XdpRssType(kind))) == hashed(packet), packet.summary()
        assert tag == (int.from_bytes(frame[14:16]) if Dot1Q in packet else None)
        assert network == ("IPV6" if IPv6 in packet else "IPV4" if IP in packet else "OTHER")
        if kind & XdpRssType.L4:
            assert transport == ("TCP" if TCP in packet else "UDP")
            layer = packet[TCP if TCP in packet else UDP]
            assert header_length == len(packet) - len(layer.payload)
        seen[Checksum(summed)] += 1
    assert min(seen.values()) > 30


def test_programs_get_the_hash_and_no_tag_for_none_is_taken_out_and_the_counters_tell_the_verdicts(
    received: Any,
) -> None:
    frames, (result, *_) = received
    statistics = result["statistics"]
    total = {
        name: sum(statistics[f"queue{queue}_rx_csum_{name}"] for queue in range(QUEUES))
        for name in ("unnecessary", "complete", "none", "bad")
    }
    verdicts = [truth(frame)[0] for frame in frames]
    unjudged = sum(Ether(frame).haslayer(ARP) for frame in frames)
    assert total == {
        "unnecessary": verdicts.count(Checksum.UNNECESSARY),
        "complete": verdicts.count(Checksum.COMPLETE),
        "none": verdicts.count(Checksum.NONE),
        "bad": verdicts.count(Checksum.NONE) - unjudged,
    }
    hints = sorted(map(repr, result["hints"]))
    expected = []
    for frame in frames:
        found = hashed(Ether(frame))
        expected.append([errno.ENODATA if found is None else [found[0], int(found[1])], errno.ENODATA])
    assert hints == sorted(map(repr, expected))


def test_flows_spread_over_the_queues_and_each_stays_in_order_in_its_own(received: Any) -> None:
    _, (_, result, *_) = received
    queues: dict[str, int] = {}
    last: dict[str, int] = {}
    count = [0] * QUEUES
    for queue, raw, *_ in result["handed"]:
        frame = bytes.fromhex(raw)
        ip = Ether(frame)[IP]
        flow, number = f"{ip.src}:{ip.sport}", sequence_of(frame)
        assert queues.setdefault(flow, queue) == queue == hashed(Ether(frame))[0] % 128 % QUEUES
        assert last.get(flow, -1) < number
        last[flow] = number
        count[queue] += 1
    assert len(queues) == FLOWS
    assert sum(count) == FLOW_FRAMES
    assert all(count), count


def test_with_headers_split_off_all_of_that_is_the_same(received: Any) -> None:
    _, (whole, _, result, _) = received
    assert not any(whole["split"])
    assert sorted(map(repr, result["handed"])) == sorted(map(repr, whole["handed"]))
    assert sorted(map(repr, result["hints"])) == sorted(map(repr, whole["hints"]))
    for (_, raw, _, transport, header_length, *_), apart in zip(result["handed"], result["split"], strict=True):
        splits = transport in ("TCP", "UDP") and 2 * header_length < len(raw)
        assert apart == (header_length if splits else 0)
    statistics, split = result["statistics"], [length for length in result["split"] if length]
    assert len(split) > 100
    assert sum(statistics[f"queue{queue}_rx_hsplit_packets"] for queue in range(QUEUES)) == len(split)
    assert sum(statistics[f"queue{queue}_rx_hsplit_bytes"] for queue in range(QUEUES)) == sum(split)


def test_with_tags_taken_out_packets_and_programs_get_them_beside_frames_that_are_summed_and_split_without(
    received: Any,
) -> None:
    frames, (whole, _, _, result) = received
    # Each queue keeps its order, so what it has handed up can be compared with what it did before.
    before, after = ([sorted(run["handed"], key=lambda entry: entry[0])] for run in (whole, result))
    removed = 0
    for (queue, raw, *types, length, _, _, value, kind, told), entry in zip(*before, *after, strict=True):
        frame = bytes.fromhex(raw)
        left, tag = strip(frame)
        summed, csum = truth(left)
        assert Checksum(summed) == truth(frame)[0]
        gone = 4 * (tag is not None)
        assert entry == [queue, left.hex(), *types, length - gone, summed, csum, value, kind, told], frame.hex()
        removed += tag is not None
    assert removed > 50
    tags = [None if isinstance(tag, int) else tuple(tag) for _, tag in result["hints"]]
    expected = [strip(frame)[1] for frame in frames]
    assert Counter(tags) == Counter(None if tag is None else (0x8100, tag) for tag in expected)
    assert all(tag == errno.ENODATA for _, tag in result["hints"] if isinstance(tag, int))
    assert sorted(repr(found) for found, _ in result["hints"]) == sorted(repr(found) for found, _ in whole["hints"])
    for entry, apart in zip(result["handed"], result["split"], strict=True):
        splits = entry[3] in ("TCP", "UDP") and 2 * entry[4] < len(entry[1])
        assert apart == (entry[4] if splits else 0)
    statistics, on_wire = result["statistics"], sum(map(len, frames))
    assert sum(statistics[f"queue{queue}_rx_removed_vlan_packets"] for queue in range(QUEUES)) == removed
    assert statistics["rx_bytes"] == sum(statistics[f"nic_queue{queue}_rx_bytes"] for queue in range(QUEUES)) == on_wire
    assert sum(statistics[f"queue{queue}_rx_bytes"] for queue in range(QUEUES)) == on_wire - 4 * removed


# Settings

KEY = bytes(range(3, 43))
TABLE = [(7 * index // 3 + 1) % QUEUES for index in range(128)]
RULES = {3: 2, 17: 0, 39: 3}  #: flows of the traffic, and the queues they are steered to


def steered_to(frame: bytes) -> int:
    """A frame's queue with these settings, and UDP hashed by addresses."""
    flow = int.from_bytes(frame[28:30])
    return RULES.get(flow, TABLE[toeplitz(KEY, frame[26:34]) % 128])


class Steered(Scenario):
    """With ethtool's settings changed before the first frame."""

    def _open(self) -> None:
        super()._open()
        ethtool = self.driver.ethtool
        ethtool.set_rxfh(indir=TABLE, key=KEY)
        ethtool.set_rxfh_fields(FlowType.UDP_V4, ADDRESSES)
        for flow, queue in RULES.items():
            ip = Ether(Flows(FLOWS).frame(flow, 60, 0))[IP]
            source, destination = ip_address(ip.src), ip_address(ip.dst)
            ethtool.insert_rule(Flow(source, ip.sport, destination, ip.dport, TransportLayer.UDP), queue)

    def _expected(self) -> list[list[bytes]]:
        return [[each.data for each in self.frames if steered_to(each.data) == queue] for queue in range(QUEUES)]


def steer(backend: Backend, machine: MachineConfig, traffic: Mapping[str, Any]) -> dict[str, Any]:
    return receive(backend, machine, traffic, Steered)


def test_packets_go_where_ethtool_says() -> None:
    traffic = {"sizes": "64", "frames": FLOW_FRAMES, "flows": FLOWS, "load": LOAD}
    result = launch("verilator", MACHINE, f"{HERE}:steer", traffic)
    assert len(result["handed"]) == FLOW_FRAMES
    for queue, raw, _, _, _, _, _, value, kind, _ in result["handed"]:
        frame = bytes.fromhex(raw)
        assert queue == steered_to(frame)
        assert (value, kind) == (toeplitz(KEY, frame[26:34]), XdpRssType.L3_IPV4)
