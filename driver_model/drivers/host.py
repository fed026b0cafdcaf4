# SPDX-License-Identifier: BSD-2-Clause
"""What a kernel has before it loads a driver: memory, and on each core allocators, network state and the DMA API."""

from collections.abc import Sequence
from functools import partial

from driver_model.cpu.core import Core
from driver_model.cpu.softirq import SoftirqVector
from driver_model.cpu.timers import Timers
from driver_model.memory.dma.api import Device, DirectDma, DmaOps
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.page_pool.list import PagePools
from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.kernel_map import KernelMap
from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.memory.pages.page_frag import PageFragCache
from driver_model.memory.pages.zone import Zone
from driver_model.memory.slab.allocator import Slab
from driver_model.memory.slab.kmalloc import SlabCaches
from driver_model.net.napi import Softnet
from driver_model.net.qdisc import net_tx_action
from driver_model.net.skb.alloc import SkbAllocator
from driver_model.net.skb.checker import SkbChecker
from driver_model.net.skb.free import SkbFreeing
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.skb.sk_buff import LINE, SIZEOF_SK_BUFF, SkBuff


class Host:
    """A kernel on some cores of one machine.

    Parameters
    ----------
    cores : its cores, all of one platform
    checker : ownership checker, or None to run without; it is made the observer of every core
    dma_ops : how the device's addresses come about; without an IOMMU by default
    dma_skip_sync : syncs that have nothing to do cost nothing (see :class:`driver_model.memory.dma.api.Device`)
    page_size : of the kernel, 4096 or 65536
    zone : the machine's memory where other rules hold for it than by default; its page size is the kernel's then
    skb_policy : how SKBs are made and freed

    Attributes
    ----------
    zone : the machine's memory
    skb_checker : what checks SKBs, where there is a checker
    slab_caches, page_pools : its slab caches and page_pools
    pages, slabs, frags, timers, softnets, devices : for each core, its page allocator, its slab allocator, its page
        fragments, its timers, its network state, and the device as it sees it
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
        skb_policy: SkbPolicy | None = None,
    ) -> None:
        if not cores:
            raise ValueError("A host needs at least one core")
        self.cores = tuple(cores)
        self.platform = cores[0].platform
        self.checker = checker
        self.zone = Zone(self.platform.memory_size, page_size) if zone is None else zone
        ops = DirectDma() if dma_ops is None else dma_ops
        self.pages = [PageAllocator(core, self.zone, checker) for core in cores]
        self.slab_caches = SlabCaches(self.zone.page_size)
        self.slabs = [
            Slab(core, pages, self.slab_caches, checker) for core, pages in zip(cores, self.pages, strict=True)
        ]
        self.frags = [PageFragCache(pages) for pages in self.pages]
        self.timers = [Timers(core) for core in cores]
        self.softnets = [self._softnet(core, slab) for core, slab in zip(cores, self.slabs, strict=True)]
        self.page_pools = PagePools()
        self.devices = [
            Device(core, pages, ops, checker, self.page_pools, skip_sync=dma_skip_sync)
            for core, pages in zip(cores, self.pages, strict=True)
        ]
        self.skb_checker = None if checker is None else SkbChecker(checker.report)
        policy = SkbPolicy() if skb_policy is None else skb_policy
        sk_buffs = self.slab_caches.kmem_cache_create("skbuff_head_cache", SIZEOF_SK_BUFF, LINE)
        for softnet, frags, timers in zip(self.softnets, self.frags, self.timers, strict=True):
            softnet.skbs = SkbAllocator(sk_buffs, softnet.slab, frags, policy, self.skb_checker)
            softnet.freeing = SkbFreeing(softnet.skbs, timers)
        if checker is not None:
            checker.dma_debug.kernel_map = KernelMap(self.platform.memory_size)
            for core in cores:
                core.access_observer = checker.cpu_access

    def set_dma_ops(self, ops: DmaOps) -> None:
        """From now on the device's addresses come about in another way; before any driver of the device is opened."""
        for device in self.devices:
            device.ops = ops

    def drain(self) -> None:
        """Every driver is closed: give back what caches keep. Then what is still in use has leaked."""
        for softnet in self.softnets:
            softnet.freeing.drain()
        for frags in self.frags:
            frags.drain()
        for slab in self.slabs:
            slab.drain()

    @property
    def pages_in_use(self) -> int:
        """Allocations that were not given back: 0 again when every driver is closed and caches are drained."""
        return sum(pages.in_use for pages in self.pages)

    @property
    def live_skbs(self) -> Sequence[SkBuff]:
        """SKBs that were not freed, where a checker keeps account of them."""
        return [] if self.skb_checker is None else list(self.skb_checker.live)

    def leaks(self) -> list[str]:
        """What was not given back, in words, and where that is known who has it and where it was allocated: nothing
        after :meth:`drain` when every driver is closed."""
        found = [] if self.skb_checker is None else self.skb_checker.leaks()
        if self.checker is not None:
            found += self.checker.leaks()
        elif self.pages_in_use:
            found.append(f"{self.pages_in_use} allocations of pages in use")
        return found

    def _softnet(self, core: Core, slab: Slab) -> Softnet:
        softnet = Softnet(core)
        softnet.slab = slab
        core.softirq.open(SoftirqVector.NET_TX, partial(net_tx_action, softnet))
        return softnet
