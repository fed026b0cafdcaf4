# SPDX-License-Identifier: BSD-2-Clause
"""The receiving half of a queue pair: completions, XDP, verdicts."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from driver_model.drivers.features import NetDevice
from driver_model.drivers.fill import BufferSupply, FillRing, PoolSupply
from driver_model.drivers.header_buffers import HEADER_BUFFER_BYTES, HeaderBuffers
from driver_model.drivers.metadata import RxMetadata
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.ring import (
    ERROR_MASK,
    INDEX_MASK,
    RX_CSUM_BAD,
    RX_CSUM_MASK,
    RX_END_OF_PACKET,
    RX_FORMAT,
    RX_HEADER_SPLIT,
    WRITE_FAULT,
    CompletionRing,
)
from driver_model.drivers.strategies.base import PooledStrategy, PostedStrategy
from driver_model.drivers.transmit_xdp import XdpFrame
from driver_model.net.xdp import XdpAction, XdpBuff

if TYPE_CHECKING:
    from driver_model.drivers.queue import QueuePair


def _name(action: Any) -> str:
    """Of what a program returned, which may be no action at all."""
    return getattr(action, "name", "unknown").lower()


class ReceiveRing:
    """Takes completions, checks each (the device's word is not trusted), makes its bytes the CPU's, and gives the frame
    to the XDP program. By its verdict the buffers are then free, queued for sending, or the consumer's. Raises
    ``MemoryError`` if there is no memory for its rings, and then holds none.

    Parameters
    ----------
    queue : the queue pair, which has the strategy, and sends and hands up
    netdev : the device's features
    config : how the queue pair is set up
    starved : called when there was no memory to fill the ring

    Attributes
    ----------
    supply, completions, headers : where empty buffers come from, the ring of filled ones, and header buffers or None
    """

    def __init__(self, queue: "QueuePair", netdev: NetDevice, config: QueueConfig, starved: Callable[[], None]) -> None:
        self._queue = queue
        self._index = queue.index
        self._config = config
        self._netdev = netdev
        self._strategy = strategy = queue.strategy
        self._statistics = queue.statistics
        self.core = core = queue.core
        dev, entries = queue.dev, config.rx_entries
        with ExitStack() as unwind:
            self.supply: BufferSupply
            if isinstance(strategy, PooledStrategy):
                self.supply = PoolSupply(dev, strategy)
            else:
                assert isinstance(strategy, PostedStrategy)
                self.supply = FillRing(dev, queue.index, entries, strategy, queue.statistics, starved)
            unwind.callback(self.supply.ring.free)
            self.completions = CompletionRing(dev, entries, RX_FORMAT)
            unwind.callback(self.completions.free)
            self.headers = HeaderBuffers(dev, entries) if netdev.tcp_data_split else None
            unwind.pop_all()
        self._fragments: list[tuple[Any, int]] = []
        self._split_at = 0  # index of the last completion with headers apart
        self._most = -(-netdev.capabilities.max_frame // strategy.buffer_length)  # pieces of a frame
        self._bad = False
        self._metadata = RxMetadata(netdev)
        self._xdp = XdpBuff(core, queue.index, self._metadata, queue)
        poll_mode = config.strategy.poll_mode
        self._op_descriptor = core.op("pmd.rx" if poll_mode else "rx.descriptor")
        self._op_metadata = core.op("rx.metadata")
        self._op_xdp = core.op("pmd.run" if poll_mode else config.program.operation)

    @property
    def given_back(self) -> int:
        """Index of the first completion that the device may not write over yet: that of a frame which has not ended, if
        its headers lie apart, and so beside it."""
        if self._fragments and self._metadata.header is not None:
            return self._split_at
        return self.completions.consumer

    def receive(self, budget: int) -> int:
        """Handle up to ``budget`` frames; returns how many."""
        completion = self.completions.next
        logged = self.core.log is not None
        spend, op_descriptor, op_xdp = self.core.spend, self._op_descriptor, self._op_xdp
        take = self.supply.take
        strategy, statistics, xdp, metadata = self._strategy, self._statistics, self._xdp, self._metadata
        received, release, run = strategy.received, strategy.release, self._config.program.run
        begin, limit, headroom = xdp.begin, strategy.buffer_length, strategy.headroom
        drop = XdpAction.DROP
        work = packets = size = 0
        while work < budget:
            entry = completion()
            if entry is None:
                break
            spend(op_descriptor)
            metadata.entry = entry
            buffer_id, length, _, _, _, _, _, error, flags = entry
            buffer = take(buffer_id)
            if buffer is None:
                statistics.rx_bad_buffer += 1
                self._bad = True
            else:
                if not 0 < length <= limit:
                    statistics.rx_length_errors += 1
                    self._bad = True
                    length = limit
                if logged:
                    self._note("receive", "rx_completion", buffer, buffer_id)
                buffer = received(buffer, length)
                if buffer is None:
                    statistics.rx_alloc_failed += 1
                    self._bad = True
            if flags & RX_HEADER_SPLIT:
                self._split_off(entry)
            elif not self._fragments:
                metadata.header = None
            error &= ERROR_MASK
            if error:
                self._bad = True
                if error == WRITE_FAULT:
                    statistics.rx_write_fault += 1
            if not flags & RX_END_OF_PACKET or self._fragments or self._bad or buffer is None:
                if buffer is not None:
                    self._hold(buffer, length)
                if flags & RX_END_OF_PACKET:
                    work += 1
                    self._finish()
                continue
            work += 1
            packets += 1
            size += length if metadata.header is None else length + metadata.header[1]
            if flags & RX_CSUM_MASK == RX_CSUM_BAD:
                statistics.rx_csum_bad += 1
            begin(buffer.address, headroom, length)
            spend(op_xdp)
            action = run(xdp)
            if logged:
                self._note("verdict", _name(action), buffer)
            if action is drop:
                statistics.rx_xdp_drop += 1
                release(buffer)
                if logged:
                    self._note("return", "release", buffer)
            else:
                self._act(action, [(buffer, length)])
        statistics.rx_packets += packets
        statistics.rx_bytes += size
        return work

    def close(self) -> None:
        """Give back the buffers of a frame that has not ended, and those that the device has. It has stopped."""
        self._queue.release_all(self._fragments)
        self._fragments = []
        self.supply.withdraw()

    def free(self) -> None:
        """Give the rings' memory back."""
        self.supply.ring.free()
        self.completions.free()
        if self.headers is not None:
            self.headers.free()

    def _hold(self, buffer: Any, length: int) -> None:
        """Keep a piece of a frame until its end. One in more pieces than the longest that the device takes is bad, and
        what came of it goes back at once: a device that ends no frame must not get all memory."""
        fragments = self._fragments
        fragments.append((buffer, length))
        if len(fragments) > self._most:
            self._statistics.rx_length_errors += not self._bad
            self._bad = True
            self._queue.release_all(fragments)
            fragments.clear()

    def _split_off(self, entry: tuple[int, ...]) -> None:
        """The frame that this completion begins has its headers in a header buffer."""
        length, headers = entry[5], self.headers
        if headers is None or self._fragments or not 0 < length <= HEADER_BUFFER_BYTES:
            self._statistics.rx_length_errors += 1
            self._bad = True
        else:
            self._split_at = self.completions.consumer - 1 & INDEX_MASK
            self._metadata.header = headers.address(self._split_at), length

    def _finish(self) -> None:
        """The last buffer of a frame over several, or of one with an error, has come."""
        fragments, self._fragments = self._fragments, []
        statistics, header = self._statistics, self._metadata.header
        if self._bad:
            self._bad = False
            statistics.rx_errors += 1
            self._queue.release_all(fragments)
            return
        statistics.rx_packets += 1
        statistics.rx_bytes += sum(length for _, length in fragments) + (0 if header is None else header[1])
        statistics.rx_csum_bad += self._metadata.entry[-1] & RX_CSUM_MASK == RX_CSUM_BAD
        if self._config.program.single_buffer:
            statistics.rx_xdp_frags += 1
            self._queue.release_all(fragments)
            return
        buffer, length = fragments[0]
        self._xdp.begin(buffer.address, self._strategy.headroom, length)
        self.core.spend(self._op_xdp)
        action = self._config.program.run(self._xdp)
        self._note("verdict", _name(action), buffer)
        self._act(action, fragments)

    def _act(self, action: XdpAction, fragments: list[tuple[Any, int]]) -> None:
        """Verdicts but that on a whole frame to be dropped. To redirect without a helper having said where to is none
        (``xdp_do_redirect`` refuses it), nor can what lies in pieces be redirected."""
        statistics, queue, target = self._statistics, self._queue, self._xdp.target
        if action is XdpAction.TX:
            if queue.frames.queue(fragments, header=self._metadata.header):
                statistics.rx_xdp_tx += 1
            else:
                statistics.rx_xdp_tx_full += 1
        elif (
            action is XdpAction.REDIRECT
            and target is not None
            and len(fragments) == 1
            and self._metadata.header is None
        ):
            self._xdp.target = None
            statistics.rx_xdp_redirect += 1
            buffer, length = fragments[0]
            queue.redirect(target, XdpFrame(queue, buffer, self._xdp.data, length))
        elif action is XdpAction.PASS and self._config.consumer is not None:
            self._hand_up()
            offset = self._strategy.headroom
            pieces = [(buffer, offset, length) for buffer, length in fragments]
            self._config.consumer(queue, pieces, self._metadata)
        else:
            if action is XdpAction.DROP:
                statistics.rx_xdp_drop += 1
            else:
                statistics.rx_xdp_aborted += 1
            queue.release_all(fragments)

    def _hand_up(self) -> None:
        """Count a frame that is handed up, and charge its metadata where the device has any."""
        netdev = self._netdev
        if netdev.rx_checksum or netdev.rx_hash or self._metadata.vlan_tag is not None:
            self.core.spend(self._op_metadata)
        self._statistics.count_pass(self._metadata)

    def _note(self, kind: str, function: str, buffer: Any, buffer_id: int | None = None) -> None:
        self.core.note(kind, function, self._index, buffer.address, buffer_id)
