# SPDX-License-Identifier: BSD-2-Clause
"""What the device found out about a received packet, as a driver hands it up."""

import errno
from enum import IntEnum

from driver_model.drivers.features import Feature, NetDevice
from driver_model.drivers.ring import (
    RX_CSUM_BAD,
    RX_CSUM_GOOD,
    RX_CSUM_MASK,
    RX_HASH_PORTS,
    RX_HASH_VALID,
    RX_VLAN_STRIPPED,
    RX_VLAN_VALID,
)
from driver_model.net.xdp_metadata import XdpRssType
from hw.abi.codec import Codec
from hw.abi.rings import NetworkLayer, RxCompletion, TransportLayer

ETH_P_8021Q = 0x8100

_CODEC = Codec(RxCompletion)
_NETWORK = _CODEC.mask("packet_type", "network")
_TRANSPORT_SHIFT = _NETWORK.bit_length()
_NETWORKS = {layer.value: layer for layer in NetworkLayer.__members__.values()}
_TRANSPORTS = {layer.value: layer for layer in TransportLayer.__members__.values()}
_IP = {NetworkLayer.IPV4: XdpRssType.L3_IPV4, NetworkLayer.IPV6: XdpRssType.L3_IPV6}
_PORTS = {
    TransportLayer.TCP: XdpRssType.L4 | XdpRssType.L4_TCP,
    TransportLayer.UDP: XdpRssType.L4 | XdpRssType.L4_UDP,
}


class Checksum(IntEnum):
    """``skb->ip_summed``, with the kernel's values."""

    NONE = 0  #: nobody has looked, or it is wrong: the stack sums
    UNNECESSARY = 1  #: the device has checked it, it is right
    COMPLETE = 2  #: the device has not judged, but summed the packet: ``csum``
    PARTIAL = 3  #: to be sent: the device is to complete it


class RxMetadata:
    """Metadata of the frame at hand. One is reused for a whole queue: it tells of a frame only until the program or
    consumer that got it returns.

    What its :class:`~driver_model.drivers.features.Feature` is off for is not told, nor what the device did not find;
    but of a tag that is not in the frame any more :attr:`vlan_tag` always tells, or it would be lost.

    Parameters
    ----------
    netdev : the device

    Attributes
    ----------
    entry : the completion that the frame ended with, as :data:`driver_model.drivers.ring.RX_FORMAT` unpacks it
    header : physical address and bytes of the frame's headers where they lie apart, in a header buffer; its fragments
        have what is behind them
    """

    __slots__ = ("_netdev", "entry", "header")

    def __init__(self, netdev: NetDevice) -> None:
        self._netdev = netdev
        self.entry: tuple[int, ...] = (0,) * 9
        self.header: tuple[int, int] | None = None

    @property
    def packet_type(self) -> tuple[NetworkLayer, TransportLayer]:
        """What the parser recognised; nothing where the device says nonsense."""
        value = self.entry[6]
        network = _NETWORKS.get(value & _NETWORK, NetworkLayer.OTHER)
        return network, _TRANSPORTS.get(value >> _TRANSPORT_SHIFT, TransportLayer.OTHER)

    @property
    def header_length(self) -> int:
        """Bytes of the headers that the parser recognised; 0 where it knew none."""
        return self.entry[5]

    @property
    def ip_summed(self) -> Checksum:
        """UNNECESSARY for a checksum that is right, NONE for a wrong one; COMPLETE for what of IP was not judged, such
        as ICMP and fragments, unless a program has written to the frame; NONE for all else."""
        status = self.entry[8] & RX_CSUM_MASK
        if not self._netdev.rx_checksum or status == RX_CSUM_BAD:
            return Checksum.NONE
        if status == RX_CSUM_GOOD:
            return Checksum.UNNECESSARY
        return Checksum.COMPLETE if self.packet_type[0] in _IP else Checksum.NONE

    @property
    def csum(self) -> int | None:
        """Ones' complement sum of all bytes behind the Ethernet header, as they lie in memory, tags and padding among
        them, as little-endian words; it counts with COMPLETE."""
        return self.entry[3] if self._netdev.rx_checksum else None

    @property
    def hash(self) -> int | None:
        """RSS hash."""
        hashed = self.entry[8] & RX_HASH_VALID and self._netdev.rx_hash
        return self.entry[2] if hashed else None

    @property
    def hash_type(self) -> XdpRssType:
        """What was hashed, as the device says with each packet; a driver for SKBs makes PKT_HASH_TYPE_L4, L3 and NONE
        of it."""
        network, transport = self.packet_type
        if self.hash is None or network not in _IP:
            return XdpRssType.NONE
        ports = _PORTS.get(transport, XdpRssType.NONE) if self.entry[7] & RX_HASH_PORTS else XdpRssType.NONE
        return _IP[network] | ports

    @property
    def vlan_tci(self) -> int | None:
        """Tag control information of the first VLAN tag on the wire. It is still in the frame unless :attr:`vlan_tag`
        says otherwise, and no ``skb->vlan_tci`` then."""
        return self.entry[4] if self.entry[8] & RX_VLAN_VALID else None

    @property
    def vlan_tag(self) -> tuple[int, int] | None:
        """For ``__vlan_hwaccel_put_tag``: protocol (a number; ``skb->vlan_proto`` has it in the wire's byte order) and
        tag control information of the tag that the device has taken out of the frame."""
        return (ETH_P_8021Q, self.entry[4]) if self.entry[8] & RX_VLAN_STRIPPED else None

    def xmo_rx_hash(self) -> tuple[int, XdpRssType] | None:
        """For :func:`driver_model.net.xdp_metadata.bpf_xdp_metadata_rx_hash`."""
        if Feature.RXHASH not in self._netdev.capabilities.features:
            raise OSError(errno.EOPNOTSUPP, "The device does not tell hashes")
        value = self.hash
        return None if value is None else (value, self.hash_type)

    def xmo_rx_vlan_tag(self) -> tuple[int, int] | None:
        """For :func:`driver_model.net.xdp_metadata.bpf_xdp_metadata_rx_vlan_tag`."""
        if Feature.HW_VLAN_CTAG_RX not in self._netdev.capabilities.features:
            raise OSError(errno.EOPNOTSUPP, "The device takes no tags out")
        return self.vlan_tag

    def frame_changes(self) -> None:
        """A program writes to the frame: the device's sum is not of these bytes any more. (mlx5e gives none at all
        while a program is attached: ``MLX5E_RQ_STATE_NO_CSUM_COMPLETE``.)"""
        if self.ip_summed is Checksum.COMPLETE:
            self.entry = (*self.entry[:8], self.entry[8] | RX_CSUM_BAD)
