# SPDX-License-Identifier: BSD-2-Clause
"""Pages of a page_pool that go round in the NIC: it takes them by itself, and takes them back when they were sent."""

from dataclasses import dataclass

from driver_model.drivers.hardware_pool import HardwarePool
from driver_model.drivers.pool_growth import PoolGrowth
from driver_model.drivers.pool_report import BufferReport
from driver_model.drivers.ring import tx_recycle
from driver_model.drivers.strategies.base import NO_OPTIONS, PooledStrategy, PoolOptions
from driver_model.memory.dma.api import (
    Device,
    DmaDirection,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
)
from driver_model.memory.page_pool.params import PP_FLAG_DMA_MAP, PP_FLAG_DMA_SYNC_DEV, PP_RING_MAX, PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_alloc_pages, page_pool_create, page_pool_put_full_page
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.state import page_pool_inflight
from driver_model.memory.page_pool.users import page_pool_unref_page
from driver_model.memory.pages.page import Page
from driver_model.net.napi import Napi
from hw.abi.pools import BufferState

_BIDIRECTIONAL = DmaDirection.BIDIRECTIONAL


@dataclass(frozen=True, slots=True, eq=False)
class PoolBuffer:
    """A page and its id in the hardware pool; ``address`` is the page's, ``dma_address`` that of the frame."""

    id: int
    address: int
    dma_address: int
    page: Page


