# SPDX-License-Identifier: BSD-2-Clause
"""One queue pair of the driver: its two halves, and the NAPI poll that serves both."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from driver_model.drivers.features import NetDevice
from driver_model.drivers.offload import TxRequest
from driver_model.drivers.polling import NapiPolling, Polling, PollMode
from driver_model.drivers.queue_check import QueueCheck
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.receive import ReceiveRing
from driver_model.drivers.statistics import QueueStatistics
from driver_model.drivers.strategies.base import PooledStrategy
from driver_model.drivers.transmit import TransmitRing
from driver_model.drivers.transmit_received import ReceivedFrames
from driver_model.drivers.transmit_skb import SkbFrames
from driver_model.drivers.transmit_xdp import XdpFrame, XdpFrames
from driver_model.memory.dma.api import Device
from driver_model.net.napi import Napi, Softnet, napi_complete_done
from driver_model.net.xdp_redirect import BulkQueue, XdpTarget
from hw.abi.registers import RegisterMap

REFILL_RETRY_PS = 10**9  #: after an allocation failed, another try comes at the latest after this time (1 ms)
FINISH_STEP_PS = 5 * 10**6  #: between two looks whether a stopping queue is done


class QueuePair:
    """A queue pair, driven by one core. Everything here runs on that core. Raises ``MemoryError`` if there is no memory
    for its rings, and then holds none.

    At the end of a poll the receive ring is filled again and one doorbell publishes both RX indices, and with them
    gives header buffers back; another one publishes what was queued for sending.

    Parameters
    ----------
    index : number of the queue pair
    dev, softnet : the device and the network state of the queue's core
    registers : the device's register map
    netdev : the device's features
    config : see :class:`QueueConfig`
    check : called in a process of the core when the queue seems to have stopped: an interrupt came and nothing had been
        completed, or the TX ring has been full for :data:`driver_model.drivers.watchdog.TX_TIMEOUT_PS`

    Attributes
    ----------
    rx, tx : its rings
    frames, skbs, xdp_frames : who sends by its TX ring: received frames, SKBs, and frames redirected to it
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
            self.strategy = config.strategy(dev, config.rx_entries, self.napi, config.pool)
            unwind.callback(self.strategy.close)
            self.rx = ReceiveRing(self, netdev, config, self._retry_later)
            unwind.callback(self.rx.free)
            pooled, poll_mode = isinstance(self.strategy, PooledStrategy), config.strategy.poll_mode
            self.tx = TransmitRing(
                dev, config.tx_entries, self.statistics, registers, index, netdev, recycles=pooled, poll_mode=poll_mode
            )
            unwind.callback(self.tx.free)
            self.frames = ReceivedFrames(self.tx, self.strategy)
            unwind.pop_all()
        self.skbs = SkbFrames(self.tx, softnet.skbs, softnet.freeing)
        self.xdp_frames = XdpFrames(self.tx)
        self.polling: Polling = PollMode(self) if poll_mode else NapiPolling(self.napi)
        self.tx.watchdog.expired = self.polling.schedule
        self.receiving = False
        self.closed = False  #: everything was given back
        self._check = QueueCheck(core, index, lambda: check(self), self.arm)
        self._interrupted = False
        self._published = 0
        self._redirects: dict[XdpTarget, BulkQueue] = {}
        self._retry: Any = None
        self._doorbell = registers.address("rx_doorbell", index)
        self._doorbell_consumer = registers.queue["rx_doorbell"].fields["completion_consumer"].lsb
        self._arm = registers.address("arm", index)
        self._arm_tx = registers.queue["arm"].fields["tx_consumer"].lsb

    # Interrupt and poll

    def interrupt(self) -> None:
        """The queue's interrupt handler. The device's interrupts are one-shot: there is nothing to disable."""
        self.statistics.interrupts += 1
        self._interrupted = True
        self.polling.schedule()

    def poll(self, budget: int) -> int:
        """NAPI poll: a burst; re-arm when done.

        Arming carries the indices seen so far, so a completion that came after the last look interrupts as well.
        """
        work = self.burst(budget)
        if work < budget and napi_complete_done(self.napi, work) and not self._check.running:
            self.arm()
        return work

    def burst(self, budget: int) -> int:
        """Complete sending, receive up to ``budget`` frames, fill the ring, publish; how many were received."""
        tx, rx = self.tx, self.rx
        interrupted, self._interrupted = self._interrupted, False
        before = rx.completions.consumer, tx.completions.consumer
        if tx.outstanding:
            tx.clean(budget)
            self.xdp_frames.flush()
        work = rx.receive(budget)
        for bulk in self._redirects.values():
            bulk.flush()
        silent = interrupted and before == (rx.completions.consumer, tx.completions.consumer)
        if silent or tx.watchdog.timed_out():
            self.suspect()
        if self.receiving:
            self.refill()
        tx.flush()
        return work

    def suspect(self) -> None:
        """The queue seems to have stopped: have that checked."""
        if self.receiving or self.tx.running:
            self._check.start()

    def arm(self) -> None:
        """Ask for an interrupt when there is a completion beyond those seen, unless both directions have stopped or a
        process polls."""
        if self.config.strategy.poll_mode or not (self.receiving or self.tx.running):
            return
        self.core.mmio_write(self._arm, self.rx.completions.consumer | self.tx.completions.consumer << self._arm_tx)

    @property
    def busy(self) -> bool:
        """A poll is under way or due, or a check, after which the queue is armed."""
        return self.polling.busy or self._check.running

    def refill(self) -> None:
        """Give the device empty buffers, and publish them with what was consumed and is needed no more."""
        supply = self.rx.supply
        supply.refill()
        indices = supply.ring.producer | self.rx.given_back << self._doorbell_consumer
        if indices != self._published:
            self._published = indices
            self.core.mmio_write(self._doorbell, indices)

    # Buffers and frames

    def release(self, buffer: Any) -> None:
        """A consumer is done with a buffer."""
        self.strategy.release(buffer)
        self.core.note("return", "release", self.index, buffer.address)

    def release_all(self, fragments: list[tuple[Any, int]]) -> None:
        """Give back the buffers of a frame."""
        for buffer, _ in fragments:
            self.release(buffer)

    def return_frames(self, buffers: Sequence[Any]) -> None:
        """``xdp_return_frame_bulk``: another device has sent what was redirected to it."""
        self.strategy.release_bulk(buffers)
        if self.core.log is not None:
            for buffer in buffers:
                self.core.note("return", "xdp_return_frame", self.index, buffer.address)

    def xmit(self, fragments: list[tuple[Any, int]], request: TxRequest) -> bool:
        """A consumer, in the poll that called it, sends the received (buffer, length) pieces of a frame with offloads:
        see :meth:`driver_model.drivers.transmit_received.ReceivedFrames.xmit`."""
        return self.frames.xmit(fragments, request)

    def redirect(self, target: XdpTarget, frame: XdpFrame) -> None:
        """``xdp_do_redirect``: the frame waits for others, and for the end of the poll at most."""
        bulk = self._redirects.get(target)
        if bulk is None:
            bulk = self._redirects[target] = BulkQueue(target)
        bulk.enqueue(frame)

    def xdp_xmit(self, frames: Sequence[XdpFrame]) -> int:
        """``ndo_xdp_xmit``: queue frames that some device on this core received, and publish them; how many."""
        sent = self.xdp_frames.xdp_xmit(frames)
        self.statistics.tx_xdp_xmit += sent
        self.statistics.tx_xdp_xmit_full += len(frames) - sent
        self.tx.flush()
        return sent

    def _retry_later(self) -> None:
        """With no buffer posted no completion will come, and so no poll: a timer makes sure of one."""
        if self._retry is None:

            def expire() -> None:
                self._retry = None
                self.polling.schedule()

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
            self.tx.watchdog.stop()
            self.statistics.tx_stopped += 1

    def open(self) -> None:
        """Fill the ring, allow polling, arm the interrupt. The device's side is enabled."""
        self.receiving = self.tx.running = True
        self.refill()
        self.polling.enable()
        self.arm()

    def quiesce(self) -> None:
        """Touch the device's registers no more: its reset is next. A poll under way is waited for, because it may be
        about to write a doorbell; :meth:`finish` lets polls begin again."""
        self.receiving = self.tx.running = False
        self.polling.disable()
        self._check.wait()
        if isinstance(self.strategy, PooledStrategy):
            self.strategy.forget()

    def finish(self, deadline: int, sends: bool) -> None:
        """The device receives no more: handle all completions that it wrote and, if it still sends, wait until it has
        sent what is queued, until ``deadline`` at the latest; what is not sent then is given up by :meth:`close`."""
        core = self.core
        self.polling.enable()
        while True:
            polls = self.polling.polls
            self.polling.schedule()
            core.sleep_until(core.time + FINISH_STEP_PS)
            if core.time >= deadline:
                return
            if self.polling.polls > polls and not self.polling.busy and not (sends and self.tx.outstanding):
                return

    def close(self) -> None:
        """Give back every buffer, the pool and the rings. The device has stopped. Raises
        :class:`~driver_model.drivers.device.DeviceError` if its pool does not; the queue is not closed then."""
        self.polling.disable()
        self._check.wait()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.rx.close()
        self.tx.drain()
        if isinstance(self.strategy, PooledStrategy):
            self.strategy.detach()
        self.strategy.close()
        self.rx.free()
        self.frames.free()
        self.tx.free()
        self.closed = True
