# SPDX-License-Identifier: BSD-2-Clause
"""Sending frames that another device received: ``ndo_xdp_xmit``, the target of XDP_REDIRECT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from driver_model.drivers.transmit import LAST, TransmitRing, TxSlot
from driver_model.memory.dma.api import DmaDirection, dma_map_single, dma_mapping_error, dma_unmap_single


class XdpFrame(NamedTuple):
    """``struct xdp_frame``: a frame in one received buffer, and whom that goes back to.

    Attributes
    ----------
    owner : the queue pair that received it, by its ``return_frames(buffers)``
    buffer : its buffer
    address, length : where the frame lies, and its bytes
    """

    owner: Any
    buffer: Any
    address: int
    length: int


class MappedFrame(NamedTuple):
    """A frame that the device reads."""

    frame: XdpFrame
    dma_address: int

    @property
    def address(self) -> int:
        """Where it lies."""
        return self.frame.address


class XdpFrames:
    """Maps redirected frames for sending, whoever's device they came by, and returns their buffers in bulk when this
    one has read them. Charged are the DMA API, and ``tx.descriptor`` for each.

    Parameters
    ----------
    tx : the ring
    """

    def __init__(self, tx: TransmitRing) -> None:
        self.tx = tx
        self._done: list[XdpFrame] = []
        self._op_descriptor = tx.op_descriptor

    def xdp_xmit(self, frames: Sequence[XdpFrame]) -> int:
        """Queue frames; how many. The others are still the caller's."""
        tx = self.tx
        dev, core = tx.dev, tx.core
        for queued, frame in enumerate(frames):
            if not tx.admits(1):
                return queued
            dma_address = dma_map_single(dev, frame.address, frame.length, DmaDirection.TO_DEVICE)
            if dma_mapping_error(dev, dma_address):
                return queued
            if dev.checker is not None:
                dev.checker.posted(core, dma_address, frame.length)
            core.spend(self._op_descriptor)
            name = tx.slot
            slot = TxSlot(self, MappedFrame(frame, dma_address), frame.length, True)
            tx.append((dma_address, frame.length, name, LAST), slot)
            core.note("send", "xdp_xmit", tx.index, frame.buffer.address, name)
        return len(frames)

    def completed(self, buffer: MappedFrame, length: int, budget: int) -> None:
        """Unmap; the frame's buffer goes back with others at :meth:`flush`, or at once outside of a poll."""
        dma_unmap_single(self.tx.dev, buffer.dma_address, length, DmaDirection.TO_DEVICE)
        self._done.append(buffer.frame)
        if not budget:
            self.flush()

    def flush(self) -> None:
        """``xdp_flush_frame_bulk``: give back what was sent, owner by owner."""
        done, self._done = self._done, []
        while done:
            owner = done[0].owner
            owner.return_frames([frame.buffer for frame in done if frame.owner is owner])
            done = [frame for frame in done if frame.owner is not owner]
