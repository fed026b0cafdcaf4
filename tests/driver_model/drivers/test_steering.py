# SPDX-License-Identifier: BSD-2-Clause
"""The driver's steering rules on a fake table: every rule is found at one of its places, all the time."""

import random
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.device import DeviceError
from driver_model.drivers.steering import Flow, SteeringFullError, SteeringRules
from hw.abi.registers import register_map
from hw.abi.rings import NetworkLayer, TransportLayer
from hw.abi.steering import RULE_BANKS, RuleError, rule_message, rule_places, rule_slots
from tests.driver_model.fake_platform import FakePlatform

QUEUES = 4
MAP = register_map(QUEUES)
LAYERS = {4: NetworkLayer.IPV4, 6: NetworkLayer.IPV6}


class FakeTable:
    """The device's side: registers, places, and what a packet would find."""

    def __init__(self, platform: FakePlatform, rules: int) -> None:
        self.rules = rules
        self.places: dict[int, tuple[bytes, int]] = {}
        self.registers: dict[str, int] = {}
        self.error = RuleError.NONE
        self.busy_reads = 3
        self.refuse: RuleError | None = None
        self.commands = 0
        self.watched: dict[Flow, int] = {}
        self._names = {register.offset: name for name, register in MAP.port.items()}
        platform.on_write, platform.on_read = self._write, self._read

    def find(self, flow: Flow) -> int | None:
        """Queue of a flow's packets."""
        for place in rule_places(rule_message(*flow.on_wire()), self.rules):
            if place in self.places and self.places[place][0] == self._key(*flow.on_wire(), flow):
                return self.places[place][1]
        return None

    def _key(self, source: int, destination: int, source_port: int, destination_port: int, flow: Any) -> bytes:
        addresses = source.to_bytes(16, "little") + destination.to_bytes(16, "little")
        ports = source_port.to_bytes(2, "little") + destination_port.to_bytes(2, "little")
        return addresses + ports + bytes([flow.network.value, flow.transport.value])

    def _write(self, offset: int, value: int) -> None:
        name = self._names[offset]
        self.registers[name] = value
        if name != "rule_command":
            return
        self.commands += 1
        command, flow = MAP.port[name], MAP.port["rule_flow"]
        index = command.get(value, "index")
        self.error = self.refuse or RuleError.NONE
        if index >= RULE_BANKS * rule_slots(self.rules):
            self.error = RuleError.INDEX
        if self.error is not RuleError.NONE:
            return
        if command.get(value, "insert"):
            word = self.registers["rule_flow"]
            halves = [self.registers[f"rule_{end}{half}"] for end in ("source", "destination") for half in range(2)]
            key = b"".join(half.to_bytes(8, "little") for half in halves)
            key += b"".join(flow.get(word, f"{end}_port").to_bytes(2, "little") for end in ("source", "destination"))
            key += bytes([flow.get(word, "network"), flow.get(word, "transport")])
            self.places[index] = (key, flow.get(word, "queue"))
        elif command.get(value, "remove"):
            self.places.pop(index, None)
        for watched, queue in self.watched.items():
            assert self.find(watched) == queue, f"{watched} was lost"

    def _read(self, offset: int) -> tuple[int, bool]:
        name = self._names[offset]
        if name == "rule_status":
            self.busy_reads -= self.busy_reads > 0
            return MAP.port[name].pack(busy=self.busy_reads > 0, error=self.error.value), False
        assert name == "capabilities"
        return MAP.port[name].pack(steering_rules=self.rules), False


def run(test: Callable[[SteeringRules, FakeTable], None], rules: int = 64) -> None:
    """Run a test in a process on a core."""
    platform = FakePlatform(1 << 20, log=False)
    table = FakeTable(platform, rules)
    core = System(platform, Profile.load("e5-1650v4"), 1).cores[0]
    done = []

    def process() -> None:
        test(SteeringRules(core, MAP), table)
        done.append(True)
        platform.stop()

    core.spawn("test", process)
    platform.run(10**12)
    assert done, "the test's process did not end"


def flow_of(rng: random.Random) -> Flow:
    make, bits = rng.choice(((IPv4Address, 32), (IPv6Address, 128)))
    transport = rng.choice((TransportLayer.TCP, TransportLayer.UDP))
    return Flow(
        make(rng.getrandbits(bits)), rng.randrange(65536), make(rng.getrandbits(bits)), rng.randrange(65536), transport
    )


