# SPDX-License-Identifier: BSD-2-Clause
"""What can be wrong with an entry or a context, one thing at a time, chosen at random."""

import random
from collections.abc import Callable
from dataclasses import replace

from tests.golden import model
from tests.golden.model import VALID
from tests.golden.paging import PTE_A, PTE_D, PTE_G, PTE_N, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X
from tests.golden.tables import Context

#: Pages from here on are in no memory, whoever asks: not behind a guest's view of the first MiB either.
FAR_PAGE = 1 << 18

#: Identifiers of spaces whose root is in no memory.
LOST_PSCID, LOST_GSCID = (1 << 20) - 1, (1 << 16) - 1

Entry = tuple[int, int]  #: PPN and flags


def far_page(rng: random.Random, most: int = 44) -> int:
    """A page beyond all memory, of some number of bits up to ``most``, here and there up to what an entry holds."""
    bits = rng.randint(19, most if rng.random() < 0.95 else 44)
    return rng.randrange(1 << bits - 1, 1 << bits)


def _without(flags: int) -> Callable[[random.Random, Entry, int], Entry]:
    return lambda rng, entry, level: (entry[0], entry[1] & ~flags)


def _with(flags: int) -> Callable[[random.Random, Entry, int], Entry]:
    return lambda rng, entry, level: (entry[0], entry[1] | flags)


def _reserved(rng: random.Random, entry: Entry, level: int) -> Entry:
    return entry[0], entry[1] | 1 << rng.randrange(54, 63)


def _far(rng: random.Random, entry: Entry, level: int) -> Entry:
    return far_page(rng) & -(1 << 9 * level), entry[1]


def _misaligned(rng: random.Random, entry: Entry, level: int) -> Entry:
    return (entry[0] | 1 << rng.randrange(9 * level), entry[1]) if level else entry


def _napot(rng: random.Random, entry: Entry, level: int) -> Entry:
    """A range of 64 KiB at a level that has none, or of a size that is not 64 KiB."""
    return entry[0] & ~0xF | (8 if level else rng.choice((0, 4, 12, rng.randrange(1, 16, 2)))), entry[1] | PTE_N


def _pointer(rng: random.Random, entry: Entry, level: int) -> Entry:
    return far_page(rng), PTE_V


#: Of leaves. Their page is right for their level, and lost is only what the defect is about.
LEAF_DEFECTS = (
    _without(PTE_V),
    _without(PTE_R),
    _without(PTE_R | PTE_W),
    _without(PTE_X),
    _without(PTE_U),
    _without(PTE_U),
    _reserved,
    _far,
    _far,
    _misaligned,
    _napot,
    _pointer,
)
#: Of pointers.
POINTER_DEFECTS = (
    _without(PTE_V),
    _with(PTE_W),
    _with(PTE_A),
    _with(PTE_D),
    _with(PTE_U),
    _with(PTE_N),
    _reserved,
    _far,
    _far,
)
_TC_REFUSED = (model.EN_PRI, model.PRPR, model.T2GPA, model.PDTV, model.DPE, model.SBE, model.SXL)


def leaf_flags(rng: random.Random) -> int:
    """Flags of a leaf that may do everything, or lacks what leaves often lack."""
    flags = PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_A | PTE_D | rng.randrange(4) << 8
    for flag, rate in ((PTE_W, 0.1), (PTE_A, 0.2), (PTE_D, 0.3), (PTE_X, 0.2)):
        if rng.random() < rate:
            flags &= ~flag
    return flags


def spoil_leaf(rng: random.Random, entry: Entry, level: int) -> Entry:
    """A leaf with one thing wrong."""
    return rng.choice(LEAF_DEFECTS)(rng, entry, level)


def spoil_pointer(rng: random.Random, entry: int) -> int:
    """A pointer with one thing wrong."""
    ppn, flags = rng.choice(POINTER_DEFECTS)(rng, (entry >> 10 & (1 << 44) - 1, entry & (0x3FF | 0x3FF << 54)), 0)
    return ppn << 10 | flags & ~PTE_G


def spoil_directory(rng: random.Random, entry: int) -> int:
    """A directory's entry with one thing wrong."""
    kind = rng.randrange(3)
    if kind == 0:
        return entry & ~VALID
    if kind == 1:
        return entry | 1 << rng.choice((*range(1, 10), *range(54, 64)))
    return far_page(rng) << 10 | VALID


def spoil_context(rng: random.Random, context: Context, *, lose_first: bool) -> Context:
    """A context with one thing wrong; with ``lose_first``, that may be the root of its first stage."""
    kind = rng.randrange(9)
    if kind == 0:
        return replace(context, tc=context.tc & ~VALID)
    if kind == 1:
        return replace(context, tc=context.tc | rng.choice(_TC_REFUSED))
    if kind == 2:
        return replace(context, tc=context.tc | 1 << rng.choice((*range(12, 24), *range(32, 64))))
    if kind == 3:
        return replace(context, ta=context.ta | 1 << rng.choice((*range(12), *range(32, 64))))
    if kind == 4:
        return replace(context, fsc=context.fsc | 1 << rng.randrange(44, 60))
    if kind == 5:
        return replace(context, fsc=context.fsc & (1 << 60) - 1 | rng.choice((1, 7, 10, 12, 15)) << 60)
    if kind == 6:
        return replace(context, iohgatp=context.iohgatp & (1 << 60) - 1 | rng.choice((1, 7, 10, 11, 15)) << 60)
    if kind == 7:
        return replace(context, iohgatp=context.iohgatp | rng.randrange(1, 4))
    # A root that is in no memory; under an identifier of its own, for others may name tables that are there.
    root = far_page(rng) & ~0b11
    if lose_first and rng.random() < 0.5:
        return replace(context, fsc=context.fsc >> 60 << 60 | root, ta=LOST_PSCID << 12)
    return replace(context, iohgatp=context.iohgatp >> 60 << 60 | LOST_GSCID << 44 | root)
