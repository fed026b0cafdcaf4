# SPDX-License-Identifier: BSD-2-Clause
"""Directories, contexts and page tables in a small memory, entry by entry, well-formed or not."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.golden.model import VALID, DirectoryMode
from tests.golden.paging import LEVELS, PTE_A, PTE_D, PTE_N, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X, Memory

PAGE = 4096
#: Flags of a leaf that allows everything and has nothing left to mark.
LEAF = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D
NAPOT_64K = 0b1000  #: low bits of the PPN


def table_entry(ppn: int, flags: int) -> int:
    return ppn << 10 | flags


@dataclass(frozen=True)
class Context:
    """The four double-words of a device context."""

    tc: int = VALID
    iohgatp: int = 0
    ta: int = 0
    fsc: int = 0

    @classmethod
    def of(
        cls,
        *,
        tc: int = 0,
        first: tuple[int, int] = (0, 0),
        second: tuple[int, int] = (0, 0),
        pscid: int = 0,
        gscid: int = 0,
    ) -> "Context":
        """A valid one; ``first`` and ``second`` are mode and root page."""
        return cls(
            VALID | tc,
            second[0] << 60 | gscid << 44 | second[1],
            pscid << 12,
            first[0] << 60 | first[1],
        )

    def raw(self) -> bytes:
        return b"".join(word.to_bytes(8, "little") for word in (self.tc, self.iohgatp, self.ta, self.fsc))


class Tables:
    """Structures in a memory whose pages are handed out one after the other.

    Attributes
    ----------
    memory : where they are
    pages : those that were not handed out yet, the next one last
    """

    def __init__(self, memory: Memory, pages: list[int]):
        self.memory = memory
        self.pages = pages

    @classmethod
    def empty(cls, size: int = 1 << 20) -> "Tables":
        """In ``size`` zero bytes, of which page 0 stays unused."""
        return cls(Memory(bytearray(size)), list(range(size // PAGE - 1, 0, -1)))

    def take(self) -> int:
        return self.pages.pop()

    def take_root(self) -> int:
        """Four pages, aligned to 16 KiB."""
        free = set(self.pages)
        for page in reversed(self.pages):
            group = range(page, page + 4)
            if page % 4 == 0 and free.issuperset(group):
                self.pages = [each for each in self.pages if each not in group]
                return page
        raise IndexError("No four pages are left for a root of 16 KiB")

    def read(self, address: int) -> int:
        return int.from_bytes(self.memory.data[address : address + 8], "little")

    def write(self, address: int, value: int) -> None:
        self.memory.store(address, value.to_bytes(8, "little"))

    def put_context(self, mode: DirectoryMode, root: int, device_id: int, context: Context) -> list[int]:
        """Write a device's context, and the directories above it where there are none.

        Returns the addresses of the entries that lead to it, the context's own last.
        """
        levels = mode - 1
        path = []
        table = root
        for shift, bits in ((16, 8), (7, 9))[3 - levels :]:
            path.append(table * PAGE + (device_id >> shift & (1 << bits) - 1) * 8)
            if not self.read(path[-1]) & VALID:
                self.write(path[-1], table_entry(self.take(), VALID))
            table = self.read(path[-1]) >> 10 & (1 << 44) - 1
        path.append(table * PAGE + (device_id & 0x7F) * 32)
        self.memory.store(path[-1], context.raw())
        return path

    def map(
        self,
        mode: int,
        root: int,
        address: int,
        ppn: int,
        *,
        level: int = 0,
        flags: int = LEAF,
        wide: bool = False,
        window: int = 0,
    ) -> list[int]:
        """Write a leaf of ``level`` for ``address``, and the tables above it where there are none.

        ``wide`` tells a second stage, whose root has four pages. Pointers name the page that they are about plus
        ``window``: where a guest sees physical page 0. Returns the addresses of the entries on the way, the leaf's
        last. Raises ``LookupError`` if a leaf, or a pointer out of memory, is in the way.
        """
        path = []
        for each, entry in self._way(mode, root, address, level, wide, window):
            path.append(entry)
            if each > level and not self.read(entry) & PTE_V:
                self.write(entry, table_entry(self.take() + window, PTE_V))
        self.write(path[-1], table_entry(ppn, flags))
        return path

    def find(self, mode: int, root: int, address: int, *, level: int, wide: bool = False, window: int = 0) -> int:
        """The entry of ``level`` for ``address``, 0 if there is none; otherwise as :meth:`map`."""
        each, entry = list(self._way(mode, root, address, level, wide, window))[-1]
        return self.read(entry) if each == level else 0

    def _way(
        self, mode: int, root: int, address: int, level: int, wide: bool, window: int
    ) -> Iterator[tuple[int, int]]:
        """Level and address of the entries for an address, down to ``level`` or the first one that is not valid."""
        top = LEVELS[mode] - 1
        table = root
        for each in range(top, level - 1, -1):
            index = address >> (12 + 9 * each) & (0x7FF if wide and each == top else 0x1FF)
            yield each, table * PAGE + index * 8
            entry = self.read(table * PAGE + index * 8)
            if each == level or not entry & PTE_V:
                return
            if entry & (PTE_R | PTE_X):
                raise LookupError(f"A leaf of level {each} is in the way of {address:#x}")
            table = (entry >> 10 & (1 << 44) - 1) - window
            if not 0 <= table < len(self.memory.data) // PAGE:
                raise LookupError(f"The table of level {each - 1} for {address:#x} is in no memory")

    def map_64k(self, mode: int, root: int, address: int, ppn: int, *, flags: int = LEAF, wide: bool = False) -> None:
        """Sixteen equal entries that map 64 KiB."""
        for page in range(16):
            start = address & -(1 << 16) | page << 12
            self.map(mode, root, start, ppn & ~0xF | NAPOT_64K, flags=flags | PTE_N, wide=wide)
