# SPDX-License-Identifier: BSD-2-Clause
"""What a device touched, judged by who owned the bytes then."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from driver_model.memory.dma.api import DmaDirection
from driver_model.memory.dma.mapping import CPU, POSTED, TIME, Mapping, MappingTable, covers, overlap, story
from driver_model.memory.pages.page import PAGE_SHIFT

_READABLE = (DmaDirection.TO_DEVICE, DmaDirection.BIDIRECTIONAL)
_WRITABLE = (DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


class StaleAccess(NamedTuple):
    """An access by way of a mapping that had ended, and that the IOMMU had not been made to forget."""

    cycle: int
    address: int  #: physical
    length: int
    write: bool
    age: int  #: picoseconds since the mapping had ended


class DeviceJudge:
    """A device may touch what a live mapping of the right direction covers, of that only what is not the CPU's, and
    once a descriptor has named a part to it, only that. Where several mappings cover a byte, one has to allow it.

    Parameters
    ----------
    cycle_ps : picoseconds of a hardware cycle, to place the accesses
    report : told (rule, message)
    table : the mappings, with their history

    Attributes
    ----------
    stale : accesses after unmap and before the IOMMU's flush
    """

    def __init__(self, cycle_ps: int, report: Callable[[str, str], None], table: MappingTable) -> None:
        self.stale: list[StaleAccess] = []
        self._cycle_ps = cycle_ps
        self._report = report
        self._table = table

    def judge(self, accesses: Iterable[tuple[int, int, int, bool]]) -> None:
        """Judge accesses (cycle, physical address, length, is_write), in any order."""
        by_frame = self._table.by_frame
        cycle_ps = self._cycle_ps
        for cycle, address, length, write in accesses:
            time = cycle * cycle_ps
            for mapping in by_frame.get(address >> PAGE_SHIFT, ()):
                start = address - mapping.bus
                stop = start + length
                whole = mapping.address <= start and stop <= mapping.stop
                if whole and mapping.live_at(time) and _fault(mapping, time, start, stop, write) is None:
                    break
            else:
                stop = address + length
                while address < stop:
                    address = self._part(cycle, address, stop, write)

    def _part(self, cycle: int, address: int, stop: int, write: bool) -> int:
        """Judge an access up to the end of the mapping that it is in; where the next part begins."""
        time = cycle * self._cycle_ps
        late = None
        wrong = None
        for mapping in self._table.by_frame.get(address >> PAGE_SHIFT, ()):
            start = address - mapping.bus
            if mapping.address <= start < mapping.stop:
                if not mapping.live_at(time):
                    late = mapping
                    continue
                end = min(stop - mapping.bus, mapping.stop)
                fault = _fault(mapping, time, start, end, write)
                if fault is None:
                    return end + mapping.bus
                wrong = wrong or (fault, mapping, start, end)
        if wrong is None:
            self._outside(cycle, address, stop, write, late)
            return stop
        fault, mapping, start, end = wrong
        what = f"{_verb(write)} of {end - start} bytes at {start:#x} in cycle {cycle}"
        self._report(fault, f"{what}: {mapping}; then {story(mapping.state_at(time))}")
        return end + mapping.bus

    def _outside(self, cycle: int, address: int, stop: int, write: bool, late: Mapping | None) -> None:
        time = cycle * self._cycle_ps
        rule = "device access outside a mapping"
        if late is not None and late.ended is not None and late.ended[TIME] < time:
            rule = "device access after unmap"
            if time <= late.reachable_until:
                rule = "device access in the stale window"
                self.stale.append(StaleAccess(cycle, address, stop - address, write, time - late.ended[TIME]))
        about = f": {late}" if late else ""
        self._report(rule, f"{_verb(write)} of {stop - address} bytes at {address:#x} in cycle {cycle}{about}")


def _fault(mapping: Mapping, time: int, start: int, stop: int, write: bool) -> str | None:
    """The rule that an access by way of a live mapping breaks, at the CPU's addresses; None for none."""
    if mapping.coherent:
        return None
    if mapping.direction not in (_WRITABLE if write else _READABLE):
        return "device access against the direction"
    state = mapping.state_at(time)
    if state[CPU] and overlap(state[CPU], start, stop):
        return "device access of cpu memory"
    posted = state[POSTED]
    if posted is not None and not covers(posted, start, stop):
        return "device access beyond the posted length"
    return None


def _verb(write: bool) -> str:
    return "write" if write else "read"
