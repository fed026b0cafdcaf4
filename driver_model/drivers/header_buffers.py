# SPDX-License-Identifier: BSD-2-Clause
"""Buffers for headers that lie apart from what is behind them."""

from driver_model.cpu.core import LINE
from driver_model.memory.dma.api import Device
from driver_model.memory.dma.coherent import dma_alloc_coherent, dma_free_coherent
from hw.abi.registers import Register

HEADER_BUFFER_BYTES = 128  #: the longest of Ethernet, two VLAN tags, IPv6 and TCP with options has 122


class HeaderBuffers:
    """One header buffer beside each slot of a ring, in one piece of coherent memory.

    Beside an RX completion ring it is a :class:`ReceivedHeaders`. Beside a TX ring, as drivers have it for segments
    that software cuts (``tso_hdrs``), a buffer is the CPU's while its slot is free.

    Parameters
    ----------
    dev : the device
    entries : of the ring
    """

    def __init__(self, dev: Device, entries: int) -> None:
        memory = dma_alloc_coherent(dev, entries * HEADER_BUFFER_BYTES)
        if memory is None:
            raise MemoryError(f"No memory for {entries} header buffers")
        self._dev = dev
        self._memory = memory
        self._entries = entries

    def word(self, register: Register) -> int:
        """What register RX_HEADER is to say."""
        size = HEADER_BUFFER_BYTES.bit_length() - 7
        return register.pack(enable=1, size=size, address=self._memory.dma_address >> 6)

    def address(self, index: int) -> int:
        """Where the CPU finds the headers that belong to a ring's entry, by its free-running index."""
        return self._memory.address + index % self._entries * HEADER_BUFFER_BYTES

    def dma_address(self, index: int) -> int:
        """Where the device finds them."""
        return self._memory.dma_address + index % self._entries * HEADER_BUFFER_BYTES

    def free(self) -> None:
        """Give the memory back; the device must have stopped."""
        dma_free_coherent(self._dev, self._memory)


class ReceivedHeaders(HeaderBuffers):
    """As gve has it in its DQO format (``header_bufs``): a buffer is the CPU's from its completion until the consumer
    index behind that is published. Headers of a frame that has not ended by then are kept in memory of the driver's
    own.
    """

    def __init__(self, dev: Device, entries: int) -> None:
        super().__init__(dev, entries)
        kept = dma_alloc_coherent(dev, HEADER_BUFFER_BYTES)
        if kept is None:
            super().free()
            raise MemoryError("No memory for headers of a frame that has not ended")
        self._kept = kept

    def keep(self, header: tuple[int, int]) -> tuple[int, int]:
        """Headers, by address and length, where the device does not write; copied if they were elsewhere."""
        core, own, (address, length) = self._dev.core, self._kept.address, header
        if address != own:
            core.spend(core.device_line, -(-length // LINE))
            core.copy_owned(own, address, length)
        return own, length

    def free(self) -> None:
        """Give all memory back; the device must have stopped."""
        dma_free_coherent(self._dev, self._kept)
        super().free()
