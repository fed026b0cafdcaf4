# SPDX-License-Identifier: BSD-2-Clause
"""What the device can do with packets, and which of it is on: ``netdev_features_t``."""

import errno
from dataclasses import dataclass
from enum import Flag, auto
from types import MappingProxyType

from hw.abi.registers import RegisterMap


class Feature(Flag):
    """``NETIF_F_*`` of Linux, without the prefix."""

    RXCSUM = auto()  #: checksum verdicts and sums come with received packets
    RXHASH = auto()  #: so do RSS hashes
    SG = auto()  #: a frame to be sent may lie in pieces
    HW_CSUM = auto()  #: a checksum of any protocol can be inserted
    HW_VLAN_CTAG_TX = auto()  #: so can a VLAN tag
    HW_VLAN_CTAG_RX = auto()  #: received packets come without it, and are told which they had
    TSO = auto()  #: TCP over IPv4 can be cut into segments
    TSO_ECN = auto()  #: also with CWR, which only the first segment keeps
    TSO6 = auto()  #: so can TCP over IPv6
    NTUPLE = auto()  #: exact rules steer packets to queues


ALL_TSO = Feature.TSO | Feature.TSO_ECN | Feature.TSO6
#: What must be asked for. Most drivers begin with HW_VLAN_CTAG_RX; here each packet goes to an XDP program first, which
#: would have to ask for what it is used to read in the frame, and whose XDP_TX sends that back without.
OFF_AT_FIRST = Feature.HW_VLAN_CTAG_RX
#: As ``ethtool -k`` names them.
ETHTOOL_NAMES = MappingProxyType(
    {
        "rx-checksum": Feature.RXCSUM,
        "rx-hashing": Feature.RXHASH,
        "tx-scatter-gather": Feature.SG,
        "tx-checksum-ip-generic": Feature.HW_CSUM,
        "tx-vlan-hw-insert": Feature.HW_VLAN_CTAG_TX,
        "rx-vlan-hw-parse": Feature.HW_VLAN_CTAG_RX,
        "tx-tcp-segmentation": Feature.TSO,
        "tx-tcp-ecn-segmentation": Feature.TSO_ECN,
        "tx-tcp6-segmentation": Feature.TSO6,
        "rx-ntuple-filter": Feature.NTUPLE,
    }
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the device can do.

    Attributes
    ----------
    queues : queue pairs
    max_frame : bytes of the longest frame that it receives and sends
    max_descriptors : of a frame to be sent, contexts included; by default what every device has
    classify : received packets are parsed, their checksums judged, and their C-VLAN tags can be taken out
    rss : receive-side scaling is built in
    rules : exact steering rules that fit; 0 for none
    header_split : headers of received packets can go to buffers of their own
    tx_offload, segmentation : checksums and tags can be inserted, TCP can be segmented
    pools, pool_buffers : pools of buffers that recycle in hardware, and how many buffers each can have
    pool_ahead : buffers of a pool that a queue holds in advance
    """

    queues: int
    max_frame: int
    max_descriptors: int = 4
    classify: bool = False
    rss: bool = False
    rules: int = 0
    header_split: bool = False
    tx_offload: bool = False
    segmentation: bool = False
    pools: int = 0
    pool_buffers: int = 0
    pool_ahead: int = 0

    @classmethod
    def decode(cls, registers: RegisterMap, capabilities: int, frame_limits: int, pools: int = 0) -> "Capabilities":
        """From the values of registers: CAPABILITIES, FRAME_LIMITS after a reset, and POOL_CAPABILITIES."""
        register, recycling = registers.port["capabilities"], registers.port["pool_capabilities"]
        built = ("classify", "rss", "header_split", "tx_offload", "segmentation")
        return cls(
            queues=register.get(capabilities, "queues"),
            max_frame=registers.port["frame_limits"].get(frame_limits, "max_length"),
            max_descriptors=1 << register.get(capabilities, "max_descriptors"),
            rules=register.get(capabilities, "steering_rules"),
            pools=recycling.get(pools, "pools"),
            pool_buffers=1 << recycling.get(pools, "id_bits") if pools else 0,
            pool_ahead=recycling.get(pools, "ahead"),
            **{name: bool(register.get(capabilities, name)) for name in built},
        )

    @property
    def features(self) -> Feature:
        """What can be switched on: ``hw_features``."""
        found = Feature(0)
        if self.classify:
            found |= Feature.RXCSUM | Feature.HW_VLAN_CTAG_RX
        if self.rss:
            found |= Feature.RXHASH
        if self.rules:
            found |= Feature.NTUPLE
        if self.tx_offload:
            found |= Feature.HW_CSUM | Feature.HW_VLAN_CTAG_TX
        if self.segmentation:
            found |= Feature.SG | ALL_TSO
        return found


class NetDevice:
    """``struct net_device``: what every queue of the device looks up.

    Parameters
    ----------
    capabilities : what the device can do; all of it but :data:`OFF_AT_FIRST` is on at first
    single_buffer_xdp : packets go to an XDP program that must have each whole (``dev_xdp_sb_prog_count``)

    Attributes
    ----------
    running : the device is open (``netif_running``)
    tcp_data_split : packets are split from the next time on that the device is opened; off at first, and no feature
    rx_checksum, rx_hash : whether RXCSUM and RXHASH are on, which is asked for every packet
    """

    def __init__(self, capabilities: Capabilities, *, single_buffer_xdp: bool = False) -> None:
        self.capabilities = capabilities
        self.single_buffer_xdp = single_buffer_xdp
        self.running = False
        self.tcp_data_split = False
        self._switch(capabilities.features & ~OFF_AT_FIRST)

    @property
    def features(self) -> Feature:
        """What is on."""
        return self._features

    def set_features(self, wanted: Feature) -> None:
        """``ethtool -K``: switch on exactly these, but for segmentation without what it needs, which is left off (see
        :func:`fix_features`). Raises ``OSError`` EOPNOTSUPP for one that the device does not have."""
        missing = wanted & ~self.capabilities.features
        if missing:
            raise OSError(errno.EOPNOTSUPP, f"The device does not have {ethtool_names(missing)}")
        self._switch(wanted)

    def require(self, needed: Feature) -> None:
        """Raises ``OSError`` EOPNOTSUPP for a feature that the device does not have, or that is off."""
        off = needed & ~self._features
        if off:
            missing = off & ~self.capabilities.features
            why = f"does not have {ethtool_names(missing)}" if missing else f"has {ethtool_names(off)} switched off"
            raise OSError(errno.EOPNOTSUPP, f"The device {why}")

    def _switch(self, wanted: Feature) -> None:
        self._features = fix_features(wanted)
        self.rx_checksum = Feature.RXCSUM in wanted
        self.rx_hash = Feature.RXHASH in wanted


def ethtool_names(features: Feature) -> str:
    """As ``ethtool -k`` names them."""
    return ", ".join(name for name, feature in ETHTOOL_NAMES.items() if feature in features)


def fix_features(wanted: Feature) -> Feature:
    """``netdev_fix_features``: segmentation needs pieces and checksums, that with CWR one of the others."""
    if Feature.SG not in wanted or Feature.HW_CSUM not in wanted:
        return wanted & ~ALL_TSO
    return wanted & ~Feature.TSO_ECN if wanted & ALL_TSO == Feature.TSO_ECN else wanted
