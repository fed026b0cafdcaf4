# SPDX-License-Identifier: BSD-2-Clause
"""What the IOMMU's blocks exchange: payloads and signatures only. :mod:`hw.iommu.iommu` draws who is joined to whom."""

from typing import Any

from amaranth import Cat, Mux, Value
from amaranth.hdl import Const
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import PPN_BITS, Cause, DirectoryMode, FirstMode, SecondMode, TransactionType
from hw.abi.rings import Sideband
from hw.config import IommuConfig

PAGE_BITS = 52  #: of a virtual page number: address bits 63:12
LOOKUP_CYCLES = 3  #: from a translation's request to its answer


class Access(enum.Enum, shape=2):
    """What a request wants to do."""

    READ = 0
    WRITE = 1
    EXECUTE = 2  #: only a debug translation
    TRANSLATE = 3  #: a translation request: to read, and to write where that is allowed


class PageSize(enum.Enum, shape=2):
    """Size of what one IOTLB entry maps."""

    SIZE_4K = 0
    SIZE_64K = 1
    SIZE_2M = 2
    SIZE_1G = 3


SIZE_BITS = {PageSize.SIZE_4K: 0, PageSize.SIZE_64K: 4, PageSize.SIZE_2M: 9, PageSize.SIZE_1G: 18}  #: page-number bits


def size_mask(size: Value, width: int = PAGE_BITS) -> Value:
    """The page-number bits that a page of this size does not translate."""
    mask: Any = Const(0, width)
    for each, bits in SIZE_BITS.items():
        mask = Mux(size == each, (1 << bits) - 1, mask)
    return mask


def sized_page(ppn: Value, size: Value) -> Value:
    """A page's number, with its size in the low bits where that is not 4 KiB: a 0 and 1s below it, as many as the size
    has bits."""
    mask = size_mask(size, len(ppn))
    return (ppn & ~mask) | (mask >> 1)


class Space(data.Struct):
    """Whose addresses: the tag of cached translations. ``pscid`` counts where the first stage is in use, ``gscid``
    where the second is; the other is 0, so that equal spaces are equal bits."""

    first: 1
    pscid: 20
    second: 1
    gscid: 16


class Context(data.Struct):
    """What translation needs of a valid device context."""

    enable_ats: 1
    quiet: 1  #: tc.DTF
    sade: 1
    gade: 1
    first_mode: FirstMode
    first_ppn: PPN_BITS
    second_mode: SecondMode
    second_ppn: PPN_BITS
    space: Space


class Translation(data.Struct):
    """What an IOTLB entry says of a page. ``ppn`` is that of the page's first 4 KiB."""

    ppn: PPN_BITS
    readable: 1
    writable: 1  #: and no D bit is left to set


class WalkRequest(data.Struct):
    """A miss. Requests that are equal in all of these fields share a walk."""

    requester: Sideband
    page: PAGE_BITS
    access: Access
    crosses: 1  #: it is for a burst that goes beyond its page


class WalkResult(data.Struct):
    """What a walk found. ``ppn`` is that of the requested 4 KiB page itself; it counts if ``cause`` is NONE.

    A walk knows pages only, so :func:`fault_iotval2` makes a fault record's iotval2 from this one."""

    cause: Cause
    quiet: 1  #: the fault is not to be reported
    ppn: PPN_BITS
    size: PageSize
    iotval2: 64
    readable: 1  #: also only without a cause
    writable: 1


def fault_iotval2(result: Any, address: Value) -> Value:
    """iotval2 of the record of a fault at ``address``: of a guest-page fault of the access itself (not of its table
    entries, which bit 0 tells) the address in the guest's page is the request's."""
    guest: Any = Const(0)
    for cause in (Cause.INSTRUCTION_GUEST_PAGE, Cause.READ_GUEST_PAGE, Cause.WRITE_GUEST_PAGE):
        guest |= result.cause == cause
    offset = Cat(Const(0, 2), address[2:12])
    return result.iotval2 | Mux(guest & ~result.iotval2[0], offset, 0)


class Outcome(enum.Enum, shape=2):
    """Answer to a translation's request."""

    RETRY = 0  #: no walk could be taken on: ask again
    HIT = 1  #: ``ppn`` is the physical page, of a page of ``size`` that may be written where ``writable``
    WALK = 2  #: walk ``walk`` will find it; its result is held until released


