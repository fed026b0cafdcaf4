# SPDX-License-Identifier: BSD-2-Clause
"""Exact steering of flows to queues: what ``ethtool -N`` asks of a driver."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from driver_model.cpu.core import Core
from driver_model.drivers.device import POLL_STEP_PS, RESET_TIMEOUT_PS, DeviceError
from hw.abi.registers import RegisterMap
from hw.abi.rings import NetworkLayer, TransportLayer
from hw.abi.steering import RuleError, rule_message, rule_places

_HALF = 0xFFFF_FFFF_FFFF_FFFF


class SteeringFullError(RuntimeError):
    """The device has no place for another rule."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a rule names, as the kernel's ``ethtool_rx_flow_spec`` of type TCP_V4_FLOW, UDP_V4_FLOW and their like."""

    source: IPv4Address | IPv6Address
    source_port: int
    destination: IPv4Address | IPv6Address
    destination_port: int
    transport: TransportLayer

    def __post_init__(self) -> None:
        for name, address in (("source", self.source), ("destination", self.destination)):
            if not isinstance(address, IPv4Address | IPv6Address):
                raise TypeError(f"{name} must be an IPv4Address or IPv6Address, not {address!r}")
        if self.source.version != self.destination.version:
            raise ValueError(
                f"Both addresses of a flow must be of one family, not {self.source} and {self.destination}"
            )
        for name, port in (("source_port", self.source_port), ("destination_port", self.destination_port)):
            if not isinstance(port, int) or isinstance(port, bool):
                raise TypeError(f"{name} must be an integer, not {port!r}")
            if not 0 <= port <= 0xFFFF:
                raise ValueError(f"{name} must be in 0..65535, not {port!r}")
        if self.transport not in (TransportLayer.TCP, TransportLayer.UDP):
            raise ValueError(f"transport must be TCP or UDP, not {self.transport!r}")

    @property
    def network(self) -> NetworkLayer:
        """Family of the addresses."""
        return NetworkLayer(NetworkLayer.IPV4 if self.source.version == 4 else NetworkLayer.IPV6)

    def on_wire(self) -> tuple[int, int, int, int]:
        """Addresses and ports as the device has them: integers whose lowest byte is the first on the wire."""
        addresses = [int.from_bytes(address.packed, "little") for address in (self.source, self.destination)]
        ports = [int.from_bytes(port.to_bytes(2), "little") for port in (self.source_port, self.destination_port)]
        return addresses[0], addresses[1], ports[0], ports[1]


