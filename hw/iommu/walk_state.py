# SPDX-License-Identifier: BSD-2-Clause
"""What a walk remembers between two answers of memory, and how the walk table and the walker talk about walks."""

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import Out

from hw.abi.iommu import PPN_BITS
from hw.config import IommuConfig
from hw.iommu.interfaces import PAGE_BITS, Context, PageSize, WalkRequest, WalkResult
from hw.iommu.table_entry import EntryVerdict

MAX_TRIES = 64  #: exclusive writes of one walk that may fail before it gives up


class WalkStart(data.StructLayout):
    """A walk to be done."""

    def __init__(self, config: IommuConfig):
        super().__init__({"walk": range(config.walks), "request": WalkRequest})


def walk_starts(config: IommuConfig) -> stream.Signature:
    """New walks, from the walk table to the walker."""
    return stream.Signature(WalkStart(config))


class FinishSignature(wiring.Signature):
    """The end of a walk, seen from the walker: one strobe for each walk that it started."""

    def __init__(self, config: IommuConfig):
        super().__init__({"strobe": Out(1), "walk": Out(range(config.walks)), "result": Out(WalkResult)})


class Happening(enum.Enum, shape=2):
    """Why a walk takes a step."""

    START = 0  #: it is new
    LOOKED = 1  #: the walk caches have answered
    READ = 2  #: memory has answered a read
    WRITTEN = 3  #: memory has answered an exclusive write


class Move(enum.Enum, shape=3):
    """What a walk does next."""

    WAIT = 0  #: for more of the same
    REFUSE = 1  #: end with a fault
    ENTER = 2  #: the context is known: begin to translate
    ROOT = 3  #: walk the first stage from its root
    TRANSLATE = 4  #: walk the second stage for the guest's page
    READ = 5  #: read the awaited entry
    WRITE = 6  #: write it exclusively
    FINISH = 7  #: end with a page


class Awaited(enum.Enum, shape=2):
    """What the next data from memory are."""

    DIRECTORY = 0  #: a non-leaf entry of the device directory
    CONTEXT = 1  #: a double-word of the device context
    FIRST = 2  #: an entry of a first-stage table
    SECOND = 3  #: an entry of a second-stage table


class Purpose(enum.Enum, shape=2):
    """Why the second stage is walked."""

    ACCESS = 0  #: for the page of the request
    ENTRY_READ = 1  #: for the page of a first-stage entry, to read that
    ENTRY_UPDATE = 2  #: the same, to set its A or D bit


class Leaf(data.Struct):
    """What the first stage says of the page. ``fragment``: a stage's leaf is larger than ``size``."""

    size: PageSize
    readable: 1
    writable: 1
    everywhere: 1
    fragment: 1


class WalkState(data.Struct):
    """A walk between two steps: one row of the walker's memory.

    ``level`` is that of the directory or first-stage entry under way, ``second_level`` that of the second-stage entry.
    ``table`` is the physical page of the table that holds the awaited entry. ``guest`` is the page to which the second
    stage is applied.
    """

    request: WalkRequest
    context: Context
    awaited: Awaited
    level: 2
    second_level: 2
    purpose: Purpose
    table: PPN_BITS
    guest: PAGE_BITS
    guest_known: 1  #: ``guest`` is the page of the awaited first-stage entry: its table was not found in a cache
    exclusive: 1  #: the awaited entry is read exclusively, for an update
    entry: 64  #: what the exclusive write under way writes
    tries: range(MAX_TRIES)
    leaf: Leaf
    beat: 2  #: double-words of the context that have come
    unreadable: 1  #: memory answered one of them with an error
    invalid: 1
    misconfigured: 1


class Answer(data.Struct):
    """What came for a walk, and what it is worth."""

    happening: Happening
    known: 1  #: START: the context was cached
    found: 1  #: LOOKED: the walk caches had something
    found_level: 2
    found_ppn: PPN_BITS
    word: 64  #: READ: data; WRITTEN: the entry as it is now
    failed: 1  #: READ, WRITTEN: memory answered with an error
    lost: 1  #: WRITTEN: the exclusive write was not done
    invalid: 1  #: as a word of the directory
    misconfigured: 1
    verdict: EntryVerdict  #: as an entry of a table
