# SPDX-License-Identifier: BSD-2-Clause
"""When frames start on the wire: exact arithmetic from MAC rate and clock.

A frame of *n* bytes in memory occupies the wire for *n* + 24 byte times: preamble and start delimiter 8, FCS 4,
inter-packet gap 12 (IEEE 802.3, clause 4.2.3 and 4.4.2). A 60-byte frame thus takes 84 byte times, which at 10 Gbit/s
and 156.25 MHz are 10.5 cycles.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil

PREAMBLE_BYTES = 8
FCS_BYTES = 4
GAP_BYTES = 12
OVERHEAD_BYTES = PREAMBLE_BYTES + FCS_BYTES + GAP_BYTES
MIN_FRAME = 60  #: shortest frame that a sender puts on the wire, without FCS


class LineRate:
    """A MAC's rate in terms of the hardware clock.

    Parameters
    ----------
    bits_per_second : rate of the MAC
    clock_khz : frequency of the hardware clock
    load : share of the line's time that is offered, above 0 and at most 1
    """

    def __init__(self, bits_per_second: int, clock_khz: int, load: Fraction | float | str | int = 1) -> None:
        for name, value in (("bits_per_second", bits_per_second), ("clock_khz", clock_khz)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        try:
            self.load = Fraction(str(load))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"load must be a number above 0 and at most 1, not {load!r}") from None
        if not 0 < self.load <= 1:
            raise ValueError(f"load must be above 0 and at most 1, not {load!r}")
        self.bits_per_second = bits_per_second
        self.clock_khz = clock_khz
        self.cycles_per_byte = Fraction(8000 * clock_khz, bits_per_second)

    def frame_cycles(self, length: int) -> Fraction:
        """Cycles that a frame of ``length`` bytes (without FCS) occupies the line."""
        return (length + OVERHEAD_BYTES) * self.cycles_per_byte

    def frames_per_second(self, length: int) -> Fraction:
        """Most frames of ``length`` bytes (without FCS) that the line carries in a second."""
        return Fraction(self.bits_per_second, 8 * (length + OVERHEAD_BYTES))

    def starts(self, lengths: Iterable[int], first: int = 0, burst: int = 1) -> Iterator[int]:
        """Start cycle of each frame at the offered load: at equal distances, or ``burst`` frames back to back and then
        the pauses of all.

        Times add up exactly; each is rounded up to a cycle only when it is given out, so no error accumulates.
        """
        time = free = Fraction(first)
        for number, length in enumerate(lengths, 1):
            yield ceil(free)
            time += self.frame_cycles(length) / self.load
            free = time if number % burst == 0 else free + self.frame_cycles(length)

    def starts_at(self, nanoseconds: Iterable[int], lengths: Iterable[int], first: int = 0) -> Iterator[int]:
        """Start cycle of each frame at a capture's own times, relative to its first frame.

        A frame that the capture puts before the end of the one before it starts when the line is free.
        """
        free = Fraction(first)
        origin: int | None = None
        for instant, length in zip(nanoseconds, lengths, strict=True):
            origin = instant if origin is None else origin
            time = max(free, first + Fraction((instant - origin) * self.clock_khz, 1_000_000))
            yield ceil(time)
            free = time + self.frame_cycles(length)
