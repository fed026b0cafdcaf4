# SPDX-License-Identifier: BSD-2-Clause
"""The ownership checker: who may touch which byte of memory, and who did.

Linux's own DMA debugging (:class:`driver_model.memory.dma.debug.DmaDebug`, a part of this) knows what a driver asked
for; here both sides' accesses are seen as well. The DMA API, the page allocator and page_pool report what they do; a
core reports each access (:meth:`OwnershipChecker.cpu_access` is its ``access_observer``); the device's accesses come in
batches (:meth:`OwnershipChecker.device_accesses`), each with its cycle, and are judged by who owned the bytes *then*.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from driver_model.memory.dma.api import DmaDirection
from driver_model.memory.dma.debug import DmaDebug
from driver_model.memory.dma.device_judge import DeviceJudge
from driver_model.memory.dma.mapping import (
    CPU,
    POSTED,
    TIME,
    Handover,
    Intervals,
    Kind,
    Mapping,
    MappingTable,
    add,
    covers,
    overlap,
    remove,
    untouched,
)
from driver_model.memory.pages.page import PAGE_SHIFT, PAGE_SIZE, Page
from driver_model.memory.site import Site, caller, told
from driver_model.memory.slab.checker import SlabChecker

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

_FOREVER = 1 << 63


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule: a short name that does not change, and the whole story."""

    rule: str
    message: str


