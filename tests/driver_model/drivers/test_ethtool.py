# SPDX-License-Identifier: BSD-2-Clause
"""RSS and rules as ethtool sets them: what the device is told, now and after a reset, and what is refused."""

import errno
import random
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest

from driver_model.drivers.ethtool import Ethtool, FlowRule
from driver_model.drivers.features import Feature
from driver_model.drivers.rss import ADDRESSES, DEFAULT_KEY, PORTS, FlowType, Rxh
from driver_model.drivers.steering import Flow
from hw.abi.rings import TransportLayer
from hw.abi.steering import rule_message, rule_places
from tests.driver_model.bench import Bench

QUEUES = 3
RULES = 64


def run(test: Callable[[Bench, Ethtool], None], **built: Any) -> Bench:
    """A test in a process, on an open device with RSS and rules."""
    bench = Bench("page_pool", "drop", queues=QUEUES, rx_entries=16, **({"rss": True, "rules": RULES} | built))

    def process() -> None:
        bench.start()
        test(bench, bench.driver.ethtool)
        bench.finish()

    bench.run(process)
    return bench


def table(bench: Bench) -> list[int]:
    """What the device has."""
    rows = [bench.nic.port[f"rss_table{row}"].to_bytes(8, "little") for row in range(16)]
    return list(b"".join(rows))


def key(bench: Bench) -> bytes:
    return b"".join(bench.nic.port[f"rss_key{number}"].to_bytes(8, "little") for number in range(5))


def types(bench: Bench) -> set[str]:
    register = bench.nic.map.port["rss_types"]
    return {name for name in register.fields if register.get(bench.nic.port["rss_types"], name)}


def flow_of(number: int) -> Flow:
    return Flow(ip_address("10.0.0.1"), 1000 + number, ip_address("10.0.0.2"), 80, TransportLayer.TCP)


def steered(bench: Bench, flow: Flow) -> int | None:
    """The queue that the device's table has for a flow."""
    flow_register = bench.nic.map.port["rule_flow"]
    for place in rule_places(rule_message(*flow.on_wire()), RULES):
        if place in bench.nic.rules:
            word = bench.nic.rules[place][4]
            if flow_register.get(word, "source_port") == flow.on_wire()[2]:
                return flow_register.get(word, "queue")
    return None


def refused(error: int, call: Callable[..., object], *arguments: Any, **more: Any) -> None:
    with pytest.raises(OSError, match=".") as refusal:
        call(*arguments, **more)
    assert refusal.value.errno == error, refusal.value


def test_packets_are_spread_evenly_at_first_by_addresses_and_ports() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        assert table(bench) == [index % QUEUES for index in range(128)]
        assert key(bench) == DEFAULT_KEY
        assert types(bench) == {"ipv4", "tcp_ipv4", "udp_ipv4", "ipv6", "tcp_ipv6", "udp_ipv6"}
        assert list(ethtool.get_rxfh().indir) == table(bench)
        assert (ethtool.get_rxfh().key, ethtool.get_rxfh().hfunc) == (DEFAULT_KEY, "toeplitz")
        assert not bench.nic.rules

    run(test)


def test_key_and_table_change_and_outlast_a_reset() -> None:
    rng = random.Random(2)

    def test(bench: Bench, ethtool: Ethtool) -> None:
        wanted, secret = [rng.randrange(QUEUES) for _ in range(128)], rng.randbytes(40)
        ethtool.set_rxfh(indir=wanted)
        assert (table(bench), key(bench)) == (wanted, DEFAULT_KEY)
        ethtool.set_rxfh(key=secret)
        assert (table(bench), key(bench)) == (wanted, secret)
        assert "tcp_ipv4" in types(bench), "hashing goes on with the new key"
        bench.driver.reset()
        assert "rss_table0" not in bench.nic.port
        bench.driver.open()
        assert (table(bench), key(bench)) == (wanted, secret)

    run(test)


def test_a_new_key_comes_while_nothing_is_hashed() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        device_write = bench.platform.on_write
        seen: list[str] = []

        def on_write(offset: int, value: int) -> None:
            name = next(name for name, register in bench.nic.map.port.items() if register.offset == offset)
            seen.append(f"{name}={value:#x}" if name == "rss_types" else name.rstrip("0123456789"))
            device_write(offset, value)

        bench.platform.on_write = on_write
        ethtool.set_rxfh(key=bytes(40))
        bench.core.mmio_read(bench.nic.map.address("status"))
        bench.platform.on_write = device_write
        assert seen == ["rss_types=0x0"] + ["rss_key"] * 5 + ["rss_table"] * 16 + ["rss_types=0x3f"]

    run(test)


