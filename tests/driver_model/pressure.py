# SPDX-License-Identifier: BSD-2-Clause
"""A machine whose memory runs low: what tests of reclaim have in common."""

from collections.abc import Callable

from driver_model.cpu.core import Core
from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.pages.gfp import GFP_ATOMIC, GFP_MEMALLOC
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench

MEMORY = 8 << 20  #: 2047 pages; watermarks 90, 112, 134


class Stock:
    """A shrinker with pages that it can do without."""

    def __init__(self, pages: PageAllocator, count: int = 0, name: str = "stock") -> None:
        self.name = name
        self.pages = pages
        self.held = [taken(pages) for _ in range(count)]
        self.asked: list[int] = []

    def count_objects(self) -> int:
        return len(self.held)

    def scan_objects(self, core: Core, count: int) -> int:
        self.asked.append(count)
        given = min(count, len(self.held))
        for _ in range(given):
            self.pages.put_page(self.held.pop())
        return given


def taken(pages: PageAllocator, gfp: int = GFP_ATOMIC, order: int = 0) -> Page:
    page = pages.alloc_pages(order, gfp)
    assert page is not None
    return page


def machine(cores: int = 1, memory: int = MEMORY) -> Bench:
    return Bench(memory=memory, min_free_kbytes=None, cores=cores)


def fill(pages: PageAllocator, leave: int) -> list[Page]:
    """Take pages for good until so many are free, in lists and zone."""
    pages.drain()
    held = []
    while pages.zone.free_pages > leave:
        held.append(taken(pages, GFP_ATOMIC | GFP_MEMALLOC))
        pages.drain()
    return held


def run(body: Callable[[Bench], None], bench: Bench | None = None) -> Bench:
    """A body in a process on a machine with watermarks."""
    made = bench or machine()
    made.run(lambda: body(made))
    return made
