# SPDX-License-Identifier: BSD-2-Clause
"""One queue pair of the driver: receiving, XDP, sending, and the NAPI poll that does all three."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from driver_model.drivers.features import NetDevice
from driver_model.drivers.fill import BufferSupply, FillRing, PoolSupply
from driver_model.drivers.header_buffers import HEADER_BUFFER_BYTES, HeaderBuffers
from driver_model.drivers.metadata import RxMetadata
from driver_model.drivers.offload import TxRequest
from driver_model.drivers.queue_check import QueueCheck
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.ring import (
    ERROR_MASK,
    RX_CSUM_BAD,
    RX_CSUM_MASK,
    RX_END_OF_PACKET,
    RX_FORMAT,
    RX_HEADER_SPLIT,
    WRITE_FAULT,
    CompletionRing,
)
from driver_model.drivers.statistics import QueueStatistics
from driver_model.drivers.strategies.base import PooledStrategy, PostedStrategy
from driver_model.drivers.transmit import TransmitRing
from driver_model.memory.dma import Device
from driver_model.net.napi import Napi, Softnet, napi_complete_done, napi_disable, napi_enable, napi_schedule
from driver_model.net.xdp import XdpAction, XdpBuff
from hw.abi.registers import RegisterMap

REFILL_RETRY_PS = 10**9  #: after an allocation failed, another try comes at the latest after this time (1 ms)
FINISH_STEP_PS = 5 * 10**6  #: between two looks whether a stopping queue is done


def _name(action: Any) -> str:
    """Of what a program returned, which may be no action at all."""
    return getattr(action, "name", "unknown").lower()


class QueuePair:
    """A queue pair, driven by one core. Everything here runs on that core. Raises ``MemoryError`` if there is no memory
    for its rings, and then holds none.

    Receiving: each completion is checked (the device's word is not trusted), its bytes are made the CPU's, and the
    frame goes to the XDP program. Its buffer is then free, queued for sending, or the consumer's. At the end of a poll
    the ring is filled again and one doorbell publishes both RX indices, and with them gives header buffers back.

    Parameters
    ----------
    index : number of the queue pair
    dev, softnet : the device and the network state of the queue's core
    registers : the device's register map
    netdev : the device's features
    config : see :class:`QueueConfig`
    check : called in a process of the core when the queue seems to have stopped: an interrupt came and nothing had been
        completed, or the TX ring has been full for :data:`driver_model.drivers.transmit.TX_TIMEOUT_PS`
    """

    def __init__(
        self,
        index: int,
        dev: Device,
        softnet: Softnet,
        registers: RegisterMap,
        netdev: NetDevice,
        config: QueueConfig,
        check: Callable[["QueuePair"], None],
    ) -> None:
        self.index = index
        self.dev = dev
        self.core = core = dev.core
        self.config = config
        self.statistics = QueueStatistics()
        self.napi = Napi(softnet, self.poll, name=f"queue {index}")
        with ExitStack() as unwind:
            self.strategy = config.strategy(dev, config.rx_entries, self.napi)
            unwind.callback(self.strategy.close)
            self.supply = self._supply()
            unwind.callback(self.supply.ring.free)
            self.completions = CompletionRing(dev, config.rx_entries, RX_FORMAT)
            unwind.callback(self.completions.free)
            self.headers = HeaderBuffers(dev, config.rx_entries) if netdev.tcp_data_split else None
            if self.headers is not None:
                unwind.callback(self.headers.free)
            self.tx = TransmitRing(dev, config.tx_entries, self.strategy, self.statistics, registers, index, netdev)
            unwind.pop_all()
        self.receiving = False
        self.closed = False  #: everything was given back
        self._check = QueueCheck(core, index, lambda: check(self), self.arm)
        self._interrupted = False
        self._published = 0
        self._fragments: list[tuple[Any, int]] = []
        self._bad = False
        self._netdev = netdev
        self._metadata = RxMetadata(netdev)
        self._xdp = XdpBuff(core, index, self._metadata)
        self._retry: Any = None
        self._op_descriptor = core.op("rx.descriptor")
        self._op_metadata = core.op("rx.metadata")
        self._op_xdp = core.op(config.program.operation)
        self._doorbell = registers.address("rx_doorbell", index)
        self._doorbell_consumer = registers.queue["rx_doorbell"].fields["completion_consumer"].lsb
        self._arm = registers.address("arm", index)
        self._arm_tx = registers.queue["arm"].fields["tx_consumer"].lsb

    def _supply(self) -> BufferSupply:
        strategy, entries = self.strategy, self.config.rx_entries
        if isinstance(strategy, PooledStrategy):
            return PoolSupply(self.dev, strategy)
        assert isinstance(strategy, PostedStrategy)
        return FillRing(self.dev, self.index, entries, strategy, self.statistics, self._retry_later)

    # Interrupt and poll

    def interrupt(self) -> None:
        """The queue's interrupt handler. The device's interrupts are one-shot: there is nothing to disable."""
        self.statistics.interrupts += 1
        self._interrupted = True
        napi_schedule(self.napi)

    def poll(self, budget: int) -> int:
        """NAPI poll: complete sending, receive up to ``budget`` frames, fill the ring, publish; re-arm when done.

        Arming carries the indices seen so far, so a completion that came after the last look interrupts as well.
        """
        tx, completions = self.tx, self.completions
        interrupted, self._interrupted = self._interrupted, False
        before = completions.consumer, tx.completions.consumer
        if tx.outstanding:
            tx.clean()
        work = self._receive(budget)
        silent = interrupted and before == (completions.consumer, tx.completions.consumer)
        if (silent or tx.timed_out()) and (self.receiving or tx.running):
            self._check.start()
        if self.receiving:
            self.refill()
        tx.flush()
        if work < budget and napi_complete_done(self.napi, work) and not self._check.running:
            self.arm()
        return work

    def arm(self) -> None:
        """Ask for an interrupt when there is a completion beyond those seen, unless both directions have stopped."""
        if not (self.receiving or self.tx.running):
            return
        self.core.mmio_write(self._arm, self.completions.consumer | self.tx.completions.consumer << self._arm_tx)

    # Receive

    def refill(self) -> None:
        """Give the device empty buffers, and publish them with what was consumed."""
        self.supply.refill()
        indices = self.supply.ring.producer | self.completions.consumer << self._doorbell_consumer
        if indices != self._published:
            self._published = indices
            self.core.mmio_write(self._doorbell, indices)

    def _receive(self, budget: int) -> int:
        """Handle up to ``budget`` frames; returns how many."""
        completion = self.completions.next
        logged = self.core.log is not None
        spend, op_descriptor, op_xdp = self.core.spend, self._op_descriptor, self._op_xdp
        take = self.supply.take
        strategy, statistics, xdp, metadata = self.strategy, self.statistics, self._xdp, self._metadata
        received, release, run = strategy.received, strategy.release, self.config.program.run
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
                received(buffer, length)
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
                    self._fragments.append((buffer, length))
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

    def _split_off(self, entry: tuple[int, ...]) -> None:
        """The frame that this completion begins has its headers in a header buffer."""
        length, headers = entry[5], self.headers
        if headers is None or self._fragments or not 0 < length <= HEADER_BUFFER_BYTES:
            self.statistics.rx_length_errors += 1
            self._bad = True
        else:
            self._metadata.header = headers.address(self.completions.consumer - 1), length

    def _finish(self) -> None:
        """The last buffer of a frame over several, or of one with an error, has come."""
        fragments, self._fragments = self._fragments, []
        statistics, header = self.statistics, self._metadata.header
        if self._bad:
            self._bad = False
            statistics.rx_errors += 1
            self._release_all(fragments)
            return
        statistics.rx_packets += 1
        statistics.rx_bytes += sum(length for _, length in fragments) + (0 if header is None else header[1])
        statistics.rx_csum_bad += self._metadata.entry[-1] & RX_CSUM_MASK == RX_CSUM_BAD
        if self.config.program.single_buffer:
            statistics.rx_xdp_frags += 1
            self._release_all(fragments)
            return
        buffer, length = fragments[0]
        self._xdp.begin(buffer.address, self.strategy.headroom, length)
        self.core.spend(self._op_xdp)
        action = self.config.program.run(self._xdp)
        self._note("verdict", _name(action), buffer)
        self._act(action, fragments)

    def _act(self, action: XdpAction, fragments: list[tuple[Any, int]]) -> None:
        statistics = self.statistics
        if action is XdpAction.TX:
            if self.tx.queue(fragments, header=self._metadata.header):
                statistics.rx_xdp_tx += 1
            else:
                statistics.rx_xdp_tx_full += 1
        elif action is XdpAction.PASS and self.config.consumer is not None:
            self._hand_up()
            offset = self.strategy.headroom
            pieces = [(buffer, offset, length) for buffer, length in fragments]
            self.config.consumer(self, pieces, self._metadata)
        else:
            if action is XdpAction.DROP:
                statistics.rx_xdp_drop += 1
            else:
                statistics.rx_xdp_aborted += 1
            self._release_all(fragments)

    def _hand_up(self) -> None:
        """Count a frame that is handed up, and charge its metadata where the device has any."""
        netdev = self._netdev
        if netdev.rx_checksum or netdev.rx_hash or self._metadata.vlan_tag is not None:
            self.core.spend(self._op_metadata)
        self.statistics.count_pass(self._metadata)

    def _note(self, kind: str, function: str, buffer: Any, buffer_id: int | None = None) -> None:
        self.core.note(kind, function, self.index, buffer.address, buffer_id)

    def release(self, buffer: Any) -> None:
        """A consumer is done with a buffer."""
        self.strategy.release(buffer)
        self._note("return", "release", buffer)

    def xmit(self, fragments: list[tuple[Any, int]], request: TxRequest) -> bool:
        """A consumer, in the poll that called it, sends the received (buffer, length) pieces of a frame with offloads:
        see :meth:`driver_model.drivers.transmit.TransmitRing.xmit`."""
        return self.tx.xmit(fragments, request)

    def _release_all(self, fragments: list[tuple[Any, int]]) -> None:
        for buffer, _ in fragments:
            self.release(buffer)

    def _retry_later(self) -> None:
        """With no buffer posted no completion will come, and so no poll: a timer makes sure of one."""
        if self._retry is None:

            def expire() -> None:
                self._retry = None
                napi_schedule(self.napi)

            core = self.core
            self._retry = core.platform.at(core.time + REFILL_RETRY_PS, lambda: core.interrupt(expire))

    # Start and stop, in a process

    def stopped(self, direction: str) -> None:
        """The device stopped ``rx`` or ``tx`` because of an error: nothing more is posted or queued there. What was
        queued for sending is given up by :meth:`close`."""
        if direction == "rx":
            self.receiving = False
            self.statistics.rx_stopped += 1
        else:
            self.tx.running = False
            self.statistics.tx_stopped += 1

    def open(self) -> None:
        """Fill the ring, allow polling, arm the interrupt. The device's side is enabled."""
        self.receiving = self.tx.running = True
        self.refill()
        napi_enable(self.napi)
        self.arm()

    def quiesce(self) -> None:
        """Touch the device's registers no more: its reset is next. A poll under way is waited for, because it may be
        about to write a doorbell; :meth:`finish` lets polls begin again."""
        self.receiving = self.tx.running = False
        napi_disable(self.napi)
        self._check.wait()
        if isinstance(self.strategy, PooledStrategy):
            self.strategy.forget()

    def finish(self, deadline: int, sends: bool) -> None:
        """The device receives no more: handle all completions that it wrote and, if it still sends, wait until it has
        sent what is queued, until ``deadline`` at the latest; what is not sent then is given up by :meth:`close`."""
        core = self.core
        napi_enable(self.napi)
        while True:
            polls = self.napi.polls
            napi_schedule(self.napi)
            core.sleep_until(core.time + FINISH_STEP_PS)
            if core.time >= deadline:
                return
            if self.napi.polls > polls and not self.napi.scheduled and not (sends and self.tx.outstanding):
                return

    def close(self) -> None:
        """Give back every buffer, the pool and the rings. The device has stopped. Raises
        :class:`~driver_model.drivers.device.DeviceError` if its pool does not; the queue is not closed then."""
        napi_disable(self.napi)
        self._check.wait()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._release_all(self._fragments)
        self._fragments = []
        self.supply.withdraw()
        self.tx.drain()
        if isinstance(self.strategy, PooledStrategy):
            self.strategy.detach()
        self.strategy.close()
        self.supply.ring.free()
        self.completions.free()
        if self.headers is not None:
            self.headers.free()
        self.tx.free()
        self.closed = True
