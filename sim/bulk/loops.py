# SPDX-License-Identifier: BSD-2-Clause
"""The published loops of page and slab allocation on the composed model: what one page or object costs, allocated and
freed, by how many are handled at a time (prototype-kernel, ``page_bench04_bulk`` and ``slab_bulk_test01``)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.memory.pages.page import Page
from driver_model.memory.slab.allocator import Slab
from driver_model.memory.slab.kmem_cache import KmemCache, SlabObject
from sim.config import MachineConfig
from sim.software import Software

PAGES, SLAB = "pages", "slab"
WAYS: Mapping[str, tuple[str, ...]] = {
    PAGES: ("single", "array"),
    SLAB: ("looped", "object_by_object", "detached"),
}  #: one by one, or in bulk; in bulk, slab objects are freed one by one, as first, or by detached freelists
MOST = 4096  #: at a time
TURNS = 128
WARM_UP = 128
MEMORY = 64 << 20
OBJECT_BYTES = 256
OBJECTS_PER_SLAB = 32


@dataclass(frozen=True)
class LoopRun:
    """One loop.

    Attributes
    ----------
    what : ``pages`` of order 0, or ``slab`` objects of 256 bytes
    way : of :data:`WAYS`
    count : how many are allocated, and then freed in the same order
    profile : cost profile
    others_leave : the slab cache is shared: of its first slabs others hold all objects but so many, for good
    """

    what: str
    way: str
    count: int
    profile: str
    others_leave: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.what not in WAYS:
            raise ValueError(f"what must be one of {', '.join(WAYS)}, not {self.what!r}")
        if self.way not in WAYS[self.what]:
            raise ValueError(f"way of {self.what} must be one of {', '.join(WAYS[self.what])}, not {self.way!r}")
        if not isinstance(self.count, int) or isinstance(self.count, bool) or not 1 <= self.count <= MOST:
            raise ValueError(f"count must be an integer in 1..{MOST}, not {self.count!r}")
        if self.profile not in Profile.names():
            raise ValueError(f"profile must be one of {', '.join(Profile.names())}, not {self.profile!r}")
        if self.others_leave and self.what != SLAB:
            raise ValueError(f"others_leave must be empty for {self.what}, not {self.others_leave!r}")
        for left in self.others_leave:
            if not 0 <= left < OBJECTS_PER_SLAB:
                raise ValueError(f"others_leave must be in 0..{OBJECTS_PER_SLAB - 1}, not {left!r}")

    def check(self, machine: MachineConfig) -> None:
        """It needs no machine."""


@dataclass(frozen=True)
class LoopMeasurement:
    """What a loop measured.

    Attributes
    ----------
    cycles : of the core, for each page or object, allocated and freed
    """

    cycles: float

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def run_loop(run: LoopRun) -> LoopMeasurement:
    """Run a loop until it has settled, and then measure it."""
    software = Software(run.profile, MEMORY)
    turn = _pages(software, run) if run.what == PAGES else _objects(software, run)
    return LoopMeasurement(software.cycles(turn, TURNS, WARM_UP) / run.count)


def share_cache(slab: Slab, cache: KmemCache, others_leave: Sequence[int]) -> list[SlabObject]:
    """Have others hold all objects of a cache's first slabs but so many; those objects, in no CPU's slab. Raises
    ``MemoryError``."""
    held = [[_take(slab, cache) for _ in range(OBJECTS_PER_SLAB)] for _ in others_leave]
    for objects, left in zip(held, others_leave, strict=True):
        for each in objects[:left]:
            slab.kmem_cache_free(each)
        del objects[:left]
    slab.kmem_cache_shrink(cache)
    return [each for objects in held for each in objects]


def _take(slab: Slab, cache: KmemCache) -> SlabObject:
    found = slab.kmem_cache_alloc(cache)
    if found is None:
        raise MemoryError(f"There is no memory for an object of {cache}")
    return found


def _pages(software: Software, run: LoopRun) -> Callable[[], None]:
    pages = software.host.pages[0]

    def single() -> None:
        got = [pages.alloc_pages() for _ in range(run.count)]
        for page in got:
            if page is None:
                raise MemoryError(f"There is no memory for {run.count} pages")
            pages.put_page(page)

    def array() -> None:
        got: list[Page] = []
        if pages.alloc_pages_bulk(run.count, got) != run.count:
            raise MemoryError(f"There is no memory for {run.count} pages")
        for page in got:
            pages.put_page(page)

    return single if run.way == "single" else array


def _objects(software: Software, run: LoopRun) -> Callable[[], None]:
    slab = software.host.slabs[0]
    slab.detached_freelists = run.way == "detached"
    cache = software.host.slab_caches.kmem_cache_create("slab_bulk_test", OBJECT_BYTES, 64)

    def looped() -> None:
        for each in [_take(slab, cache) for _ in range(run.count)]:
            slab.kmem_cache_free(each)

    def bulk() -> None:
        got: list[SlabObject] = []
        if not slab.kmem_cache_alloc_bulk(cache, run.count, got):
            raise MemoryError(f"There is no memory for {run.count} objects")
        slab.kmem_cache_free_bulk(got)

    software.run(lambda: share_cache(slab, cache, run.others_leave))
    return looped if run.way == "looped" else bulk
