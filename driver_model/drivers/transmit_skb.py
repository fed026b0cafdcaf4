# SPDX-License-Identifier: BSD-2-Clause
"""Sending SKBs: ``ndo_start_xmit``."""

from __future__ import annotations

from typing import NamedTuple

from driver_model.drivers.ring import TX_DATA
from driver_model.drivers.transmit import LAST, TransmitRing, TxSlot
from driver_model.memory.dma.api import DmaDirection, dma_map_single, dma_mapping_error, dma_unmap_single
from driver_model.net.skb.alloc import SkbAllocator
from driver_model.net.skb.edit import pskb_expand_head, pskb_may_pull
from driver_model.net.skb.free import SkbFreeing
from driver_model.net.skb.sk_buff import SkBuff, skb_put

ETH_ZLEN = 60  #: bytes of the shortest frame, without FCS


class MappedPiece(NamedTuple):
    """A piece of an SKB that the device reads; the last one brings the SKB back."""

    skb: SkBuff | None
    address: int
    dma_address: int


class SkbFrames:
    """Maps SKBs for sending, queues them, and frees them when the device has read them.

    Each piece, the linear part and every fragment, is mapped by itself; one in more pieces than the device takes, or
    the ring has entries, is made linear first. Charged are the DMA API, ``tx.descriptor`` for each piece, and a
    doorbell for each SKB that no other follows at once.

    Parameters
    ----------
    tx : the ring
    skbs, freeing : of the ring's core
    """

    def __init__(self, tx: TransmitRing, skbs: SkbAllocator, freeing: SkbFreeing) -> None:
        self.tx = tx
        self._skbs = skbs
        self._freeing = freeing
        self._op_descriptor = tx.op_descriptor

    def start_xmit(self, skb: SkBuff, more: bool) -> bool:
        """Queue an SKB, or drop it, and count that, if it cannot be sent: True. False (``NETDEV_TX_BUSY``) if there is
        no room now: it is still the caller's, and the queue is stopped. ``more`` (``netdev_xmit_more``) promises that
        another one follows, and publishes nothing yet."""
        tx = self.tx
        if not tx.running or skb.len > tx.netdev.capabilities.max_frame:
            return self._drop(skb, more)
        if len(skb.shinfo.frags) + 1 > tx.most and not pskb_may_pull(self._skbs, skb, skb.len):
            return self._drop(skb, more)
        if skb.len < ETH_ZLEN and not self._pad(skb):
            return self._drop(skb, more)
        pieces = [(skb.data, skb.headlen)] if skb.headlen else []
        pieces += [(frag.address, frag.length) for frag in skb.shinfo.frags]
        if not tx.admits(len(pieces)):
            tx.stop()
            tx.flush()
            return False
        dev, core = tx.dev, tx.core
        mapped: list[tuple[int, int]] = []
        for address, length in pieces:
            dma_address = dma_map_single(dev, address, length, DmaDirection.TO_DEVICE)
            if dma_mapping_error(dev, dma_address):
                for done, size in mapped:
                    dma_unmap_single(dev, done, size, DmaDirection.TO_DEVICE)
                return self._drop(skb, more)
            mapped.append((dma_address, length))
        skb.holder = f"TX ring {tx.index}"
        core.spend(self._op_descriptor, len(pieces))
        for left, ((address, length), (dma_address, _)) in enumerate(zip(pieces, mapped, strict=True), 1 - len(pieces)):
            if dev.checker is not None:
                dev.checker.posted(core, dma_address, length)
            name = tx.slot
            piece = MappedPiece(None if left else skb, address, dma_address)
            tx.append((dma_address, length, name, TX_DATA if left else LAST), TxSlot(self, piece, length, not left))
            core.note("send", "start_xmit", tx.index, address, name)
        if not more:
            tx.flush()
        return True

    def completed(self, buffer: MappedPiece, length: int, budget: int) -> None:
        """Unmap a piece; with the last one the SKB is done with."""
        tx = self.tx
        dma_unmap_single(tx.dev, buffer.dma_address, length, DmaDirection.TO_DEVICE)
        tx.core.note("return", "napi_consume_skb", tx.index, buffer.address)
        if buffer.skb is not None:
            self._freeing.napi_consume_skb(buffer.skb, budget)

    def _pad(self, skb: SkBuff) -> bool:
        """``eth_skb_pad``; False without memory to do so."""
        if not pskb_may_pull(self._skbs, skb, skb.len):
            return False
        missing = ETH_ZLEN - skb.len
        if (not skb.writable or skb.tailroom < missing) and not pskb_expand_head(
            self._skbs, skb, skb.headroom, missing
        ):
            return False
        self.tx.core.store_owned(skb_put(skb, missing), bytes(missing))
        return True

    def _drop(self, skb: SkBuff, more: bool) -> bool:
        self.tx.statistics.tx_dropped += 1
        self._freeing.consume_skb(skb)
        if not more:
            self.tx.flush()
        return True
