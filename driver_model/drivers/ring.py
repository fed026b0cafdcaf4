# SPDX-License-Identifier: BSD-2-Clause
"""Rings in memory, as the driver handles them.

Entries are packed and unpacked by formats that are compiled once; :mod:`hw.abi.rings` is their definition, and names
each bit that is used here.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from driver_model.memory.dma.api import Device
from driver_model.memory.dma.coherent import Coherent, dma_alloc_coherent, dma_free_coherent
from hw.abi.codec import Codec
from hw.abi.rings import (
    ENTRIES_PER_LINE,
    ENTRY_BYTES,
    INDEX_BITS,
    MAX_RING_ENTRIES,
    MIN_RING_ENTRIES,
    ChecksumStatus,
    CompletionError,
    RxCompletion,
    TxContext,
    TxDescriptor,
    TxDescriptorType,
)

INDEX_MASK = (1 << INDEX_BITS) - 1


def _value(member: Any) -> int:
    return int(member.value)


_RX = Codec(RxCompletion)
_TX = Codec(TxDescriptor)
_CONTEXT = Codec(TxContext)

FILL_FORMAT = Struct("<QHHI")  #: address, length, buffer_id, reserved
RX_FORMAT = Struct(
    "<HHIHHBBBB"
)  #: buffer_id, length, rss_hash, checksum, vlan, header_length, packet_type, error and hash_ports, flags
TX_FORMAT = Struct("<QHHI")  #: address, length, buffer_id, control word
TX_DONE_FORMAT = Struct("<HHIHIBB")  #: buffer_id, index, reserved, reserved, reserved, error, flags

RX_END_OF_PACKET = _RX.mask("flags", "end_of_packet")
RX_HASH_VALID = _RX.mask("flags", "hash_valid")
RX_VLAN_VALID = _RX.mask("flags", "vlan_valid")
RX_VLAN_STRIPPED = _RX.mask("flags", "vlan_stripped")
RX_HEADER_SPLIT = _RX.mask("flags", "header_split")
RX_CSUM_MASK = _RX.mask("flags", "checksum_status")
RX_CSUM_GOOD = _value(ChecksumStatus.GOOD) * (RX_CSUM_MASK & -RX_CSUM_MASK)
RX_CSUM_BAD = _value(ChecksumStatus.BAD) * (RX_CSUM_MASK & -RX_CSUM_MASK)
WRITE_FAULT = _value(CompletionError.WRITE_FAULT)
OFFLOAD = _value(CompletionError.OFFLOAD)
ERROR_MASK = (1 << _RX.fields["error"][1]) - 1
RX_HASH_PORTS = 1 << _RX.fields["hash_ports"][0] - _RX.fields["error"][0]  #: in the byte of the error


def _tx_control(*flags: str, **fields: int) -> int:
    base = _TX.fields["type"][0]
    word = _value(TxDescriptorType.DATA)
    for flag in flags:
        word |= _TX.mask("flags", flag) << (_TX.fields["flags"][0] - base)
    for name, value in fields.items():
        word |= value << (_TX.fields[name][0] - base)
    return word


TX_DATA = _tx_control()
TX_END_OF_PACKET = _tx_control("end_of_packet")
TX_REPORT = _tx_control("report")
MAX_CSUM_START, MAX_CSUM_OFFSET = ((1 << _TX.fields[f"checksum_{name}"][1]) - 1 for name in ("start", "offset"))

_LAST = ENTRY_BYTES - 1
_PHASE = _RX.mask("flags", "phase")


def _phase_high(entry: bytes) -> int:
    return entry[_LAST] & _PHASE


def _phase_low(entry: bytes) -> bool:
    return not entry[_LAST] & _PHASE


def check_entries(name: str, entries: int) -> None:
    """A ring size must be a power of two within the hardware's bounds."""
    if not isinstance(entries, int) or isinstance(entries, bool):
        raise TypeError(f"{name} must be an integer, not {entries!r}")
    if not MIN_RING_ENTRIES <= entries <= MAX_RING_ENTRIES or entries & (entries - 1):
        raise ValueError(f"{name} must be a power of two in {MIN_RING_ENTRIES}..{MAX_RING_ENTRIES}, not {entries!r}")


