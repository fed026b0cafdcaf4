# SPDX-License-Identifier: BSD-2-Clause
"""Two-stage address translation of the privileged architecture ("PRIV"), as far as an IOMMU uses it."""

from typing import NamedTuple

PTE_V, PTE_R, PTE_W, PTE_X, PTE_U, PTE_G, PTE_A, PTE_D = (1 << bit for bit in range(8))
PTE_N = 1 << 63
#: Reserved: bits 60:54, and the memory types of Svpbmt, which is not offered.
PTE_RESERVED = (1 << 63) - (1 << 54)
SV39, SV48 = 8, 9  #: MODE of either stage; of the second, Sv39x4 and Sv48x4
LEVELS = {SV39: 3, SV48: 4}


class Fetch(NamedTuple):
    """A read of directory or table."""

    address: int
    length: int


class Update(NamedTuple):
    """An entry whose A or D bit was set."""

    address: int
    old: int
    new: int


class Fault(NamedTuple):
    """Why a request is refused."""

    cause: int
    iotval2: int = 0


class FaultError(Exception):
    """FaultError and report this fault."""

    def __init__(self, fault: Fault):
        super().__init__(fault)
        self.fault = fault


class Memory:
    """Bytes from address 0; what lies beyond answers with an error."""

    def __init__(self, data: bytearray):
        self.data = data

    def load(self, address: int, length: int) -> bytes | None:
        """The bytes, or None for an error."""
        return bytes(self.data[address : address + length]) if address + length <= len(self.data) else None

    def store(self, address: int, raw: bytes) -> None:
        """Write bytes where memory is."""
        assert address + len(raw) <= len(self.data), f"{address:#x} is in no memory"
        self.data[address : address + len(raw)] = raw


class Leaf(NamedTuple):
    """A leaf entry that allows what was asked for."""

    pte: int
    level: int
    address: int  #: of the entry, in the space that its pointers are in


