# SPDX-License-Identifier: BSD-2-Clause
"""What software and the IOMMU exchange in memory: every bit of contexts, table entries, commands and fault records.

The RISC-V IOMMU Architecture Specification, version 1.0, base formats. The first field of a layout is its least
significant. Registers are in :file:`iommu.rdl`.
"""

from amaranth.lib import data, enum

PAGE_SHIFT = 12
PPN_BITS = 44  #: physical addresses have 56 bits
COMMAND_BYTES = 16
FAULT_BYTES = 32
CONTEXT_BYTES = 32  #: base format
PTE_BYTES = 8
DIRECTORY_BITS = (7, 9, 8)  #: device_id bits that index each level of the directory, from the leaf up (base format)
NAPOT_PPN = 0b1000  #: low PPN bits of a 64 KiB leaf (Svnapot)


class DirectoryMode(enum.Enum, shape=4):
    """Register ddtp, field iommu_mode."""

    OFF = 0
    BARE = 1
    LVL1 = 2
    LVL2 = 3
    LVL3 = 4


class FirstMode(enum.Enum, shape=4):
    """Mode of the first stage: fsc.MODE with PDTV = 0."""

    BARE = 0
    SV39 = 8
    SV48 = 9


class SecondMode(enum.Enum, shape=4):
    """Mode of the second stage: iohgatp.MODE."""

    BARE = 0
    SV39X4 = 8
    SV48X4 = 9


class TranslationControl(data.Struct):
    """tc, the first double-word of a device context."""

    v: 1
    en_ats: 1
    en_pri: 1
    t2gpa: 1
    dtf: 1  #: faults of translation are not reported
    pdtv: 1
    prpr: 1
    gade: 1
    sade: 1
    dpe: 1
    sbe: 1
    sxl: 1
    reserved: 12
    custom: 8  #: any value is allowed; none means anything here
    reserved_high: 32


class SecondStage(data.Struct):
    """iohgatp, the second."""

    ppn: PPN_BITS
    gscid: 16
    mode: SecondMode


class TranslationAttributes(data.Struct):
    """ta, the third."""

    reserved: 12
    pscid: 20
    reserved_high: 32


class FirstStage(data.Struct):
    """fsc, the fourth, where PDTV = 0."""

    ppn: PPN_BITS
    reserved: 16
    mode: FirstMode


class DeviceContext(data.Struct):
    """A leaf of the device directory."""

    tc: TranslationControl
    iohgatp: SecondStage
    ta: TranslationAttributes
    fsc: FirstStage


class DirectoryEntry(data.Struct):
    """A non-leaf entry of the device directory."""

    v: 1
    reserved: 9
    ppn: PPN_BITS
    reserved_high: 10


class PageTableEntry(data.Struct):
    """An entry of either stage's page table. ``r | w | x`` makes it a leaf."""

    v: 1
    r: 1
    w: 1
    x: 1
    u: 1
    g: 1
    a: 1
    d: 1
    rsw: 2
    ppn: PPN_BITS
    reserved: 7
    pbmt: 2
    n: 1


class Opcode(enum.Enum, shape=7):
    """Command, bits 6:0."""

    IOTINVAL = 1
    IOFENCE = 2
    IODIR = 3
    ATS = 4


class InvalidateFunction(enum.Enum, shape=3):
    """func3 of IOTINVAL."""

    VMA = 0
    GVMA = 1


class DirectoryFunction(enum.Enum, shape=3):
    """func3 of IODIR."""

    INVAL_DDT = 0
    INVAL_PDT = 1


class AtsFunction(enum.Enum, shape=3):
    """func3 of ATS."""

    INVAL = 0
    PRGR = 1


class InvalidateCommand(data.Struct):
    """IOTINVAL.VMA and .GVMA. With ``s`` the address names a naturally aligned power-of-two range of two pages or more,
    of as many pages as its trailing ones say."""

    opcode: Opcode
    func3: 3
    av: 1
    reserved: 1
    pscid: 20
    pscv: 1
    gv: 1
    nl: 1
    reserved_35: 9
    gscid: 16
    reserved_60: 4
    reserved_64: 9
    s: 1
    address: 52  #: address bits 63:12
    reserved_126: 2


class FenceCommand(data.Struct):
    """IOFENCE.C."""

    opcode: Opcode
    func3: 3
    av: 1
    wsi: 1
    pr: 1
    pw: 1
    reserved: 18
    data: 32
    address: 62  #: address bits 63:2
    reserved_126: 2


class DirectoryCommand(data.Struct):
    """IODIR.INVAL_DDT and .INVAL_PDT."""

    opcode: Opcode
    func3: 3
    reserved: 2
    pid: 20
    reserved_32: 1
    dv: 1
    reserved_34: 6
    did: 24
    reserved_64: 64


class AtsCommand(data.Struct):
    """ATS.INVAL and .PRGR."""

    opcode: Opcode
    func3: 3
    reserved: 2
    pid: 20
    pv: 1
    dsv: 1
    reserved_34: 6
    rid: 16
    dseg: 8
    payload: 64  #: of INVAL: global in bit 0, size in bit 11, address bits 63:12