class _Ring:
    def __init__(self, dev: Device, entries: int) -> None:
        check_entries("Ring size", entries)
        memory = dma_alloc_coherent(dev, entries * ENTRY_BYTES)
        if memory is None:
            raise MemoryError(f"No memory for a ring of {entries} entries")
        self.dev = dev
        self.entries = entries
        self.memory: Coherent = memory

    def free(self) -> None:
        """Give the ring's memory back; the device must have stopped."""
        dma_free_coherent(self.dev, self.memory)


class DescriptorRing(_Ring):
    """A ring that software fills: RX fill ring or TX ring.

    ``producer`` is the free-running index behind the last entry written; publishing it is the caller's business.
    """

    def __init__(self, dev: Device, entries: int) -> None:
        super().__init__(dev, entries)
        self.producer = 0

    def write(self, entries: list[bytes]) -> None:
        """Append packed entries. There must be room; the device may not see them before the next doorbell."""
        store = self.dev.core.store_owned
        start = self.producer & (self.entries - 1)
        first = self.entries - start
        store(self.memory.address + start * ENTRY_BYTES, b"".join(entries[:first]))
        if len(entries) > first:
            store(self.memory.address, b"".join(entries[first:]))
        self.producer = (self.producer + len(entries)) & INDEX_MASK


class CompletionRing(_Ring):
    """A ring that the device fills; ``consumer`` is the free-running index of the next entry to come.

    Looking at an entry charges the load, and the miss (``core.device_line``) of a line that the device wrote since
    software last looked into it.
    """

    def __init__(self, dev: Device, entries: int, layout: Struct) -> None:
        super().__init__(dev, entries)
        core = dev.core
        self.consumer = 0
        self._unpack = layout.unpack
        self._load = core.load_latched
        self._spend = core.spend
        self._op_miss = core.device_line
        self._slot = 0
        self._ready = _phase_high
        self._fresh = True

    @property
    def awaited(self) -> tuple[int, int, Callable[[bytes], object]]:
        """Where the next completion comes, from an address up to another, and whether those bytes are it."""
        start = self.memory.address + self._slot * ENTRY_BYTES
        return start, start + ENTRY_BYTES, self._ready

    def next(self) -> tuple[int, ...] | None:
        """Take the next completion, or None if it is not there yet."""
        slot = self._slot
        ready = self._ready
        raw = self._load(self.memory.address + slot * ENTRY_BYTES, ENTRY_BYTES, ready)
        if not ready(raw):
            self._fresh = True
            return None
        if self._fresh or not slot % ENTRIES_PER_LINE:
            self._fresh = False
            self._spend(self._op_miss)
        self.consumer = (self.consumer + 1) & INDEX_MASK
        slot += 1
        if slot == self.entries:
            slot = 0
            self._ready = _phase_low if ready is _phase_high else _phase_high
        self._slot = slot
        return self._unpack(raw)


def pack_fill(dma_address: int, length: int, buffer_id: int) -> bytes:
    """Bytes of a :class:`hw.abi.rings.FillDescriptor`."""
    return FILL_FORMAT.pack(dma_address, length, buffer_id, 0)


def pack_tx(dma_address: int, length: int, buffer_id: int, control: int) -> bytes:
    """Bytes of a :class:`hw.abi.rings.TxDescriptor`; ``control`` is :data:`TX_DATA` with flags."""
    return TX_FORMAT.pack(dma_address, length, buffer_id, control)


def tx_control(*flags: str, csum_start: int = 0, csum_offset: int = 0) -> int:
    """What a frame's last descriptor has in its control word for offloads, by the names of
    :class:`hw.abi.rings.TxDataFlags`."""
    return _tx_control(*flags, checksum_start=csum_start, checksum_offset=csum_offset)


def tx_recycle(pool: int) -> int:
    """What the control word of a descriptor has beside :data:`TX_DATA` so that its buffer goes back to a pool."""
    return _tx_control("recycle", pool=pool) & ~TX_DATA


def tx_context(**fields: int) -> tuple[int, int, int, int]:
    """A :class:`hw.abi.rings.TxContext` as :func:`pack_tx` takes a descriptor."""
    return TX_FORMAT.unpack(_CONTEXT.pack(type=_value(TxDescriptorType.CONTEXT), **fields))
