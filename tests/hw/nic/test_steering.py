# SPDX-License-Identifier: BSD-2-Clause
"""The whole NIC puts packets on the queues that RSS and steering rules say, set by registers."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from hw.abi.codec import Codec
from hw.abi.rings import NetworkLayer, RxCompletion, TransportLayer
from hw.abi.steering import RSS_TABLE_ENTRIES, RuleError, rule_message, rule_places
from hw.bus.axi4 import Response
from tests.hw.nic.nic_host import NicHost
from tests.hw.nic.rx.flows import SUITE, SUITE_KEY, Flow

HASH_VALID = Codec(RxCompletion).mask("flags", "hash_valid")
TO_NIC = "02:00:00:00:00:77"
TO_QUEUE_1 = "02:00:00:00:00:01"


def packet(flow, to=TO_NIC):
    """A flow's packet of at least 60 bytes."""
    ip = (IPv6 if flow.network is NetworkLayer.IPV6 else IP)(
        src=str(ip_address(flow.source)), dst=str(ip_address(flow.destination))
    )
    layer = {TransportLayer.TCP: TCP, TransportLayer.UDP: UDP}[flow.transport]
    return bytes(Ether(dst=to) / ip / layer(sport=flow.source_port, dport=flow.destination_port) / bytes(18))


async def set_rss(host, ctx, key, table, **types):
    for number in range(5):
        await host.write(ctx, f"rss_key{number}", key=int.from_bytes(key[8 * number : 8 * number + 8], "little"))
    for row in range(16):
        await host.write(ctx, f"rss_table{row}", **{f"queue{place}": table[8 * row + place] for place in range(8)})
    await host.write(ctx, "rss_types", **types)


async def insert(host, ctx, flow, queue, index):
    """Put a rule into a place; what RULE_STATUS says."""
    for end in ("source", "destination"):
        address = getattr(flow, end).ljust(16, b"\0")
        for half in range(2):
            word = int.from_bytes(address[8 * half : 8 * half + 8], "little")
            await host.write(ctx, f"rule_{end}{half}", address=word)
    ports = {name: flow.tuple[name] for name in ("source_port", "destination_port")}
    layers = {name: layer.value for name, layer in flow.packet_type.items()}
    register = host.registers.map.port["rule_flow"]
    word = register.pack(queue=queue, **ports, **layers)
    assert await host.registers.write_at(ctx, register.offset, word) is Response.OKAY
    await host.write(ctx, "rule_command", index=index, insert=1)
    return RuleError(await host.registers.field(ctx, "rule_status", "error"))


async def completions(host, ctx, count):
    """(queue, frame, completion) of so many frames."""
    seen = []
    for _ in range(5000):
        await ctx.tick()
        for queue in range(host.config.queues):
            seen += [(queue, *entry) for entry in host.poll(queue)]
        if len(seen) >= count:
            return seen
    raise AssertionError(f"waited 5000 cycles for {count} frames, got {len(seen)}")


@pytest.mark.parametrize("width", [64, 512])
def test_rules_addresses_rss_and_default_in_this_order(width):
    host = NicHost(seed=5, data_width=width, queues=4, classify=True, rss=True, steering_rules=64)
    table = [2 + entry % 2 for entry in range(RSS_TABLE_ENTRIES)]
    flows, hashes = [], {}
    for destination, destination_port, source, source_port, _, by_ports in SUITE:
        flows.append(Flow.of(source, source_port, destination, destination_port, TransportLayer.TCP))
        hashes[packet(flows[-1])[14:]] = by_ports
    unhashed = Flow.of("10.0.0.1", 1, "10.0.0.2", 2, TransportLayer.UDP)
    ruled = flows[5]
    expected = {packet(flow): 2 + hashes[packet(flow)[14:]] % 2 for flow in flows}
    expected[packet(ruled)] = expected[packet(ruled, TO_QUEUE_1)] = 0
    expected[packet(flows[0], TO_QUEUE_1)] = 1
    expected[packet(unhashed)] = 3

    async def bench(ctx):
        await host.bring_up(ctx, buffers=16)
        capabilities = await host.registers.read(ctx, "capabilities")
        register = host.registers.map.port["capabilities"]
        assert [register.get(capabilities, name) for name in ("rss", "steering_rules")] == [1, 64]
        await host.write(ctx, "steering", default_queue=3)
        await set_rss(host, ctx, SUITE_KEY, table, tcp_ipv4=1, tcp_ipv6=1)
        assert await host.registers.read(ctx, "rss_table9") == int.from_bytes(bytes(table[72:80]), "little")
        refused = await host.registers.write(ctx, "rss_table9", queue0=2, queue7=4)
        assert refused is Response.SLVERR
        index = rule_places(rule_message(**ruled.tuple), 64)[2]
        assert await insert(host, ctx, ruled, 4, index) is RuleError.QUEUE
        assert await insert(host, ctx, ruled, 0, index) is RuleError.NONE
        for frame in expected:
            host.play(frame)
        for queue, frame, entry in await completions(host, ctx, len(expected)):
            assert queue == expected[frame]
            assert bool(entry.flags & HASH_VALID) == (frame[14:] in hashes)
            assert entry.rss_hash == hashes.get(frame[14:], 0)
            assert entry.hash_ports == (frame[14:] in hashes)

    host.run(bench)


@pytest.mark.parametrize("width", [64, 512])
def test_completions_say_what_was_hashed_when_the_packet_came(width):
    """Also those that software reads after it has set other hash types."""
    host = NicHost(seed=6, data_width=width, queues=2, classify=True, rss=True)
    frames = []
    for transport in (TransportLayer.TCP, TransportLayer.UDP):
        for source, destination in (("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")):
            flow = Flow.of(source, 1000, destination, 53, transport)
            frames.append((flow, packet(flow)))
    fragment = bytes(Ether(dst=TO_NIC) / IP(src="10.0.0.3", dst="10.0.0.4", flags="MF") / UDP() / bytes(18))
    frames.append((Flow.of("10.0.0.3", 0, "10.0.0.4", 0, TransportLayer.FRAGMENT), fragment))
    settings = (("ipv4", "tcp_ipv4", "udp_ipv4", "tcp_ipv6"), ("ipv4", "ipv6", "udp_ipv6"), ())

    async def bench(ctx):
        await host.bring_up(ctx, buffers=32)
        wanted = []
        for types in settings:
            await set_rss(host, ctx, SUITE_KEY, [0] * RSS_TABLE_ENTRIES, **dict.fromkeys(types, 1))
            for flow, frame in frames:
                host.play(frame)
                value = flow.hash(SUITE_KEY, types)
                wanted.append((frame, value or 0, value is not None, flow.hash_ports(types)))
            await ctx.tick().repeat(500)  # all are parsed, and software has looked at none
        seen = await completions(host, ctx, len(wanted))
        got = [(frame, entry.rss_hash, bool(entry.flags & HASH_VALID), entry.hash_ports) for _, frame, entry in seen]
        assert got == wanted
        assert {ports for *_, ports in wanted} == {False, True}

    host.run(bench)
