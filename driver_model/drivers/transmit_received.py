# SPDX-License-Identifier: BSD-2-Clause
"""Sending frames from the buffers that they came in: XDP_TX, and a consumer's frames with offloads."""

from typing import Any

from driver_model.drivers.header_buffers import HeaderBuffers
from driver_model.drivers.offload import CSUM_BYTES, TxRequest, csum_replace_by_diff
from driver_model.drivers.ring import TX_DATA
from driver_model.drivers.strategies.base import BufferStrategy, PooledStrategy
from driver_model.drivers.transmit import LAST, NOTHING, TransmitRing, TxSlot
from driver_model.net.skb.sk_buff import LINE


class ReceivedFrames:
    """Queues frames in received buffers, and gives the buffers back to their strategy when the device has read them.
    Where the device has a pool of them, it takes them back itself, but for those of a segmentation request and those
    that do not recycle.

    Parameters
    ----------
    tx : the ring
    strategy : whose buffers these are
    """

    def __init__(self, tx: TransmitRing, strategy: BufferStrategy) -> None:
        self.tx = tx
        self.core = tx.core
        self._strategy = strategy
        self._recycle = strategy.recycle if isinstance(strategy, PooledStrategy) else None
        self._headers = HeaderBuffers(tx.dev, tx.entries) if tx.netdev.tcp_data_split else None
        self._op_descriptor = tx.op_descriptor

    def xmit(self, fragments: list[tuple[Any, int]], request: TxRequest) -> bool:
        """Queue a frame with offloads, as :meth:`queue` does. Raises ``OSError`` for what the device does not do
        (:meth:`driver_model.drivers.offload.TxRequest.check`): the buffers are still the caller's then, who may do in
        software what was asked for."""
        lengths = [length for _, length in fragments]
        request.check(self.tx.netdev, lengths)
        if request.gso_type is not None and self.tx.running:
            self._prepare_segments(fragments[0][0], request, sum(lengths))
        queued = self.queue(fragments, request)
        statistics = self.tx.statistics
        if not queued:
            statistics.tx_dropped += 1
            return False
        statistics.tx_csum_partial += request.csum_start is not None
        statistics.tx_added_vlan_packets += request.vlan_tci is not None
        if request.gso_type is not None:
            statistics.tx_tso_packets += 1
            statistics.tx_tso_bytes += sum(lengths) - request.hdr_len
        return True

    def queue(
        self,
        fragments: list[tuple[Any, int]],
        request: TxRequest | None = None,
        header: tuple[int, int] | None = None,
    ) -> bool:
        """Queue a frame, one (buffer, length) for each piece. False if there is no room, it has more pieces than the
        device takes, one cannot be mapped, or sending has stopped: the buffers have then been given back.

        ``request`` has been checked. ``header``, address and length of headers that lie apart, goes first; it is
        copied, so that the header buffer it came in can go back before it is sent.
        """
        tx, strategy, checker = self.tx, self._strategy, self.tx.dev.checker
        count = len(fragments)
        context = request is not None and request.needs_context
        before = context + (header is not None)
        if not tx.admits(count + before):
            for buffer, _ in fragments:
                self._release(buffer)
            return False
        addresses: list[int] = []
        for buffer, length in fragments:
            dma_address = strategy.transmit(buffer, length)
            if dma_address is None:
                break
            addresses.append(dma_address)
        mapped = len(addresses)
        if mapped < count:
            for buffer, length in fragments[:mapped]:
                self.completed(buffer, length, 0)
            for buffer, _ in fragments[mapped:]:
                self._release(buffer)
            return False
        core = self.core
        logged = core.log is not None
        recycle = None if request is not None and request.gso_type is not None else self._recycle
        last = LAST
        if request is not None:
            last |= request.control()
            if context:
                tx.append(request.context(), NOTHING)
        if header is not None:
            self._append_header(header)
        for left, (dma_address, (buffer, length)) in enumerate(zip(addresses, fragments, strict=True), 1 - count):
            control = TX_DATA if left else last
            mark = None if recycle is None else recycle(buffer, own=request is None)
            if mark is None:
                name, posted = tx.slot, length
                slot = TxSlot(self, buffer, length, not left)
            else:
                name, bits = mark
                control |= bits
                posted = strategy.buffer_length
                slot = TxSlot(None, None, length, not left)
            if checker is not None:
                checker.posted(core, dma_address, posted)
            tx.append((dma_address, length, name, control), slot)
            if logged:
                core.note("send", "xdp_tx" if request is None else "xmit", tx.index, buffer.address, name)
                if mark is not None:
                    core.note("return", "recycle", tx.index, buffer.address, name)
        core.spend(self._op_descriptor, count + before)
        return True

    def completed(self, buffer: Any, length: int, budget: int) -> None:
        """Back to the strategy."""
        self._strategy.transmitted(buffer, length)
        self.core.note("return", "transmitted", self.tx.index, buffer.address)

    def free(self) -> None:
        """Give the memory of headers back."""
        if self._headers is not None:
            self._headers.free()

    def _append_header(self, header: tuple[int, int]) -> None:
        """The descriptor for headers that lie apart."""
        headers, core, at = self._headers, self.core, self.tx.slot
        assert headers is not None
        address, length = header
        core.spend(core.device_line, -(-length // LINE))
        core.store_owned(headers.address(at), core.load_owned(address, length))
        self.tx.append((headers.dma_address(at), length, at, TX_DATA), TxSlot(None, None, length, False))

    def _prepare_segments(self, head: Any, request: TxRequest, length: int) -> None:
        """Take the length out of the pseudo-header's sum: each segment has its own."""
        assert request.csum_start is not None
        place = head.address + self._strategy.headroom + request.csum_start + request.csum_offset
        check = self.core.load_owned(place, CSUM_BYTES)
        self.core.store_owned(place, csum_replace_by_diff(check, length - request.csum_start))

    def _release(self, buffer: Any) -> None:
        self._strategy.release(buffer)
        self.core.note("return", "release", self.tx.index, buffer.address)
