# SPDX-License-Identifier: BSD-2-Clause
"""What a run measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """What a run measured. Frames are counted once; lengths are those in memory, without FCS.

    Attributes
    ----------
    clock_khz, core_khz : clocks of hardware and cores
    offered, delivered : frames that began on the wire, and frames that software received (``tx``: that left again)
    dropped : frames by reason; with ``delivered`` they make up ``offered``
    lengths : how many frames of each length were delivered
    cycles : hardware cycles from when software first had a frame to the last delivery, for ``delivered`` frames; not
        less than the wire took
    operations : for each operation of the cost profile, how often it happened during the traffic, and its picoseconds
    statistics : counters at the end of the run, of driver, page_pool and hardware; ``memory_before``, ``memory_after``:
        bytes of pages in use when the traffic began and when it ended
    accesses : how many accesses the device made to memory during the traffic, by (is a write, address modulo 64,
        length); empty without access log
    """

    clock_khz: int
    core_khz: int
    offered: int
    delivered: int
    dropped: Mapping[str, int]
    lengths: Mapping[int, int]
    cycles: Fraction
    operations: Mapping[str, tuple[int, int]]
    statistics: Mapping[str, int]
    accesses: Mapping[tuple[bool, int, int], int]

    @property
    def cycles_per_packet(self) -> Fraction:
        """Hardware cycles for each delivered frame."""
        return self.cycles / self.delivered

    @property
    def packets_per_second(self) -> Fraction:
        """Delivered frames a second."""
        return self.clock_khz * 1000 / self.cycles_per_packet

    def cpu_cycles(self, operation: str) -> Fraction:
        """CPU cycles that an operation took for each delivered frame."""
        picoseconds = self.operations[operation][1]
        return Fraction(picoseconds * self.core_khz, 10**9 * self.delivered)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return asdict(self) | {
            "lengths": sorted(self.lengths.items()),
            "cycles": str(self.cycles),
            "operations": {name: list(value) for name, value in self.operations.items()},
            "accesses": [[*access, count] for access, count in sorted(self.accesses.items())],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Measurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls(
            **dict(values)
            | {
                "lengths": dict(values["lengths"]),
                "cycles": Fraction(values["cycles"]),
                "operations": {name: (count, ps) for name, (count, ps) in values["operations"].items()},
                "accesses": {(write, offset, length): count for write, offset, length, count in values["accesses"]},
            }
        )