class SteeringRules:
    """The device's table of rules. Its methods must be called in a process on the core.

    Each rule has one place in each of the table's banks. Where all four are taken, rules move to others of their places
    until one is free (cuckoo hashing): each is written to its new place before its old one is reused, so its packets
    find it all the time. Flows whose IPv6 addresses differ, but not in the exclusive or of their 32-bit words, have the
    same four places: four of them fit.

    A reset of the device empties its table; then another of these is needed. Raises :class:`DeviceError` if the device
    has no table of rules.

    Parameters
    ----------
    core : who talks to the device
    registers : the device's map, as probed

    Attributes
    ----------
    capacity : rules that fit
    queues : of each rule's flow, the queue
    """

    def __init__(self, core: Core, registers: RegisterMap) -> None:
        self._core = core
        self._registers = registers
        capabilities = registers.port["capabilities"]
        self.capacity = capabilities.get(core.mmio_read(capabilities.offset), "steering_rules")
        if not self.capacity:
            raise DeviceError("The device has no steering rules built in")
        self.queues: dict[Flow, int] = {}
        self._taken: dict[int, Flow] = {}
        self._wait_cleared()

    def insert(self, flow: Flow, queue: int) -> None:
        """Steer a flow to a queue, or to another one than before.

        Raises ``ValueError`` for a queue that does not exist, :class:`SteeringFullError` where there is no place, and
        :class:`DeviceError` if the device refuses; the table is as it was then, but for moved rules.
        """
        if not isinstance(queue, int) or isinstance(queue, bool):
            raise TypeError(f"Queue must be an integer, not {queue!r}")
        if not 0 <= queue < self._registers.queues:
            raise ValueError(f"Queue must be in 0..{self._registers.queues - 1}, not {queue!r}")
        if flow in self.queues:
            place = self._place(flow)
        elif len(self.queues) >= self.capacity:
            raise SteeringFullError(f"No place for {flow}: all {self.capacity} rules are in use")
        else:
            place = self._make_room(flow)
        self._write(flow, queue, place)
        self._taken[place] = flow
        self.queues[flow] = queue

    def replace(self, old: Flow, flow: Flow, queue: int) -> None:
        """Steer a flow in the place of another, which need not be one of its places. ``old`` is steered until the new
        rule is written, unless it stands in its way.

        Raises :class:`SteeringFullError` if there is no place for the flow even then: nothing has changed; and
        :class:`DeviceError` as :meth:`insert` does, but ``old`` may be gone.
        """
        home = self._place(old)
        del self._taken[home]
        try:
            place = self._make_room(flow)
        except SteeringFullError:
            self._taken[home] = old
            raise
        del self.queues[old]
        self._write(flow, queue, place)
        self._taken[place] = flow
        self.queues[flow] = queue
        if home not in self._taken:
            self._command(home, remove=1)

    def remove(self, flow: Flow) -> None:
        """Steer a flow no longer. Raises ``KeyError`` if no rule names it."""
        if flow not in self.queues:
            raise KeyError(f"No rule names {flow}")
        place = self._place(flow)
        self._command(place, remove=1)
        del self._taken[place], self.queues[flow]

    def _places(self, flow: Flow) -> list[int]:
        return rule_places(rule_message(*flow.on_wire()), self.capacity)

    def _place(self, flow: Flow) -> int:
        return next(place for place in self._places(flow) if self._taken.get(place) == flow)

    def _make_room(self, flow: Flow) -> int:
        """A free place for a flow. The rule in a taken one can go to its other places, the rules there to theirs, and
        so on: the shortest such way to a free place is taken."""
        way: dict[int, int | None] = dict.fromkeys(self._places(flow))
        queue = list(way)
        for place in queue:
            if place not in self._taken:
                return self._move_along(way, place)
            for other in self._places(self._taken[place]):
                if other not in way:
                    way[other] = place
                    queue.append(other)
        raise SteeringFullError(f"No place for {flow}: the rules in its places have no other to go to")

    def _move_along(self, way: dict[int, int | None], free: int) -> int:
        while (taken := way[free]) is not None:
            mover = self._taken[taken]
            self._write(mover, self.queues[mover], free)
            self._taken[free] = mover
            free = taken
        return free

    def _write(self, flow: Flow, queue: int, place: int) -> None:
        source, destination, source_port, destination_port = flow.on_wire()
        ports = {"source_port": source_port, "destination_port": destination_port}
        layers = {"network": flow.network.value, "transport": flow.transport.value}
        for name, value in (
            ("rule_source0", source & _HALF),
            ("rule_source1", source >> 64),
            ("rule_destination0", destination & _HALF),
            ("rule_destination1", destination >> 64),
            ("rule_flow", self._registers.port["rule_flow"].pack(**ports, **layers, queue=queue)),
        ):
            self._core.mmio_write(self._registers.address(name), value)
        self._command(place, insert=1)

    def _command(self, place: int, **operation: int) -> None:
        register = self._registers.port["rule_command"]
        self._core.mmio_write(register.offset, register.pack(index=place, **operation))
        error = RuleError(self._status("error"))
        if error is not RuleError.NONE:
            raise DeviceError(f"The device refused a steering rule at place {place}: {error.name}")

    def _status(self, field: str) -> int:
        register = self._registers.port["rule_status"]
        return register.get(self._core.mmio_read(register.offset), field)

    def _wait_cleared(self) -> None:
        deadline = self._core.time + RESET_TIMEOUT_PS
        while self._status("busy"):
            if self._core.time >= deadline:
                raise DeviceError(f"Waited {RESET_TIMEOUT_PS // 10**9} ms for the table of steering rules")
            self._core.sleep_until(self._core.time + POLL_STEP_PS)
