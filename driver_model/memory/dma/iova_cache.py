# SPDX-License-Identifier: BSD-2-Clause
"""Caches of freed I/O virtual address ranges, one for each size (``struct iova_rcache``)."""

from typing import TYPE_CHECKING

from driver_model.cpu.locks import SpinLock

if TYPE_CHECKING:
    from driver_model.cpu.core import Core

CACHED_ORDERS = 6  #: ``IOVA_RANGE_CACHE_MAX_SIZE``: ranges of 1, 2, 4 … 32 pages
MAGAZINE_SIZE = 128  #: ``IOVA_MAG_SIZE``
MAX_GLOBAL_MAGAZINES = 32  #: full magazines in the depot


class RangeCache:
    """Freed ranges of one size, after Bonwick's magazines.

    Each core has two magazines: ``loaded``, last in first out, and ``prev``, exchanged with it when ``loaded`` is empty
    (or full, when freeing). Full magazines go to a depot that all cores share under a lock, and come from there.

    Parameters
    ----------
    order : ranges of ``1 << order`` pages
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.lock = SpinLock(f"iova depot {order}")
        self._cores: dict[int, tuple[list[int], list[int]]] = {}  # index -> loaded, prev
        self._depot: list[list[int]] = []

    def get(self, core: "Core") -> int | None:
        """A range, or None when neither the core nor the depot has one (``iova_rcache_get``)."""
        if not any(self._magazines(core)) and self._depot:
            with core.irq_save(), self.lock.held(core):
                loaded, prev = self._magazines(core)
                if not loaded and self._depot:
                    self._cores[core.index] = self._depot.pop(), prev
        loaded, prev = self._magazines(core)
        if not loaded:
            loaded, prev = self._cores[core.index] = prev, loaded
        return loaded.pop() if loaded else None

    def put(self, core: "Core", pfn: int) -> list[int]:
        """Keep a range (``iova_rcache_insert``). Returns ranges for which there was no room any more."""
        surplus: list[int] = []
        if all(len(magazine) == MAGAZINE_SIZE for magazine in self._magazines(core)):
            with core.irq_save(), self.lock.held(core):
                loaded, prev = self._magazines(core)
                self._cores[core.index] = [], prev
                if len(self._depot) < MAX_GLOBAL_MAGAZINES:
                    self._depot.append(loaded)
                else:
                    surplus = loaded
        loaded, prev = self._magazines(core)
        if len(loaded) == MAGAZINE_SIZE:
            loaded, prev = self._cores[core.index] = prev, loaded
        loaded.append(pfn)
        return surplus

    def _magazines(self, core: "Core") -> tuple[list[int], list[int]]:
        """``loaded`` and ``prev`` of a core. Only waiting for the lock lets anyone else in, so they are looked up again
        after it."""
        pair = self._cores.get(core.index)
        if pair is None:
            pair = self._cores[core.index] = [], []
        return pair

    def drain(self) -> list[int]:
        """Everything that it holds, which it then does not."""
        magazines = [magazine for pair in self._cores.values() for magazine in pair] + self._depot
        self._cores.clear()
        self._depot = []
        return [pfn for magazine in magazines for pfn in magazine]
