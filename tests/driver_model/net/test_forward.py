# SPDX-License-Identifier: BSD-2-Clause
"""IPv4 forwarding and source NAT: what leaves, what does not and why, and what it costs."""

import random
from collections.abc import Sequence

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from driver_model.net.forward import IpForward, Route, RouteTable
from driver_model.net.ip import address, parse
from driver_model.net.nat import SourceNat
from driver_model.net.qdisc import Qdisc
from driver_model.net.skb.sk_buff import SkBuff
from driver_model.net.stack import NetStack
from tests.driver_model.net.skb.skb_kit import SkbKit
from tests.driver_model.stack_bench import DEVICE, NEIGHBOUR, StackBench

OUTSIDE = "192.168.7.1"


def frame(transport: Packet, **fields: object) -> bytes:
    return bytes(Ether() / IP(**{"src": "10.1.1.1", "dst": "10.2.2.2"} | fields) / transport / bytes(60))


def forward(
    frames: Sequence[bytes], *, nat: int | None = None, mtu: int = 1500, strategy: str = "fragments"
) -> StackBench:
    """Send frames through a host of one core."""

    def handler(bench: StackBench, core: int) -> IpForward:
        if nat is None:
            return IpForward(bench.routes[core])
        return SourceNat(bench.routes[core], address(OUTSIDE), nat)

    bench = StackBench(strategy, handler, mtu=mtu)

    def run() -> None:
        bench.start()
        bench.send(0, frames)
        bench.wait(lambda: bench.total("rx_packets") == len(frames), "every frame")
        bench.core.sleep_until(bench.core.time + 10**9)
        bench.close()

    bench.run(run)
    return bench


def counted(bench: StackBench) -> dict[str, int]:
    (handler,) = bench.handlers
    assert isinstance(handler, IpForward)
    return {name: value for name, value in handler.statistics.as_dict().items() if value}


def test_a_forwarded_packet_has_one_hop_less_and_new_addresses() -> None:
    sent = [frame(UDP(sport=1, dport=2), ttl=ttl) for ttl in range(2, 20)]
    bench = forward(sent)
    assert counted(bench) == {"forward_forwarded": 18}
    for before, after in zip(sent, bench.sent(), strict=True):
        packet = Ether(before)
        packet.dst, packet.src = NEIGHBOUR, DEVICE
        packet[IP].ttl -= 1
        del packet[IP].chksum
        assert after == bytes(packet)


def test_packets_that_are_not_forwarded() -> None:
    bench = forward(
        [
            frame(UDP(), ttl=1),
            frame(UDP(), ttl=0),
            frame(UDP(), dst="11.0.0.1"),
            frame(UDP() / bytes(500)),
            frame(UDP()),
        ],
        mtu=500,
    )
    assert counted(bench) == {
        "forward_ttl_exceeded": 2,
        "forward_no_route": 1,
        "forward_too_big": 1,
        "forward_forwarded": 1,
    }
    assert len(bench.sent()) == 1


def test_costs_of_forwarding() -> None:
    bench = forward([frame(UDP())] * 20, strategy="page_per_packet")
    assert bench.core.op("net.fib_lookup").count == bench.core.op("net.ip_forward").count == 20
    assert bench.core.op("net.xmit").count == 20
    assert bench.core.op("cpu.copy_line").count == 0, "the page is the CPU's: nothing is copied"


def test_a_frame_that_padding_was_cut_from_is_padded_again() -> None:
    bare = bytes(Ether() / IP(src="10.1.1.1", dst="10.2.2.2") / UDP() / b"x")
    (sent,) = forward([bare.ljust(60, b"\xff")]).sent()
    assert len(sent) == 60
    assert sent[43:] == bytes(17), "and tells nothing of what lay there"


def route(mtu: int, neighbour: bytes = bytes(6), source: bytes = bytes(6)) -> Route:
    """Routes are told apart by their MTU here."""
    softnet = SkbKit().host.softnets[0]
    return Route(Qdisc(softnet, Refuse()), neighbour, source, mtu)


def test_a_clone_does_not_see_what_forwarding_changes() -> None:
    """As a packet socket has one: the head is copied."""
    kit = SkbKit()
    before = frame(UDP())[14:]
    skb = kit.received(before)
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    header = parse(before[:20], len(before))
    assert header is not None
    handler = IpForward(RouteTable())
    stack = NetStack(kit.host.softnets[0], handler)
    assert handler.rewrite(stack, skb, header)
    assert (kit.bytes(clone), kit.bytes(skb)[8]) == (before, 63)
    another = kit.skbs.skb_clone(clone)
    assert another is not None
    while kit.pages.alloc_pages() is not None:
        pass
    while kit.skbs.slab.kmalloc(512) is not None:
        pass
    assert not handler.rewrite(stack, clone, header)
    assert (handler.statistics.no_memory, kit.bytes(clone)) == (1, before)