class OwnershipError(RuntimeError):
    """A rule of memory ownership was broken."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(f"{violation.rule}: {violation.message}")
        self.violation = violation


class OwnershipChecker:
    """Checks every hand-over and every access; explains what it finds.

    Rules, beside those of the DMA API: ``cpu access of device memory``, ``cpu access of free memory``, ``cpu-dirty line
    in a posted buffer``, ``device access outside a mapping``, ``device access after unmap``, ``device access in the
    stale window``, ``device access of cpu memory``, ``device access beyond the posted length``, ``device access against
    the direction``, ``double free``, ``freed while mapped``, ``mapping of free memory``, ``freed while in a pool``,
    ``double put``, ``put while mapped``, ``wrong pool``, ``cpu access of unreadable memory``; and those of
    :class:`driver_model.memory.page_pool.checker.PagePoolChecker`.

    Where several mappings of a byte live, a CPU needs it from all of them, a device from one.

    Parameters
    ----------
    cycle_ps : picoseconds of a hardware cycle, to place the device's accesses
    device_log : device accesses will be reported; ownership history is kept until they are
    stop : raise :class:`OwnershipError` at the first violation; otherwise collect them in ``violations``
    """

    def __init__(self, cycle_ps: int, *, device_log: bool = False, stop: bool = True) -> None:
        if not isinstance(cycle_ps, int) or isinstance(cycle_ps, bool) or cycle_ps <= 0:
            raise ValueError(f"Cycle time must be a positive integer of picoseconds, not {cycle_ps!r}")
        self.cycle_ps = cycle_ps
        self.device_log = device_log
        self.stop = stop
        self.violations: list[Violation] = []
        self.slabs = SlabChecker(self._report, self.part_freed)  #: what the slab allocator reports
        self.iommu_frames: set[int] = set()  #: pages that the IOMMU itself uses now: not the device's accesses
        self._table = MappingTable()
        self.dma_debug = DmaDebug(self._report, self._table)
        self._device = DeviceJudge(cycle_ps, self._report, self._table)
        self.stale = self._device.stale  #: accesses after unmap and before the IOMMU's flush
        self._allocated: dict[int, Site] = {}
        self._freed: dict[int, Site] = {}
        self._pooled: dict[Page, Site] = {}
        self._unreadable: dict[int, str] = {}
        self._ended: list[Mapping] = []
        self._changed: dict[Mapping, None] = {}

    # What the page allocator reports

    def page_allocated(self, core: "Core", page: Page) -> None:
        """Memory was handed out."""
        site = caller(2)
        for frame in page.frames:
            self._allocated[frame] = site

    def page_freed(self, core: "Core", page: Page) -> None:
        """The last reference to memory was dropped."""
        site = caller(2)
        for frame in page.frames:
            for mapping in self._table.by_frame.get(frame, ()):
                if mapping.ended is None:
                    self._report("freed while mapped", f"{page} freed at {told(site)} on core {core.index}, {mapping}")
            self._allocated.pop(frame, None)
            self._freed[frame] = site
        if page.pp is not None:
            self._report("freed while in a pool", f"{page} freed at {told(site)} behind the back of its page_pool")

    def part_freed(self, core: "Core", part: object, address: int, size: int) -> None:
        """Bytes of a page that stays allocated were given back."""
        for mapping in self._table.within(address, size):
            self._report("freed while mapped", f"{part} freed at {told(caller())} on core {core.index}, {mapping}")

    def double_free(self, core: "Core", page: Page) -> None:
        """A page without references was given back."""
        site = self._freed.get(page.frames.start)
        before = "an unknown place" if site is None else told(site)
        self._report("double free", f"{page} at {told(caller())} on core {core.index}; already freed at {before}")

    # What the DMA API reports

    def mapped(
        self,
        core: "Core",
        dma_address: int,
        address: int,
        size: int,
        direction: DmaDirection,
        *,
        bus: int = 0,
        entries: int = 0,
        overlaps: bool = False,
    ) -> None:
        """A mapping was made: all its bytes are the device's. ``overlaps``: others of its lines are no matter."""
        if not overlaps:
            self.dma_debug.check_overlap(core, address, size, direction)
        for frame in range(address >> PAGE_SHIFT, (address + size + PAGE_SIZE - 1) >> PAGE_SHIFT):
            if frame not in self._allocated or frame in self.slabs.frames:
                self._in_use(core, core.time, frame, address, address + size, "mapping", "mapping of free memory")
        kind = Kind.SG if entries else Kind.SINGLE
        first = (core.time, (), None, "dma_map", core.index, caller(2))
        self._table.enter(Mapping(kind, dma_address, address, size, direction, first, bus=bus, entries=entries))

    def unmapped(self, core: "Core", dma_address: int, size: int, direction: DmaDirection, *, entries: int = 0) -> None:
        """A mapping was ended: all its bytes are the CPU's."""
        kind = Kind.SG if entries else Kind.SINGLE
        mapping = self.dma_debug.unmapped(core, kind, dma_address, size, direction, entries=entries)
        if mapping is not None:
            self._end(core, "dma_unmap", mapping)

    def flush_deferred(self, dma_address: int) -> None:
        """The mapping that just ended at this address stays in the IOMMU's memory until it is flushed."""
        if dma_address in self.dma_debug.last_ended:
            self.dma_debug.last_ended[dma_address].reachable_until = _FOREVER

    def flushed(self, core: "Core", dma_address: int) -> None:
        """No access can use that mapping any more."""
        mapping = self.dma_debug.last_ended.get(dma_address)
        if mapping is not None and mapping.reachable_until == _FOREVER:
            mapping.reachable_until = core.time

    def synced_for_cpu(
        self, core: "Core", dma_address: int, size: int, direction: DmaDirection, entries: int = 0
    ) -> None:
        """Bytes of a live mapping become the CPU's."""
        mapping = self.dma_debug.synced(core, True, dma_address, size, direction, entries)
        if mapping is not None:
            start = mapping.address + dma_address - mapping.dma_address
            _, cpu, posted, _, _, _ = mapping.history[-1]
            if posted:
                posted = untouched(posted, start, start + size)
            site = caller(2)
            self._hand_over(
                mapping, (core.time, add(cpu, start, start + size), posted, "dma_sync_for_cpu", core.index, site)
            )

    def synced_for_device(
        self, core: "Core", dma_address: int, size: int, direction: DmaDirection, entries: int = 0
    ) -> None:
        """Bytes of a live mapping become the device's."""
        mapping = self.dma_debug.synced(core, False, dma_address, size, direction, entries)
        if mapping is not None:
            start = mapping.address + dma_address - mapping.dma_address
            _, cpu, posted, _, _, _ = mapping.history[-1]
            if posted:
                posted = untouched(posted, start, start + size)
            site = caller(2)
            self._hand_over(
                mapping, (core.time, remove(cpu, start, start + size), posted, "dma_sync_for_device", core.index, site)
            )

    def posted(self, core: "Core", dma_address: int, length: int) -> None:
        """A descriptor names these bytes to the device: until the next sync of any of them it may touch them. Of the
        mapping's others it may touch what was posted as well, as a page may be several buffers."""
        mapping = self._table.find(dma_address)
        if mapping is None:
            what = f"{dma_address:#x} posted at {told(caller())} is not mapped"
            self._report("device access outside a mapping", what)
            return
        start = mapping.address + dma_address - mapping.dma_address
        _, cpu, others, _, _, _ = mapping.history[-1]
        if cpu and overlap(cpu, start, start + length):
            what = f"{start:#x} posted at {told(caller())} is the CPU's: {mapping}"
            self._report("device access of cpu memory", what)
        if start + length > mapping.stop:
            what = f"{length} bytes at {start:#x} posted at {told(caller())} reach beyond the {mapping}"
            self._report("device access outside a mapping", what)
        if core.cache is not None and mapping.direction is not DmaDirection.TO_DEVICE:
            dirty = core.cache.image.first_dirty(start + mapping.bus, length)
            if dirty is not None:
                what = f"line {dirty:#x} of {start:#x} posted at {told(caller())}, without sync_for_device: {mapping}"
                self._report("cpu-dirty line in a posted buffer", what)
        posted: Intervals = ((start, start + length),)
        if others:
            posted = *untouched(others, start, start + length), *posted
        self._hand_over(mapping, (core.time, cpu, posted, "descriptor", core.index, caller(2)))

    def coherent_allocated(self, core: "Core", dma_address: int, page: Page) -> None:
        """Memory for both sides was handed out."""
        first = (core.time, (), None, "dma_alloc_coherent", core.index, caller(2))
        self._table.enter(
            Mapping(Kind.COHERENT, dma_address, page.address, page.size, DmaDirection.BIDIRECTIONAL, first)
        )

    def coherent_freed(self, core: "Core", dma_address: int, address: int, size: int) -> None:
        """Memory for both sides was given back."""
        mapping = self.dma_debug.unmapped(
            core, Kind.COHERENT, dma_address, size, DmaDirection.BIDIRECTIONAL, address=address
        )
        if mapping is not None:
            self._end(core, "dma_free_coherent", mapping)

    def shared_with_iommu(self, core: "Core", page: Page) -> None:
        """Memory that the IOMMU itself reads and writes, by physical address: its tables and queues."""
        first = (core.time, (), None, "shared with the IOMMU", core.index, caller(2))
        self._table.enter_memory(
            Mapping(Kind.COHERENT, page.address, page.address, page.size, DmaDirection.BIDIRECTIONAL, first)
        )
        self.iommu_frames.update(page.frames)

    def taken_from_iommu(self, core: "Core", page: Page) -> None:
        """The IOMMU uses that memory no more."""
        for mapping in self._table.by_frame[page.frames.start]:
            if mapping.coherent and mapping.ended is None and mapping.address == page.address:
                self._close(core, "taken from the IOMMU", mapping)
                self.iommu_frames.difference_update(page.frames)
                return

    # What page_pool reports

    def pool_put(self, core: "Core", pool: object, page: Page) -> None:
        """A page went into a pool's cache or ring."""
        site = caller(2)
        if page in self._pooled:
            before = told(self._pooled[page])
            self._report("double put", f"{page} at {told(site)} on core {core.index}; already put at {before}")
        if page.pp is not pool:
            self._report("wrong pool", f"{page} at {told(site)} belongs to {page.pp!r}, not to {pool!r}")
        self._pooled[page] = site

    def pool_taken(self, page: Page) -> Site | None:
        """A page left a pool's cache or ring; where it was put, None if it was in none."""
        return self._pooled.pop(page, None)

    def shared(self, page: Page, own: int) -> None:
        """A page that nobody uses goes into a pool that has it mapped so many times, which came first."""
        by_frame = self._table.by_frame
        if any(len(by_frame.get(frame, ())) > own for frame in page.frames):  # hardly ever: this saves time
            for mapping in self._table.within(page.address, page.size)[own:]:
                self._report("put while mapped", f"{page} at {told(caller())}, {mapping}")

    def pooled(self, page: Page) -> Site | None:
        """Where a page was put that is in a pool's cache or ring; None for others."""
        return self._pooled.get(page)

    def unreadable(self, page: Page, what: str) -> None:
        """Memory that no CPU can read from now on, and what it is."""
        self._unreadable.update(dict.fromkeys(page.frames, what))

    def readable(self, page: Page) -> None:
        """The end of :meth:`unreadable`."""
        for frame in page.frames:
            self._unreadable.pop(frame, None)

    def report(self, rule: str, message: str) -> None:
        """A rule was broken that a checker of a pool enforces."""
        self._report(rule, message)

    # Accesses

    def cpu_access(self, core: "Core", time: int, address: int, length: int, write: bool) -> None:
        """A core touched memory: it must be allocated, and the CPU's.

        What it writes to a buffer that is with the CPU and not posted is the CPU's from then on, beyond the bytes that
        were synced as well: a packet grows there, and the next ``sync_for_device`` covers it.
        """
        stop = address + length
        for frame in range(address >> PAGE_SHIFT, (stop + PAGE_SIZE - 1) >> PAGE_SHIFT):
            if frame in self._unreadable:
                self._report(
                    "cpu access of unreadable memory",
                    f"{_verb(write)} at {address:#x} of {self._unreadable[frame]} at {told(caller())} on core "
                    f"{core.index}, {time} ps",
                )
            for mapping in self._table.by_frame.get(frame, ()):
                if mapping.coherent or mapping.ended is not None or mapping.stop <= address or stop <= mapping.address:
                    continue
                start, end = max(address, mapping.address), min(stop, mapping.stop)
                state = mapping.history[-1]
                if not covers(state[CPU], start, end):
                    posted = state[POSTED]
                    if write and state[CPU] and posted is not None and not overlap(posted, start, end):
                        cpu = add(state[CPU], start, end)
                        self._hand_over(mapping, (core.time, cpu, posted, "write", core.index, caller()))
                        continue
                    self._report(
                        "cpu access of device memory",
                        f"{_verb(write)} of {end - start} bytes at {start:#x} at {told(caller())} on core "
                        f"{core.index}, {time} ps, without sync_for_cpu or unmap: {mapping}",
                    )
            if frame not in self._allocated or frame in self.slabs.frames:
                self._in_use(core, time, frame, address, stop, _verb(write), "cpu access of free memory")

    def device_accesses(self, until: int, accesses: Iterable[tuple[int, int, int, bool]]) -> None:
        """Judge device accesses (cycle, physical address, length, is_write), in any order, and forget the history that
        only accesses up to cycle ``until`` could ask for: later batches must be later than that."""
        self._device.judge(accesses)
        self._forget(until * self.cycle_ps)

    def finish(self) -> None:
        """The driver has left the device: nothing may be mapped any more."""
        self.dma_debug.released()

    def leaks(self) -> list[str]:
        """Memory that was not given back to the page allocator, in words: how much, and where it was allocated."""
        frames = Counter(self._allocated.values())
        return [f"{count * PAGE_SIZE} bytes allocated at {told(site)}" for site, count in frames.items()]

    # Records

    def _forget(self, time: int) -> None:
        for mapping in self._changed:
            mapping.forget(time)
        self._changed = {mapping: None for mapping in self._changed if len(mapping.history) > 1}
        waiting = []
        for mapping in self._ended:
            if mapping.ended is not None and max(mapping.ended[TIME], mapping.reachable_until) <= time:
                self._table.drop_memory(mapping)
            else:
                waiting.append(mapping)
        self._ended = waiting

    def _end(self, core: "Core", event: str, mapping: Mapping) -> None:
        self.dma_debug.last_ended[mapping.dma_address] = mapping
        self._table.end(mapping)
        self._close(core, event, mapping)

    def _close(self, core: "Core", event: str, mapping: Mapping) -> None:
        cpu: Intervals = ((mapping.address, mapping.stop),)
        mapping.ended = (core.time, cpu, None, event, core.index, caller(3))
        if self.device_log:
            self._ended.append(mapping)
        else:
            self._table.drop_memory(mapping)

    def _hand_over(self, mapping: Mapping, handover: Handover) -> None:
        if self.device_log:
            mapping.history.append(handover)
            self._changed[mapping] = None
        else:
            mapping.history[-1] = handover

    def _in_use(self, core: "Core", time: int, frame: int, address: int, stop: int, verb: str, rule: str) -> None:
        """What of a range lies in a frame must be allocated, and in objects in use where it is a slab's."""
        if frame in self._allocated:
            self.slabs.in_use(core, time, frame, address, stop, verb, rule)
            return
        before = f"freed at {told(self._freed[frame])}" if frame in self._freed else "never allocated"
        self._report(rule, f"{verb} at {address:#x} at {told(caller())} on core {core.index}, {time} ps: {before}")

    def _report(self, rule: str, message: str) -> None:
        violation = Violation(rule, message)
        self.violations.append(violation)
        if self.stop:
            raise OwnershipError(violation)


def _verb(write: bool) -> str:
    return "write" if write else "read"
