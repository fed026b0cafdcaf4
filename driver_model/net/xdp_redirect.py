# SPDX-License-Identifier: BSD-2-Clause
"""XDP_REDIRECT: frames for another device, in bulk (``net/core/filter.c``, ``kernel/bpf/devmap.c``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from driver_model.net.xdp import XdpAction, XdpBuff

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

DEV_MAP_BULK_SIZE = 16


class XdpTarget(Protocol):
    """A device that sends frames: a queue pair."""

    core: Core

    def xdp_xmit(self, frames: Sequence[Any]) -> int:
        """Queue frames for sending; how many. The others are still the caller's."""


class DevMap:
    """``BPF_MAP_TYPE_DEVMAP``: devices by key. A device is its queue pairs, of which a frame takes that of the core it
    is on, as drivers have a sending queue for each core."""

    def __init__(self) -> None:
        self._devices: dict[int, Sequence[XdpTarget]] = {}

    def update(self, key: int, queues: Sequence[XdpTarget]) -> None:
        """Set an entry."""
        if not queues:
            raise ValueError(f"Entry {key!r} must have one queue pair or more, not {queues!r}")
        self._devices[key] = queues

    def delete(self, key: int) -> None:
        """Take an entry out. Raises ``KeyError`` if it is not there."""
        del self._devices[key]

    def lookup(self, key: int, core: Core) -> XdpTarget | None:
        """Where a frame on this core goes; None without entry, or without queue pair of this core."""
        return next((queue for queue in self._devices.get(key, ()) if queue.core is core), None)


def bpf_redirect_map(xdp: XdpBuff, devmap: DevMap, key: int, otherwise: XdpAction = XdpAction.ABORTED) -> XdpAction:
    """For a program: send the frame by the device of an entry, or do what ``otherwise`` says where there is none."""
    xdp.core.spend(xdp.op_redirect)
    xdp.target = devmap.lookup(key, xdp.core)
    return otherwise if xdp.target is None else XdpAction.REDIRECT


def bpf_redirect_back(xdp: XdpBuff) -> XdpAction:
    """For a program: send the frame by the device that it came by, as if that were another one (``bpf_redirect`` with
    the index of the same interface): the frame is mapped anew, and its buffer goes back by way of an xdp_frame."""
    xdp.core.spend(xdp.op_redirect)
    xdp.target = xdp.device
    return XdpAction.REDIRECT


class BulkQueue:
    """``struct xdp_dev_bulk_queue``: frames for one target, sent 16 at once or at the end of a poll.

    Charged is ``xdp.redirect_flush`` for each batch.

    Attributes
    ----------
    sent, dropped : frames that the target took, and that it did not: their buffers were given back
    """

    def __init__(self, target: XdpTarget) -> None:
        self.target = target
        self.sent = 0
        self.dropped = 0
        self._frames: list[Any] = []
        self._op_flush = target.core.op("xdp.redirect_flush")

    def enqueue(self, frame: Any) -> None:
        """``bq_enqueue``."""
        self._frames.append(frame)
        if len(self._frames) == DEV_MAP_BULK_SIZE:
            self.flush()

    def flush(self) -> None:
        """``bq_xmit_all``."""
        frames = self._frames
        if not frames:
            return
        self._frames = []
        self.target.core.spend(self._op_flush)
        sent = self.target.xdp_xmit(frames)
        self.sent += sent
        self.dropped += len(frames) - sent
        for frame in frames[sent:]:
            frame.owner.return_frames([frame.buffer])