def test_hash_fields() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        assert {kind: ethtool.get_rxfh_fields(kind) for kind in FlowType} == {
            kind: ADDRESSES if kind in (FlowType.IPV4, FlowType.IPV6) else ADDRESSES | PORTS for kind in FlowType
        }
        ethtool.set_rxfh_fields(FlowType.UDP_V4, ADDRESSES)
        assert types(bench) == {"ipv4", "tcp_ipv4", "ipv6", "tcp_ipv6", "udp_ipv6"}
        assert ethtool.get_rxfh_fields(FlowType.UDP_V4) == ADDRESSES
        ethtool.set_rxfh_fields(FlowType.UDP_V4, ADDRESSES | PORTS)
        ethtool.set_rxfh_fields(FlowType.IPV6, Rxh(0))
        assert types(bench) == {"ipv4", "tcp_ipv4", "udp_ipv4", "tcp_ipv6", "udp_ipv6"}
        for kind, fields in (
            (FlowType.TCP_V6, ADDRESSES),  # such packets are hashed by nothing then
            (FlowType.TCP_V4, Rxh(0)),  # by addresses then
            (FlowType.TCP_V4, Rxh.IP_SRC),
            (FlowType.IPV4, ADDRESSES | PORTS),
        ):
            before = types(bench)
            refused(errno.EINVAL, ethtool.set_rxfh_fields, kind, fields)
            assert types(bench) == before

    run(test)


