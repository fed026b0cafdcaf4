# SPDX-License-Identifier: BSD-2-Clause
"""The sending half of a queue pair."""

from contextlib import ExitStack
from typing import Any

from driver_model.drivers.features import NetDevice
from driver_model.drivers.header_buffers import HeaderBuffers
from driver_model.drivers.offload import CSUM_BYTES, TxRequest, csum_replace_by_diff
from driver_model.drivers.ring import (
    ERROR_MASK,
    INDEX_MASK,
    OFFLOAD,
    TX_DATA,
    TX_DONE_FORMAT,
    TX_END_OF_PACKET,
    TX_REPORT,
    CompletionRing,
    DescriptorRing,
    pack_tx,
)
from driver_model.drivers.statistics import QueueStatistics
from driver_model.drivers.strategies.base import BufferStrategy, PooledStrategy
from driver_model.memory.dma import Device
from hw.abi.registers import RegisterMap

_LAST = TX_DATA | TX_END_OF_PACKET
_CONTEXT = (None, 0, False)  # what a slot holds for a descriptor without bytes
LINE = 64  #: bytes of a cache line
REPORT_INTERVAL = 32  #: descriptors after which the next end of a frame asks for a completion
TX_TIMEOUT_PS = 10**9  #: ``watchdog_timeo``: a ring that was full for so long has stopped (5 s in Linux)


