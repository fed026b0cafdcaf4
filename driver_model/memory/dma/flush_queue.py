# SPDX-License-Identifier: BSD-2-Clause
"""Deferred invalidation: unmapped ranges wait until one flush ends them all (``drivers/iommu/dma-iommu.c``)."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.timers import KernelTimer, Timers
from driver_model.memory.dma.domain import IommuDomain
from driver_model.memory.dma.iova import IovaDomain
from driver_model.memory.pages.page import PAGE_SHIFT

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device

ENTRIES = 256  #: ``IOVA_DEFAULT_FQ_SIZE``; one stays empty
TIMEOUT_PS = 10 * 10**9  #: ``IOVA_DEFAULT_FQ_TIMEOUT``: 10 ms


class Entry(NamedTuple):
    """A range that hardware may still reach: until a flush that began after ``counter`` others has ended."""

    dma_address: int  #: as it was mapped
    pages: int
    counter: int


class CoreQueue:
    """What one core unmapped."""

    def __init__(self, index: int) -> None:
        self.ring: deque[Entry] = deque()
        self.lock = SpinLock(f"flush queue {index}")


class FlushQueue:
    """For each core a ring of unmapped ranges. A core that finds its ring full flushes, with interrupts off; a timer
    flushes 10 ms after the first range since the last time it did. A flush ends the ranges of all cores; each core
    frees its own the next time it comes by, the timer everyone's.

    The kernel holds the ring's lock also while it adds a range; here that part of ``iommu.flush_queue`` is not
    contended.

    Parameters
    ----------
    domain, iova : whose ranges they are
    timers : of each core
    entries, timeout_ps : size of each ring, of which one entry stays empty, and the timer's delay

    Attributes
    ----------
    queued, flushes, timeouts : ranges queued, flushes, and how many of those the timer made
    """

    def __init__(
        self,
        domain: IommuDomain,
        iova: IovaDomain,
        timers: Sequence[Timers],
        *,
        entries: int = ENTRIES,
        timeout_ps: int = TIMEOUT_PS,
    ) -> None:
        if not isinstance(entries, int) or isinstance(entries, bool):
            raise TypeError(f"entries must be an integer, not {entries!r}")
        if entries < 2 or entries & (entries - 1):
            raise ValueError(f"entries must be a power of two, 2 or more, not {entries!r}")
        if timeout_ps <= 0:
            raise ValueError(f"timeout_ps must be positive, not {timeout_ps!r}")
        self.entries = entries
        self.timeout_ps = timeout_ps
        self.queued = 0
        self.flushes = 0
        self.timeouts = 0
        self._domain = domain
        self._iova = iova
        self._timers = timers
        self._queues = [CoreQueue(timer.core.index) for timer in timers]
        self._started = 0  # flushes begun
        self._finished = 0  # the latest that has ended; those that began before it may still be under way
        self._timer: KernelTimer | None = None

    @property
    def waiting(self) -> int:
        """Ranges that are not free yet."""
        return sum(len(queue.ring) for queue in self._queues)

    def add(self, dev: "Device", dma_address: int, pages: int) -> None:
        """Queue a mapping's range, which was taken out of the tables (``queue_iova``)."""
        core = dev.core
        core.spend(core.op("iommu.flush_queue"))
        queue = self._queues[core.index]
        self._free_flushed(core, queue)
        while len(queue.ring) >= self.entries - 1:
            with core.irq_save(), queue.lock.held(core):
                if len(queue.ring) >= self.entries - 1:
                    self._flush(dev)
                self._free_flushed(core, queue)
        queue.ring.append(Entry(dma_address, pages, self._started))
        self.queued += 1
        if self._timer is None:
            self._timer = self._timers[core.index].add(self.timeout_ps, lambda: self._timeout(dev))

    def drain(self, dev: "Device") -> None:
        """Flush, and free everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush(dev)
        self._free_all(dev.core)

    def _timeout(self, dev: "Device") -> None:
        """``fq_flush_timeout``."""
        self._timer = None
        self.timeouts += 1
        self._flush(dev)
        self._free_all(dev.core)

    def _flush(self, dev: "Device") -> None:
        """``fq_flush_iotlb``: ranges queued before it are out of reach when it returns."""
        self._started += 1
        number = self._started
        self.flushes += 1
        self._domain.flush_all(dev)
        if dev.checker is not None:
            for queue in self._queues:
                for entry in queue.ring:
                    if entry.counter < number:
                        dev.checker.flushed(dev.core, entry.dma_address)
        self._finished = max(self._finished, number)

    def _free_all(self, core: "Core") -> None:
        for queue in self._queues:
            with core.irq_save(), queue.lock.held(core):
                self._free_flushed(core, queue)

    def _free_flushed(self, core: "Core", queue: CoreQueue) -> None:
        """``fq_ring_free``."""
        ring = queue.ring
        while ring and ring[0].counter < self._finished:
            entry = ring.popleft()
            self._iova.free(core, entry.dma_address >> PAGE_SHIFT, entry.pages)
