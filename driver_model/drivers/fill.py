# SPDX-License-Identifier: BSD-2-Clause
"""Where a queue's device finds empty buffers, and which it has."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from driver_model.drivers.ring import DescriptorRing, pack_fill
from driver_model.drivers.statistics import QueueStatistics
from driver_model.drivers.strategies.base import PooledStrategy, PostedStrategy
from driver_model.memory.dma.api import Device
from hw.abi.rings import MIN_RING_ENTRIES


class BufferSupply(ABC):
    """The empty buffers of a queue. ``ring`` is its fill ring, which every queue has."""

    ring: DescriptorRing

    @abstractmethod
    def take(self, buffer_id: int) -> Any:
        """The buffer that a completion names, which is software's from now on; None if the device does not have it."""

    @abstractmethod
    def refill(self) -> None:
        """A poll ends: give the device what it can have. Publishing the ring is the caller's business."""

    @abstractmethod
    def withdraw(self) -> None:
        """Take back what the device has. It has stopped."""


class FillRing(BufferSupply):
    """A fill ring that is filled again at the end of each poll. A buffer's id is any that is free.

    Parameters
    ----------
    dev : the device
    index : number of the queue, for the log
    entries : ring size
    strategy : where buffers come from
    statistics : of the queue
    starved : called when there was no memory to fill the ring
    """

    def __init__(
        self,
        dev: Device,
        index: int,
        entries: int,
        strategy: PostedStrategy,
        statistics: QueueStatistics,
        starved: Callable[[], None],
    ) -> None:
        self.ring = DescriptorRing(dev, entries)
        self._dev = dev
        self._index = index
        self._entries = entries
        self._strategy = strategy
        self._statistics = statistics
        self._starved = starved
        self._buffers: list[Any] = [None] * entries
        self._free_ids = list(range(entries - 1, -1, -1))
        self._op_refill = dev.core.op("pmd.refill" if strategy.poll_mode else "rx.refill")

    def take(self, buffer_id: int) -> Any:
        """The buffer posted under that id, which is free then."""
        if buffer_id >= self._entries:
            return None
        buffer = self._buffers[buffer_id]
        if buffer is not None:
            self._buffers[buffer_id] = None
            self._free_ids.append(buffer_id)
        return buffer

    def refill(self) -> None:
        """Post buffers until the ring is full or memory is exhausted."""
        ids = self._free_ids
        if not ids:
            return
        allocate = self._strategy.allocate
        length = self._strategy.buffer_length
        buffers = self._buffers
        checker = self._dev.checker
        core = self._dev.core
        logged = core.log is not None
        descriptors = []
        while ids:
            got = allocate()
            if got is None:
                self._statistics.rx_no_memory += 1
                self._starved()
                break
            dma_address, buffer = got
            if checker is not None:
                checker.posted(core, dma_address, length)
            buffer_id = ids.pop()
            buffers[buffer_id] = buffer
            if logged:
                core.note("post", "refill", self._index, buffer.address, buffer_id)
            descriptors.append(pack_fill(dma_address, length, buffer_id))
        if descriptors:
            core.spend(self._op_refill, len(descriptors))
            self.ring.write(descriptors)

    def withdraw(self) -> None:
        """Back to the strategy."""
        for buffer in self._buffers:
            if buffer is not None:
                self._strategy.withdraw(buffer)
        self._buffers.clear()


class PoolSupply(BufferSupply):
    """The device has a pool of buffers and helps itself; the smallest of fill rings stays empty.

    Parameters
    ----------
    dev : the device
    strategy : whose pool it is
    """

    def __init__(self, dev: Device, strategy: PooledStrategy) -> None:
        self.ring = DescriptorRing(dev, MIN_RING_ENTRIES)
        self._strategy = strategy

    def take(self, buffer_id: int) -> Any:
        """The buffer of that id in the pool."""
        return self._strategy.take(buffer_id)

    def refill(self) -> None:
        """Give back what was released since."""
        self._strategy.flush()

    def withdraw(self) -> None:
        """The strategy knows them, and takes them back when it is closed."""
