# SPDX-License-Identifier: BSD-2-Clause
"""What a sender asks the device to complete in a frame, and how its descriptors say so."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from driver_model.drivers.features import Capabilities, Feature, NetDevice
from driver_model.drivers.ring import MAX_CSUM_OFFSET, MAX_CSUM_START, tx_context, tx_control

CSUM_BYTES = 2
TCP_CHECKSUM = 16  #: ``offsetof(struct tcphdr, check)``
ETH_HLEN = 14
IPV6_HEADER = 40
HEADER_LENGTHS = range(20, 61, 4)  #: of IPv4 and of TCP
MAX_HEADERS = 256  #: of a frame that is to be segmented, together
GSO_MAX_SIZE = 65535  #: bytes of such a frame


class GsoType(Enum):
    """``SKB_GSO_TCPV4`` and ``SKB_GSO_TCPV6``."""

    TCPV4 = Feature.TSO
    TCPV6 = Feature.TSO6


@dataclass(frozen=True, slots=True)
class TxRequest:
    """The fields of an SKB that ask for offloads, under its names.

    Attributes
    ----------
    csum_start, csum_offset : CHECKSUM_PARTIAL: all bytes from ``csum_start`` on are summed, into the two that lie
        ``csum_offset`` behind it, where the sender has left the pseudo-header's sum; None: no checksum
    vlan_tci : tag control information of a tag to insert behind the addresses; None: no tag
    gso_type, gso_size : cut the payload into segments of so many bytes; then ``csum_start`` is where TCP begins, and
        the pseudo-header's sum is that of the whole frame
    network_offset : where IP begins, which counts with ``gso_type``
    tcp_hdrlen : bytes of TCP's header, likewise
    """

    csum_start: int | None = None
    csum_offset: int = 0
    vlan_tci: int | None = None
    gso_type: GsoType | None = None
    gso_size: int = 0
    network_offset: int = ETH_HLEN
    tcp_hdrlen: int = 0

    @property
    def hdr_len(self) -> int:
        """Bytes of all headers of a frame that is to be segmented."""
        return (self.csum_start or 0) + self.tcp_hdrlen

    @property
    def needs_context(self) -> bool:
        """A context descriptor goes before the data."""
        return self.vlan_tci is not None or self.gso_type is not None

    def check(self, netdev: NetDevice, lengths: Sequence[int]) -> None:
        """Raise ``OSError`` unless the device does this with a frame in pieces of these lengths: EOPNOTSUPP for a
        feature that is off or not there, EMSGSIZE for a frame or a segment that is too long or a frame in too many
        pieces, EINVAL for what does not fit together. What passes here, the device does not refuse."""
        needed = Feature(0)
        if self.csum_start is not None:
            needed |= Feature.HW_CSUM
        if self.vlan_tci is not None:
            needed |= Feature.HW_VLAN_CTAG_TX
            if not 0 <= self.vlan_tci <= 0xFFFF:
                raise OSError(errno.EINVAL, f"vlan_tci must be in 0..65535, not {self.vlan_tci!r}")
        if self.gso_type is not None:
            needed |= self.gso_type.value
        netdev.require(needed)
        self._check_frame(netdev.capabilities, lengths)
        if self.gso_type is not None:
            self._check_segments(netdev.capabilities.max_frame, lengths)
        elif self.csum_start is not None:
            self._check_checksum(sum(lengths))

    def _check_frame(self, device: Capabilities, lengths: Sequence[int]) -> None:
        total, descriptors = sum(lengths), len(lengths) + self.needs_context
        if total < ETH_HLEN or min(lengths) < 1:
            raise OSError(
                errno.EINVAL,
                f"A frame has {ETH_HLEN} bytes or more, and some in each piece, not {', '.join(map(str, lengths))}",
            )
        if descriptors > device.max_descriptors:
            raise OSError(
                errno.EMSGSIZE, f"A frame may take {device.max_descriptors} descriptors, this one takes {descriptors}"
            )
        if self.gso_type is None and total > device.max_frame:
            raise OSError(errno.EMSGSIZE, f"A frame must be at most {device.max_frame} bytes, not {total}")

    def _check_checksum(self, length: int) -> None:
        assert self.csum_start is not None
        if not (0 <= self.csum_start <= MAX_CSUM_START and 0 <= self.csum_offset <= MAX_CSUM_OFFSET):
            raise OSError(
                errno.EINVAL,
                f"csum_start and csum_offset must be in 0..{MAX_CSUM_START} and 0..{MAX_CSUM_OFFSET}, not "
                f"{self.csum_start!r} and {self.csum_offset!r}",
            )
        if self.csum_start + self.csum_offset + CSUM_BYTES > length:
            raise OSError(errno.EINVAL, f"No checksum is at {self.csum_start} + {self.csum_offset} of {length} bytes")

    def _check_segments(self, max_frame: int, lengths: Sequence[int]) -> None:
        if self.csum_start is None or self.csum_offset != TCP_CHECKSUM:
            raise OSError(errno.EINVAL, f"Segments need a checksum at TCP's {TCP_CHECKSUM}, not {self.csum_offset!r}")
        network_length = self.csum_start - self.network_offset
        allowed = HEADER_LENGTHS if self.gso_type is GsoType.TCPV4 else (IPV6_HEADER,)
        if network_length not in allowed or self.tcp_hdrlen not in HEADER_LENGTHS:
            raise OSError(
                errno.EINVAL, f"Headers of {network_length} and {self.tcp_hdrlen!r} bytes are none of IP and TCP"
            )
        if self.network_offset < ETH_HLEN or self.network_offset % 2:
            raise OSError(errno.EINVAL, f"network_offset must be even and from {ETH_HLEN}, not {self.network_offset!r}")
        if not self.hdr_len <= min(MAX_HEADERS, lengths[0]) or self.hdr_len >= sum(lengths):
            raise OSError(
                errno.EINVAL,
                f"Headers of {self.hdr_len} bytes must be at most {MAX_HEADERS}, lie in the first piece, and have "
                f"payload behind them, not pieces of {', '.join(map(str, lengths))}",
            )
        if self.gso_size < 1:
            raise OSError(errno.EINVAL, f"gso_size must be 1 or more, not {self.gso_size!r}")
        if sum(lengths) > GSO_MAX_SIZE or self.hdr_len + self.gso_size > max_frame:
            raise OSError(
                errno.EMSGSIZE,
                f"A frame of {sum(lengths)} bytes and segments of {self.hdr_len + self.gso_size} must be at most "
                f"{GSO_MAX_SIZE} and {max_frame}",
            )

    def context(self) -> tuple[int, int, int, int]:
        """The context descriptor, as :func:`driver_model.drivers.ring.pack_tx` takes one."""
        fields = {"vlan": self.vlan_tci or 0}
        if self.gso_type is not None:
            assert self.csum_start is not None
            fields |= {
                "mss": self.gso_size,
                "l2_length": self.network_offset,
                "l3_length": self.csum_start - self.network_offset,
                "l4_length": self.tcp_hdrlen,
            }
        return tx_context(**fields)

    def control(self) -> int:
        """What the frame's last data descriptor says, beside its end."""
        flags = [] if self.vlan_tci is None else ["insert_vlan"]
        if self.gso_type is not None:
            flags.append("segment")
            if self.gso_type is GsoType.TCPV4:
                flags.append("insert_ip_checksum")
            return tx_control(*flags)
        if self.csum_start is None:
            return tx_control(*flags)
        return tx_control(*flags, "insert_l4_checksum", csum_start=self.csum_start, csum_offset=self.csum_offset)


def csum_replace_by_diff(check: bytes, length: int) -> bytes:
    """The sum of a pseudo-header for ``length`` bytes, without the length: what the device starts each segment from."""
    total = int.from_bytes(check) + (~length & 0xFFFF)
    return ((total & 0xFFFF) + (total >> 16)).to_bytes(2)
