# SPDX-License-Identifier: BSD-2-Clause
"""A DMA mapping with the history of who owned which of its bytes."""

import sys
from bisect import bisect_left
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from driver_model.memory.dma import DmaDirection

Intervals = tuple[tuple[int, int], ...]  #: disjoint half-open address ranges, ascending

_ROOT = Path(__file__).resolve().parents[2]
_MACHINERY = tuple(str(_ROOT / "driver_model" / part) for part in ("memory", "cpu", "net/skb"))
_inside: dict[CodeType, bool] = {}


class Site(NamedTuple):
    """A line of driver code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        path = Path(self.code.co_filename)
        shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path
        return f"{shown}:{self.line}"


def caller() -> Site:
    """The innermost line that is neither the memory subsystem's, nor the core's, nor one of ``net/skb*``: the line that
    made the call."""
    frame = sys._getframe(2)  # whoever asks is inside
    while True:
        code = frame.f_code
        try:
            inside = _inside[code]
        except KeyError:
            inside = _inside[code] = code.co_filename.startswith(_MACHINERY)
        if not inside or frame.f_back is None:
            return Site(code, frame.f_lineno)
        frame = frame.f_back


def add(intervals: Intervals, start: int, stop: int) -> Intervals:
    """The intervals with a range joined."""
    kept = []
    for low, high in intervals:
        if high < start or stop < low:
            kept.append((low, high))
        else:
            start, stop = min(start, low), max(stop, high)
    return tuple(sorted([*kept, (start, stop)]))


def remove(intervals: Intervals, start: int, stop: int) -> Intervals:
    """The intervals with a range cut out."""
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
    return bool(intervals) and any(low < stop and start < high for low, high in intervals)


class Handover(NamedTuple):
    """From ``time`` on: which bytes are the CPU's, and which the device may touch."""

    time: int
    cpu: Intervals
    posted: tuple[int, int] | None  #: range named to the device in a descriptor; None where no driver ever said
    event: str
    core: int
    site: Site

    def __str__(self) -> str:
        return f"{self.event} at {self.site} on core {self.core}, {self.time} ps"


class StaleAccess(NamedTuple):
    """An access by way of a mapping that had ended, and that the IOMMU had not been made to forget."""

    cycle: int
    address: int  #: physical
    length: int
    write: bool
    age: int  #: picoseconds since the mapping had ended


class Mapping:
    """A mapping, live or ended.

    Attributes
    ----------
    dma_address, address, size : device's and physical address, bytes
    direction : which way the bytes may go
    coherent : both sides may touch it at any time
    tested : the driver asked ``dma_mapping_error``
    ended : the handover that ended it, or None while it lives
    reachable_until : picoseconds; the device may reach it until then by what the IOMMU remembers
    history : handovers in order of time; the first is the mapping itself
    """

    __slots__ = (
        "address",
        "coherent",
        "direction",
        "dma_address",
        "ended",
        "history",
        "reachable_until",
        "size",
        "stop",
        "tested",
    )

    def __init__(
        self, dma_address: int, address: int, size: int, direction: DmaDirection, coherent: bool, first: Handover
    ) -> None:
        self.dma_address = dma_address
        self.address = address
        self.size = size
        self.stop = address + size
        self.direction = direction
        self.coherent = coherent
        self.tested = coherent
        self.ended: Handover | None = None
        self.reachable_until = 0
        self.history = [first]

    @property
    def state(self) -> Handover:
        """The present state."""
        return self.history[-1]

    def live_at(self, time: int) -> bool:
        """Whether a device access at this time finds the mapping. Software at a time sees that time's edge before it
        acts, so the edge at which a mapping ended still belongs to it."""
        return self.history[0].time <= time and (self.ended is None or time <= self.ended.time)

    def state_at(self, time: int) -> Handover:
        """The state that a device access at this time meets: the last handover before it."""
        history = self.history
        if history[-1].time < time:
            return history[-1]
        return history[max(0, bisect_left(history, time, key=_time) - 1)]

    def forget(self, time: int) -> None:
        """Drop what only accesses up to ``time`` could ask for."""
        history = self.history
        keep = max(0, bisect_left(history, time, key=_time) - 1)
        if keep:
            del history[:keep]

    def __str__(self) -> str:
        kind = "coherent memory" if self.coherent else f"mapping ({self.direction.name})"
        last = self.ended or self.state
        return f"{kind} {self.address:#x}..{self.stop - 1:#x}, last handed over by {last}"


def _time(handover: Handover) -> int:
    return handover.time
