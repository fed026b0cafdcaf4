# SPDX-License-Identifier: BSD-2-Clause
"""First-stage page tables in simulated memory, as Linux' ``drivers/iommu/riscv/iommu.c`` writes them."""

from dataclasses import dataclass
from struct import pack, unpack
from typing import TYPE_CHECKING, NamedTuple

from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE, Page
from hw.abi.codec import Codec
from hw.abi.iommu import NAPOT_PPN, PTE_BYTES, PageTableEntry

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.dma.api import Device

PAGE_SIZES = (4 << 10, 64 << 10, 2 << 20, 1 << 30)
DEFAULT_PAGE_SIZES = (4 << 10, 2 << 20)  #: what Linux maps with
INDEX_BITS = 9
ENTRIES = 1 << INDEX_BITS

_ENTRY = Codec(PageTableEntry)
_PPN_SHIFT = _ENTRY.fields["ppn"][0]
_PPN_MASK = (1 << _ENTRY.fields["ppn"][1]) - 1
_VALID, _WRITABLE, _NAPOT = (1 << _ENTRY.fields[name][0] for name in ("v", "w", "n"))
_LEAF = sum(1 << _ENTRY.fields[name][0] for name in ("r", "w", "x"))
_READ_ONLY = int.from_bytes(_ENTRY.pack(v=1, r=1, u=1, a=1), "little")
_READ_WRITE = int.from_bytes(_ENTRY.pack(v=1, r=1, w=1, u=1, a=1, d=1), "little")
_NAPOT_SIZE = 64 << 10
_NAPOT_PAGES = _NAPOT_SIZE >> PAGE_SHIFT


class PageTableError(RuntimeError):
    """A range is mapped twice, or is not mapped as it is said to be."""


class Leaf(NamedTuple):
    """What maps an address."""

    physical: int  #: of the address itself
    size: int  #: of the page
    writable: bool


@dataclass(slots=True)
class PageTableStatistics:
    """What happened to a table."""

    writes: int = 0  #: entries written
    tables: int = 0  #: pages held for tables now, the root included


