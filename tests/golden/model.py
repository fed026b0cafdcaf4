# SPDX-License-Identifier: BSD-2-Clause
"""The RISC-V IOMMU as its specification reads: what the hardware is compared with.

Written from the RISC-V IOMMU Architecture Specification 1.0 ("IOMMU" below) and the privileged architecture ("PRIV"),
and sharing nothing with the hardware, its constants neither. It walks memory afresh for every request: no caches, one
request at a time. What the hardware leaves out (process directories, MSI tables, T2GPA, page requests, big-endian
tables, 32-bit modes) is absent here as well: a context that asks for it is misconfigured.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from tests.golden.paging import Fault, FaultError, Fetch, Memory, Paging, Update


class DirectoryMode(IntEnum):
    """ddtp.iommu_mode (IOMMU 5, register ddtp)."""

    OFF = 0
    BARE = 1
    LVL1 = 2
    LVL2 = 3
    LVL3 = 4


class AddressType(Enum):
    """What kind of request it is. Prefetches are none of the specification: reads that only announce an access."""

    UNTRANSLATED = "untranslated"
    TRANSLATION_REQUEST = "translation request"
    TRANSLATED = "translated"
    PREFETCH = "prefetch"


class Access(Enum):
    """What a request wants to do."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


#: TTYP of a fault record (IOMMU 3.2).
TRANSACTION_TYPES = {
    (AddressType.UNTRANSLATED, Access.EXECUTE): 1,
    (AddressType.UNTRANSLATED, Access.READ): 2,
    (AddressType.UNTRANSLATED, Access.WRITE): 3,
    (AddressType.TRANSLATED, Access.EXECUTE): 5,
    (AddressType.TRANSLATED, Access.READ): 6,
    (AddressType.TRANSLATED, Access.WRITE): 7,
}
TRANSLATION_REQUEST_TYPE = 8

#: Causes reported although the context says DTF = 1 (IOMMU 3.2).
ALWAYS_REPORTED = {256, 257, 258, 259, 268, 272, 273}

#: Bits of tc.
VALID, EN_ATS, EN_PRI, T2GPA, DTF, PDTV, PRPR, GADE, SADE, DPE, SBE, SXL = (1 << bit for bit in range(12))
#: Bits 31:24 of tc are for custom use, so not reserved.
TC_RESERVED = (1 << 24) - (1 << 12) | (1 << 64) - (1 << 32)
TA_RESERVED = (1 << 12) - 1 | (1 << 64) - (1 << 32)  #: RCID and MCID among them, as QOSID = 0
FSC_RESERVED = (1 << 60) - (1 << 44)
DIRECTORY_RESERVED = (1 << 10) - 2 | (1 << 64) - (1 << 54)
PPN_MASK = (1 << 44) - 1


@dataclass(frozen=True)
class Capabilities:
    """What the IOMMU offers, as in register capabilities (IOMMU 5)."""

    sv48: bool = True
    sv48x4: bool = True
    amo_hwad: bool = True
    ats: bool = True
    physical_bits: int = 56  #: PAS


@dataclass(frozen=True)
class Request:
    """A transaction as it arrives."""

    device_id: int
    iova: int  #: bit 0 of a translation request's or prefetch's: no write
    access: Access = Access.READ
    address_type: AddressType = AddressType.UNTRANSLATED
    process_id: int | None = None
    privileged: bool = False


@dataclass(frozen=True)
class Record:
    """What the fault queue is to hold of a request that was refused."""

    cause: int
    transaction_type: int
    device_id: int
    process_id: int | None
    privileged: bool
    iotval: int
    iotval2: int


@dataclass
class Result:
    """What became of a request.

    Attributes
    ----------
    address : physical address; None if it was refused, where nothing is told, and of a prefetch
    writable : of a translation request that is told an address: whether it may write
    size : bytes of the page that holds it, the smaller of both stages'; None where no table was asked
    record : the refusal; None if it was not refused
    reported : whether ``record`` goes to the fault queue
    first_mode, second_mode : fsc.MODE and iohgatp.MODE of a valid context, None without one
    fetches : what was read of directory and tables, in order
    updates : entries whose A or D bits were set, in order
    """

    address: int | None = None
    size: int | None = None
    writable: bool = False
    record: Record | None = None
    reported: bool = False
    first_mode: int | None = None
    second_mode: int | None = None
    fetches: list[Fetch] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)


@dataclass(frozen=True)
class Context:
    """A valid device context."""

    tc: int
    iohgatp: int
    fsc: int

    @property
    def first_mode(self) -> int:
        return self.fsc >> 60

    @property
    def second_mode(self) -> int:
        return self.iohgatp >> 60


