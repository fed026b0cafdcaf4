# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of host memory, in nanoseconds and bytes."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sim.host.link_config import cycles

MIN_READ_CYCLES = 4  #: what the pipeline from AR to R takes by itself
MIN_WRITE_CYCLES = 2  #: the same from the last W to B


@dataclass(frozen=True)
class DramConfig:
    """Parameters of :class:`sim.host.dram.Dram`. Defaults are typical of a server's memory as a device sees it.

    Attributes
    ----------
    read_latency_ns : from AR to the first R when nothing is in its way; 50 as in HyperTRIO (ISCA 2020)
    walker_latency_ns : the same for the walker's port; None: as ``read_latency_ns``
    write_latency_ns : from the last W to B: until the controller has it; the bytes are visible before that
    bandwidth_megabytes : megabytes a second of reads and writes together; 38,400 are two channels of DDR4-2400
    outstanding : accesses without response, of each port and direction
    monitors : exclusive reservations on the walker's port, one per ID; IDs of equal low bits share one. A power of two
    """

    read_latency_ns: float = 50.0
    walker_latency_ns: float | None = None
    write_latency_ns: float = 20.0
    bandwidth_megabytes: int = 38_400
    outstanding: int = 64
    monitors: int = 16

    def __post_init__(self) -> None:
        for name in ("read_latency_ns", "walker_latency_ns", "write_latency_ns"):
            value: Any = getattr(self, name)
            if name == "walker_latency_ns" and value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, not {value!r}")
            if not 0 <= value <= 100_000:
                raise ValueError(f"{name} must be in 0..100000, not {value!r}")
        for name, low, high in (("bandwidth_megabytes", 100, 2_000_000), ("outstanding", 2, 1024), ("monitors", 1, 64)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")
        if self.monitors & (self.monitors - 1):
            raise ValueError(f"monitors must be a power of two, not {self.monitors!r}")

    def read_cycles(self, clock_khz: int) -> int:
        """Read latency in clock cycles."""
        return max(MIN_READ_CYCLES, cycles(self.read_latency_ns, clock_khz))

    def walker_cycles(self, clock_khz: int) -> int:
        """Read latency of the walker's port in clock cycles."""
        if self.walker_latency_ns is None:
            return self.read_cycles(clock_khz)
        return max(MIN_READ_CYCLES, cycles(self.walker_latency_ns, clock_khz))

    def write_cycles(self, clock_khz: int) -> int:
        """Write latency in clock cycles."""
        return max(MIN_WRITE_CYCLES, cycles(self.write_latency_ns, clock_khz))

    def bytes_per_cycle(self, clock_khz: int) -> Fraction:
        """Bytes that memory moves in a clock cycle."""
        return Fraction(self.bandwidth_megabytes * 1_000_000, clock_khz * 1000)
