# SPDX-License-Identifier: BSD-2-Clause
"""A DMA mapping with the history of who owned which of its bytes."""

from bisect import bisect_left
from enum import Enum
from operator import itemgetter
from typing import Final

from driver_model.memory.dma.api import DmaDirection
from driver_model.memory.pages.page import PAGE_SHIFT
from driver_model.memory.site import Site, told

Intervals = tuple[tuple[int, int], ...]  #: disjoint half-open address ranges, ascending

#: From a time on: which bytes are the CPU's; the ranges named to the device in descriptors (None where no driver ever
#: said); what happened, on which core, where. A bare tuple of bare tuples, which costs least to make and to keep.
Handover = tuple[int, Intervals, Intervals | None, str, int, Site]
TIME: Final = 0
CPU: Final = 1
POSTED: Final = 2
_time = itemgetter(TIME)


def add(intervals: Intervals, start: int, stop: int) -> Intervals:
    """The intervals with a range joined."""
    if not intervals:
        return ((start, stop),)
    kept = []
    for low, high in intervals:
        if high < start or stop < low:
            kept.append((low, high))
        else:
            start, stop = min(start, low), max(stop, high)
    return tuple(sorted([*kept, (start, stop)]))


def remove(intervals: Intervals, start: int, stop: int) -> Intervals:
    """The intervals with a range cut out."""
    if not intervals or (start <= intervals[0][0] and intervals[-1][1] <= stop):
        return ()
    kept = []
    for low, high in intervals:
        if low < start:
            kept.append((low, min(high, start)))
        if stop < high:
            kept.append((max(low, stop), high))
    return tuple(piece for piece in kept if piece[0] < piece[1])


def covers(intervals: Intervals, start: int, stop: int) -> bool:
    """Whether a range lies within one of the intervals."""
    return any(low <= start and stop <= high for low, high in intervals)


def overlap(intervals: Intervals, start: int, stop: int) -> bool:
    """Whether a range touches any of the intervals."""
    return any(low < stop and start < high for low, high in intervals)


def untouched(intervals: Intervals, start: int, stop: int) -> Intervals:
    """Those of the intervals that a range does not touch, whole."""
    return tuple((low, high) for low, high in intervals if high <= start or stop <= low)


def story(handover: Handover) -> str:
    """A handover for people."""
    time, _, _, event, core, site = handover
    return f"{event} at {told(site)} on core {core}, {time} ps"


class Kind(Enum):
    """By which of the DMA API's functions a mapping was made; those for a page and for an address are one."""

    SINGLE = "single"
    SG = "scatter-gather"
    COHERENT = "coherent"


class Mapping:
    """A mapping, live or ended.

    Attributes
    ----------
    kind : which function made it
    dma_address, address, size : where the device and where the CPU finds it, bytes
    direction : which way the bytes may go
    bus : what the physical address that the device reaches is above the CPU's: 0 unless it is bounced
    entries : of the list that it is an entry of, or 0
    coherent : both sides may touch it at any time
    tested : the driver asked ``dma_mapping_error``, where it must
    ended : the handover that ended it, or None while it lives
    reachable_until : picoseconds; the device may reach it until then by what the IOMMU remembers
    history : handovers in order of time; the first is the mapping itself
    """

    __slots__ = (
        "address",
        "bus",
        "coherent",
        "direction",
        "dma_address",
        "dma_stop",
        "ended",
        "entries",
        "history",
        "kind",
        "reachable_until",
        "size",
        "stop",
        "tested",
    )

    def __init__(
        self,
        kind: Kind,
        dma_address: int,
        address: int,
        size: int,
        direction: DmaDirection,
        first: Handover,
        *,
        bus: int = 0,
        entries: int = 0,
    ) -> None:
        self.kind = kind
        self.dma_address = dma_address
        self.dma_stop = dma_address + size
        self.address = address
        self.size = size
        self.stop = address + size
        self.direction = direction
        self.bus = bus
        self.entries = entries
        self.coherent = kind is Kind.COHERENT
        self.tested = kind is not Kind.SINGLE
        self.ended: Handover | None = None
        self.reachable_until = 0
        self.history = [first]

    def live_at(self, time: int) -> bool:
        """Whether a device access at this time finds the mapping. Software at a time sees that time's edge before it
        acts, so the edge at which a mapping ended still belongs to it."""
        return self.history[0][TIME] <= time and (self.ended is None or time <= self.ended[TIME])

    def state_at(self, time: int) -> Handover:
        """The state that a device access at this time meets: the last handover before it."""
        history = self.history
        if history[-1][TIME] < time:
            return history[-1]
        return history[max(0, _first_from(history, time) - 1)]

    def forget(self, time: int) -> None:
        """Drop what only accesses up to ``time`` could ask for."""
        history = self.history
        if history[-1][TIME] < time:
            del history[:-1]
        else:
            del history[: max(0, _first_from(history, time) - 1)]

    def __str__(self) -> str:
        what = "coherent memory" if self.coherent else f"mapping ({self.direction.name})"
        return (
            f"{what} {self.address:#x}..{self.stop - 1:#x}, last handed over by {story(self.ended or self.history[-1])}"
        )


