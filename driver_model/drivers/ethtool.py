# SPDX-License-Identifier: BSD-2-Clause
"""What ``ethtool`` asks of the driver: ``struct ethtool_ops``, and ``ndo_set_features`` for its ``-K``."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from driver_model.cpu.core import Core
from driver_model.drivers.features import Feature, NetDevice
from driver_model.drivers.rss import FlowType, Rss, Rxh
from driver_model.drivers.steering import Flow, SteeringFullError, SteeringRules
from hw.abi.registers import RegisterMap


@dataclass(frozen=True, slots=True)
class RxfhParam:
    """``struct ethtool_rxfh_param``."""

    indir: tuple[int, ...]
    key: bytes
    hfunc: str = "toeplitz"


class TcpDataSplit(IntEnum):
    """``ETHTOOL_A_RINGS_TCP_DATA_SPLIT``, with the kernel's values."""

    UNKNOWN = 0
    DISABLED = 1
    ENABLED = 2


@dataclass(frozen=True, slots=True)
class FlowRule:
    """``struct ethtool_rx_flow_spec``: a flow, and the queue of its packets (``ring_cookie``)."""

    flow: Flow
    queue: int


class Ethtool:
    """Settings of a device, which outlast its resets. Methods are called in a process on the core.

    All raise ``OSError``: EOPNOTSUPP for what the device does not have, EINVAL for what cannot be.

    Parameters
    ----------
    core : who talks to the device
    registers : the device's map
    netdev : the device
    queues : queue pairs in use
    """

    def __init__(self, core: Core, registers: RegisterMap, netdev: NetDevice, queues: int) -> None:
        self._core = core
        self._registers = registers
        self._netdev = netdev
        self._queues = queues
        self._rss = Rss(core, registers, queues) if netdev.capabilities.rss else None
        self._rules: dict[int, FlowRule] = {}
        self._table: SteeringRules | None = None  # the device's, None where it is empty after a reset

    def forget(self) -> None:
        """The device has been reset: it knows nothing."""
        self._table = None

    def restore(self) -> None:
        """Tell the device what it may have forgotten."""
        if self._rss is not None:
            self._rss.write()
        if Feature.HW_VLAN_CTAG_RX in self.features:
            self._strip_vlan(enable=True)
        if self._rules:
            self._steering()

    # Features: -k, -K

    @property
    def features(self) -> Feature:
        """What is on."""
        return self._netdev.features

    def set_features(self, wanted: Feature) -> None:
        """Switch on exactly these; without NTUPLE all rules go. See
        :meth:`driver_model.drivers.features.NetDevice.set_features`. HW_VLAN_CTAG_RX may change in traffic: each packet
        tells whether its tag was taken out."""
        before = self.features
        self._netdev.set_features(wanted)
        if (before ^ self.features) & Feature.HW_VLAN_CTAG_RX:
            self._strip_vlan(enable=Feature.HW_VLAN_CTAG_RX in self.features)
        if Feature.NTUPLE not in self._netdev.features:
            for location in tuple(self._rules):
                self._delete(location)

    # Rings: -g, -G tcp-data-split

    @property
    def tcp_data_split(self) -> TcpDataSplit:
        """Whether packets are split, or will be when the device is opened; UNKNOWN where it cannot split."""
        netdev = self._netdev
        if not netdev.capabilities.header_split:
            return TcpDataSplit.UNKNOWN
        return TcpDataSplit.ENABLED if netdev.tcp_data_split else TcpDataSplit.DISABLED

    def set_tcp_data_split(self, *, enable: bool) -> None:
        """Split packets or not. Raises ``OSError`` also EBUSY while the device is open, and EINVAL while packets go to
        an XDP program that must have each whole, as the kernel does (``net/ethtool/rings.c``)."""
        netdev = self._netdev
        if not netdev.capabilities.header_split:
            raise OSError(errno.EOPNOTSUPP, "The device has no tcp-data-split")
        if netdev.running:
            raise OSError(errno.EBUSY, "tcp-data-split can be set only while the device is closed")
        if enable and netdev.single_buffer_xdp:
            raise OSError(errno.EINVAL, "tcp-data-split cannot be enabled with single buffer XDP")
        netdev.tcp_data_split = enable

    # RSS: -x, -X, -n and -N rx-flow-hash

    def get_rxfh(self) -> RxfhParam:
        """Table and key."""
        rss = self._spread()
        return RxfhParam(rss.table, rss.key)

    def set_rxfh(self, *, indir: Sequence[int] | None = None, key: bytes | None = None) -> None:
        """Another table, another key, or both: see :meth:`driver_model.drivers.rss.Rss.set_rxfh`."""
        self._spread().set_rxfh(indir=indir, key=key)

    def get_rxfh_fields(self, kind: FlowType) -> Rxh:
        """What of such packets is hashed."""
        return self._spread().get_rxfh_fields(kind)

    def set_rxfh_fields(self, kind: FlowType, fields: Rxh) -> None:
        """Hash this of such packets: see :meth:`driver_model.drivers.rss.Rss.set_rxfh_fields`."""
        self._spread().set_rxfh_fields(kind, fields)

    # Rules: -n, -N

    @property
    def rules(self) -> Mapping[int, FlowRule]:
        """The rules by location."""
        return MappingProxyType(self._rules)

    def insert_rule(self, flow: Flow, queue: int, location: int | None = None) -> int:
        """``ETHTOOL_SRXCLSRLINS``: steer a flow's packets to a queue, before RSS. Returns the rule's location, the
        first that is free unless one is asked for; a rule that is there goes.

        Raises ``OSError`` also ENOSPC where no rule fits any more, and EEXIST if another rule is for the flow: then all
        rules are as they were.
        """
        self._require_rules()
        capacity = self._netdev.capabilities.rules
        if not 0 <= queue < self._queues:
            raise OSError(errno.EINVAL, f"Queues are 0..{self._queues - 1}, not {queue!r}")
        if location is None:
            location = next((place for place in range(capacity) if place not in self._rules), capacity)
            if location == capacity:
                raise OSError(errno.ENOSPC, f"All {capacity} rules are in use")
        if not 0 <= location < capacity:
            raise OSError(errno.EINVAL, f"Locations are 0..{capacity - 1}, not {location!r}")
        if any(rule.flow == flow for place, rule in self._rules.items() if place != location):
            raise OSError(errno.EEXIST, f"There is a rule for {flow}")
        before = self._rules.get(location)
        table = self._steering()
        try:
            if before is None or before.flow == flow:
                table.insert(flow, queue)
            else:
                table.replace(before.flow, flow, queue)
        except SteeringFullError as error:
            raise OSError(errno.ENOSPC, str(error)) from None
        self._rules[location] = FlowRule(flow, queue)
        return location

    def delete_rule(self, location: int) -> None:
        """``ETHTOOL_SRXCLSRLDEL``. Raises ``OSError`` also ENOENT where no rule is."""
        self._require_rules()
        if location not in self._rules:
            raise OSError(errno.ENOENT, f"There is no rule at location {location!r}")
        self._delete(location)

    def _strip_vlan(self, *, enable: bool) -> None:
        register = self._registers.port["rx_offload"]
        self._core.mmio_write(register.offset, register.pack(vlan_strip=enable))

    def _delete(self, location: int) -> None:
        rule = self._rules.pop(location)
        if self._table is not None:
            self._table.remove(rule.flow)

    def _steering(self) -> SteeringRules:
        if self._table is None:
            self._table = SteeringRules(self._core, self._registers)
            for rule in self._rules.values():
                self._table.insert(rule.flow, rule.queue)
        return self._table

    def _spread(self) -> Rss:
        if self._rss is None:
            raise OSError(errno.EOPNOTSUPP, "The device has no RSS")
        return self._rss

    def _require_rules(self) -> None:
        if Feature.NTUPLE not in self._netdev.features:
            raise OSError(errno.EOPNOTSUPP, "The device has no steering rules, or rx-ntuple-filter is off")