class TransmitRing:
    """Queues frames in received buffers and gives the buffers back when the device has read them. Where the device has
    a pool of them, it takes them back itself, but for those of a segmentation request and those that do not recycle.

    Descriptors are collected and published by one doorbell in :meth:`flush`. The last of a batch asks for a completion,
    and so does the end of a frame about every :data:`REPORT_INTERVAL` (less in a small ring), so that buffers come back
    early. The device reports an error only where a completion was asked for: a frame that it refused without counts as
    sent here, and :meth:`driver_model.drivers.nic.NicDriver.counters` knows of all. A completion that cannot be is
    counted, and ignored.

    Each descriptor costs ``tx.descriptor`` and, when it is done, ``tx.clean``; where the device takes buffers back, a
    completion costs ``tx.clean`` once, however many descriptors it is of (a driver that keeps running totals of packets
    and bytes with its slots looks at the last), and those whose buffers it does not take back the rest.

    Parameters
    ----------
    dev : the device as the queue's core uses it
    entries : ring size
    strategy : whose buffers these are
    statistics : counters of the queue pair
    registers, index : register map, number of the queue pair
    netdev : the device's features
    """

    def __init__(
        self,
        dev: Device,
        entries: int,
        strategy: BufferStrategy,
        statistics: QueueStatistics,
        registers: RegisterMap,
        index: int,
        netdev: NetDevice,
    ) -> None:
        self.dev = dev
        self.core = core = dev.core
        self.entries = entries
        with ExitStack() as unwind:
            self.ring = DescriptorRing(dev, entries)
            unwind.callback(self.ring.free)
            self.completions = CompletionRing(dev, entries, TX_DONE_FORMAT)
            unwind.callback(self.completions.free)
            self._headers = HeaderBuffers(dev, entries) if netdev.tcp_data_split else None
            unwind.pop_all()
        self.outstanding = 0  #: descriptors queued and not given back
        self.running = False  #: the device's side is enabled: frames may be queued and doorbells written
        self._full_since: int | None = None  # when a frame found no room, and nothing was given back since
        self._strategy = strategy
        self._recycle = strategy.recycle if isinstance(strategy, PooledStrategy) else None
        self._statistics = statistics
        self._index = index
        self._netdev = netdev
        self._slots: list[tuple[Any, int, bool] | None] = [None] * entries
        self._batch: list[tuple[int, int, int, int]] = []
        self._cleaned = 0
        self._published = 0
        self._interval = min(REPORT_INTERVAL, entries // 4)
        self._unreported = 0
        self._frame_bytes = 0
        self._op_descriptor = core.op("tx.descriptor")
        self._op_clean = core.op("tx.clean")
        self._doorbell = registers.address("tx_doorbell", index)
        self._doorbell_consumer = registers.queue["tx_doorbell"].fields["completion_consumer"].lsb

    def xmit(self, fragments: list[tuple[Any, int]], request: TxRequest) -> bool:
        """Queue a frame with offloads, as :meth:`queue` does; ``ndo_start_xmit``. Raises ``OSError`` for what the
        device does not do (:meth:`driver_model.drivers.offload.TxRequest.check`): the buffers are still the caller's
        then, who may do in software what was asked for."""
        lengths = [length for _, length in fragments]
        request.check(self._netdev, lengths)
        if request.gso_type is not None and self.running:
            self._prepare_segments(fragments[0][0], request, sum(lengths))
        queued = self.queue(fragments, request)
        statistics = self._statistics
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
        strategy, checker = self._strategy, self.dev.checker
        count = len(fragments)
        context = request is not None and request.needs_context
        before = context + (header is not None)
        room = self.entries - self.outstanding
        most = self._netdev.capabilities.max_descriptors
        if count + before > min(room, most) or not self.running:
            if self.running and room < count + before <= most and self._full_since is None:
                self._full_since = self.core.time
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
                self._transmitted(buffer, length)
            for buffer, _ in fragments[mapped:]:
                self._release(buffer)
            return False
        core = self.core
        logged = core.log is not None
        recycle = None if request is not None and request.gso_type is not None else self._recycle
        slot = self._cleaned + self.outstanding
        mask = self.entries - 1
        last = _LAST
        if request is not None:
            last |= request.control()
            if context:
                self._slots[slot & mask] = _CONTEXT
                self._batch.append(request.context())
                slot += 1
        if header is not None:
            self._batch.append(self._copy_header(header, slot & mask))
            slot += 1
        for left, (dma_address, (buffer, length)) in enumerate(zip(addresses, fragments, strict=True), 1 - count):
            slot &= mask
            control = TX_DATA if left else last
            mark = None if recycle is None else recycle(buffer, own=request is None)
            if mark is None:
                name, owned, posted = slot, buffer, length
            else:
                name, bits = mark
                control |= bits
                owned, posted = None, strategy.buffer_length
            if checker is not None:
                checker.posted(core, dma_address, posted)
            self._slots[slot] = (owned, length, not left)
            self._batch.append((dma_address, length, name, control))
            if logged:
                core.note("send", "xdp_tx" if request is None else "xmit", self._index, buffer.address, name)
                if mark is not None:
                    core.note("return", "recycle", self._index, buffer.address, name)
            slot += 1
        core.spend(self._op_descriptor, count + before)
        self.outstanding += count + before
        return True

    def _copy_header(self, header: tuple[int, int], slot: int) -> tuple[int, int, int, int]:
        """The descriptor for headers that lie apart."""
        headers, core = self._headers, self.core
        assert headers is not None
        address, length = header
        core.spend(core.device_line, -(-length // LINE))
        core.store_owned(headers.address(slot), core.load_owned(address, length))
        self._slots[slot] = (None, length, False)
        return headers.dma_address(slot), length, slot, TX_DATA

    def _prepare_segments(self, head: Any, request: TxRequest, length: int) -> None:
        """Take the length out of the pseudo-header's sum: each segment has its own."""
        assert request.csum_start is not None
        place = head.address + self._strategy.headroom + request.csum_start + request.csum_offset
        check = self.core.load_owned(place, CSUM_BYTES)
        self.core.store_owned(place, csum_replace_by_diff(check, length - request.csum_start))

    def flush(self) -> None:
        """Publish what was queued, and the completions that were consumed."""
        if not self.running:
            return
        batch = self._batch
        if batch:
            self._batch = []
            entries = []
            final = len(batch) - 1
            for number, (dma_address, length, name, control) in enumerate(batch):
                self._unreported += 1
                if number == final or (self._unreported >= self._interval and control & TX_END_OF_PACKET):
                    control |= TX_REPORT
                    self._unreported = 0
                entries.append(pack_tx(dma_address, length, name, control))
            self.ring.write(entries)
        indices = self.ring.producer | self.completions.consumer << self._doorbell_consumer
        if indices != self._published:
            self._published = indices
            self.core.mmio_write(self._doorbell, indices)

    def clean(self) -> None:
        """Take completions and give the buffers of all descriptors before their index back."""
        while self.outstanding:
            entry = self.completions.next()
            if entry is None:
                return
            _, index, _, _, _, error, _ = entry
            count = (index - self._cleaned) & INDEX_MASK
            if not 0 < count <= self.outstanding - len(self._batch):
                self._statistics.tx_bad_completion += 1
                continue
            self.core.spend(self._op_clean, count if self._recycle is None else self._to_clean(count))
            self._give_back(count, error & ERROR_MASK)

    def _to_clean(self, count: int) -> int:
        """Of the next descriptors, how many are work although the device takes buffers back: those that gave theirs
        for software to get back, and at least one, the completion itself."""
        slots, mask = self._slots, self.entries - 1
        entries = [slots[at & mask] for at in range(self._cleaned, self._cleaned + count)]
        return max(1, sum(entry is not None and entry[0] is not None for entry in entries))

    def timed_out(self) -> bool:
        """No frame has found room for :data:`TX_TIMEOUT_PS`, nor since this said so last."""
        if self._full_since is None or self.core.time - self._full_since < TX_TIMEOUT_PS:
            return False
        self._full_since = self.core.time
        return True

    def drain(self) -> None:
        """Give back what was queued and never completed. The device has stopped."""
        self._batch = []
        for slot, entry in enumerate(self._slots):
            self._slots[slot] = None
            if entry is not None:
                buffer, length, last = entry
                self._statistics.tx_aborted += last
                if buffer is not None:
                    self._transmitted(buffer, length)
        self.outstanding = 0

    def free(self) -> None:
        """Give the rings' memory back."""
        self.ring.free()
        self.completions.free()
        if self._headers is not None:
            self._headers.free()

    def _release(self, buffer: Any) -> None:
        self._strategy.release(buffer)
        self.core.note("return", "release", self._index, buffer.address)

    def _transmitted(self, buffer: Any, length: int) -> None:
        self._strategy.transmitted(buffer, length)
        self.core.note("return", "transmitted", self._index, buffer.address)

    def _give_back(self, count: int, error: int) -> None:
        slots, statistics = self._slots, self._statistics
        core = self.core
        logged = core.log is not None
        mask = self.entries - 1
        slot = self._cleaned
        for left in range(count - 1, -1, -1):
            slot &= mask
            entry = slots[slot]
            assert entry is not None
            slots[slot] = None
            buffer, length, last = entry
            self._frame_bytes += length
            if logged and buffer is not None:
                core.note("clean", "tx_clean", self._index, buffer.address, slot)
            slot += 1
            if last:
                # The error is that of the frame which the completion's own descriptor ends.
                if error and not left:
                    statistics.tx_errors += 1
                    statistics.tx_offload_errors += error == OFFLOAD
                else:
                    statistics.tx_packets += 1
                    statistics.tx_bytes += self._frame_bytes
                self._frame_bytes = 0
            if buffer is not None:
                self._transmitted(buffer, length)
        self._cleaned = (self._cleaned + count) & INDEX_MASK
        self.outstanding -= count
        self._full_since = None
