# SPDX-License-Identifier: BSD-2-Clause
"""What a kernel has before it loads a driver: memory, and on each core an allocator, network state and the DMA API."""

from collections.abc import Sequence

from driver_model.cpu.core import Core
from driver_model.cpu.timers import Timers
from driver_model.memory.dma import Device, DirectDma, DmaOps
from driver_model.memory.kernel_map import KernelMap
from driver_model.memory.ownership import OwnershipChecker
from driver_model.memory.page import PAGE_SIZE
from driver_model.memory.page_pool_list import PagePools
from driver_model.memory.pages import PageAllocator
from driver_model.memory.zone import Zone
from driver_model.net.napi import Softnet


class Host:
    """A kernel on some cores of one machine.

    Parameters
    ----------
    cores : its cores, all of one platform
    checker : ownership checker, or None to run without; it is made the observer of every core
    dma_ops : how the device's addresses come about; without an IOMMU by default
    dma_skip_sync : syncs that have nothing to do cost nothing (see :class:`driver_model.memory.dma.Device`)
    page_size : of the kernel, 4096 or 65536
    zone : the machine's memory where other rules hold for it than by default; its page size is the kernel's then

    Attributes
    ----------
    zone : the machine's memory
    page_pools : its page_pools
    pages, timers, softnets, devices : for each core, its page allocator, its timers, its network state, and the device
        as it sees it
    """

    def __init__(
        self,
        cores: Sequence[Core],
        *,
        checker: OwnershipChecker | None = None,
        dma_ops: DmaOps | None = None,
        dma_skip_sync: bool = False,
        page_size: int = PAGE_SIZE,
        zone: Zone | None = None,
    ) -> None:
        if not cores:
            raise ValueError("A host needs at least one core")
        self.cores = tuple(cores)
        self.platform = cores[0].platform
        self.checker = checker
        self.zone = Zone(self.platform.memory_size, page_size) if zone is None else zone
        self.page_pools = PagePools()
        ops = DirectDma() if dma_ops is None else dma_ops
        self.pages = [PageAllocator(core, self.zone, checker) for core in cores]
        self.timers = [Timers(core) for core in cores]
        self.softnets = [Softnet(core) for core in cores]
        self.devices = [
            Device(core, pages, ops, checker, self.page_pools, skip_sync=dma_skip_sync)
            for core, pages in zip(cores, self.pages, strict=True)
        ]
        if checker is not None:
            checker.dma_debug.kernel_map = KernelMap(self.platform.memory_size)
            for core in cores:
                core.access_observer = checker.cpu_access

    def set_dma_ops(self, ops: DmaOps) -> None:
        """From now on the device's addresses come about in another way; before any driver of the device is opened."""
        for device in self.devices:
            device.ops = ops

    @property
    def pages_in_use(self) -> int:
        """Allocations that were not given back: 0 again when every driver is closed."""
        return sum(pages.in_use for pages in self.pages)
