# SPDX-License-Identifier: BSD-2-Clause
"""Random directories, contexts and tables in one small memory, and requests aimed at what they hold.

What the specification leaves unpredictable is avoided, so that the hardware has one right answer however much it
caches: a GSCID names one second stage, a GSCID and PSCID one first stage, global leaves are only where a GSCID has a
single first stage, and the entries of a range of 64 KiB stay equal. Tables lie in the first MiB; whatever else is
pointed to is in no memory.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.golden.defects import (
    LOST_GSCID,
    LOST_PSCID,
    far_page,
    leaf_flags,
    spoil_context,
    spoil_directory,
    spoil_leaf,
    spoil_pointer,
)
from tests.golden.model import (
    DTF,
    EN_ATS,
    GADE,
    SADE,
    Access,
    AddressType,
    Capabilities,
    DirectoryMode,
    Request,
)
from tests.golden.paging import LEVELS, PTE_A, PTE_D, PTE_G, PTE_N, SV39, SV48, Memory
from tests.golden.tables import LEAF, NAPOT_64K, PAGE, Context, Tables

MEMORY_BYTES = 1 << 20
DEFECT_RATE = 0.1


@dataclass
class Guest:
    """A second stage, or none (``mode`` 0): physical page 0 appears at guest page ``window``."""

    mode: int = 0
    root: int = 0
    gscid: int = 0
    window: int = 0
    targets: list[int] = field(default_factory=list)  #: guest addresses of pages that are mapped
    spaces: list["Space"] = field(default_factory=list)
    has_global: bool = False  #: leaves may be global, for there is one first stage only


@dataclass
class Space:
    """A first stage of a guest."""

    mode: int
    root: int  #: guest page
    pscid: int
    targets: list[int] = field(default_factory=list)


@dataclass
class World:
    """A machine's memory and what its devices ask.

    Attributes
    ----------
    ordered : outcomes depend on the order of requests (through A and D bits), so they must go one after the other
    """

    seed: int
    memory: Memory
    mode: DirectoryMode
    root: int
    capabilities: Capabilities
    requests: list[Request]
    ordered: bool


class Generator:
    """Makes one world from a seed.

    Parameters
    ----------
    requests : how many
    execute : ask for execution, too, which only debug translation can
    """

    def __init__(self, seed: int, capabilities: Capabilities, *, requests: int, execute: bool = False):
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.capabilities = capabilities
        self.execute = execute
        pages = list(range(1, MEMORY_BYTES // PAGE))
        rng.shuffle(pages)
        self.tables = Tables(Memory(bytearray(MEMORY_BYTES)), pages)
        self.pointers: set[int] = set()
        self.ordered = rng.random() < 0.4
        self.updates = [SADE if rng.random() < 0.7 else 0, GADE if rng.random() < 0.7 else 0]
        self.first_modes = [SV39, SV48] if capabilities.sv48 else [SV39]
        self.second_modes = [SV39, SV48] if capabilities.sv48x4 else [SV39]
        modes = (
            DirectoryMode.OFF,
            DirectoryMode.BARE,
            *[DirectoryMode.LVL1, DirectoryMode.LVL2, DirectoryMode.LVL3] * 9,
        )
        self.mode = rng.choice(modes)
        self.root = self.tables.take()
        self.guests = [self._guest(gscid) for gscid in rng.sample((0, 1, 2, 0x8000, 0x7FFF), 2)]
        self.host = Guest()
        for guest in (*self.guests, self.host):
            count = rng.randint(1, 2)
            guest.has_global = count == 1 and rng.random() < 0.5
            for pscid in rng.sample((0, 1, 2, 0x80000), count):
                guest.spaces.append(self._space(guest, pscid))
        self.devices = self._devices() if self.mode >= DirectoryMode.LVL1 else {}
        self.count = requests

    def world(self) -> World:
        requests = [self._request() for _ in range(self.count)]
        return World(self.seed, self.tables.memory, self.mode, self.root, self.capabilities, requests, self.ordered)

    def _far(self) -> int:
        return far_page(self.rng, self.capabilities.physical_bits - 12)

    def _guest(self, gscid: int) -> Guest:
        rng = self.rng
        mode = rng.choice(self.second_modes)
        width = 2 + 9 * LEVELS[mode]  # bits of a guest page number
        level = rng.choice((0, 0, 1, 2))
        window = rng.choice((0, rng.randrange(1 << width))) & -(1 << 9 * max(level, 1))
        guest = Guest(mode, self.tables.take_root(), gscid, window)
        if level:
            self._leaf(guest, None, window, 0, level, leaf_flags(rng) if rng.random() < 0.2 else LEAF)
        else:
            for page in range(MEMORY_BYTES // PAGE):
                flags = leaf_flags(rng) if rng.random() < 0.2 else LEAF
                self._leaf(guest, None, window + page, page, 0, flags)
        guest.targets += [(window + rng.randrange(MEMORY_BYTES // PAGE)) * PAGE for _ in range(3)]
        places = self._places(width, LEVELS[mode])
        for _ in range(rng.randint(6, 12)):
            level = rng.choice((0, 0, 0, 0, 1, 1, *range(LEVELS[mode])))
            self._mapping(guest, None, places(), level, self._far())
        self._spoil_pointers(0.02)
        return guest

    def _space(self, guest: Guest, pscid: int) -> Space:
        rng = self.rng
        mode = rng.choice(self.first_modes)
        space = Space(mode, self.tables.take() + guest.window, pscid)
        places = self._places(9 * LEVELS[mode], LEVELS[mode])
        for _ in range(rng.randint(6, 14)):
            level = rng.choice((0, 0, 0, 0, 1, 1, *range(LEVELS[mode])))
            target = rng.choice(guest.targets) // PAGE if guest.mode and rng.random() < 0.9 else self._far()
            self._mapping(guest, space, places(), level, target)
        self._spoil_pointers(0.04)
        return space

    def _places(self, width: int, levels: int) -> Callable[[], int]:
        """Page numbers that share tables at every level: a few indices for each."""
        rng = self.rng
        indices = [[0, 511, rng.randrange(512)][rng.randrange(3) :] for _ in range(levels - 1)]
        top = [rng.randrange(1 << width - 9 * (levels - 1)) for _ in range(2)]

        def place() -> int:
            page = rng.choice(top)
            for each in indices:
                page = page << 9 | (rng.choice(each) + rng.randrange(20)) % 512
            return page

        return place

    def _mapping(self, guest: Guest, space: Space | None, page: int, level: int, target: int) -> None:
        """A leaf for page ``page`` that puts it at ``target``, as far as its alignment allows; perhaps a bad one."""
        rng = self.rng
        mask = (1 << 9 * level) - 1
        flags = leaf_flags(rng)
        if space is not None and guest.has_global and rng.random() < 0.5:
            flags |= PTE_G
        pages = [page]
        ppn = target & ~mask
        inside = target & mask
        if level == 0 and rng.random() < 0.3:
            pages = [page & ~0xF | each for each in range(16)]
            ppn, inside, flags = target & ~0xF | NAPOT_64K, target & 0xF, flags | PTE_N
            # Any of the sixteen may stand for all (Svnapot), so none is marked while the others are not.
            if self.capabilities.amo_hwad and (self.ordered or self.updates[space is None]):
                flags |= PTE_A | PTE_D
            page = page & ~0xF | inside
        elif rng.random() < DEFECT_RATE:
            ppn, flags = spoil_leaf(rng, (ppn, flags), level)
        if any(self._is_taken(guest, space, each, level) for each in pages):
            return
        for each in pages:
            if not self._leaf(guest, space, each, ppn, level, flags):
                return
        owner = guest if space is None else space
        number = page & ~mask | inside
        if space is not None and number >> 9 * LEVELS[space.mode] - 1:
            number |= -1 << 9 * LEVELS[space.mode] & (1 << 52) - 1  # the upper half of a canonical space
        owner.targets.append(number * PAGE)

    def _is_taken(self, guest: Guest, space: Space | None, page: int, level: int) -> bool:
        """Whether a page has an entry of this level, or can have none."""
        mode, root = (guest.mode, guest.root) if space is None else (space.mode, space.root - guest.window)
        window = guest.window if space is not None else 0
        try:
            return self.tables.find(mode, root, page * PAGE, level=level, wide=space is None, window=window) != 0
        except LookupError:
            return True

    def _leaf(self, guest: Guest, space: Space | None, page: int, ppn: int, level: int, flags: int) -> bool:
        """Write a leaf; whether there was memory for the tables above it."""
        mode, root = (guest.mode, guest.root) if space is None else (space.mode, space.root - guest.window)
        window = guest.window if space is not None else 0
        try:
            path = self.tables.map(
                mode, root, page * PAGE, ppn, level=level, flags=flags, wide=space is None, window=window
            )
        except LookupError:
            return False
        self.pointers.update(path[:-1])
        return True

    def _spoil_pointers(self, rate: float) -> None:
        """Make some of the pointers written bad, now that nothing is to be found behind them any more."""
        for address in sorted(self.pointers):
            if self.rng.random() < rate:
                self.tables.write(address, spoil_pointer(self.rng, self.tables.read(address)))
        self.pointers.clear()

    def _devices(self) -> dict[int, tuple[Guest, Space | None]]:
        """Contexts for some devices, of every mix of stages."""
        rng = self.rng
        width = {DirectoryMode.LVL1: 7, DirectoryMode.LVL2: 16, DirectoryMode.LVL3: 24}[self.mode]
        near = rng.randrange(1 << width)
        devices: dict[int, tuple[Guest, Space | None]] = {}
        entries = set()
        for _ in range(10):
            device = rng.choice((rng.randrange(1 << width), near ^ rng.randrange(16)))
            guest = rng.choice((*self.guests, *self.guests, self.host))
            space = rng.choice((None, *guest.spaces, *guest.spaces))
            context = self._context(guest, space)
            if rng.random() < DEFECT_RATE:
                context = spoil_context(rng, context, lose_first=not guest.has_global)
            entries.update(self.tables.put_context(self.mode, self.root, device, context)[:-1])
            devices[device] = guest, space
        for address in sorted(entries):
            if rng.random() < 0.03:
                self.tables.write(address, spoil_directory(rng, self.tables.read(address)))
        return devices

    def _context(self, guest: Guest, space: Space | None) -> Context:
        rng = self.rng
        offered = self.capabilities
        sade, gade = [rng.choice((0, SADE, SADE)), rng.choice((0, GADE, GADE))] if self.ordered else self.updates
        tc = (DTF if rng.random() < 0.1 else 0) | rng.randrange(256) << 24
        # Without the capability, the bits below are one more way of being wrong.
        tc |= (sade | gade) if offered.amo_hwad or rng.random() < DEFECT_RATE / 2 else 0
        tc |= EN_ATS if rng.random() < (0.3 if offered.ats else DEFECT_RATE / 2) else 0
        return Context.of(
            tc=tc,
            first=(space.mode, space.root) if space else (0, rng.randrange(1 << 44)),
            second=(guest.mode, guest.root) if guest.mode else (0, rng.randrange(1 << 44)),
            pscid=space.pscid if space else rng.randrange(LOST_PSCID),
            gscid=guest.gscid if guest.mode else rng.randrange(LOST_GSCID),
        )

    def _request(self) -> Request:
        rng = self.rng
        device = rng.choice(list(self.devices)) if self.devices and rng.random() < 0.94 else rng.randrange(1 << 24)
        guest, space = self.devices.get(device, (self.host, None))
        targets = space.targets if space else guest.targets
        if targets and rng.random() < 0.95:
            address = rng.choice(targets) + rng.randrange(0, PAGE, 8)
            if rng.random() < 0.06:
                address ^= 1 << rng.randrange(12, 64)
        else:
            bits = rng.choice((self.capabilities.physical_bits, rng.randint(12, 64)))
            address = rng.randrange(1 << bits) & ~0b111
        accesses = [Access.READ, Access.WRITE] * 2 + [Access.EXECUTE] * self.execute
        kinds = [AddressType.UNTRANSLATED] * 40 + [AddressType.TRANSLATED] * 2 + list(AddressType)
        process = rng.randrange(1 << 20) if rng.random() < 0.02 else None
        access = rng.choice(accesses)
        if access is Access.READ:
            kinds += [AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH] * 2
        kind = rng.choice(kinds)
        announced = kind in (AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH)
        if announced and access is Access.READ:
            address |= rng.randrange(2)  # not to write
            # Whether and when a prefetch is done is not known, so none may set bits that others find.
            if kind is AddressType.PREFETCH and (self.ordered or any(self.updates)):
                kind = AddressType.TRANSLATION_REQUEST
        return Request(device, address, access, kind, process)


def generate(seed: int, capabilities: Capabilities | None = None, *, requests: int, execute: bool = False) -> World:
    """The world of a seed; the same whenever it is asked for."""
    return Generator(seed, capabilities or Capabilities(), requests=requests, execute=execute).world()
