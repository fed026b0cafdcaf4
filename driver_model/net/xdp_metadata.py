# SPDX-License-Identifier: BSD-2-Clause
"""Metadata of a received packet for XDP programs: the ``bpf_xdp_metadata_rx_*`` kfuncs (``net/core/xdp.c``)."""

import errno
from enum import IntFlag
from typing import Protocol

from driver_model.net.xdp import XdpBuff


class XdpRssType(IntFlag):
    """``enum xdp_rss_hash_type``, with the kernel's values: what of the packet was hashed."""

    NONE = 0
    L3_IPV4 = 1 << 0
    L3_IPV6 = 1 << 1
    L4 = 1 << 3  #: the ports too; the protocol's bit is set as well
    L4_TCP = 1 << 4
    L4_UDP = 1 << 5


class XdpMetadata(Protocol):
    """What a driver tells of the frame at hand: ``struct xdp_metadata_ops``. None: not known of this frame; raises
    ``OSError`` EOPNOTSUPP for what the device never tells.

    Attributes
    ----------
    header : physical address and bytes of headers that lie apart; then the :class:`driver_model.net.xdp.XdpBuff` has
        what is behind them
    """

    header: tuple[int, int] | None

    def xmo_rx_hash(self) -> tuple[int, XdpRssType] | None:
        """RSS hash, and what was hashed."""

    def xmo_rx_vlan_tag(self) -> tuple[int, int] | None:
        """Protocol and tag control information of a VLAN tag that the device has taken out of the frame."""

    def frame_changes(self) -> None:
        """A program writes to the frame: what was said of its bytes may be true no longer."""


def _of(xdp: XdpBuff) -> XdpMetadata:
    if xdp.metadata is None:
        raise OSError(errno.EOPNOTSUPP, "The driver has no metadata")
    xdp.core.spend(xdp.core.op("xdp.metadata"))
    return xdp.metadata


def bpf_xdp_metadata_rx_hash(xdp: XdpBuff) -> tuple[int, XdpRssType]:
    """RSS hash and its type. Raises ``OSError``: ENODATA if the frame has none, EOPNOTSUPP if no frame has."""
    found = _of(xdp).xmo_rx_hash()
    if found is None:
        raise OSError(errno.ENODATA, "The frame was not hashed")
    return found


def bpf_xdp_metadata_rx_vlan_tag(xdp: XdpBuff) -> tuple[int, int]:
    """Protocol and tag control information of the VLAN tag that was taken out of the frame. Raises ``OSError``:
    ENODATA if none was (a tag that the frame still has, the program reads there), EOPNOTSUPP if none ever is."""
    tag = _of(xdp).xmo_rx_vlan_tag()
    if tag is None:
        raise OSError(errno.ENODATA, "No VLAN tag was taken out of the frame")
    return tag