class Paging:
    """One translation.

    Parameters
    ----------
    first, second : mode and root page of each stage; mode 0 is Bare
    update_first, update_second : whether A and D bits are set by hardware
    causes : access fault, page fault, and guest-page fault of the request's kind
    read, write, execute : permissions that the request needs
    offer_write : a translation request's, without the flag "no write": D is set as well where the leaf lets write
    fetches, updates : lists to add to; the second look of an update at the second stage counts again
    """

    def __init__(
        self,
        memory: Memory,
        *,
        first: tuple[int, int],
        second: tuple[int, int],
        update_first: bool,
        update_second: bool,
        physical_bits: int,
        causes: tuple[int, int, int],
        read: bool,
        write: bool,
        execute: bool,
        offer_write: bool = False,
        fetches: list[Fetch],
        updates: list[Update],
    ):
        self.memory = memory
        self.first = first
        self.second = second
        self.update_first = update_first
        self.update_second = update_second
        self.physical_bits = physical_bits
        self.access_fault, self.page_fault, self.guest_page_fault = causes
        self.needed = (PTE_R if read else 0) | (PTE_W if write else 0) | (PTE_X if execute else 0)
        self.offer_write = offer_write
        self.writable = True  #: so far: both leaves let write, and D is set in both
        self.fetches = fetches
        self.updates = updates

    def translate(self, iova: int) -> tuple[int, int | None]:
        """Physical address, and bytes of the page (IOMMU 2.3, steps 17 and 19)."""
        guest, first_size = self._first(iova)
        address, second_size = self._second(guest, self.needed, 0)
        return address, min((size for size in (first_size, second_size) if size is not None), default=None)

    def _first(self, iova: int) -> tuple[int, int | None]:
        mode, root = self.first
        if mode == 0:
            return iova, None
        page_fault = Fault(self.page_fault)
        levels = LEVELS[mode]
        # All bits above the highest translated one must equal it (PRIV, Sv39 and Sv48: Addressing).
        if iova >> (11 + 9 * levels) not in (0, (1 << (53 - 9 * levels)) - 1):
            raise FaultError(page_fault)
        # Virtual Address Translation Process, steps 1 to 6. The entries' addresses are guest addresses.
        table = root << 12
        for level in reversed(range(levels)):
            guest = table + (iova >> (12 + 9 * level) & 0x1FF) * 8
            # An implicit access: a read, whatever the request does (PRIV, Two-Stage Address Translation).
            address, _ = self._second(guest, PTE_R, 0b01)
            pte = self._load(address)
            if self._malformed(pte, level):
                raise FaultError(page_fault)
            if pte & (PTE_R | PTE_X):
                break
            table = (pte >> 10 & (1 << 44) - 1) << 12
        # Without a valid process_id a request is user-level (IOMMU 2.3).
        if not pte & PTE_U or self.needed & ~pte:
            raise FaultError(page_fault)
        # Step 7: "IOMMU updating of PTE accessed (A) and dirty (D) updates" (IOMMU 2.4).
        wanted = self._marks(self.needed)
        if self.offer_write and pte & PTE_W and self.update_first:
            wanted |= PTE_D
        self.writable = bool(pte & PTE_W and (pte | wanted) & PTE_D)
        if wanted & ~pte:
            if not self.update_first:
                raise FaultError(page_fault)
            # The update is an implicit write, which the second stage must allow and mark.
            address, _ = self._second(guest, PTE_W, 0b11)
            self._update(address, pte, pte | wanted)
        return self._join(pte, level, iova)

    def _second(self, guest: int, needed: int, implicit: int) -> tuple[int, int | None]:
        """Guest Physical Address Translation. ``implicit``: the low bits of iotval2 in a fault (IOMMU 3.2)."""
        mode, root = self.second
        if mode == 0:
            return guest, None
        fault = Fault(self.guest_page_fault, guest & ~0b11 | implicit)
        levels = LEVELS[mode]
        if guest >> (14 + 9 * levels):  # two bits more than the first stage has
            raise FaultError(fault)
        table = root << 12
        for level in reversed(range(levels)):
            index = guest >> (12 + 9 * level) & (0x7FF if level == levels - 1 else 0x1FF)
            address = table + index * 8
            pte = self._load(address)
            if self._malformed(pte, level):
                raise FaultError(fault)
            if pte & (PTE_R | PTE_X):
                break
            table = (pte >> 10 & (1 << 44) - 1) << 12
        # Every access is user-level here.
        if not pte & PTE_U or needed & ~pte:
            raise FaultError(fault)
        wanted = self._marks(needed)
        if not implicit:
            if self.offer_write and self.writable and pte & PTE_W and self.update_second:
                wanted |= PTE_D
            self.writable &= bool(pte & PTE_W and (pte | wanted) & PTE_D)
        if wanted & ~pte:
            if not self.update_second:
                raise FaultError(fault)
            self._update(address, pte, pte | wanted)
        return self._join(pte, level, guest)

    def _load(self, address: int) -> int:
        self.fetches.append(Fetch(address, 8))
        raw = self.memory.load(address, 8)
        if raw is None or address >> self.physical_bits:
            raise FaultError(Fault(self.access_fault))
        return int.from_bytes(raw, "little")

    @staticmethod
    def _malformed(pte: int, level: int) -> bool:
        """Steps 3, 4 and 6: a page fault of the stage, whatever the request."""
        if not pte & PTE_V or (pte & PTE_W and not pte & PTE_R) or pte & PTE_RESERVED:
            return True
        if not pte & (PTE_R | PTE_X):  # a pointer, in which A, D, U and N are reserved
            return level == 0 or bool(pte & (PTE_A | PTE_D | PTE_U | PTE_N))
        ppn = pte >> 10 & (1 << 44) - 1
        if pte & PTE_N:  # Svnapot: 64 KiB is the only range
            return level != 0 or ppn & 0xF != 0b1000
        return bool(ppn & (1 << 9 * level) - 1)  # a misaligned superpage

    @staticmethod
    def _marks(needed: int) -> int:
        return PTE_A | (PTE_D if needed & PTE_W else 0)

    def _update(self, address: int, old: int, new: int) -> None:
        self.memory.store(address, new.to_bytes(8, "little"))
        self.updates.append(Update(address, old, new))

    @staticmethod
    def _join(pte: int, level: int, address: int) -> tuple[int, int]:
        """Step 8."""
        size = 1 << (16 if pte & PTE_N else 12 + 9 * level)
        base = (pte >> 10 & (1 << 44) - 1) << 12
        return base & -size | address & (size - 1), size
