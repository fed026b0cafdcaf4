# SPDX-License-Identifier: BSD-2-Clause
"""Whether objects of slabs are in use when they are touched: what the page allocator cannot know."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from driver_model.memory.pages.page import PAGE_SHIFT
from driver_model.memory.site import Site, caller, told

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.slab.kmem_cache import SlabObject, SlabPage

Report = Callable[[str, str], None]
Freed = Callable[["Core", object, int, int], None]


class SlabChecker:
    """The part of the ownership checker that knows slabs.

    A slab's pages are allocated as a whole, so the page rules hold for them; here an access must moreover lie within
    objects in use, and so must what is mapped. Rules: ``cpu access of free memory``, ``mapping of free memory`` and
    ``double free``, told with where the object was allocated
    and freed.

    Parameters
    ----------
    report : told of a broken rule: its name, and the story
    freed : told of bytes of a page that are given back: the core, what, where and how many

    Attributes
    ----------
    frames : slab of each page frame that one lies in
    """

    def __init__(self, report: Report, freed: Freed) -> None:
        self.frames: dict[int, SlabPage] = {}
        self._report = report
        self._part_freed = freed
        self._allocated: dict[SlabObject, tuple[Site, int]] = {}
        self._freed: dict[SlabObject, tuple[Site, int]] = {}

    def slab_created(self, slab: "SlabPage") -> None:
        """Pages were cut into objects."""
        for frame in slab.page.frames:
            self.frames[frame] = slab

    def slab_discarded(self, slab: "SlabPage") -> None:
        """The pages are about to go back to the page allocator."""
        for frame in slab.page.frames:
            del self.frames[frame]
        for obj in slab.objects:
            self._allocated.pop(obj, None)
            self._freed.pop(obj, None)

    def object_allocated(self, core: "Core", obj: "SlabObject") -> None:
        """An object was handed out."""
        self._allocated[obj] = caller(), core.index

    def object_freed(self, core: "Core", obj: "SlabObject") -> None:
        """An object was given back."""
        self._part_freed(core, obj, obj.address, obj.size)
        self._freed[obj] = caller(), core.index

    def double_free(self, core: "Core", obj: "SlabObject") -> None:
        """An object that is free was given back."""
        self._report("double free", f"{obj} at {told(caller())} on core {core.index}: {self.history(obj)}")

    def in_use(self, core: "Core", time: int, frame: int, address: int, stop: int, verb: str, rule: str) -> None:
        """A core touched, or maps, what of ``address..stop-1`` lies in a frame of :attr:`frames`: else ``rule``."""
        slab = self.frames[frame]
        start = max(address, frame << PAGE_SHIFT)
        stop = min(stop, frame + 1 << PAGE_SHIFT)
        objects = slab.objects
        base = objects[0].address
        step = objects[1].address - base if len(objects) > 1 else slab.page.size
        while start < stop:
            index = (start - base) // step
            if index >= len(objects):
                story = f"beyond the objects of a slab, the last one {objects[-1]}"
            else:
                obj = objects[index]
                if obj.in_use and start < obj.address + obj.size:
                    start = obj.address + obj.size
                    continue
                story = self.history(obj) if not obj.in_use else f"beyond the {obj.size} bytes of {obj}"
            self._report(
                rule,
                f"{verb} at {start:#x} at {told(caller())} on core {core.index}, {time} ps: {story}",
            )
            return

    def history(self, obj: "SlabObject") -> str:
        """Which object, and where it was last allocated and freed."""
        story = [f"{obj}"]
        if obj in self._allocated:
            story.append(f"allocated at {_place(*self._allocated[obj])}")
        if not obj.in_use:
            story.append(f"freed at {_place(*self._freed[obj])}" if obj in self._freed else "never allocated")
        return ", ".join(story)


def _place(site: Site, core: int) -> str:
    return f"{told(site)} on core {core}"