class HwRecycle(PooledStrategy):
    """One hardware pool for each queue, of pages that are mapped once and in both directions.

    The NIC takes buffers and takes those back that it sent: of what is forwarded the CPU only syncs the bytes. What
    software gives back goes into a batch, of which each four take one register write. The rest waits for others, but
    not while the NIC lacks more than half of the buffers, or more than lets a loop open that has closed: then it goes
    at the end of the poll, or at once outside of one, for nothing else would wake a queue that has run out of buffers.

    What is charged: the syncs of a frame that arrived and of one that leaves, as page_pool does; for a buffer that
    software gives back, ``dma.sync_for_device``, ``recycle.batch``, and a share of ``recycle.return``. For one that
    the NIC takes back, nothing beside: its descriptor is the transmit ring's, and the CPU had no part in it since
    :meth:`transmit`, so that there is nothing to sync when it comes back. Only of one that somebody else has had since
    it was received, the page is looked at, for a ``recycle.batch``: others that joined have no user but the pool.

    A buffer that has several users (``pp_ref_count``) is given back by the last of them. A page that somebody else has,
    too, or of the emergency reserve does not recycle, as in a page_pool: it leaves, and a process has a fresh page join
    under its id. None of the reserve joins.

    A buffer is taken for the device's from :meth:`recycle` on. If the frame is never sent, :meth:`detach` finds it, as
    it finds those whose completion was lost. Where it finds that a consumer has kept one, ``warnings`` says which; its
    page comes back to the page_pool when the consumer releases it.

    To the checker of ownership the pool is the page_pool: a buffer that is given back twice, or to another queue's
    pool, is reported at the line that does so. Without one, the device finds out the first, and nobody the second.
    """

    name = "hw_recycle"
    recycles = True

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.pages = page_pool_create(
            PagePoolParams(
                dev=dev,
                flags=PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
                pool_size=min(ring_entries, PP_RING_MAX),
                napi=napi,
                dma_dir=_BIDIRECTIONAL,
                max_len=self.buffer_length,
                offset=self.headroom,
            )
        )
        self._limit, self._resume = pool.inflight_limit, pool.inflight_resume
        self.pool: HardwarePool | None = None  #: from the first :meth:`attach` on
        self.warnings = []
        self.recycled = self.lost = self.kept = self.refused = self.given_up = 0
        self._attached = False  # buffers go round
        self._enabled = False  # the device has the pool
        self._buffers: list[PoolBuffer] = []  # by id, all that have joined
        self._device: list[PoolBuffer | None] = []  # by id, those that the device has
        self._out = 0  # buffers that software has
        self._left: list[int] = []  # ids that are out, and whose pages have left
        self._vacant: list[int] = []  # ids that have been removed since
        self._growth: PoolGrowth | None = None
        self._control = 0
        self._op_look = dev.core.op("recycle.batch")

    def attach(self, pool: HardwarePool, buffers: int, most: int, vector: int) -> None:
        """Enable the pool, last in, first out, as page_pool's cache, with the limit that its options name; let pages
        join, and more when it runs low."""
        if not 1 <= buffers <= pool.ids:
            raise ValueError(f"pool_size must be in 1..{pool.ids} on this device, not {buffers!r}")
        self.pool = pool
        self._control = tx_recycle(pool.pool)
        self._enabled = True
        pool.enable(lifo=True)
        if self._limit:
            pool.set_limit(self._limit, self._resume)
        self._attached = True
        joined = self.grow(buffers)
        if joined < buffers:
            raise MemoryError(f"No memory for a pool of {buffers} buffers, only for {joined}")
        self._growth = PoolGrowth(pool, self.grow, self.replace, buffers, most, vector, self.warnings.append)
        self._growth.arm()

    def low_water(self) -> None:
        """Few buffers are free."""
        if self._growth is not None:
            self._growth.interrupt()

    def grow(self, count: int) -> int:
        """Let so many more pages join; how many did, before memory or ids were exhausted."""
        assert self.pool is not None
        for joined in range(count):
            buffer_id = len(self._buffers)
            if buffer_id == self.pool.ids or not self._join(buffer_id):
                return joined
        return count

    def replace(self) -> bool:
        """Let fresh pages join under the ids of those that have left; whether there was memory for all."""
        assert self.pool is not None
        while self._left:
            buffer_id = self._left[0]
            self.pool.remove(buffer_id)
            self._left.remove(buffer_id)  # not before: if the device does not answer, it has left all the same
            self._vacant.append(buffer_id)
        while self._vacant and self._join(self._vacant[-1]):
            self._vacant.pop()
            self._out -= 1
        return not self._vacant

    def _join(self, buffer_id: int) -> bool:
        """Let a page join, under the next id or that of one that has left; whether there was one."""
        softirq = self.dev.core.softirq
        softirq.disable()  # a poll may put a page into the cache
        page = page_pool_alloc_pages(self.pages)
        softirq.enable()
        if page is None:
            return False
        if page.pfmemalloc:
            page_pool_put_full_page(self.pages, page, False)
            return False
        assert self.pool is not None
        buffer = PoolBuffer(buffer_id, page.address, page.dma_addr + self.headroom, page)
        self._buffers[buffer_id:] = [buffer, *self._buffers[buffer_id + 1 :]]
        self._device[buffer_id:] = [buffer, *self._device[buffer_id + 1 :]]
        self._hand_over(buffer)
        self.pool.join(buffer_id, buffer.dma_address, self.buffer_length)
        return True

    def _hand_over(self, buffer: PoolBuffer) -> None:
        """The device may have the buffer from now on."""
        checker, core = self.dev.checker, self.dev.core
        if checker is not None:
            checker.pool_put(core, self.pages, buffer.page)
            checker.posted(core, buffer.dma_address, self.buffer_length)

    def take(self, buffer_id: int) -> PoolBuffer | None:
        """The buffer of that id, unless none has joined or software has it."""
        if buffer_id >= len(self._device):
            return None
        buffer = self._device[buffer_id]
        if buffer is not None:
            self._device[buffer_id] = None
            self._out += 1
            if self.dev.checker is not None:
                self.dev.checker.pool_taken(buffer.page)
        return buffer

    def received(self, buffer: PoolBuffer, length: int) -> PoolBuffer:
        """The bytes are the CPU's."""
        dma_sync_single_for_cpu(self.dev, buffer.dma_address, length, _BIDIRECTIONAL)
        return buffer

    def release(self, buffer: PoolBuffer) -> None:
        """Back to the hardware pool by its last user; to the page_pool if that is closed, or must not recycle it."""
        page = buffer.page
        if page.pp_ref_count > 1:
            page_pool_unref_page(page, 1)
            return
        if not self._attached or not _recyclable(page):
            self._give_up(buffer)
            return
        assert self.pool is not None
        dma_sync_single_for_device(self.dev, buffer.dma_address, self.buffer_length, _BIDIRECTIONAL)
        self._hand_over(buffer)
        self._out -= self._device[buffer.id] is None
        self._device[buffer.id] = buffer
        self.pool.give_back(buffer.id)
        if not self.napi.scheduled:
            self.flush()

    def _give_up(self, buffer: PoolBuffer) -> None:
        """The page leaves the hardware pool."""
        if self._enabled:
            self._left.append(buffer.id)
        page_pool_put_full_page(self.pages, buffer.page, False)
        if self._attached:
            self.given_up += 1
            if self._growth is not None:
                self._growth.replace()

    def flush(self) -> None:
        """Write what waits, if the pool may miss it: less than a register's worth waits for others while the device
        lacks no more than half of the buffers, and no more than lets the loop open."""
        pool = self.pool
        if self._attached and pool is not None:
            enough = len(self._buffers) // 2
            if self._out + pool.waiting > (enough if pool.resume is None else min(enough, pool.resume)):
                pool.flush()

    def transmit(self, buffer: PoolBuffer, length: int) -> int | None:
        """The bytes are the device's."""
        dma_sync_single_for_device(self.dev, buffer.dma_address, length, _BIDIRECTIONAL)
        return buffer.dma_address

    def recycle(self, buffer: PoolBuffer, *, own: bool) -> tuple[int, int] | None:
        """All of the buffer is the device's from now on, unless its page must not recycle."""
        if not own:
            self.dev.core.spend(self._op_look)
            if not _recyclable(buffer.page):
                return None
        self.recycled += 1
        self._out -= 1
        self._device[buffer.id] = buffer
        if self.dev.checker is not None:
            self.dev.checker.pool_put(self.dev.core, self.pages, buffer.page)
        return buffer.id, self._control

    def transmitted(self, buffer: PoolBuffer, length: int) -> None:
        """Sent without :meth:`recycle`: back as by :meth:`release`."""
        self.release(buffer)

    def detach(self) -> None:
        """Find what the pool has given out and not got back, remove it, and drain the pool. May be tried again where
        the device did not answer: the pool is the device's until it has."""
        pool = self.pool
        if pool is None or not self._enabled:
            return
        if self._growth is not None:
            self._growth.stop()
        self._attached = False
        pool.settle()
        for buffer in self._buffers:
            if self._device[buffer.id] is None:
                report = self._remove(buffer.id)
                # What a consumer released meanwhile it has not kept.
                if report is not None and buffer.id not in self._left:
                    self.kept += 1
                    self.warnings.append(f"Pool {pool.pool} closed without {report}")
        if pool.counts().outstanding:
            for buffer in self._buffers:
                if self._device[buffer.id] is not None:
                    self.lost += self._remove(buffer.id) is not None
        self._note_misuse()
        pool.disable()
        self._enabled = False

    def _remove(self, buffer_id: int) -> BufferReport | None:
        """Remove a buffer if it is out; the report of one that was."""
        assert self.pool is not None
        report = self.pool.query(buffer_id)
        if report.state is not BufferState.OUT:
            return None
        self.pool.remove(buffer_id)
        return report

    def _note_misuse(self) -> None:
        assert self.pool is not None
        misuse = self.pool.misuse()
        if misuse is not None:
            self.refused += misuse.refused
            self.warnings.append(str(misuse))
            self.pool.acknowledge_misuse()

    def forget(self) -> None:
        """The device's reset forgets the pool, of which this is the last chance to hear."""
        if self._growth is not None:
            self._growth.stop()
        if self.pool is not None and self._enabled:
            self._note_misuse()
            self.pool.forget()
        self._attached = self._enabled = False

    def close(self) -> None:
        """What the device had goes back to the page_pool, which is destroyed."""
        for buffer in self._device:
            if buffer is not None:
                if self.dev.checker is not None:
                    self.dev.checker.pool_taken(buffer.page)
                page_pool_put_full_page(self.pages, buffer.page, False)
        self._device.clear()
        page_pool_destroy(self.pages)

    def statistics(self) -> dict[str, int]:
        """The page_pool's counters; buffers that joined, came back from software, were sent with :meth:`recycle`, and
        were given up because their page must not recycle; and, once closed, those that were lost and kept, and what was
        refused."""
        pool = self.pool
        return self.pages.statistics.ethtool() | {
            "hwp_joined": len(self._buffers),
            "hwp_returned": 0 if pool is None else pool.returned,
            "hwp_return_writes": 0 if pool is None else pool.return_writes,
            "hwp_recycled": self.recycled,
            "hwp_given_up": self.given_up,
            "hwp_lost": self.lost,
            "hwp_kept": self.kept,
            "hwp_refused": self.refused,
        }

    @property
    def in_flight(self) -> int:
        """Pages of the page_pool, those in its cache and ring included."""
        return page_pool_inflight(self.pages)


def _recyclable(page: Page) -> bool:
    """page_pool's rule, for the last user of a buffer."""
    return page.pp_ref_count == 1 and page.refcount == 1 and not page.pfmemalloc