class TranslationAnswer(data.StructLayout):
    """See :class:`TranslationSignature`."""

    def __init__(self, config: IommuConfig):
        super().__init__(
            {
                "outcome": Outcome,
                "ppn": PPN_BITS,
                "size": PageSize,
                "writable": 1,
                "walk": range(config.walks),
            }
        )


class TranslationSignature(wiring.Signature):
    """A channel's way to the translator, seen from the channel.

    A request (``request`` strobe; one a cycle, never refused) is answered exactly ``LOOKUP_CYCLES`` cycles later, in
    order, by ``answered``: asked on the clock edge that ends cycle *c*, ``answer`` stands in cycle *c* + 3. HIT is
    given only where the access is allowed with nothing left to do; everything else is found out by a walk.

    Every WALK answer is a claim on that walk: once ``finished[walk]`` is on, the channel reads the result (``look`` is
    combinational to ``result``) and gives each claim back by one ``release`` strobe with ``look`` naming the walk. A
    walk's result stays while it has claims.

    Reads may be translation requests, of which a HIT tells all that there is to tell, and prefetches. A prefetch that
    misses begins a walk, if one is free, and makes no claim on it, whatever its answer says.

    Members
    -------
    request, requester, address, access : the request
    crosses : it is for a burst that goes beyond its 4 KiB page, which is not to be translated
    first : it is the request's first lookup, not another try (for the performance counters)
    hold : in the cycle of an answer: without a hit it is to be RETRY, as an older request has to get its walk first
    """

    def __init__(self, config: IommuConfig):
        super().__init__(
            {
                "request": Out(1),
                "requester": Out(Sideband),
                "address": Out(64),
                "access": Out(Access),
                "crosses": Out(1),
                "first": Out(1),
                "hold": Out(1),
                "answered": In(1),
                "answer": In(TranslationAnswer(config)),
                "finished": In(config.walks),
                "look": Out(range(config.walks)),
                "result": In(WalkResult),
                "release": Out(1),
            }
        )


class InvalidationKind(enum.Enum, shape=2):
    """Which translations an invalidation is about."""

    VMA = 0  #: first-stage, and first and second combined
    GVMA = 1  #: second-stage, and first and second combined
    CONTEXT = 2  #: device contexts


class Invalidation(data.Struct):
    """One invalidation, decoded. Each ``*_valid`` says whether its field restricts it.

    ``page`` with ``mask`` is a range: bits of ``mask`` do not count. With ``page_valid`` only leaves are dropped, and
    non-leaf entries as well where ``nonleaf``; without it both are. VMA without ``gscid_valid`` is about spaces without
    a second stage, with it about those of that GSCID. ``pscid_valid`` spares global leaves.
    """

    kind: InvalidationKind
    page_valid: 1
    page: PAGE_BITS
    mask: PAGE_BITS
    nonleaf: 1
    pscid_valid: 1
    pscid: 20
    gscid_valid: 1
    gscid: 16
    device_valid: 1
    device_id: 24


#: Invalidations, seen from the command queue. A cache takes one (``ready``) in the cycle after which no lookup finds an
#: entry that it covers; the payload holds until then. Fills that come while one is offered are dropped.
INVALIDATIONS = stream.Signature(Invalidation)


class FaultReport(data.Struct):
    """What becomes a fault record."""

    cause: Cause
    ttyp: TransactionType
    device_id: 24
    process_id: 20
    process_id_valid: 1
    privileged: 1
    iotval: 64
    iotval2: 64


class FenceSignature(wiring.Signature):
    """How the command queue waits for accesses, seen from it. A channel marks each access that it accepts with
    ``color``; ``busy[k]`` is on while one of color *k* is without its last response."""

    def __init__(self) -> None:
        super().__init__({"color": Out(1), "busy": In(2)})


class Directory(data.Struct):
    """Register ddtp."""

    mode: DirectoryMode
    ppn: PPN_BITS