class MappingTable:
    """Which mappings there are: live ones by where the device finds them, and by frame those that an access may meet.

    Attributes
    ----------
    live : by each 4 KiB of device addresses, mappings that have not ended
    by_frame : by each 4 KiB of physical memory, mappings of it, and those that are bounced there
    """

    def __init__(self) -> None:
        self.live: dict[int, list[Mapping]] = {}
        self.by_frame: dict[int, list[Mapping]] = {}

    def enter(self, mapping: Mapping) -> None:
        """A mapping was made."""
        _enter(self.live, mapping.dma_address, mapping)
        self.enter_memory(mapping)

    def enter_memory(self, mapping: Mapping) -> None:
        """A mapping was made that has no device address of its own."""
        _enter(self.by_frame, mapping.address, mapping)
        if mapping.bus:
            _enter(self.by_frame, mapping.address + mapping.bus, mapping)

    def end(self, mapping: Mapping) -> None:
        """It has no device address any more."""
        _drop(self.live, mapping.dma_address, mapping)

    def drop_memory(self, mapping: Mapping) -> None:
        """No access can meet it any more."""
        _drop(self.by_frame, mapping.address, mapping)
        if mapping.bus:
            _drop(self.by_frame, mapping.address + mapping.bus, mapping)

    def within(self, address: int, size: int) -> list[Mapping]:
        """The live mappings of any byte of a range of physical memory, in the order in which they were made."""
        stop = address + size
        frames = range(address >> PAGE_SHIFT, (stop - 1 >> PAGE_SHIFT) + 1)
        found = {
            mapping: None
            for frame in frames
            for mapping in self.by_frame.get(frame, ())
            if mapping.ended is None and mapping.address < stop and address < mapping.stop
        }
        return list(found)

    def find(self, dma_address: int) -> Mapping | None:
        """The live mapping that a device address is in: of those that begin there the latest, if there is one."""
        found = None
        for mapping in self.live.get(dma_address >> PAGE_SHIFT, ()):
            within = found is None and mapping.dma_address < dma_address < mapping.dma_stop
            if within or mapping.dma_address == dma_address:
                found = mapping
        return found


def _enter(index: dict[int, list[Mapping]], address: int, mapping: Mapping) -> None:
    for frame in range(address >> PAGE_SHIFT, (address + mapping.size - 1 >> PAGE_SHIFT) + 1):
        if frame in index:
            index[frame].append(mapping)
        else:
            index[frame] = [mapping]


def _drop(index: dict[int, list[Mapping]], address: int, mapping: Mapping) -> None:
    for frame in range(address >> PAGE_SHIFT, (address + mapping.size - 1 >> PAGE_SHIFT) + 1):
        mappings = index[frame]
        if len(mappings) == 1:
            del index[frame]
        else:
            mappings.remove(mapping)


def _first_from(history: list[Handover], time: int) -> int:
    """Index of the first handover at or after a time."""
    return bisect_left(history, time, key=_time)
