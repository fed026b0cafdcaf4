# SPDX-License-Identifier: BSD-2-Clause
"""What the device can do with packets, and which of it is on: ``netdev_features_t``."""

import errno
from dataclasses import dataclass
from enum import Flag, auto
from types import MappingProxyType

from hw.abi.registers import RegisterMap

MAX_FRAME = 9216  #: bytes without FCS


class Feature(Flag):
    """``NETIF_F_*`` of Linux, without the prefix."""

    RXCSUM = auto()  #: checksum verdicts and sums come with received packets
    RXHASH = auto()  #: so do RSS hashes
    #: So do VLAN tags. Unlike what Linux means by it, the tag also stays in the frame.
    HW_VLAN_CTAG_RX = auto()
    HW_CSUM = auto()  #: a checksum of any protocol can be inserted
    HW_VLAN_CTAG_TX = auto()  #: so can a tag
    TSO = auto()  #: TCP over IPv4 can be cut into segments
    TSO6 = auto()  #: so can TCP over IPv6
    NTUPLE = auto()  #: exact rules steer packets to queues


#: As ``ethtool -k`` names them.
ETHTOOL_NAMES = MappingProxyType(
    {
        "rx-checksum": Feature.RXCSUM,
        "rx-hashing": Feature.RXHASH,
        "rx-vlan-hw-parse": Feature.HW_VLAN_CTAG_RX,
        "tx-checksum-ip-generic": Feature.HW_CSUM,
        "tx-vlan-hw-insert": Feature.HW_VLAN_CTAG_TX,
        "tx-tcp-segmentation": Feature.TSO,
        "tx-tcp6-segmentation": Feature.TSO6,
        "rx-ntuple-filter": Feature.NTUPLE,
    }
)


@dataclass(frozen=True, slots=True)
class Properties:
    """What firmware says about the device because no register does, as a device tree does of others (``snps,tso`` of
    snps,dwmac).

    Attributes
    ----------
    classify : received packets are parsed; also where that is all, without RSS and rules, which need it
    tx_offload, segmentation : checksums and tags can be inserted, TCP can be segmented
    max_frame : bytes of the longest frame that it sends
    """

    classify: bool = False
    tx_offload: bool = False
    segmentation: bool = False
    max_frame: int = MAX_FRAME


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the device can do.

    Attributes
    ----------
    queues : queue pairs
    rss : receive-side scaling is built in
    rules : exact steering rules that fit; 0 for none
    properties : what no register tells
    header_split : headers of received packets can go to buffers of their own
    """

    queues: int
    rss: bool
    rules: int
    properties: Properties
    header_split: bool = False

    @classmethod
    def decode(cls, registers: RegisterMap, word: int, properties: Properties) -> "Capabilities":
        """From the value of register CAPABILITIES and from firmware."""
        register = registers.port["capabilities"]
        rss, split = (bool(register.get(word, name)) for name in ("rss", "header_split"))
        return cls(register.get(word, "queues"), rss, register.get(word, "steering_rules"), properties, split)

    @property
    def features(self) -> Feature:
        """What can be switched on: ``hw_features``."""
        properties = self.properties
        found = Feature(0)
        if properties.classify or self.rss or self.rules or self.header_split:
            found |= Feature.RXCSUM | Feature.HW_VLAN_CTAG_RX
        if self.rss:
            found |= Feature.RXHASH
        if self.rules:
            found |= Feature.NTUPLE
        if properties.tx_offload:
            found |= Feature.HW_CSUM | Feature.HW_VLAN_CTAG_TX
        if properties.segmentation:
            found |= Feature.TSO | Feature.TSO6
        return found


class NetDevice:
    """``struct net_device``: what every queue of the device looks up.

    Parameters
    ----------
    capabilities : what the device can do; all of it is on at first
    single_buffer_xdp : packets go to an XDP program that must have each whole (``dev_xdp_sb_prog_count``)

    Attributes
    ----------
    running : the device is open (``netif_running``)
    tcp_data_split : packets are split from the next time on that the device is opened; off at first, and no feature
    rx_checksum, rx_hash, rx_vlan : whether RXCSUM, RXHASH and HW_VLAN_CTAG_RX are on, which is asked for every packet
    hash_types : RSS hash types that are on, as register RSS_TYPES names them
    """

    def __init__(self, capabilities: Capabilities, *, single_buffer_xdp: bool = False) -> None:
        self.capabilities = capabilities
        self.single_buffer_xdp = single_buffer_xdp
        self.running = False
        self.tcp_data_split = False
        self.hash_types: frozenset[str] = frozenset()
        self._switch(capabilities.features)

    @property
    def features(self) -> Feature:
        """What is on."""
        return self._features

    def set_features(self, wanted: Feature) -> None:
        """``ethtool -K``: switch on exactly these, but for segmentation without checksums, which is left off. Raises
        ``OSError`` EOPNOTSUPP for one that the device does not have."""
        missing = wanted & ~self.capabilities.features
        if missing:
            names = ", ".join(name for name, feature in ETHTOOL_NAMES.items() if feature in missing)
            raise OSError(errno.EOPNOTSUPP, f"The device does not have {names}")
        self._switch(wanted)

    def _switch(self, wanted: Feature) -> None:
        self._features = fix_features(wanted)
        self.rx_checksum = Feature.RXCSUM in wanted
        self.rx_hash = Feature.RXHASH in wanted
        self.rx_vlan = Feature.HW_VLAN_CTAG_RX in wanted


def fix_features(wanted: Feature) -> Feature:
    """``netdev_fix_features``: segmentation needs checksums."""
    return wanted if Feature.HW_CSUM in wanted else wanted & ~(Feature.TSO | Feature.TSO6)