class Refuse:
    """A queue pair without room."""

    def start_xmit(self, skb: SkBuff, more: bool) -> bool:
        """Never."""
        return False


def test_the_longest_prefix_counts() -> None:
    table = RouteTable()
    for length, prefix in enumerate(("0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "10.1.2.0/24", "10.1.0.0/16")):
        table.add(prefix, route(length))
    for text, expected in (("11.0.0.1", 0), ("10.2.0.1", 1), ("10.1.2.3", 2), ("10.1.2.4", 3), ("10.1.3.1", 4)):
        found = table.lookup(address(text))
        assert found is not None
        assert found.mtu == expected, text
    assert len(list(table)) == 5
    assert RouteTable().lookup(address("10.0.0.1")) is None


def test_addresses_of_a_route() -> None:
    table = RouteTable()
    with pytest.raises(ValueError, match="neighbour must be an Ethernet address of 6 bytes, not b'abc'"):
        table.add("10.0.0.0/8", route(1, neighbour=b"abc"))
    with pytest.raises(ValueError, match="source must be an Ethernet address of 6 bytes, not b'abc'"):
        table.add("10.0.0.0/8", route(1, source=b"abc"))


def translated(before: bytes, port: int | None) -> bytes:
    packet = Ether(before)
    packet.dst, packet.src = NEIGHBOUR, DEVICE
    packet[IP].ttl -= 1
    packet[IP].src = OUTSIDE
    del packet[IP].chksum
    for kind in (UDP, TCP):
        if kind in packet and port is not None:
            packet[kind].sport = port
            if packet[kind].chksum:
                del packet[kind].chksum
    return bytes(packet)


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_source_nat(kind: type[Packet]) -> None:
    """Flows keep their port where it is free, and else get the next; a flow's packets all get the same."""
    seed = 5
    random_ = random.Random(seed)
    sources = [("10.1.1.1", 4000), ("10.1.1.2", 4000), ("10.1.1.3", 4001), ("10.1.1.4", 80)]
    ports = [4000, 4001, 4002, 1024]
    sent, expected = [], []
    for flow in [0, 1, 2, 3, *(random_.randrange(4) for _ in range(30))]:
        source, port = sources[flow]
        sent.append(frame(kind(sport=port, dport=9) / random_.randbytes(random_.randint(0, 40)), src=source))
        expected.append(translated(sent[-1], ports[flow]))
    bench = forward(sent, nat=100)
    assert bench.sent() == expected, seed
    (nat,) = bench.handlers
    assert isinstance(nat, SourceNat)
    assert (nat.flows, nat.table_full, nat.malformed) == (4, 0, 0)
    assert bench.core.op("net.nat").count == len(sent)


def test_udp_without_checksum_stays_without() -> None:
    before = frame(UDP(sport=4000, dport=9, chksum=0))
    (after,) = forward([before], nat=10).sent()
    assert after == translated(before, 4000)
    assert Ether(after)[UDP].chksum == 0


def test_what_nat_does_not_translate_is_forwarded_as_it_is() -> None:
    for before in (frame(ICMP()), frame(UDP(), frag=5), frame(UDP(), flags="MF")):
        (after,) = forward([before], nat=10).sent()
        assert Ether(after)[IP].src == "10.1.1.1"
        assert Ether(after)[IP].ttl == 63


def test_a_full_table_drops_new_flows_and_says_so() -> None:
    sent = [frame(UDP(sport=4000 + flow, dport=9)) for flow in (0, 1, 2, 0, 3, 1)]
    bench = forward(sent, nat=2)
    assert counted(bench) == {"forward_forwarded": 4}
    (nat,) = bench.handlers
    assert isinstance(nat, SourceNat)
    assert (nat.flows, nat.table_full) == (2, 2)


def test_no_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver_model.net.nat.LAST_PORT", 1024)
    bench = forward([frame(UDP(sport=4000 + flow, dport=9)) for flow in (0, 1)], nat=10)
    (nat,) = bench.handlers
    assert isinstance(nat, SourceNat)
    assert (nat.flows, nat.table_full) == (1, 1)


def test_a_packet_shorter_than_its_transport_header() -> None:
    short = bytes(Ether() / IP(src="10.1.1.1", dst="10.2.2.2", proto=6) / bytes(19)).ljust(60, b"\0")
    bench = forward([short], nat=10)
    (nat,) = bench.handlers
    assert isinstance(nat, SourceNat)
    assert (nat.malformed, counted(bench)) == (1, {})


def test_parameters_of_nat() -> None:
    with pytest.raises(ValueError, match="address must be an IPv4 address as a number, not 0"):
        SourceNat(RouteTable(), 0)
    with pytest.raises(ValueError, match="most must be an integer, 1 or more, not 0"):
        SourceNat(RouteTable(), 1, 0)
