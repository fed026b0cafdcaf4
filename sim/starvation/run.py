# SPDX-License-Identifier: BSD-2-Clause
"""What a search for enough buffers is, and what it finds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from driver_model.drivers.strategies import hardware_pools
from sim.config import MachineConfig
from sim.run import RunConfig
from sim.traffic.pacing import FCS_BYTES


@dataclass(frozen=True)
class StarvationRun:
    """A search over runs that differ in how many pages the queue may have: as many as its ring takes, and more.

    Attributes
    ----------
    run : each of them, but for that; its consumer is ``socket``, which holds packets for a time
    resolution : pages to which the search goes
    """

    run: RunConfig
    resolution: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.resolution, int) or isinstance(self.resolution, bool) or self.resolution < 1:
            raise ValueError(f"resolution must be an integer, 1 or more, not {self.resolution!r}")
        if self.run.consumer != "socket" or self.run.queues != 1:
            raise ValueError(f"run must have one queue and a socket, not {self.run.queues!r} and {self.run.consumer!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StarvationRun":
        """The run that ``asdict`` made these values of."""
        return cls(**dict(values) | {"run": RunConfig.from_dict(values["run"])})

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        for extra in (0, self.most(machine)):
            self.with_extra(extra).check(machine)
        needed = (self.ring_pages + self.most(machine)) * self.run.page_size
        if needed > machine.memory_size * 3 // 4:
            raise ValueError(
                f"memory_size must be at least {needed * 4 // 3} for {self.ring_pages + self.most(machine)} pages of "
                f"{self.run.page_size} bytes, not {machine.memory_size!r}"
            )

    @property
    def per_page(self) -> int:
        """Buffers of a page."""
        fragment = self.run.pool.fragment_bytes
        return self.run.page_size // fragment if fragment else 1

    @property
    def ring_pages(self) -> int:
        """Pages that a full ring takes."""
        return -(-self.run.ring // self.per_page)

    def arrivals(self, machine: MachineConfig, microseconds: int | Fraction) -> int:
        """The most frames that begin within any time of that length."""
        length = int(self.run.traffic.sizes) - FCS_BYTES
        line = self.run.traffic.line(machine.nic.clock_khz)
        starts = list(line.starts([length] * self.run.traffic.frames, burst=self.run.traffic.burst))
        cycles = microseconds * Fraction(machine.nic.clock_khz, 1000)
        most = first = 0
        for last, start in enumerate(starts):
            while start - starts[first] > cycles:
                first += 1
            most = max(most, last - first + 1)
        return most

    def most(self, machine: MachineConfig) -> int:
        """Extra pages that are surely enough: those for all frames that the socket can hold, as much again as the ring
        takes for what is on its way, and two that are being cut."""
        held = self.arrivals(machine, self.run.hold_us)
        return -(-held // self.per_page) + self.ring_pages + (2 if self.per_page > 1 else 0)

    def with_extra(self, extra: int) -> RunConfig:
        """The run with so many pages more than the ring takes."""
        pages = self.ring_pages + extra
        if hardware_pools(self.run.strategy):
            return replace(self.run, pool_size=pages)
        # No distance at which the breaker closes again: it is the size of the pool that is looked for.
        pool = replace(self.run.pool, inflight_limit=pages, inflight_resume=pages - 1)
        return replace(self.run, pool=pool)


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes
    ----------
    extra : pages beyond those that the ring takes
    offered : frames
    starved : frames dropped because there was no buffer
    other : frames dropped for any other reason
    """

    extra: int
    offered: int
    starved: int
    other: int


@dataclass(frozen=True)
class StarvationMeasurement:
    """What a search found.

    Attributes
    ----------
    points : its runs, by extra pages
    """

    points: Sequence[Point]

    @property
    def needed(self) -> int | None:
        """Extra pages from which on no frame was dropped for want of a buffer; None: not even the most were enough."""
        enough = None
        for point in reversed(self.points):
            if point.starved:
                break
            enough = point.extra
        return enough

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StarvationMeasurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls([Point(**point) for point in values["points"]])
