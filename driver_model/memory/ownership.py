# SPDX-License-Identifier: BSD-2-Clause
"""The ownership checker: who may touch which byte of memory, and who did.

Linux's own DMA debugging knows what a driver asked for; here both sides' accesses are seen as well. The DMA API, the
page allocator and page_pool report what they do; a core reports each access (:meth:`OwnershipChecker.cpu_access` is its
``access_observer``); the device's accesses come in batches (:meth:`OwnershipChecker.device_accesses`), each with its
cycle, and are judged by who owned the bytes *then*.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from driver_model.memory.dma import DmaDirection
from driver_model.memory.mapping import Handover, Mapping, Site, StaleAccess, add, caller, covers, overlap, remove
from driver_model.memory.page import PAGE_SHIFT, PAGE_SIZE, Page
from driver_model.memory.slab_checker import SlabChecker

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

_NOTHING = (0, 0)
_FOREVER = 1 << 63
_READABLE = (DmaDirection.TO_DEVICE, DmaDirection.BIDIRECTIONAL)
_WRITABLE = (DmaDirection.FROM_DEVICE, DmaDirection.BIDIRECTIONAL)


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

    Rules: ``cpu access of device memory``, ``cpu access of free memory``, ``device access outside a mapping``, ``device
    access after unmap``, ``device access in the stale window``, ``device access of cpu memory``, ``device access beyond
    the posted length``, ``device access against the direction``, ``double map``, ``double unmap``, ``unmap of what is
    not mapped``, ``sync of what is not mapped``, ``mapping error not tested``, ``wrong size``, ``wrong direction``,
    ``double free``, ``freed while mapped``, ``freed while in a pool``, ``double put``, ``wrong pool``, ``cpu access of
    unreadable memory``, ``never unmapped``; and those of
    :class:`driver_model.memory.page_pool_checker.PagePoolChecker`.

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
        self.stale: list[StaleAccess] = []  #: accesses after unmap and before the IOMMU's flush
        self.slabs = SlabChecker(self._report)  #: what the slab allocator reports
        self.iommu_frames: set[int] = set()  #: pages that the IOMMU itself uses now: not the device's accesses
        self._allocated: dict[int, Site] = {}
        self._freed: dict[int, Site] = {}
        self._pooled: dict[Page, Site] = {}
        self._unreadable: dict[int, str] = {}
        self._live: dict[int, list[Mapping]] = {}
        self._by_frame: dict[int, list[Mapping]] = {}
        self._ended: list[Mapping] = []
        self._last_ended: dict[int, Mapping] = {}
        self._changed: dict[Mapping, None] = {}

    # What the page allocator reports

    def page_allocated(self, core: "Core", page: Page) -> None:
        """Memory was handed out."""
        site = caller()
        for frame in page.frames:
            self._allocated[frame] = site

    def page_freed(self, core: "Core", page: Page) -> None:
        """The last reference to memory was dropped."""
        site = caller()
        for frame in page.frames:
            for mapping in self._by_frame.get(frame, ()):
                if mapping.ended is None:
                    self._report("freed while mapped", f"{page} freed at {site} on core {core.index}, {mapping}")
            self._allocated.pop(frame, None)
            self._freed[frame] = site
        if page.pp is not None:
            self._report("freed while in a pool", f"{page} freed at {site} behind the back of its page_pool")

    def double_free(self, core: "Core", page: Page) -> None:
        """A page without references was given back."""
        before = self._freed.get(page.pfn, "an unknown place")
        self._report("double free", f"{page} at {caller()} on core {core.index}; already freed at {before}")

    # What the DMA API reports

    def mapped(self, core: "Core", dma_address: int, address: int, size: int, direction: DmaDirection) -> None:
        """A mapping was made: all its bytes are the device's."""
        for other in self._overlapping(address, size):
            if not (other.direction is direction is DmaDirection.TO_DEVICE):
                self._report("double map", f"{address:#x}..{address + size - 1:#x} at {caller()}: there is a {other}")
                break
        self._begin(core, "dma_map", dma_address, address, size, direction, coherent=False)

    def mapping_tested(self, dma_address: int) -> None:
        """The driver asked whether mapping failed."""
        mapping = self._find(dma_address)
        if mapping is not None:
            mapping.tested = True

    def unmapped(self, core: "Core", dma_address: int, size: int, direction: DmaDirection) -> None:
        """A mapping was ended: all its bytes are the CPU's."""
        mapping = self._find(dma_address)
        if mapping is None or mapping.dma_address != dma_address or mapping.coherent:
            before = self._last_ended.get(dma_address)
            if before is None:
                what = f"which is in a {mapping}" if mapping else "which was never mapped"
                self._report("unmap of what is not mapped", f"{dma_address:#x} at {caller()}, {what}")
            else:
                self._report("double unmap", f"{dma_address:#x} at {caller()}: {before}")
            return
        if size != mapping.size:
            self._report("wrong size", f"unmap of {size} bytes at {caller()}, {mapping.size} mapped: {mapping}")
        if direction is not mapping.direction:
            self._report("wrong direction", f"unmap {direction.name} at {caller()}: {mapping}")
        if not mapping.tested:
            self._report("mapping error not tested", f"dma_mapping_error was not asked about {mapping}")
        self._end(core, "dma_unmap", mapping)

    def flush_deferred(self, dma_address: int) -> None:
        """The mapping that just ended at this address stays in the IOMMU's memory until it is flushed."""
        if dma_address in self._last_ended:
            self._last_ended[dma_address].reachable_until = _FOREVER

    def flushed(self, core: "Core", dma_address: int) -> None:
        """No access can use that mapping any more."""
        mapping = self._last_ended.get(dma_address)
        if mapping is not None and mapping.reachable_until == _FOREVER:
            mapping.reachable_until = core.time

    def synced_for_cpu(self, core: "Core", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Bytes of a live mapping become the CPU's."""
        mapping = self._synced("sync_for_cpu", dma_address, size, direction)
        if mapping is not None:
            start = mapping.address + dma_address - mapping.dma_address
            self._hand_over(core, "dma_sync_for_cpu", mapping, add(mapping.state.cpu, start, start + size), True)

    def synced_for_device(self, core: "Core", dma_address: int, size: int, direction: DmaDirection) -> None:
        """Bytes of a live mapping become the device's."""
        mapping = self._synced("sync_for_device", dma_address, size, direction)
        if mapping is not None:
            start = mapping.address + dma_address - mapping.dma_address
            self._hand_over(core, "dma_sync_for_device", mapping, remove(mapping.state.cpu, start, start + size), True)

    def posted(self, core: "Core", dma_address: int, length: int) -> None:
        """A descriptor names these bytes to the device: until the next sync it may touch them and no others."""
        mapping = self._find(dma_address)
        if mapping is None:
            self._report("device access outside a mapping", f"{dma_address:#x} posted at {caller()} is not mapped")
            return
        start = mapping.address + dma_address - mapping.dma_address
        if overlap(mapping.state.cpu, start, start + length):
            self._report("device access of cpu memory", f"{start:#x} posted at {caller()} is the CPU's: {mapping}")
        self._hand_over(core, "descriptor", mapping, mapping.state.cpu, False, (start, start + length))

    def coherent_allocated(self, core: "Core", dma_address: int, page: Page) -> None:
        """Memory for both sides was handed out."""
        self._begin(core, "dma_alloc_coherent", dma_address, page.address, page.size, DmaDirection.BIDIRECTIONAL, True)

    def coherent_freed(self, core: "Core", dma_address: int) -> None:
        """Memory for both sides was given back."""
        mapping = self._find(dma_address)
        if mapping is None or not mapping.coherent:
            self._report("unmap of what is not mapped", f"{dma_address:#x} at {caller()} is not coherent memory")
        else:
            self._end(core, "dma_free_coherent", mapping)

    def shared_with_iommu(self, core: "Core", page: Page) -> None:
        """Memory that the IOMMU itself reads and writes, by physical address: its tables and queues."""
        first = Handover(core.time, (), None, "shared with the IOMMU", core.index, caller())
        mapping = Mapping(page.address, page.address, page.size, DmaDirection.BIDIRECTIONAL, True, first)
        self._enter(self._by_frame, page.address, mapping)
        self.iommu_frames.update(page.frames)

    def taken_from_iommu(self, core: "Core", page: Page) -> None:
        """The IOMMU uses that memory no more."""
        for mapping in self._by_frame[page.pfn]:
            if mapping.coherent and mapping.ended is None and mapping.address == page.address:
                self._close(core, "taken from the IOMMU", mapping)
                self.iommu_frames.difference_update(page.frames)
                return

    # What page_pool reports

    def pool_put(self, core: "Core", pool: object, page: Page) -> None:
        """A page went into a pool's cache or ring."""
        site = caller()
        if page in self._pooled:
            self._report("double put", f"{page} at {site} on core {core.index}; already put at {self._pooled[page]}")
        if page.pp is not pool:
            self._report("wrong pool", f"{page} at {site} belongs to {page.pp!r}, not to {pool!r}")
        self._pooled[page] = site

    def pool_taken(self, page: Page) -> None:
        """A page left a pool's cache or ring."""
        self._pooled.pop(page, None)

    def pooled(self, page: Page) -> Site | None:
        """Where a page was put that is in a pool's cache or ring; None for others."""
        return self._pooled.get(page)

    def unreadable(self, page: Page, what: str) -> None:
        """Memory that no CPU can read from now on, and what it is."""
        self._unreadable.update(dict.fromkeys(range(page.pfn, page.pfn + (page.size >> PAGE_SHIFT)), what))

    def readable(self, page: Page) -> None:
        """The end of :meth:`unreadable`."""
        for frame in range(page.pfn, page.pfn + (page.size >> PAGE_SHIFT)):
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
                    f"{_verb(write)} at {address:#x} of {self._unreadable[frame]} at {caller()} on core {core.index}, "
                    f"{time} ps",
                )
            for mapping in self._by_frame.get(frame, ()):
                if mapping.ended is not None or mapping.coherent or mapping.stop <= address or stop <= mapping.address:
                    continue
                start, end = max(address, mapping.address), min(stop, mapping.stop)
                state = mapping.state
                if not covers(state.cpu, start, end):
                    if write and state.cpu and state.posted == _NOTHING:
                        self._hand_over(core, "write", mapping, add(state.cpu, start, end), False, _NOTHING)
                        continue
                    self._report(
                        "cpu access of device memory",
                        f"{_verb(write)} of {end - start} bytes at {start:#x} at {caller()} on core {core.index}, "
                        f"{time} ps, without sync_for_cpu or unmap: {mapping}",
                    )
            if frame not in self._allocated:
                before = f"freed at {self._freed[frame]}" if frame in self._freed else "never allocated"
                self._report(
                    "cpu access of free memory",
                    f"{_verb(write)} at {address:#x} at {caller()} on core {core.index}, {time} ps: {before}",
                )
            elif frame in self.slabs.frames:
                self.slabs.cpu_access(core, time, frame, address, stop, _verb(write))

    def device_accesses(self, until: int, accesses: Iterable[tuple[int, int, int, bool]]) -> None:
        """Judge device accesses (cycle, physical address, length, is_write), in any order, and forget the history that
        only accesses up to cycle ``until`` could ask for: later batches must be later than that."""
        for cycle, address, length, write in accesses:
            stop = address + length
            while address < stop:
                address = self._device_access(cycle, address, stop, write)
        time = until * self.cycle_ps
        for mapping in self._changed:
            mapping.forget(time)
        self._changed = {mapping: None for mapping in self._changed if len(mapping.history) > 1}
        waiting = []
        for mapping in self._ended:
            if mapping.ended is not None and max(mapping.ended.time, mapping.reachable_until) <= time:
                self._drop(self._by_frame, mapping.address, mapping)
            else:
                waiting.append(mapping)
        self._ended = waiting

    def finish(self) -> None:
        """The device is gone: nothing may be mapped any more."""
        for mappings in list(self._live.values()):
            for mapping in mappings:
                self._report("never unmapped", str(mapping))
                return

    def leaks(self) -> list[str]:
        """Memory that was not given back to the page allocator, in words: how much, and where it was allocated."""
        frames = Counter(str(site) for site in self._allocated.values())
        return [f"{count * PAGE_SIZE} bytes allocated at {site}" for site, count in frames.items()]

    # Records

    def _device_access(self, cycle: int, start: int, stop: int, write: bool) -> int:
        time = cycle * self.cycle_ps
        late = None
        for mapping in self._by_frame.get(start >> PAGE_SHIFT, ()):
            if mapping.address <= start < mapping.stop:
                if mapping.live_at(time):
                    break
                late = mapping
        else:
            rule = "device access outside a mapping"
            if late is not None and late.ended is not None and late.ended.time < time:
                rule = "device access after unmap"
                if time <= late.reachable_until:
                    rule = "device access in the stale window"
                    self.stale.append(StaleAccess(cycle, start, stop - start, write, time - late.ended.time))
            story = f": {late}" if late else ""
            self._report(rule, f"{_verb(write)} of {stop - start} bytes at {start:#x} in cycle {cycle}{story}")
            return stop
        end = min(stop, mapping.stop)
        if mapping.coherent:
            return end
        state = mapping.state_at(time)
        posted = state.posted
        if mapping.direction not in (_WRITABLE if write else _READABLE):
            rule = "device access against the direction"
        elif state.cpu and overlap(state.cpu, start, end):
            rule = "device access of cpu memory"
        elif posted is not None and not (posted[0] <= start and end <= posted[1]):
            rule = "device access beyond the posted length"
        else:
            return end
        self._report(
            rule, f"{_verb(write)} of {end - start} bytes at {start:#x} in cycle {cycle}: {mapping}; then {state}"
        )
        return end

    def _synced(self, what: str, dma_address: int, size: int, direction: DmaDirection) -> Mapping | None:
        mapping = self._find(dma_address)
        if mapping is None:
            before = self._last_ended.get(dma_address, "never mapped")
            self._report("sync of what is not mapped", f"{what} of {dma_address:#x} at {caller()}: {before}")
            return None
        if dma_address + size > mapping.dma_address + mapping.size:
            self._report("wrong size", f"{what} of {size} bytes at {caller()} passes the end of its {mapping}")
        if direction is not mapping.direction and mapping.direction is not DmaDirection.BIDIRECTIONAL:
            self._report("wrong direction", f"{what} {direction.name} at {caller()}: {mapping}")
        return mapping

    def _begin(
        self,
        core: "Core",
        event: str,
        dma_address: int,
        address: int,
        size: int,
        direction: DmaDirection,
        coherent: bool,
    ) -> None:
        first = Handover(core.time, (), None, event, core.index, caller())
        mapping = Mapping(dma_address, address, size, direction, coherent, first)
        self._enter(self._live, dma_address, mapping)
        self._enter(self._by_frame, address, mapping)

    def _end(self, core: "Core", event: str, mapping: Mapping) -> None:
        self._last_ended[mapping.dma_address] = mapping
        self._drop(self._live, mapping.dma_address, mapping)
        self._close(core, event, mapping)

    def _close(self, core: "Core", event: str, mapping: Mapping) -> None:
        cpu = ((mapping.address, mapping.stop),)
        mapping.ended = Handover(core.time, cpu, None, event, core.index, caller())
        if self.device_log:
            self._ended.append(mapping)
        else:
            self._drop(self._by_frame, mapping.address, mapping)

    def _hand_over(
        self,
        core: "Core",
        event: str,
        mapping: Mapping,
        cpu: tuple[tuple[int, int], ...],
        withdraw: bool,
        posted: tuple[int, int] | None = None,
    ) -> None:
        if withdraw and mapping.state.posted is not None:
            posted = _NOTHING
        handover = Handover(core.time, cpu, posted, event, core.index, caller())
        if self.device_log:
            mapping.history.append(handover)
            self._changed[mapping] = None
        else:
            mapping.history[-1] = handover

    def _find(self, dma_address: int) -> Mapping | None:
        for mapping in self._live.get(dma_address >> PAGE_SHIFT, ()):
            if mapping.dma_address <= dma_address < mapping.dma_address + mapping.size:
                return mapping
        return None

    def _overlapping(self, address: int, size: int) -> list[Mapping]:
        frames = range(address >> PAGE_SHIFT, (address + size - 1 >> PAGE_SHIFT) + 1)
        return [
            mapping
            for frame in frames
            for mapping in self._by_frame.get(frame, ())
            if mapping.ended is None and mapping.address < address + size and address < mapping.stop
        ]

    def _enter(self, index: dict[int, list[Mapping]], address: int, mapping: Mapping) -> None:
        for frame in range(address >> PAGE_SHIFT, (address + mapping.size - 1 >> PAGE_SHIFT) + 1):
            index.setdefault(frame, []).append(mapping)

    def _drop(self, index: dict[int, list[Mapping]], address: int, mapping: Mapping) -> None:
        for frame in range(address >> PAGE_SHIFT, (address + mapping.size - 1 >> PAGE_SHIFT) + 1):
            index[frame].remove(mapping)
            if not index[frame]:
                del index[frame]

    def _report(self, rule: str, message: str) -> None:
        violation = Violation(rule, message)
        self.violations.append(violation)
        if self.stop:
            raise OwnershipError(violation)


def _verb(write: bool) -> str:
    return "write" if write else "read"
