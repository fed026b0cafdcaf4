# SPDX-License-Identifier: BSD-2-Clause
"""How device addresses come about in a run without an IOMMU: directly, through bounce buffers, or by hypercalls."""

from abc import ABC, abstractmethod

from driver_model.drivers.host import Host
from driver_model.memory.dma.api import DirectDma
from driver_model.memory.dma.bounce import IO_TLB_SEGSIZE, IO_TLB_SIZE, BounceDma, BouncePool
from driver_model.memory.dma.hypercall import HypercallDma

SWIOTLB_BYTES = 64 << 20  #: of bounce buffers by default (``IO_TLB_DEFAULT_SIZE``)
SWIOTLB_SHARE = 4  #: of a smaller machine's memory, the most: a quarter


class DmaUse(ABC):
    """A machine's way to make device addresses. Methods are called in a process on the host's first core.

    Parameters
    ----------
    host : the kernel, before the device's driver is opened
    """

    def __init__(self, host: Host) -> None:
        self.host = host

    @abstractmethod
    def open(self) -> None:
        """From now on addresses come about in this way."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """What happened since."""

    def close(self) -> None:
        """The device has given everything back: addresses are physical ones again."""
        self.host.set_dma_ops(DirectDma())


class Bounce(DmaUse):
    """Every buffer is bounced (``swiotlb=force``, as in guests whose memory the device must not see), through slots of
    64 MiB, or of a quarter of the memory where that is less."""

    def open(self) -> None:
        zone = self.host.zone
        room = min(SWIOTLB_BYTES, zone.present * zone.page_size // SWIOTLB_SHARE)
        slots = room // IO_TLB_SIZE // IO_TLB_SEGSIZE * IO_TLB_SEGSIZE
        self._ops = BounceDma(BouncePool(self.host.pages[0], slots), force=True)
        self.host.set_dma_ops(self._ops)

    def counters(self) -> dict[str, int]:
        return {
            "swiotlb_bounced": self._ops.bounced,
            "swiotlb_full": self._ops.full,
            "swiotlb_copied_bytes": self._ops.copied,
        }

    def close(self) -> None:
        super().close()
        self._ops.pool.exit(self.host.pages[0])


class Hypercall(DmaUse):
    """Each map and each unmap is a hypercall; addresses stay physical ones."""

    def open(self) -> None:
        self._ops = HypercallDma()
        self.host.set_dma_ops(self._ops)

    def counters(self) -> dict[str, int]:
        return {"hypercall_maps": self._ops.maps, "hypercall_unmaps": self._ops.unmaps}


DMA_WAYS: dict[str, type[DmaUse] | None] = {"direct": None, "bounce": Bounce, "hypercall": Hypercall}


def dma_use(name: str, host: Host) -> DmaUse | None:
    """The way of that name; None for ``direct``, which is how a kernel begins."""
    way = DMA_WAYS[name]
    return None if way is None else way(host)
