# SPDX-License-Identifier: BSD-2-Clause
"""A pool of fixed buffers as poll-mode drivers have it (DPDK's ``rte_mempool``)."""

from driver_model.memory.dma.api import Device
from driver_model.memory.dma.coherent import Coherent, dma_alloc_coherent, dma_free_coherent

CACHE_SIZE = 256  #: buffers that a core keeps for itself
CACHE_FLUSH = CACHE_SIZE * 3 // 2  #: with more it gives back all above the size
CHUNK_BYTES = 1 << 21  #: a huge page: what memory is taken in


class MempoolError(RuntimeError):
    """A buffer came back that was not out, or is another pool's."""


class MempoolBuffer:
    """One buffer; ``address``, ``dma_address`` and ``pool`` are for life."""

    __slots__ = ("address", "dma_address", "free", "pool")

    def __init__(self, pool: "Mempool", address: int, dma_address: int) -> None:
        self.pool = pool
        self.address = address
        self.dma_address = dma_address
        self.free = True


class Mempool:
    """Buffers in memory that device and CPU share for good: nothing is mapped, unmapped or synced for a packet. Raises
    ``MemoryError`` where there is not enough of it, and ``ValueError`` on a machine whose caches are not coherent,
    where that cannot be.

    The core takes buffers from a cache of its own, and in bulk from the common ring when that is empty. Charged are
    ``mempool.get`` and ``mempool.put`` for each buffer.

    Parameters
    ----------
    dev : the device as the core uses it
    count : buffers
    size : bytes of each, a multiple of 64

    Attributes
    ----------
    empty : times that there was no buffer
    """

    def __init__(self, dev: Device, count: int, size: int) -> None:
        if count < 1 or size < 64 or size % 64:
            raise ValueError(f"A mempool needs 1 or more buffers of a multiple of 64 bytes, not {count!r} of {size!r}")
        if getattr(dev.core, "cache", None) is not None:
            raise ValueError("A mempool needs a machine whose caches are coherent with devices")
        self.count = count
        self.size = size
        self.empty = 0
        self._dev = dev
        self._core = dev.core
        self._memory: list[Coherent] = []
        self._cache: list[MempoolBuffer] = []
        self._ring: list[MempoolBuffer] = []
        self._op_get = dev.core.op("mempool.get")
        self._op_put = dev.core.op("mempool.put")
        each = CHUNK_BYTES // size
        while len(self._ring) < count:
            wanted = min(each, count - len(self._ring))
            memory = dma_alloc_coherent(dev, wanted * size)
            if memory is None:
                self.free()
                raise MemoryError(f"No memory for a mempool of {count} buffers of {size} bytes")
            self._memory.append(memory)
            self._ring += [
                MempoolBuffer(self, memory.address + at, memory.dma_address + at)
                for at in range(0, wanted * size, size)
            ]

    @property
    def out(self) -> int:
        """Buffers that somebody has."""
        return sum(memory.size // self.size for memory in self._memory) - len(self._cache) - len(self._ring)

    def get(self) -> MempoolBuffer | None:
        """A buffer, or None."""
        self._core.spend(self._op_get)
        cache = self._cache
        if not cache:
            if not self._ring:
                self.empty += 1
                return None
            cache += self._ring[-CACHE_SIZE:]
            del self._ring[-CACHE_SIZE:]
        buffer = cache.pop()
        buffer.free = False
        return buffer

    def put(self, buffer: MempoolBuffer) -> None:
        """Give a buffer back. Raises :class:`MempoolError` if it is here already, or another pool's."""
        if buffer.pool is not self:
            raise MempoolError(f"Buffer at {buffer.address:#x} is another mempool's")
        if buffer.free:
            raise MempoolError(f"Buffer at {buffer.address:#x} was put twice")
        buffer.free = True
        self._core.spend(self._op_put)
        cache = self._cache
        cache.append(buffer)
        if len(cache) >= CACHE_FLUSH:
            self._ring += cache[CACHE_SIZE:]
            del cache[CACHE_SIZE:]

    def free(self) -> None:
        """Give the memory back. Raises :class:`MempoolError` while somebody has a buffer."""
        if self.out:
            raise MempoolError(f"{self.out} buffers of a mempool that is freed are in use")
        for memory in self._memory:
            dma_free_coherent(self._dev, memory)
        self._memory.clear()
        self._cache.clear()
        self._ring.clear()
