# SPDX-License-Identifier: BSD-2-Clause
"""The golden model walks tables as the privileged architecture says: formats, permissions, A and D, both stages."""

import pytest

from tests.golden.model import GADE, SADE, Access, Capabilities, DirectoryMode, Iommu, Request
from tests.golden.paging import (
    LEVELS,
    PTE_A,
    PTE_D,
    PTE_G,
    PTE_N,
    PTE_R,
    PTE_U,
    PTE_V,
    PTE_W,
    PTE_X,
    SV39,
    SV48,
)
from tests.golden.tables import LEAF, PAGE, Context, Tables, table_entry

MODES = (SV39, SV48)
READ, WRITE, EXECUTE = Access
VA = 0x12_3456_7000  #: another index at each level
PA_PAGE = 0x8_7654
FAULTS = {READ: (5, 13, 21), WRITE: (7, 15, 23), EXECUTE: (1, 12, 20)}


class World:
    """A device with tables of the modes given; second-stage tables map whole memory to itself, 4 KiB a page.

    ``entry`` addresses the leaf of ``VA`` in the stage under test: the first, if there is one.
    """

    def __init__(self, first=0, second=0, *, tc=0, level=0, ppn=PA_PAGE, flags=LEAF, va=VA, **capabilities):
        self.tables = tables = Tables.empty()
        self.ddt = tables.take()
        self.first = first, tables.take() if first else 0
        self.second = second, tables.take_root() if second else 0
        context = Context.of(tc=tc, first=self.first, second=self.second)
        tables.put_context(DirectoryMode.LVL1, self.ddt, 0, context)
        stage, wide = (self.first, False) if first else (self.second, True)
        self.path = tables.map(*stage, va, ppn, level=level, flags=flags, wide=wide)
        self.entry = self.path[-1]
        if first and second:
            for page in range(len(tables.memory.data) // PAGE):
                self.map_second(page * PAGE, page)
            self.map_second(ppn * PAGE, ppn)
        self.capabilities = Capabilities(**capabilities)

    def map_second(self, guest, ppn, **fields):
        return self.tables.map(*self.second, guest, ppn, wide=True, **fields)

    def translate(self, iova=VA, access=READ):
        iommu = Iommu(self.tables.memory, DirectoryMode.LVL1, self.ddt, self.capabilities)
        return iommu.translate(Request(0, iova, access))

    def cause(self, iova=VA, access=READ):
        record = self.translate(iova, access).record
        return None if record is None else record.cause

    def iotval2(self, iova=VA, access=READ):
        return self.translate(iova, access).record.iotval2

    def set(self, flags, ppn=PA_PAGE):
        self.tables.write(self.entry, table_entry(ppn, flags))


def stages():
    """One stage at a time: (first, second) and the place of its page fault in FAULTS."""
    return [pytest.param(mode, 0, 1, id=f"first-{mode}") for mode in MODES] + [
        pytest.param(0, mode, 2, id=f"second-{mode}") for mode in MODES
    ]


@pytest.mark.parametrize(("first", "second", "place"), stages())
def test_leaves_of_every_level(first, second, place):
    for level in range(LEVELS[first or second]):
        size = PAGE << 9 * level
        ppn = 5 << 9 * level
        world = World(first, second, level=level, ppn=ppn)
        result = world.translate(VA + 0x123)
        assert (result.address, result.size) == (ppn * PAGE + (VA + 0x123) % size, size)
        assert len(result.fetches) == 1 + LEVELS[first or second] - level
        for bit in range(9 * level):
            world.set(LEAF, ppn | 1 << bit)  # misaligned
            assert world.cause() == FAULTS[READ][place]


@pytest.mark.parametrize(("first", "second", "place"), stages())
def test_napot(first, second, place):
    world = World(first, second, ppn=0x8_7658, flags=LEAF | PTE_N)
    for page in range(16):
        world.tables.map(
            *(world.first if first else world.second),
            VA & -0x10000 | page * PAGE,
            0x8_7658,
            flags=LEAF | PTE_N,
            wide=not first,
        )
        result = world.translate(VA & -0x10000 | page * PAGE | 0x18)
        assert (result.address, result.size) == (0x8765_0018 | page * PAGE, 1 << 16)
    for low in set(range(16)) - {0b1000}:
        world.set(LEAF | PTE_N, 0x8_7650 | low)
        assert world.cause() == FAULTS[READ][place]
    large = World(first, second, level=1, ppn=8 << 9, flags=LEAF | PTE_N)
    assert large.cause() == FAULTS[READ][place]
    large.set(LEAF | PTE_N, 0b1000)
    assert large.cause() == FAULTS[READ][place]


@pytest.mark.parametrize(("first", "second", "place"), stages())
@pytest.mark.parametrize("access", Access)
def test_formats_that_fault(first, second, place, access):
    world = World(first, second)
    fault = FAULTS[access][place]
    for flags in (0, LEAF & ~PTE_V, LEAF & ~PTE_R, LEAF & ~(PTE_R | PTE_X), LEAF & ~PTE_U, PTE_V):
        world.set(flags)
        assert world.cause(VA, access) == fault, f"flags {flags:#x}"
    for bit in range(54, 63):
        world.set(LEAF | 1 << bit)
        assert world.cause(VA, access) == fault, f"bit {bit}"
    for bit in (5, 8, 9):
        world.set(LEAF | 1 << bit)  # G and RSW
        assert world.cause(VA, access) is None, f"bit {bit}"


@pytest.mark.parametrize(("first", "second", "place"), stages())
def test_pointers(first, second, place):
    world = World(first, second)
    pointer = world.path[-2]
    good = world.tables.read(pointer)
    for flags in (PTE_A, PTE_D, PTE_U, PTE_N, 1 << 54, 1 << 60, 1 << 61, 1 << 62):
        world.tables.write(pointer, good | flags)
        assert world.cause() == FAULTS[READ][place], f"flags {flags:#x}"
    world.tables.write(pointer, good | PTE_G | 0b11 << 8)
    assert world.cause() is None
    world.tables.write(pointer, table_entry(1 << 40, PTE_V))
    assert [world.cause(VA, access) for access in Access] == [5, 7, 1]


@pytest.mark.parametrize(("first", "second", "place"), stages())
def test_permissions(first, second, place):
    allowed = {READ: PTE_R, WRITE: PTE_R | PTE_W, EXECUTE: PTE_R | PTE_X}
    world = World(first, second)
    for permissions in (PTE_R, PTE_R | PTE_W, PTE_X, PTE_R | PTE_X, PTE_R | PTE_W | PTE_X):
        world.set(LEAF & ~(PTE_R | PTE_W | PTE_X) | permissions)
        for access in Access:
            expected = None if permissions & allowed[access] == allowed[access] else FAULTS[access][place]
            assert world.cause(VA, access) == expected, f"permissions {permissions:#x}, {access}"


@pytest.mark.parametrize(("first", "second", "place"), stages())
@pytest.mark.parametrize("update", [False, True])
def test_accessed_and_dirty(first, second, place, update):
    world = World(first, second, tc=(SADE if first else GADE) if update else 0)
    for old in (0, PTE_A, PTE_D, PTE_A | PTE_D):
        for access in Access:
            world.set(LEAF & ~(PTE_A | PTE_D) | old)
            before = world.tables.read(world.entry)
            missing = (PTE_A | PTE_D if access is WRITE else PTE_A) & ~old
            result = world.translate(VA, access)
            after = world.tables.read(world.entry)
            if missing and not update:
                assert result.record.cause == FAULTS[access][place]
                assert (after, result.updates) == (before, [])
            else:
                assert result.record is None
                assert after == before | missing
                assert result.updates == ([(world.entry, before, after)] if missing else [])


def test_what_is_refused_is_not_marked():
    world = World(SV39, tc=SADE, flags=LEAF & ~(PTE_A | PTE_D | PTE_W))
    assert world.cause(VA, WRITE) == 15
    assert not world.tables.read(world.entry) & (PTE_A | PTE_D)


@pytest.mark.parametrize("mode", MODES)
def test_canonical_addresses(mode):
    bits = 3 + 9 * LEVELS[mode]
    top = (1 << 64) - (1 << 9 + bits - 1)
    world = World(mode, va=top)
    assert world.cause(top) is None
    assert world.cause(top & ~(1 << 63)) == 13
    assert world.cause(top ^ 1 << bits + 9) == 13
    assert world.cause(1 << bits + 8) == 13


@pytest.mark.parametrize("mode", MODES)
def test_guest_address_width(mode):
    width = 14 + 9 * LEVELS[mode]
    last = (1 << width) - PAGE
    world = World(0, mode, va=last)
    assert world.translate(last | 8).address == PA_PAGE * PAGE | 8
    for access in Access:
        assert world.cause(last + PAGE, access) == FAULTS[access][2]
        assert world.iotval2(last + PAGE + 7, access) == last + PAGE + 4
    assert world.cause((1 << 64) - PAGE) == 21
    assert world.translate(last + PAGE).fetches[1:] == []


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
def test_nested(first, second):
    world = World(first, second)
    assert world.translate(VA | 0xABC).address == PA_PAGE * PAGE | 0xABC
    # The first stage's leaf lies in a page that the guest may not touch.
    guest = world.entry & -PAGE
    for flags in (0, LEAF & ~PTE_R & ~PTE_W, LEAF & ~PTE_U, LEAF & ~PTE_A):
        world.map_second(guest, guest // PAGE, flags=flags)
        for access in Access:
            assert world.cause(VA, access) == FAULTS[access][2]
            assert world.iotval2(VA, access) == world.entry | 1
    world.map_second(guest, guest // PAGE, flags=LEAF & ~PTE_D & ~PTE_W & ~PTE_X)
    assert [world.cause(VA, access) for access in Access] == [None] * 3
    # The guest page itself is not there.
    world.map_second(PA_PAGE * PAGE, PA_PAGE, flags=0)
    assert world.cause() == 21
    assert world.iotval2(VA | 0xFFF) == PA_PAGE * PAGE | 0xFFC
    # Its address has more bits than the second stage takes.
    world.set(LEAF, 1 << 43)
    assert world.cause() == 21
    assert world.iotval2() == 1 << 55
    world.set(LEAF & ~PTE_U)
    assert (world.cause(), world.iotval2()) == (13, 0)


def test_size_of_a_nested_page_is_the_smaller():
    world = World(SV39, SV39, level=1, ppn=0x200)
    assert world.translate(VA).address is None
    guest = 0x200 * PAGE | VA % (1 << 21)
    world.map_second(guest, 77)
    assert (world.translate().address, world.translate().size) == (77 * PAGE, PAGE)
    world.tables.map_64k(*world.second, guest, 0x60, wide=True)
    assert (world.translate().address, world.translate().size) == (0x67 * PAGE, 1 << 16)
    small = World(SV39, SV39, ppn=0x20_0007)
    small.map_second(0, 0, level=2)
    small.map_second(1 << 33, 5 << 18, level=2)
    assert (small.translate().address, small.translate().size) == ((5 << 30) + 0x7000, PAGE)


@pytest.mark.parametrize(
    ("flags", "tc", "cause"),
    [
        (LEAF, SADE, None),
        (LEAF & ~PTE_W, SADE, 21),
        (LEAF & ~PTE_D, SADE, 21),
        (LEAF & ~PTE_D, SADE | GADE, None),
        (LEAF & ~PTE_D & ~PTE_W, SADE | GADE, 21),
        (LEAF & ~PTE_D, GADE, 13),
    ],
)
def test_marking_under_a_second_stage_is_an_implicit_write(flags, tc, cause):
    world = World(SV39, SV39, tc=tc, flags=LEAF & ~PTE_A)
    guest = world.entry & -PAGE
    leaf = world.map_second(guest, guest // PAGE, flags=flags)[-1]
    result = world.translate()
    marked = bool(world.tables.read(world.entry) & PTE_A)
    if cause is None:
        assert result.record is None
        assert marked
        assert world.tables.read(leaf) & PTE_D
    else:
        assert result.record.cause == cause
        assert result.record.iotval2 == (world.entry | 0b11 if cause == 21 else 0)
        assert not marked


def test_no_memory_beyond_the_physical_width_for_pages_and_tables():
    for stage in ((SV39, 0), (0, SV39)):
        world = World(*stage, ppn=(1 << 28) - 1, physical_bits=40)
        assert world.translate().address == ((1 << 28) - 1) * PAGE
        world.set(LEAF, 1 << 28)
        assert [world.cause(VA, access) for access in Access] == [5, 7, 1]


# Cold fetch counts of the reference model of the specification's authors: a directory of n levels takes n reads, the
# last of them 32 bytes.
@pytest.mark.parametrize(
    ("first", "second", "first_level", "second_level", "reads"),
    [
        (SV39, 0, 0, 0, 3),
        (SV39, 0, 1, 0, 2),
        (SV48, 0, 0, 0, 4),
        (0, SV39, 0, 0, 3),
        (0, SV39, 0, 1, 2),
        (SV39, SV39, 0, 0, 15),
        (SV39, SV39, 0, 1, 11),
        (SV39, SV39, 1, 1, 8),
        (SV48, SV48, 0, 0, 24),
    ],
)
def test_cold_fetch_counts(first, second, first_level, second_level, reads):
    tables = Tables.empty()
    ddt = tables.take()
    first_root = tables.take()
    second_root = tables.take_root()
    context = Context.of(
        first=(first, first_root) if first else (0, 0), second=(second, second_root) if second else (0, 0)
    )
    tables.put_context(DirectoryMode.LVL1, ddt, 0, context)
    if first:
        tables.map(first, first_root, VA, 0x200, level=first_level)
    if second:
        for guest in (*range(0, 1 << 20, PAGE), VA, 0x200 * PAGE, 0x200 * PAGE | VA % (1 << 21)):
            base = guest >> 21 << 9 if second_level else guest >> 12
            tables.map(second, second_root, guest, base, level=second_level, wide=True)
    result = Iommu(tables.memory, DirectoryMode.LVL1, ddt).translate(Request(0, VA))
    assert result.record is None
    assert [fetch.length for fetch in result.fetches] == [32] + [8] * reads