class Iommu:
    """An IOMMU with its directory at page ``ppn`` (register ddtp)."""

    def __init__(self, memory: Memory, mode: DirectoryMode, ppn: int, capabilities: Capabilities | None = None):
        self.memory = memory
        self.mode = mode
        self.ppn = ppn
        self.capabilities = capabilities or Capabilities()

    def translate(self, request: Request) -> Result:
        """The process to translate an IOVA (IOMMU 2.3), for one request."""
        result = Result()
        if request.address_type is AddressType.PREFETCH and request.access is Access.READ:
            return result  # never refused; what it does is not seen
        context = None
        try:
            context = self._locate(request, result)
            if context is not None:
                result.first_mode, result.second_mode = context.first_mode, context.second_mode
            result.address, result.size = self._translate(request, context, result)
        except FaultError as error:
            asks = request.address_type is AddressType.TRANSLATION_REQUEST
            if asks and request.access is Access.READ and error.fault.cause in (13, 21):
                return result  # "PCIe ATS translation request handling": a completion without permissions
            result.record = self._record(request, error.fault)
            # Without a context DTF is taken as 0.
            result.reported = context is None or not context.tc & DTF or error.fault.cause in ALWAYS_REPORTED
        return result

    def _locate(self, request: Request, result: Result) -> Context | None:
        """Steps 1 to 6: the device's context, None where there is no directory."""
        if self.mode is DirectoryMode.OFF:
            raise FaultError(Fault(256))
        if self.mode is DirectoryMode.BARE:
            if request.address_type is not AddressType.UNTRANSLATED:
                raise FaultError(Fault(260))
            return None
        levels = self.mode - 1
        indices = (request.device_id & 0x7F, request.device_id >> 7 & 0x1FF, request.device_id >> 16 & 0xFF)
        if any(indices[levels:]):
            raise FaultError(Fault(260))
        # The process to locate the device-context (IOMMU 2.3.1).
        table = self.ppn << 12
        for index in reversed(indices[1:levels]):
            entry = int.from_bytes(self._fetch(result, table + index * 8, 8), "little")
            if not entry & VALID:
                raise FaultError(Fault(258))
            if entry & DIRECTORY_RESERVED:
                raise FaultError(Fault(259))
            table = (entry >> 10 & PPN_MASK) << 12
        raw = self._fetch(result, table + indices[0] * 32, 32)
        tc, iohgatp, ta, fsc = (int.from_bytes(raw[start : start + 8], "little") for start in range(0, 32, 8))
        if not tc & VALID:
            raise FaultError(Fault(258))
        if self._misconfigured(tc, iohgatp, ta, fsc):
            raise FaultError(Fault(259))
        return Context(tc, iohgatp, fsc)

    def _fetch(self, result: Result, address: int, length: int) -> bytes:
        result.fetches.append(Fetch(address, length))
        raw = self.memory.load(address, length)
        if raw is None or address >> self.capabilities.physical_bits:
            raise FaultError(Fault(257))
        return raw

    def _misconfigured(self, tc: int, iohgatp: int, ta: int, fsc: int) -> bool:
        """Device-context configuration checks (IOMMU 2.1.4)."""
        offered = self.capabilities
        first_modes = {0, 8, 9} if offered.sv48 else {0, 8}
        second_modes = {0, 8, 9} if offered.sv48x4 else {0, 8}
        return (
            bool(tc & TC_RESERVED or ta & TA_RESERVED or fsc & FSC_RESERVED)
            or bool(tc & EN_ATS and not offered.ats)
            # Not offered: page requests, guest addresses to devices, process directories.
            or bool(tc & (EN_PRI | PRPR | T2GPA | PDTV | DPE))
            or fsc >> 60 not in first_modes
            or iohgatp >> 60 not in second_modes
            or (iohgatp >> 60 != 0 and bool(iohgatp & 0b11))  # the root has 16 KiB
            or bool(tc & (SADE | GADE) and not offered.amo_hwad)
            # fctl.BE and fctl.GXL are 0 and cannot be written.
            or bool(tc & (SBE | SXL))
        )

    def _translate(self, request: Request, context: Context | None, result: Result) -> tuple[int, int | None]:
        """Steps 7 to 20."""
        causes = {Access.EXECUTE: (1, 12, 20), Access.READ: (5, 13, 21), Access.WRITE: (7, 15, 23)}[request.access]
        if context is None:
            return self._physical(request.iova, None, causes[0])
        asks = request.address_type is AddressType.TRANSLATION_REQUEST
        if request.address_type is AddressType.PREFETCH or (asks and request.access is not Access.READ):
            raise FaultError(Fault(260))  # "is not supported by the IOMMU"
        if request.address_type is not AddressType.UNTRANSLATED and not context.tc & EN_ATS:
            raise FaultError(Fault(260))
        if request.process_id is not None:
            raise FaultError(Fault(260))
        if request.address_type is AddressType.TRANSLATED:
            return self._physical(request.iova, None, causes[0])
        paging = Paging(
            self.memory,
            first=(context.first_mode, context.fsc & PPN_MASK),
            second=(context.second_mode, context.iohgatp & PPN_MASK),
            update_first=bool(context.tc & SADE),
            update_second=bool(context.tc & GADE),
            physical_bits=self.capabilities.physical_bits,
            causes=causes,
            # To execute is to read in order to execute: both permissions are asked for (IOMMU 5, register tr_req_ctl).
            read=request.access is not Access.WRITE,
            write=request.access is Access.WRITE,
            execute=request.access is Access.EXECUTE,
            offer_write=asks and not request.iova & 1,
            fetches=result.fetches,
            updates=result.updates,
        )
        found = self._physical(*paging.translate(request.iova), causes[0])
        result.writable = asks and paging.writable
        return found

    def _physical(self, address: int, size: int | None, access_fault: int) -> tuple[int, int | None]:
        """No memory lies beyond the physical address width (capabilities.PAS)."""
        if address >> self.capabilities.physical_bits:
            raise FaultError(Fault(access_fault))
        return address, size

    def _record(self, request: Request, fault: Fault) -> Record:
        """A fault record (IOMMU 3.2). Privilege comes with a process_id only."""
        has_process = request.process_id is not None
        if request.address_type is AddressType.TRANSLATION_REQUEST:
            transaction_type = TRANSLATION_REQUEST_TYPE
        else:
            kind = request.address_type
            kind = AddressType.UNTRANSLATED if kind is AddressType.PREFETCH else kind
            transaction_type = TRANSACTION_TYPES[kind, request.access]
        return Record(
            cause=fault.cause,
            transaction_type=transaction_type,
            device_id=request.device_id,
            process_id=request.process_id,
            privileged=request.privileged and has_process,
            iotval=request.iova,
            iotval2=fault.iotval2,
        )