class Cause(enum.Enum, shape=12):
    """Why a request was refused: CAUSE of a fault record."""

    NONE = 0  #: no fault
    INSTRUCTION_ACCESS = 1
    READ_ACCESS = 5
    WRITE_ACCESS = 7
    INSTRUCTION_PAGE = 12
    READ_PAGE = 13
    WRITE_PAGE = 15
    INSTRUCTION_GUEST_PAGE = 20
    READ_GUEST_PAGE = 21
    WRITE_GUEST_PAGE = 23
    ALL_DISALLOWED = 256
    DIRECTORY_ACCESS = 257
    DIRECTORY_INVALID = 258
    DIRECTORY_MISCONFIGURED = 259
    TYPE_DISALLOWED = 260
    DIRECTORY_CORRUPT = 268
    INTERNAL = 272
    TABLE_CORRUPT = 274


#: Causes that are reported although the context says DTF = 1.
ALWAYS_REPORTED = (
    Cause.ALL_DISALLOWED,
    Cause.DIRECTORY_ACCESS,
    Cause.DIRECTORY_INVALID,
    Cause.DIRECTORY_MISCONFIGURED,
    Cause.DIRECTORY_CORRUPT,
    Cause.INTERNAL,
)


class TransactionType(enum.Enum, shape=6):
    """TTYP of a fault record."""

    NONE = 0
    UNTRANSLATED_EXECUTE = 1
    UNTRANSLATED_READ = 2
    UNTRANSLATED_WRITE = 3
    TRANSLATED_EXECUTE = 5
    TRANSLATED_READ = 6
    TRANSLATED_WRITE = 7
    ATS_REQUEST = 8
    MESSAGE = 9


class FaultRecord(data.Struct):
    """An entry of the fault queue. Of a guest-page fault, ``iotval2`` has the guest address, and in bit 0 that it was
    the address of a first-stage entry, in bit 1 that the entry was to be written."""

    cause: Cause
    pid: 20
    pv: 1
    priv: 1
    ttyp: TransactionType
    did: 24
    custom: 32
    reserved: 32
    iotval: 64
    iotval2: 64


NO_WRITE = 0  #: the bit of a translation request's or prefetch's address that says: not to write (PCIe ATS: NW)


class TranslationCompletion(data.Struct):
    """What a translation request is answered with, in each 64 bits of data (PCIe ATS, translation completion data
    entry). With neither ``r`` nor ``w`` there is no translation, and the rest means nothing.

    With ``s`` the translation is of a naturally aligned power-of-two range of two pages or more, of as many pages as
    the trailing ones of ``page`` say, as in :class:`InvalidateCommand`; without, of 4 KiB.
    """

    r: 1  #: the device may read
    w: 1  #: it may write
    u: 1  #: it must use the untranslated address: never here
    exe: 1  #: it may execute: never here, as no request can ask for it
    priv: 1  #: for privileged accesses: never here, nor are the fields up to ``n``
    everywhere: 1  #: "global": in all processes
    cxl_io: 1
    ama: 3
    n: 1  #: accesses need no snoop
    s: 1
    page: 52  #: physical address bits 63:12


class Event(enum.Enum, shape=15):
    """iohpmevt, field eventID: those of the specification, then our own in the range left to implementations."""

    NONE = 0
    UNTRANSLATED = 1  #: untranslated requests and debug translations, once each
    TRANSLATED = 2  #: translated requests, once each
    ATS_REQUEST = 3  #: translation requests, once each
    TLB_MISS = 4  #: requests whose first lookup did not hit: no leaf, no context, not enough permission, or refused;
    #: prefetches count among their own only
    DIRECTORY_WALK = 5  #: searches of the device directory, whatever number of entries they read
    PROCESS_WALK = 6  #: searches of a process directory: none, as there is none
    FIRST_WALK = 7  #: walks of a first-stage table, whatever number of entries they read
    SECOND_WALK = 8  #: walks of a second-stage table; a nested walk makes several
    TABLE_READ = 0x4000  #: reads on the walk port: entries of directory and tables, 32-byte contexts once each
    WALK_CACHE_HIT = 0x4001  #: walks of either stage's table that began below the root
    INVALIDATED = 0x4002  #: leaf entries that invalidations dropped
    FAULT = 0x4003  #: requests answered with an error because of their translation, once each
    PREFETCH = 0x4004  #: prefetches, once each
    PREFETCH_DROPPED = 0x4005  #: those of them that found neither their leaf nor a walk


class InvalidationRequest(data.Struct):
    """Message to a device: drop translations of a range and acknowledge (PCIe ATS invalidate request)."""

    tag: 5
    process_id: 20
    process_id_valid: 1
    device_id: 24
    everywhere: 1  #: "global": of all processes
    size: 1  #: the address names a range, as in :class:`InvalidateCommand`
    address: 52  #: address bits 63:12


class InvalidationCompletion(data.Struct):
    """Message from a device: the invalidation with this tag is done."""

    tag: 5
    device_id: 24
