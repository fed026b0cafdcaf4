# SPDX-License-Identifier: BSD-2-Clause
"""Runs where the cache of sk_buffs is shared: others hold objects in its slabs, as where SLUB merges caches."""

from dataclasses import dataclass
from typing import Any

from driver_model.memory.slab.kmem_cache import SlabObject
from sim.bulk.loops import share_cache
from sim.config import MachineConfig
from sim.run import RunConfig
from sim.scenario import Scenario


@dataclass(frozen=True)
class SharedRun:
    """A run, and how many objects others leave in each of the first slabs of ``skbuff_head_cache``."""

    run: RunConfig
    others_leave: tuple[int, ...]

    @property
    def profile(self) -> str:
        """Cost profile."""
        return self.run.profile

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        self.run.check(machine)


class SharedScenario(Scenario):
    """A run in which the first core's slabs are shared from the beginning to the end."""

    def __init__(self, backend: Any, machine: MachineConfig, shared: SharedRun) -> None:
        super().__init__(backend, machine, shared.run)
        self._others_leave = shared.others_leave
        self._held: list[SlabObject] = []

    def _open(self) -> None:
        self._held = share_cache(self.host.slabs[0], self.host.softnets[0].skbs.cache, self._others_leave)
        super()._open()

    def _close(self) -> None:
        for each in self._held:
            self.host.slabs[0].kmem_cache_free(each)
        super()._close()
