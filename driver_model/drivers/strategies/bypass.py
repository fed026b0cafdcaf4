# SPDX-License-Identifier: BSD-2-Clause
"""Around the kernel: a mempool of buffers that the device may always reach, polled by a process (as DPDK)."""

from driver_model.drivers.strategies.base import NO_OPTIONS, SKB_TAILROOM, PoolOptions, PostedStrategy
from driver_model.memory.dma.api import Device
from driver_model.memory.mempool import Mempool, MempoolBuffer
from driver_model.net.napi import Napi

BUFFER_BYTES = 2048 + 320
HEADROOM = 128  #: ``RTE_PKTMBUF_HEADROOM``
POOL_FACTOR = 4  #: buffers for each entry of a ring: both rings, the core's cache, and some that are looked at


class Bypass(PostedStrategy):
    """Buffers of a mempool. The DMA API has no part in it, so nothing protects anybody: what the device writes where it
    should not, only the machine's checker of ownership sees, as far as it lies outside of the pool.

    The queue pair is polled by a process that never sleeps, and there are no interrupts. Charged are ``mempool.get``
    and ``mempool.put``.
    """

    name = "bypass"
    poll_mode = True
    headroom = HEADROOM

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        super().__init__(dev, ring_entries, napi, pool)
        self.pool = Mempool(dev, POOL_FACTOR * ring_entries, BUFFER_BYTES)
        self._closed = False

    @classmethod
    def buffer_length_of(cls, page_size: int, pool: PoolOptions = NO_OPTIONS) -> int:
        """What of a buffer the device may fill."""
        return BUFFER_BYTES - HEADROOM - SKB_TAILROOM

    def allocate(self) -> tuple[int, MempoolBuffer] | None:
        """A buffer of the pool."""
        buffer = self.pool.get()
        return None if buffer is None else (buffer.dma_address + HEADROOM, buffer)

    def received(self, buffer: MempoolBuffer, length: int) -> MempoolBuffer:
        """Nothing to do: the memory is both sides'."""
        return buffer

    def release(self, buffer: MempoolBuffer) -> None:
        """Back to the pool, whose memory goes with its last buffer once it is closed."""
        self.pool.put(buffer)
        self._end()

    def transmit(self, buffer: MempoolBuffer, length: int) -> int | None:
        """Where the frame lies; the device reaches it already."""
        return buffer.dma_address + HEADROOM

    def transmitted(self, buffer: MempoolBuffer, length: int) -> None:
        """Back to the pool."""
        self.release(buffer)

    def withdraw(self, buffer: MempoolBuffer) -> None:
        """Back to the pool."""
        self.release(buffer)

    def close(self) -> None:
        """Give the memory back when all buffers are."""
        self._closed = True
        self._end()

    def statistics(self) -> dict[str, int]:
        """Times that the pool was empty."""
        return {"rx_mempool_empty": self.pool.empty}

    @property
    def in_flight(self) -> int:
        """Buffers that are not in the pool."""
        return self.pool.out

    @property
    def inflight_mem(self) -> int:
        """Bytes of those buffers; the pool's memory is as large as ever."""
        return self.pool.out * BUFFER_BYTES

    def _end(self) -> None:
        if self._closed and not self.pool.out:
            self.pool.free()