def test_hash_fields_of_one_kind_leave_the_others_alone() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        for kind in (FlowType.TCP_V4, FlowType.UDP_V6):
            ethtool.set_rxfh_fields(kind, ADDRESSES)
        before = types(bench)
        for kind in (FlowType.IPV4, FlowType.IPV6):
            refused(errno.EINVAL, ethtool.set_rxfh_fields, kind, Rxh(0))
        assert types(bench) == before
        ethtool.set_rxfh_fields(FlowType.TCP_V4, ADDRESSES | PORTS)
        ethtool.set_rxfh_fields(FlowType.IPV4, Rxh(0))
        assert types(bench) == {"tcp_ipv4", "udp_ipv4", "ipv6", "tcp_ipv6"}
        assert ethtool.get_rxfh_fields(FlowType.UDP_V6) == ADDRESSES

    run(test)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_asked_of_one_kind_only_that_changes_or_nothing(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def test(bench: Bench, ethtool: Ethtool) -> None:
        for _ in range(200):
            kind, fields = rng.choice(list(FlowType)), rng.choice((Rxh(0), ADDRESSES, ADDRESSES | PORTS, PORTS))
            before = {other: ethtool.get_rxfh_fields(other) for other in FlowType}
            try:
                ethtool.set_rxfh_fields(kind, fields)
            except OSError as error:
                assert error.errno == errno.EINVAL
                assert {other: ethtool.get_rxfh_fields(other) for other in FlowType} == before
            else:
                assert {other: ethtool.get_rxfh_fields(other) for other in FlowType} == before | {kind: fields}

    run(test)


def test_what_rss_cannot_do_is_refused() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        for wrong in ({"indir": [0] * 127}, {"indir": [QUEUES] * 128}, {"indir": [-1] * 128}, {"key": bytes(39)}):
            refused(errno.EINVAL, ethtool.set_rxfh, **wrong)
        assert table(bench) == [index % QUEUES for index in range(128)]
        assert key(bench) == DEFAULT_KEY

    run(test)


def test_rules_steer_outlast_a_reset_and_go() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        assert [ethtool.insert_rule(flow_of(number), number % QUEUES) for number in range(5)] == list(range(5))
        assert [steered(bench, flow_of(number)) for number in range(5)] == [0, 1, 2, 0, 1]
        ethtool.delete_rule(1)
        assert steered(bench, flow_of(1)) is None
        assert ethtool.insert_rule(flow_of(9), 2) == 1, "the first location that is free"
        assert ethtool.insert_rule(flow_of(9), 0, 1) == 1
        assert steered(bench, flow_of(9)) == 0
        assert ethtool.insert_rule(flow_of(8), 1, 1) == 1, "in the place of another"
        assert (steered(bench, flow_of(9)), steered(bench, flow_of(8))) == (None, 1)
        bench.driver.reset()
        assert not bench.nic.rules
        bench.driver.open()
        assert ethtool.rules[1] == FlowRule(flow_of(8), 1)
        assert [steered(bench, rule.flow) for rule in ethtool.rules.values()] == [
            rule.queue for rule in ethtool.rules.values()
        ]
        assert len(ethtool.rules) == len(bench.nic.rules) == 5
        bench.driver.stop()
        bench.driver.open()
        assert len(bench.nic.rules) == 5, "without a reset the device still has them"
        ethtool.set_features(ethtool.features & ~Feature.NTUPLE)
        assert not ethtool.rules
        assert not bench.nic.rules
        refused(errno.EOPNOTSUPP, ethtool.insert_rule, flow_of(0), 0)

    run(test)


def test_tags_are_taken_out_as_rx_vlan_offload_says_also_after_a_reset() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        def strips() -> int | None:
            return bench.nic.port.get("rx_offload")

        off = ethtool.features
        assert Feature.HW_VLAN_CTAG_RX not in off
        assert strips() is None, "as it is after a reset"
        ethtool.set_features(off | Feature.HW_VLAN_CTAG_RX)
        bench.wait(lambda: strips() == 1, "the register")
        bench.driver.reset()
        assert strips() is None
        bench.driver.open()
        bench.wait(lambda: strips() == 1, "the register")
        ethtool.set_features(off)
        bench.wait(lambda: strips() == 0, "the register")
        bench.nic.port.clear()
        ethtool.set_features(off & ~Feature.RXHASH)
        bench.driver.stop()
        bench.driver.open()
        bench.driver.status(0, "rx")  # behind it, every register write has arrived
        assert strips() is None, "nothing to tell"

    run(test)


def test_rules_of_a_closed_device_come_with_its_opening() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        ethtool.insert_rule(flow_of(0), 1)
        bench.driver.reset()
        ethtool.insert_rule(flow_of(1), 2)
        assert len(bench.nic.rules) == 2
        bench.driver.open()
        assert [steered(bench, flow_of(number)) for number in range(2)] == [1, 2]
        assert len(bench.nic.rules) == 2

    run(test)


def test_rules_that_cannot_be_are_refused() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        refused(errno.EINVAL, ethtool.insert_rule, flow_of(0), QUEUES)
        refused(errno.EINVAL, ethtool.insert_rule, flow_of(0), 0, RULES)
        refused(errno.ENOENT, ethtool.delete_rule, 0)
        ethtool.insert_rule(flow_of(0), 0)
        refused(errno.EEXIST, ethtool.insert_rule, flow_of(0), 1, 5)
        for number in range(1, RULES):
            ethtool.insert_rule(flow_of(number), 0)
        refused(errno.ENOSPC, ethtool.insert_rule, flow_of(RULES), 0)
        assert len(bench.nic.rules) == RULES

    run(test)


def crowded(number: int) -> Flow:
    """Flows with the same places: of the exclusive or of the words of their addresses nothing is left."""
    source = IPv6Address(bytes([number, 0, 0, 0] * 2 + [0] * 8))
    return Flow(source, 1, IPv6Address(bytes(16)), 2, TransportLayer.TCP)


def test_a_rule_outlasts_a_replacement_that_does_not_fit() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        for number in range(4):
            ethtool.insert_rule(crowded(number), 1)
        location = ethtool.insert_rule(flow_of(0), 2)
        rules, device = dict(ethtool.rules), dict(bench.nic.rules)
        refused(errno.ENOSPC, ethtool.insert_rule, crowded(9), 0, location)
        assert ethtool.rules == rules
        assert bench.nic.rules == device
        assert ethtool.insert_rule(crowded(9), 0, 2) == 2, "in the place of one that made it too crowded"
        assert ethtool.rules[2] == FlowRule(crowded(9), 0)
        assert len(bench.nic.rules) == 5
        assert steered(bench, flow_of(0)) == 2

    run(test)


@pytest.mark.parametrize("seed", range(4))
def test_rules_are_replaced_one_by_one_in_a_full_table(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def test(bench: Bench, ethtool: Ethtool) -> None:
        for number in range(RULES):
            ethtool.insert_rule(flow_of(number), number % QUEUES)
        for number in range(RULES, 3 * RULES):
            before = dict(ethtool.rules)
            location = rng.randrange(RULES)
            try:
                ethtool.insert_rule(flow_of(number), number % QUEUES, location)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert ethtool.rules == before
            else:
                assert steered(bench, before[location].flow) is None
                assert ethtool.rules == before | {location: FlowRule(flow_of(number), number % QUEUES)}
            assert len(bench.nic.rules) == RULES
        assert all(steered(bench, rule.flow) == rule.queue for rule in ethtool.rules.values())

    run(test)


def test_a_device_without_either_says_so() -> None:
    def test(bench: Bench, ethtool: Ethtool) -> None:
        for call, arguments in (
            (ethtool.get_rxfh, ()),
            (ethtool.set_rxfh, ()),
            (ethtool.get_rxfh_fields, (FlowType.IPV4,)),
            (ethtool.set_rxfh_fields, (FlowType.IPV4, ADDRESSES)),
            (ethtool.insert_rule, (flow_of(0), 0)),
            (ethtool.delete_rule, (0,)),
        ):
            refused(errno.EOPNOTSUPP, call, *arguments)
        assert not bench.nic.port, "registers that are not there are left alone"

    run(test, rss=False, rules=0)