class LookupEvent(data.Struct):
    """A request's outcome, once for each lookup that was its first (see :class:`TranslationSignature`). ``space`` is 0
    where no context was found."""

    strobe: 1
    miss: 1
    dropped: 1  #: a prefetch that missed and got no walk
    requester: Sideband
    space: Space


class WalkEvent(data.Struct):
    """What a walk does in this cycle: see :class:`hw.abi.iommu.Event`."""

    directory: 1
    first: 1
    second: 1
    read: 1
    cache_hit: 1
    requester: Sideband
    space: Space


class EventsSignature(wiring.Signature):
    """To the performance counters, seen from those who cause events.

    ``lookups`` are the write channel's and the read channel's, ``invalidated`` counts leaf entries dropped in this
    cycle, ``faults`` requests answered with an error in this cycle, of each channel.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "lookups": Out(LookupEvent).array(2),
                "walk": Out(WalkEvent),
                "invalidated": Out(8),
                "faults": Out(1).array(2),
            }
        )


class WalkSignature(wiring.Signature):
    """Asking the walk table for a walk, seen from who misses. In the cycle of ``request``, ``taken`` says whether
    ``walk`` is a claim on a walk (see :class:`TranslationSignature`); otherwise no walk was free, or another asker went
    first. A ``prefetch`` makes no claim: there is, or begins, such a walk if it is taken."""

    def __init__(self, config: IommuConfig):
        super().__init__(
            {
                "request": Out(1),
                "prefetch": Out(1),
                "wanted": Out(WalkRequest),
                "taken": In(1),
                "walk": In(range(config.walks)),
            }
        )


class ClaimSignature(wiring.Signature):
    """Reading and giving back walks, seen from who holds claims: see :class:`TranslationSignature`."""

    def __init__(self, config: IommuConfig):
        super().__init__(
            {
                "finished": In(config.walks),
                "look": Out(range(config.walks)),
                "result": In(WalkResult),
                "release": Out(1),
            }
        )


class ContextLookup(wiring.Signature):
    """One lookup a cycle in the cache of device contexts, seen from who looks: presented in cycle *c*, the answer
    stands in cycle *c* + 1."""

    def __init__(self) -> None:
        super().__init__({"device_id": Out(24), "hit": In(1), "context": In(Context)})


class ContextFill(wiring.Signature):
    """A context for the cache, seen from the walker."""

    def __init__(self) -> None:
        super().__init__({"strobe": Out(1), "device_id": Out(24), "context": Out(Context)})


class TlbFill(wiring.Signature):
    """A leaf for the IOTLB, seen from the walker. ``everywhere``: of every PSCID of its GSCID (the G bit).
    ``fragment``: a stage's leaf is larger than ``size``, so that an invalidation of another page of that leaf drops
    this one as well. A fill of what is there already replaces it."""

    def __init__(self) -> None:
        super().__init__(
            {
                "strobe": Out(1),
                "space": Out(Space),
                "everywhere": Out(1),
                "fragment": Out(1),
                "page": Out(PAGE_BITS),
                "size": Out(PageSize),
                "translation": Out(Translation),
            }
        )


WALK_CACHE_CYCLES = 3  #: from a lookup in the walk caches to its answer


class WalkCacheLookup(wiring.Signature):
    """The deepest cached non-leaf entry for a page, seen from the walker: presented with ``strobe`` in cycle *c*, the
    answer stands in cycle *c* + ``WALK_CACHE_CYCLES``. With ``found``, ``ppn`` is the physical page of the table of
    ``level`` 0..2.

    ``space`` tells the stage: with ``first`` on, entries of the first stage (under a second stage their ``ppn`` is
    already translated), otherwise those of the second, whose ``page`` is a guest page.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "strobe": Out(1),
                "space": Out(Space),
                "page": Out(PAGE_BITS),
                "found": In(1),
                "level": In(2),
                "ppn": In(PPN_BITS),
            }
        )


class WalkCacheFill(wiring.Signature):
    """A non-leaf entry for the walk caches, seen from the walker: ``ppn`` is the physical page of the table of
    ``level`` that serves ``page``."""

    def __init__(self) -> None:
        super().__init__(
            {"strobe": Out(1), "space": Out(Space), "page": Out(PAGE_BITS), "level": Out(2), "ppn": Out(PPN_BITS)}
        )
