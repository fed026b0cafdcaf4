# SPDX-License-Identifier: BSD-2-Clause
"""The address space of a device that changes all the time, and the commands that each change asks for."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hw.abi.codec import Codec
from hw.abi.iommu import DirectoryCommand, InvalidateCommand, InvalidateFunction, Opcode
from tests.cosim.moving_frames import CHUNK, Frames
from tests.golden.model import PPN_MASK, DirectoryMode
from tests.golden.paging import LEVELS, PTE_A, PTE_D, PTE_R, PTE_V, PTE_X, SV39, SV48
from tests.golden.tables import LEAF, PAGE, Context, Tables, table_entry

INVALIDATE, DIRECTORY = Codec(InvalidateCommand), Codec(DirectoryCommand)
PAGES = 2 * CHUNK  #: of a space; a table of 1 GiB ends in their middle
SPARE_GUESTS = 8
GUEST_TABLES = 0x80000  #: page at which a guest sees its tables: memory as it is
GUEST_PAGES = (5 << 18) - CHUNK
LARGE = 512  #: pages of 2 MiB
SADE, GADE = 1 << 8, 1 << 7
KINDS = {"Sv39": (SV39, 0), "Sv48": (SV48, 0), "Sv39x4": (0, SV39), "Sv48x4": (0, SV48), "nested": (SV39, SV39)}
GRAINS = ("page", "range", "space", "all")  #: of invalidations


class Entry(NamedTuple):
    """A table entry that changed, by a page that it leads to."""

    stage: str
    page: int
    leaf: bool


@dataclass
class Change:
    """What was changed since the last fence, and what nobody uses after the next one.

    Attributes
    ----------
    entries : table entries that were valid
    context : the device's context as well
    frames, tables : data pages that were reached, and tables that were walked
    ended : called at last
    """

    entries: set[Entry] = field(default_factory=set)
    context: bool = False
    frames: list[int] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    ended: list[Callable[[], None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries)


class MovingSpace:
    """:data:`PAGES` pages of I/O virtual addresses for one device, each mapped or not.

    With a second stage alone it is that one which changes, nested both. Entries are well-formed, so a device reaches a
    page or gets a page fault.

    Parameters
    ----------
    kind : of :data:`KINDS`
    number : for device, PSCID and GSCID
    tables : where to build
    directory : root of the device directory, of one level
    frames : data pages
    rng : source of every choice
    """

    def __init__(
        self, kind: str, number: int, tables: Tables, directory: int, frames: Frames, rng: random.Random
    ) -> None:
        self.first, self.second = KINDS[kind]
        self.device = self.number = number
        self.tables, self.directory, self.frames, self.rng = tables, directory, frames, rng
        self.nested = bool(self.first and self.second)
        self.updates = rng.random() < 0.5  # A and D by hardware
        # The middle is where a leaf of 1 GiB ends, or with four levels one of 512 GiB.
        self.base = (5 << 9 * (LEVELS[self.first or self.second] - 1)) - CHUNK
        self.change = Change()
        self.holes: set[int] = set()  #: pages that were not mapped for a while
        self.frame: list[int | None] = [None] * PAGES
        self.large = [False, False]
        self.roots: dict[str, int] = {}
        self.window = GUEST_TABLES if self.nested else 0
        self.guest: list[int | None] = [None] * PAGES
        self.guests: dict[int, int] = {}  # data page behind each guest page that has one
        self.free_guests: list[int] = []
        if self.second:
            self.roots["second"] = tables.take_root()
        if self.first:
            self.roots["first"] = tables.take()
        if self.nested:
            for first in range(0, len(tables.memory.data) // PAGE, LARGE):
                tables.map(SV39, self.roots["second"], (GUEST_TABLES + first) * PAGE, first, level=1, wide=True)
            for guest in range(GUEST_PAGES, GUEST_PAGES + PAGES + SPARE_GUESTS):
                self._back(guest)
                self.free_guests.append(guest)
        for page in range(PAGES):
            self.map(page)
        self._put_context()

    @property
    def address(self) -> int:
        """The first."""
        return self.base * PAGE

    def take_change(self) -> Change:
        """What must be invalidated; from now on, another change."""
        change, self.change = self.change, Change()
        return change

    def step(self) -> None:
        """Change something, if there is enough that is in no use."""
        if self.frames.spare < 3 * CHUNK or (self.nested and not self.free_guests):
            return
        page = self.rng.randrange(PAGES)
        half = page // CHUNK
        roll = self.rng.random()
        if roll < 0.08:
            self.relocate(page)
        elif roll < 0.14 and self.first and not self.nested:
            self.clone()
        elif roll < 0.24 and not self.nested:
            self.fold(half)
        elif self.large[half]:
            return
        elif self.mapped(page):
            self.unmap(page)
            if self.rng.random() < 0.6:
                self.map(page)
        else:
            self.map(page)

    def mapped(self, page: int) -> bool:
        if self.nested:
            guest = self.guest[page]
            return guest is not None and guest in self.guests
        return self.frame[page] is not None

    # Changes of one page

    def map(self, page: int) -> None:
        """Map one that is not."""
        if not self.nested:
            self.frame[page] = frame = self.frames.take()
            self._set("first" if self.first else "second", self.base + page, frame)
        else:
            guest = self.guest[page]
            if guest is None:
                self.guest[page] = guest = self.free_guests.pop(0)
                self._set("first", self.base + page, guest)
            else:
                self._back(guest)
            frame = self.guests[guest]
        self.frames.admit(frame, (self.base + page) * PAGE)

    def unmap(self, page: int) -> None:
        """Unmap one, nested in either stage."""
        self.holes.add(page)
        change = self.change
        if not self.nested:
            frame = self.frame[page]
            assert frame is not None
            self.frame[page] = None
            self._clear("first" if self.first else "second", self.base + page)
            change.ended.append(lambda: self.frames.give(frame))
        else:
            guest = self.guest[page]
            assert guest is not None
            frame = self.guests[guest]
            if self.rng.random() < 0.5:
                self.guest[page] = None
                self._clear("first", self.base + page)
                change.ended.append(lambda: self.free_guests.append(guest))
            else:
                del self.guests[guest]
                self._clear("second", guest)
                change.ended.append(lambda: self.frames.give(frame))
        change.frames.append(frame)

    def _back(self, guest: int) -> None:
        self.guests[guest] = frame = self.frames.take()
        self._set("second", guest, frame)

    # Changes of many

    def fold(self, half: int) -> None:
        """One leaf of 64 KiB for a half of the pages, or again sixteen of 4 KiB."""
        stage = "first" if self.first else "second"
        pages = range(half * CHUNK, (half + 1) * CHUNK)
        chunk = None if self.large[half] else self.frames.take_chunk()
        if not self.large[half] and chunk is None:
            return
        for page in pages:
            old = self.frame[page]
            if old is not None:
                self.frame[page] = None
                self._clear(stage, self.base + page)
                self.change.frames.append(old)
                self.change.ended.append(lambda old=old: self.frames.give(old))
            self.holes.add(page)
        self.large[half] = chunk is not None
        if chunk is None:
            for page in pages:
                self.map(page)
            return
        self.tables.map_64k(
            self.first or self.second,
            self.roots[stage],
            (self.base + pages[0]) * PAGE,
            chunk,
            flags=self._flags(),
            wide=not self.first,
        )
        for number, page in enumerate(pages):
            self.frame[page] = chunk + number
            self.frames.admit(chunk + number, (self.base + page) * PAGE)

    def relocate(self, page: int) -> None:
        """Another page for a table of the last level."""
        stage = self.rng.choice([*self.roots])
        number = self.base + page if stage == "first" or not self.nested else GUEST_PAGES + page
        pointer, leaf = self._path(stage, number)[-2:]
        old, new = leaf // PAGE, self._new_table()
        self.tables.memory.store(new * PAGE, bytes(self.tables.memory.data[old * PAGE : (old + 1) * PAGE]))
        self.tables.write(pointer, table_entry(new + (self.window if stage == "first" else 0), PTE_V))
        self.change.tables.append(old)
        self.change.entries.add(Entry(stage, number, False))

    def clone(self) -> None:
        """Other pages for all tables, the root included."""
        self.roots["first"] = self._copy(self.roots["first"], LEVELS[self.first] - 1)
        self._put_context()
        self.change.context = True
        self.change.entries |= {Entry("first", self.base + page, False) for page in (0, PAGES - 1)}

    def _copy(self, old: int, level: int) -> int:
        new = self._new_table()
        for at in range(0, PAGE, 8):
            entry = self.tables.read(old * PAGE + at)
            if level and entry & PTE_V and not entry & (PTE_R | PTE_X):
                entry = table_entry(self._copy(entry >> 10, level - 1), PTE_V)
            if entry:
                self.tables.write(new * PAGE + at, entry)
        self.change.tables.append(old)
        return new

    # Entries

    def _new_table(self) -> int:
        old = self.frames.take_table()
        return self.tables.take() if old is None else old

    def _put_context(self) -> None:
        context = Context.of(
            tc=(SADE | GADE) if self.updates else 0,
            first=(self.first, self.roots["first"] + self.window) if self.first else (0, 0),
            second=(self.second, self.roots["second"]) if self.second else (0, 0),
            pscid=self.number,
            gscid=self.number,
        )
        self.tables.put_context(DirectoryMode.LVL1, self.directory, self.device, context)

    def _flags(self) -> int:
        return LEAF & ~self.rng.choice((0, PTE_D, PTE_A | PTE_D)) if self.updates else LEAF

    def _set(self, stage: str, number: int, page: int) -> None:
        self.tables.map(
            self.first if stage == "first" else self.second,
            self.roots[stage],
            number * PAGE,
            page,
            flags=self._flags(),
            wide=stage == "second",
            window=self.window if stage == "first" else 0,
        )

    def _clear(self, stage: str, number: int) -> None:
        self.tables.write(self._path(stage, number)[-1], 0)
        self.change.entries.add(Entry(stage, number, True))

    def _path(self, stage: str, number: int) -> list[int]:
        """Addresses of the entries for a page, from the root's on."""
        levels = LEVELS[self.first if stage == "first" else self.second]
        table, path = self.roots[stage], []
        for level in reversed(range(levels)):
            bits = 11 if stage == "second" and level == levels - 1 else 9
            path.append(table * PAGE + (number >> 9 * level & (1 << bits) - 1) * 8)
            table = (self.tables.read(path[-1]) >> 10 & PPN_MASK) - (self.window if stage == "first" else 0)
        return path

    # Commands

    def commands(self, change: Change, grain: str) -> list[bytes]:
        """What makes the IOMMU forget a change: page by page, by ranges, or more than that."""
        commands = []
        if change.context:
            commands.append(DIRECTORY.pack(opcode=Opcode.IODIR.value, dv=1, did=self.device))
        if grain == "page":
            places = {(stage, page, 0) for stage, page, _ in change.entries}
        elif grain == "range":
            places = {(stage, page & -CHUNK | CHUNK // 2 - 1, 1) for stage, page, _ in change.entries}
        else:
            return commands + [
                self._invalidate(stage, grain) for stage in sorted({each.stage for each in change.entries})
            ]
        nonleaf = {stage for stage, _, leaf in change.entries if not leaf}
        for stage, page, ranged in sorted(places):
            commands.append(self._invalidate(stage, grain, av=1, address=page, s=ranged, nl=stage in nonleaf))
        return commands

    def _invalidate(self, stage: str, grain: str, **fields: int) -> bytes:
        if stage == "second":
            func3, fields = InvalidateFunction.GVMA.value, fields | {"gv": grain != "all", "gscid": self.number}
            if grain == "all":
                fields["gscid"] = 0
        else:
            func3 = InvalidateFunction.VMA.value
            if grain != "all":
                fields |= {"pscv": 1, "pscid": self.number}
            if self.nested:
                fields |= {"gv": 1, "gscid": self.number}
        return INVALIDATE.pack(opcode=Opcode.IOTINVAL.value, func3=func3, **fields)
