# SPDX-License-Identifier: BSD-2-Clause
"""I/O virtual addresses in contiguous runs: what is mapped one after the other lies side by side."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.iova import IovaDomain

CHUNK_PAGES = 64


@dataclass(slots=True)
class Chunk:
    """A run of pages: ``used`` of them were cut off, ``live`` of those are not given back."""

    pfn: int
    used: int = 0
    live: int = 0


class Chunks:
    """Each core cuts ranges off a chunk of its own, upwards; a chunk is 64 pages, aligned.

    A chunk goes back to the domain when all that was cut off it came back and nothing more will be. So a batch of up to
    64 pages lies in one table of page table entries, next to each other: one walk cache entry serves it, one table line
    has eight of its entries, and one range invalidation ends it ("Fast & Safe IO memory protection", SOSP '24).
    """

    def __init__(self, domain: "IovaDomain", pages: int = CHUNK_PAGES) -> None:
        self.pages = pages
        self._domain = domain
        self._open: dict[int, Chunk] = {}  # of each core
        self._chunks: dict[int, Chunk] = {}  # by first page

    def alloc(self, core: "Core", pages: int) -> int | None:
        """The next pages of the core's chunk, or of a new one if it is too short; None when there is no room."""
        chunk = self._open.get(core.index)
        size = 1 << (pages - 1).bit_length()
        if chunk is not None and -(-chunk.used // size) * size + pages > self.pages:
            del self._open[core.index]
            self._retire(core, chunk)
            chunk = None
        if chunk is None:
            pfn = self._domain.tree_alloc(core, self.pages)
            if pfn is None:
                return None
            other = self._open.pop(core.index, None)  # an interrupt's, while this waited for the tree
            chunk = self._open[core.index] = self._chunks[pfn] = Chunk(pfn)
            if other is not None:
                self._retire(core, other)
        start = -(-chunk.used // size) * size
        chunk.used = start + pages
        chunk.live += pages
        return chunk.pfn + start

    def free(self, core: "Core", pfn: int, pages: int) -> None:
        """Give pages back."""
        chunk = self._chunks[pfn & -self.pages]
        chunk.live -= pages
        if all(chunk is not each for each in self._open.values()):
            self._retire(core, chunk)

    def _retire(self, core: "Core", chunk: Chunk) -> None:
        if not chunk.live:
            del self._chunks[chunk.pfn]
            self._domain.tree_free(core, [chunk.pfn])
