# SPDX-License-Identifier: BSD-2-Clause
"""The sending half of a queue pair: its ring."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

from driver_model.drivers.features import NetDevice
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
from driver_model.drivers.watchdog import Watchdog
from driver_model.memory.dma.api import Device
from hw.abi.registers import RegisterMap

LAST = TX_DATA | TX_END_OF_PACKET  #: control word of a frame's last descriptor
REPORT_INTERVAL = 32  #: descriptors after which the next end of a frame asks for a completion


class TxSource(Protocol):
    """Whose buffers are being sent."""

    def completed(self, buffer: Any, length: int, budget: int) -> None:
        """The device has read (or refused, or will never read) a piece. ``budget`` is that of the poll, or 0 outside
        of one."""


class TxSlot(NamedTuple):
    """What a slot of the ring holds: whose it is (None: nobody's), the buffer, its bytes, whether a frame ends."""

    source: TxSource | None
    buffer: Any
    length: int
    last: bool


NOTHING = TxSlot(None, None, 0, False)  #: of a descriptor without bytes


class TransmitRing:
    """Descriptors of frames from several sources, each of which gets its buffers back when the device has read them.

    Descriptors are collected and published by one doorbell in :meth:`flush`. The last of a batch asks for a completion,
    and so does the end of a frame about every :data:`REPORT_INTERVAL` (less in a small ring), so that buffers come back
    early. The device reports an error only where a completion was asked for: a frame that it refused without counts as
    sent here, and :meth:`driver_model.drivers.nic.NicDriver.counters` knows of all. A completion that cannot be is
    counted, and ignored.

    Each descriptor costs ``tx.descriptor``, which its source charges, and, when it is done, ``tx.clean``; where the
    device takes buffers back, a completion costs ``tx.clean`` once, however many descriptors it is of (a driver that
    keeps running totals of packets and bytes with its slots looks at the last), and those whose buffers it does not
    take back the rest.

    Parameters
    ----------
    dev : the device as the queue's core uses it
    entries : ring size
    statistics : counters of the queue pair
    registers, index : register map, number of the queue pair
    netdev : the device's features
    recycles : the device takes buffers back by itself
    poll_mode : a poll-mode driver's costs: ``pmd.tx`` and ``pmd.tx_free`` instead
    """

    def __init__(
        self,
        dev: Device,
        entries: int,
        statistics: QueueStatistics,
        registers: RegisterMap,
        index: int,
        netdev: NetDevice,
        *,
        recycles: bool,
        poll_mode: bool = False,
    ) -> None:
        self.dev = dev
        self.core = core = dev.core
        self.entries = entries
        self.index = index
        self.netdev = netdev
        self.statistics = statistics
        with ExitStack() as unwind:
            self.ring = DescriptorRing(dev, entries)
            unwind.callback(self.ring.free)
            self.completions = CompletionRing(dev, entries, TX_DONE_FORMAT)
            unwind.pop_all()
        self.outstanding = 0  #: descriptors queued and not given back
        self.running = False  #: the device's side is enabled: frames may be queued and doorbells written
        self.wake: Callable[[], None] | None = None  #: called once when there is room again after :meth:`stop`
        self.stopped = False  #: whoever sends from a queue of their own waits for :attr:`wake`
        self.watchdog = Watchdog(core)  #: of frames that find no room
        self._recycles = recycles
        self._slots: list[TxSlot | None] = [None] * entries
        self._batch: list[tuple[int, int, int, int]] = []
        self._cleaned = 0
        self._published = 0
        self._interval = min(REPORT_INTERVAL, entries // 4)
        self._unreported = 0
        self._frame_bytes = 0
        self.op_descriptor = core.op("pmd.tx" if poll_mode else "tx.descriptor")  #: for sources to charge
        self._op_clean = core.op("pmd.tx_free" if poll_mode else "tx.clean")
        self._doorbell = registers.address("tx_doorbell", index)
        self._doorbell_consumer = registers.queue["tx_doorbell"].fields["completion_consumer"].lsb

    # Queueing, by sources

    @property
    def room(self) -> int:
        """Descriptors that fit."""
        return self.entries - self.outstanding

    @property
    def most(self) -> int:
        """Descriptors that a frame may have."""
        return min(self.entries, self.netdev.capabilities.max_descriptors)

    @property
    def slot(self) -> int:
        """Where the next descriptor goes."""
        return (self._cleaned + self.outstanding) & self.entries - 1

    def admits(self, count: int) -> bool:
        """Whether a frame of so many descriptors can be queued now; a ring that is full is watched from then on."""
        if not self.running or count > self.most:
            return False
        if self.room < count:
            self.watchdog.full()
            return False
        return True

    def append(self, descriptor: tuple[int, int, int, int], slot: TxSlot) -> None:
        """Queue a descriptor: device address, length, name, control word. There must be room."""
        self._slots[self.slot] = slot
        self._batch.append(descriptor)
        self.outstanding += 1

    def stop(self) -> None:
        """``netif_tx_stop_queue``: whoever found no room waits for :attr:`wake`."""
        self.stopped = True

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

    # Cleaning

    def clean(self, budget: int) -> None:
        """Take completions and give the buffers of all descriptors before their index back."""
        while self.outstanding:
            entry = self.completions.next()
            if entry is None:
                break
            _, index, _, _, _, error, _ = entry
            count = (index - self._cleaned) & INDEX_MASK
            if not 0 < count <= self.outstanding - len(self._batch):
                self.statistics.tx_bad_completion += 1
                continue
            self.core.spend(self._op_clean, self._to_clean(count) if self._recycles else count)
            self._give_back(count, error & ERROR_MASK, budget)
        if self.room >= self.entries // 2:
            self._wake()

    def drain(self) -> None:
        """Give back what was queued and never completed, in that order; whoever waits for room may find out that there
        is no ring. The device has stopped."""
        self._batch = []
        self.watchdog.stop()
        for number in range(self._cleaned, self._cleaned + self.entries):  # a frame's last piece after the others
            at = number & self.entries - 1
            slot, self._slots[at] = self._slots[at], None
            if slot is not None:
                self.statistics.tx_aborted += slot.last
                if slot.source is not None:
                    slot.source.completed(slot.buffer, slot.length, 0)
        self.outstanding = 0
        self._wake()

    def free(self) -> None:
        """Give the rings' memory back."""
        self.ring.free()
        self.completions.free()

    def _wake(self) -> None:
        """``netif_tx_wake_queue``."""
        if self.stopped:
            self.stopped = False
            if self.wake is not None:
                self.wake()

    def _to_clean(self, count: int) -> int:
        """Of the next descriptors, how many are work although the device takes buffers back: those that gave theirs
        for software to get back, and at least one, the completion itself."""
        slots, mask = self._slots, self.entries - 1
        entries = [slots[at & mask] for at in range(self._cleaned, self._cleaned + count)]
        return max(1, sum(entry is not None and entry.source is not None for entry in entries))

    def _give_back(self, count: int, error: int, budget: int) -> None:
        slots, statistics = self._slots, self.statistics
        core = self.core
        logged = core.log is not None
        mask = self.entries - 1
        slot = self._cleaned
        for left in range(count - 1, -1, -1):
            slot &= mask
            entry = slots[slot]
            assert entry is not None
            slots[slot] = None
            source, buffer, length, last = entry
            self._frame_bytes += length
            if logged and source is not None:
                core.note("clean", "tx_clean", self.index, buffer.address, slot)
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
            if source is not None:
                source.completed(buffer, length, budget)
        self._cleaned = (self._cleaned + count) & INDEX_MASK
        self.outstanding -= count
        self.watchdog.moved()