@pytest.mark.parametrize("seed", range(3))
def test_as_many_rules_as_advertised_fit_and_none_is_lost_while_others_move(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def test(rules: SteeringRules, table: FakeTable) -> None:
        expected: dict[Flow, int] = {}
        for _ in range(64):
            flow, queue = flow_of(rng), rng.randrange(QUEUES)
            rules.insert(flow, queue)
            expected[flow] = queue
            table.watched = dict(expected)
        assert rules.queues == expected
        assert len(table.places) == 64, "a rule lies in one place"
        with pytest.raises(SteeringFullError, match="all 64 rules are in use"):
            rules.insert(flow_of(rng), 0)

        table.watched = {}
        for _ in range(100):
            gone = rng.choice(list(expected))
            rules.remove(gone)
            del expected[gone]
            flow, queue = flow_of(rng), rng.randrange(QUEUES)
            rules.insert(flow, queue)
            expected[flow] = queue
            assert table.find(gone) is None
        assert {flow: table.find(flow) for flow in expected} == expected
        assert len(table.places) == 64
        assert table.commands > 64 + 2 * 100, "some had to move"

    run(test)


def test_rules_of_neighbouring_ports_spread_over_the_table() -> None:
    here, there = ip_address("10.0.0.1"), ip_address("10.0.0.2")

    def test(rules: SteeringRules, table: FakeTable) -> None:
        for number in range(64):
            rules.insert(Flow(here, 40000 + number, there, 80, TransportLayer.TCP), number % QUEUES)
        assert table.commands < 64 + 10, "few have to move"
        assert {flow: table.find(flow) for flow in rules.queues} == rules.queues

    run(test)


def test_a_rule_goes_to_another_queue_in_its_place() -> None:
    flow = flow_of(random.Random(1))

    def test(rules: SteeringRules, table: FakeTable) -> None:
        rules.insert(flow, 1)
        places = list(table.places)
        rules.insert(flow, 2)
        assert list(table.places) == places
        assert table.find(flow) == 2
        rules.remove(flow)
        assert not table.places
        with pytest.raises(KeyError, match="No rule names"):
            rules.remove(flow)

    run(test)


def test_a_rule_whose_places_nobody_can_leave_is_refused_and_nothing_changes() -> None:
    # The hash takes an address as the exclusive or of its words.
    address = ip_address("2001:db8::1")
    alike = [
        Flow(IPv6Address(int(address) ^ (number << 32 | number)), 1, address, 2, TransportLayer.UDP)
        for number in range(RULE_BANKS + 1)
    ]

    def test(rules: SteeringRules, table: FakeTable) -> None:
        for flow in alike[:-1]:
            rules.insert(flow, 1)
        table.watched = dict(rules.queues)
        with pytest.raises(SteeringFullError, match="the rules in its places have no other to go to"):
            rules.insert(alike[-1], 1)
        assert table.commands == len(rules.queues) == RULE_BANKS
        table.watched = {}
        rules.remove(alike[0])
        rules.insert(alike[-1], 3)
        assert [table.find(flow) for flow in alike] == [None, 1, 1, 1, 3]

    run(test)


def test_what_is_wrong_is_refused_before_the_device_is_told() -> None:
    flow = flow_of(random.Random(3))
    v4, v6 = ip_address("10.0.0.1"), ip_address("fe80::1")

    def test(rules: SteeringRules, table: FakeTable) -> None:
        for queue in (-1, QUEUES):
            with pytest.raises(ValueError, match=f"Queue must be in 0..3, not {queue}"):
                rules.insert(flow, queue)
        with pytest.raises(TypeError, match="Queue must be an integer, not '1'"):
            rules.insert(flow, "1")
        assert table.commands == 0

    run(test)
    with pytest.raises(ValueError, match="one family, not 10.0.0.1 and fe80::1"):
        Flow(v4, 1, v6, 1, TransportLayer.TCP)
    with pytest.raises(ValueError, match="source_port must be in 0..65535, not 65536"):
        Flow(v4, 65536, v4, 1, TransportLayer.TCP)
    with pytest.raises(ValueError, match="transport must be TCP or UDP"):
        Flow(v4, 1, v4, 1, TransportLayer.OTHER)
    with pytest.raises(TypeError, match="destination must be an IPv4Address or IPv6Address, not '10.0.0.1'"):
        Flow(v4, 1, "10.0.0.1", 1, TransportLayer.TCP)


def test_a_refusal_of_the_device_is_reported() -> None:
    flow = flow_of(random.Random(4))

    def test(rules: SteeringRules, table: FakeTable) -> None:
        table.refuse = RuleError.QUEUE
        with pytest.raises(DeviceError, match="refused a steering rule at place .*: QUEUE"):
            rules.insert(flow, 1)
        assert not rules.queues
        table.refuse = None
        rules.insert(flow, 1)
        assert table.find(flow) == 1

    run(test)


def test_a_device_without_rules_is_recognised() -> None:
    platform = FakePlatform(1 << 20, log=False)
    FakeTable(platform, 0)
    core = System(platform, Profile.load("e5-1650v4"), 1).cores[0]
    done = []

    def process() -> None:
        with pytest.raises(DeviceError, match="no steering rules built in"):
            SteeringRules(core, MAP)
        done.append(True)
        platform.stop()

    core.spawn("test", process)
    platform.run(10**12)
    assert done
