# SPDX-License-Identifier: BSD-2-Clause
"""Cores with slab allocators on a machine without devices: what the slab tests have in common."""

from collections.abc import Callable
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.pages.zone import Zone
from driver_model.memory.slab.kmem_cache import KmemCache, SlabObject
from tests.driver_model.cpu.machine import run
from tests.driver_model.fake_platform import CYCLE_PS, FakePlatform


class SlabKit:
    """A host whose memory can be used to its last page; ``cache`` has objects of 256 bytes, 32 to a slab of two 4 KiB
    pages, ``slab`` is the first core's view."""

    def __init__(
        self,
        cores: int = 1,
        *,
        memory: int = 8 << 20,
        page_size: int = 4096,
        checked: bool = False,
        profile: Profile | None = None,
    ) -> None:
        self.platform = FakePlatform(memory, log=False)
        system = System(self.platform, Profile.load("e5-1650v4") if profile is None else profile, cores)
        self.cores = system.cores
        self.core = system.cores[0]
        self.checker = OwnershipChecker(CYCLE_PS) if checked else None
        self.host = Host(system.cores, checker=self.checker, zone=Zone(memory, page_size, min_free_kbytes=0))
        self.slabs = self.host.slabs
        self.slab = self.slabs[0]
        self.pages = self.host.pages[0]
        self.cache = self.host.slab_caches.kmem_cache_create("buffer", 256, 64)

    def on(self, index: int, function: Callable[[], Any]) -> Any:
        """Run a function in a process on a core until it returns."""
        return run(self.platform, self.cores[index], function)

    def take(self, count: int, cache: KmemCache | None = None) -> list[SlabObject]:
        """So many objects, one by one."""
        return [self.one(cache) for _ in range(count)]

    def one(self, cache: KmemCache | None = None) -> SlabObject:
        """An object; there must be memory."""
        obj = self.slab.kmem_cache_alloc(self.cache if cache is None else cache)
        assert obj is not None
        return obj

    def free(self, objects: list[SlabObject]) -> None:
        """Free them, one by one, in this order."""
        for obj in objects:
            self.slab.kmem_cache_free(obj)

    def statistics(self, cache: KmemCache | None = None) -> dict[str, int]:
        """Those that are not 0."""
        return {name: n for name, n in (cache or self.cache).statistics.items() if n}

    def count(self, name: str) -> int:
        """How often the first core was charged an operation."""
        return self.core.op(name).count