class PageTable:
    """The first-stage table of one address space: Sv39 with 3 levels, Sv48 with 4.

    Entries are written by :meth:`driver_model.cpu.core.Core.store`: hardware sees each from its next edge on, not
    before. Leaves have U, A and D set, so that no hardware has to. As W without R is reserved, what the device may
    write it may read as well.

    Tables come from the calling core's page allocator and stay, also empty, until :meth:`free`, except where a larger
    page takes a table's place: :meth:`map` returns that table, and the caller frees it when no walk can be in it.

    Parameters
    ----------
    dev : the device as the core sees it that makes the table
    levels : 3 or 4
    page_sizes : sizes of leaves to use: of :data:`PAGE_SIZES`, 4 KiB among them; 64 KiB are NAPOT entries

    Raises ``MemoryError`` when there is no page for the root.
    """

    def __init__(self, dev: "Device", levels: int = 3, page_sizes: tuple[int, ...] = DEFAULT_PAGE_SIZES) -> None:
        if levels not in (3, 4):
            raise ValueError(f"levels must be 3 or 4, not {levels!r}")
        if PAGE_SIZE not in page_sizes or any(size not in PAGE_SIZES for size in page_sizes):
            allowed = ", ".join(map(str, PAGE_SIZES))
            raise ValueError(f"page_sizes must be of {allowed}, {PAGE_SIZE} among them, not {page_sizes!r}")
        self.levels = levels
        self.page_sizes = tuple(sorted(page_sizes, reverse=True))
        self.limit = 1 << PAGE_SHIFT + INDEX_BITS * levels - 1  #: addresses from here on are no lower-half ones
        self.statistics = PageTableStatistics()
        self._platform = dev.core.platform
        self._pages: dict[int, Page] = {}
        root = self._new_table(dev)
        if root is None:
            raise MemoryError("No page for the root of a page table")
        self.root = root.address

    def map(self, dev: "Device", iova: int, physical: int, size: int, *, writable: bool) -> list[Page] | None:
        """Map ``size`` bytes at ``iova`` to ``physical``, all multiples of 4 KiB.

        Returns tables that are in use no more (see above), or None when there is no memory for a table; what was mapped
        before that stays, and tables in whose place it is are kept until :meth:`free`. Raises :class:`PageTableError`
        where something is mapped already.
        """
        self._check_range(iova, size)
        replaced: list[Page] = []
        while size:
            leaf = next(each for each in self.page_sizes if each <= size and not (iova | physical) % each)
            level = _level(leaf)
            table = self._table(dev, iova, level)
            if table is None:
                return None
            pages = self._run(iova, physical, size) if leaf == PAGE_SIZE else 1
            count = _NAPOT_PAGES if leaf == _NAPOT_SIZE else pages
            at = table + PTE_BYTES * _index(iova, level)
            old = self._load(dev.core, at, count)
            if any(entry & _VALID and (not level or entry & _LEAF) for entry in old):
                raise PageTableError(f"IOVA {iova:#x} is mapped already")
            below = self._tables_below(dev.core, old[0], level, iova)
            bits = _READ_WRITE if writable else _READ_ONLY
            if leaf == _NAPOT_SIZE:
                entries = [bits | _NAPOT | (physical >> PAGE_SHIFT | NAPOT_PPN) << _PPN_SHIFT] * count
            else:
                entries = [bits | (physical >> PAGE_SHIFT) + i << _PPN_SHIFT for i in range(count)]
            self._store(dev.core, at, entries)
            replaced += [self._pages[table] for table in below]
            iova, physical, size = iova + pages * leaf, physical + pages * leaf, size - pages * leaf
        return replaced

    def unmap(self, dev: "Device", iova: int, size: int) -> None:
        """Clear the entries of a range that is mapped, in whole pages of the sizes that it was mapped with."""
        self._check_range(iova, size)
        while size:
            table, level, entry = self._walk(dev.core, iova)
            if not entry & _VALID:
                raise PageTableError(f"IOVA {iova:#x} is not mapped")
            leaf = _leaf_size(level, entry)
            if iova % leaf or size < leaf:
                raise PageTableError(f"IOVA {iova:#x} is in a page of {leaf} bytes, which cannot be unmapped in part")
            at = table + PTE_BYTES * _index(iova, level)
            if leaf == _NAPOT_SIZE:
                count, span = _NAPOT_PAGES, leaf
            elif level:
                count, span = 1, leaf
            else:
                count = min(size >> PAGE_SHIFT, ENTRIES - _index(iova, 0))
                following = self._load(dev.core, at, count)
                count = next((i for i, each in enumerate(following) if not each & _VALID or each & _NAPOT), count)
                span = count << PAGE_SHIFT
            self._store(dev.core, at, [0] * count)
            iova, size = iova + span, size - span

    def lookup(self, iova: int) -> Leaf | None:
        """What maps an address (``iova_to_phys``), read from the tables at no cost."""
        if not 0 <= iova < self.limit:
            return None
        table = self.root
        for level in reversed(range(self.levels)):
            (entry,) = unpack("<Q", self._platform.read(table + PTE_BYTES * _index(iova, level), PTE_BYTES))
            if not entry & _VALID:
                return None
            if entry & _LEAF:
                size = _leaf_size(level, entry)
                return Leaf(_address(entry) & -size | iova % size, size, bool(entry & _WRITABLE))
            table = _address(entry)
        return None

    def free(self, dev: "Device") -> None:
        """Give all tables back. No walk may be in them any more."""
        for page in list(self._pages.values()):
            self.release(dev, page)

    def release(self, dev: "Device", page: Page) -> None:
        """Free a table that :meth:`map` returned."""
        del self._pages[page.address]
        self.statistics.tables -= 1
        if dev.checker is not None:
            dev.checker.taken_from_iommu(dev.core, page)
        if dev.core.cache is not None:
            dev.core.cache.make_cached(page.address, page.size)
        dev.pages.put_page(page)

    # Tables

    def _table(self, dev: "Device", iova: int, level: int) -> int | None:
        """Address of the table of a level that serves an address, its parents made where they are missing."""
        table = self.root
        for above in range(self.levels - 1, level, -1):
            at = table + PTE_BYTES * _index(iova, above)
            (entry,) = self._load(dev.core, at, 1)
            if not entry & _VALID:
                page = self._new_table(dev)
                if page is None:
                    return None
                # A compare and exchange: loading brings the machine to this core's time, and nothing comes in between
                # that and a store which does not. If another core was faster, its table is the one.
                (entry,) = unpack("<Q", dev.core.load(at, PTE_BYTES))
                if entry & _VALID:
                    self.release(dev, page)
                else:
                    entry = _VALID | page.pfn << _PPN_SHIFT
                    dev.core.store_owned(at, pack("<Q", entry))
                    self.statistics.writes += 1
            if entry & _LEAF:
                raise PageTableError(f"IOVA {iova:#x} is mapped already, by a page of {_leaf_size(above, entry)} bytes")
            table = _address(entry)
        return table

    def _walk(self, core: "Core", iova: int) -> tuple[int, int, int]:
        """The table, level and entry at which a walk of an address ends."""
        table, level = self.root, self.levels - 1
        while True:
            (entry,) = self._load(core, table + PTE_BYTES * _index(iova, level), 1)
            if not level or not entry & _VALID or entry & _LEAF:
                return table, level, entry
            table, level = _address(entry), level - 1

    def _tables_below(self, core: "Core", entry: int, level: int, iova: int) -> list[int]:
        """The tables that an entry of a level leads to; there must be no leaf in them."""
        if not level or not entry & _VALID:
            return []
        tables = [_address(entry)]
        for each in self._load(core, tables[0], ENTRIES):
            if each & _VALID and (level == 1 or each & _LEAF):
                raise PageTableError(f"IOVA {iova:#x} is mapped already, in smaller pages")
            tables += self._tables_below(core, each, level - 1, iova)
        return tables

    def _new_table(self, dev: "Device") -> Page | None:
        page = dev.pages.alloc_pages()
        if page is None:
            return None
        if dev.checker is not None:
            dev.checker.shared_with_iommu(dev.core, page)
        if dev.core.cache is not None:
            dev.core.cache.make_uncached(page.address, page.size)
        dev.core.store_owned(page.address, bytes(PAGE_SIZE))  # nothing points to it yet
        self._pages[page.address] = page
        self.statistics.tables += 1
        return page

    # Entries

    def _load(self, core: "Core", at: int, count: int) -> tuple[int, ...]:
        """Entries as the CPUs left them: hardware has no bit of them to set."""
        return unpack(f"<{count}Q", core.load_owned(at, PTE_BYTES * count))

    def _store(self, core: "Core", at: int, entries: list[int]) -> None:
        self.statistics.writes += len(entries)
        core.store(at, pack(f"<{len(entries)}Q", *entries))

    def _run(self, iova: int, physical: int, size: int) -> int:
        """How many 4 KiB leaves one store may write: in one table, and short of where a larger page may begin."""
        pages = min(size >> PAGE_SHIFT, ENTRIES - _index(iova, 0))
        for larger in self.page_sizes:
            if larger > PAGE_SIZE and not (iova - physical) % larger and iova % larger:
                pages = min(pages, larger - iova % larger >> PAGE_SHIFT)
        return pages

    def _check_range(self, iova: int, size: int) -> None:
        if size <= 0 or iova < 0 or iova % PAGE_SIZE or size % PAGE_SIZE or iova + size > self.limit:
            raise ValueError(
                f"A range must be whole pages within 0..{self.limit - 1:#x}, not {size!r} bytes at {iova:#x}"
            )


def _index(iova: int, level: int) -> int:
    return iova >> PAGE_SHIFT + INDEX_BITS * level & ENTRIES - 1


def _level(size: int) -> int:
    return (size.bit_length() - 1 - PAGE_SHIFT) // INDEX_BITS


def _address(entry: int) -> int:
    return (entry >> _PPN_SHIFT & _PPN_MASK) << PAGE_SHIFT


def _leaf_size(level: int, entry: int) -> int:
    return _NAPOT_SIZE if entry & _NAPOT else PAGE_SIZE << INDEX_BITS * level
