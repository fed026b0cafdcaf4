# SPDX-License-Identifier: BSD-2-Clause
"""What arrives on the wire in a run: a description that fits into a result file, and the frames it stands for."""

from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from sim.traffic.capture import read_capture
from sim.traffic.flows import Flows
from sim.traffic.pacing import LineRate
from sim.traffic.sizes import parse_sizes

CAPTURE = "capture"
TIMINGS = ("rate", "capture")
MAX_FRAMES = 10_000_000


class Frame(NamedTuple):
    """One frame on its way to the NIC."""

    start: int  #: cycle at which the wire is to give its first beat, at the earliest
    data: bytes  #: without FCS
    serial: int  #: counts the frames of a run, from 0
    bad_fcs: bool = False


@dataclass(frozen=True)
class Traffic:
    """Offered traffic.

    Attributes
    ----------
    sizes : frame sizes on the wire as :func:`sim.traffic.sizes.parse_sizes` takes them, or ``capture``
    frames : how many; a capture is played once, whole, and up to this many if that is fewer
    flows, queues : UDP flows, spread evenly over queues by destination address (no capture); a NIC with RSS spreads
        them by their hashes instead
    rate : of the MAC, bits per second
    load : share of the line that is offered, above 0 and at most 1
    seed : of order, sizes and payload
    burst : frames that come back to back before a pause that makes up for them; 1: all at equal distances
    capture : path of a capture file, with ``sizes`` ``capture``
    timing : ``rate`` plays a capture at the offered load, ``capture`` at its own times
    """

    sizes: str = "64"
    frames: int = 1000
    flows: int = 1
    queues: int = 1
    rate: int = 10_000_000_000
    load: str = "1"
    seed: int = 1
    burst: int = 1
    capture: str | None = None
    timing: str = "rate"

    def __post_init__(self) -> None:
        if not isinstance(self.frames, int) or isinstance(self.frames, bool):
            raise TypeError(f"frames must be an integer, not {self.frames!r}")
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames must be in 1..{MAX_FRAMES}, not {self.frames!r}")
        if not isinstance(self.burst, int) or isinstance(self.burst, bool) or self.burst < 1:
            raise ValueError(f"burst must be an integer, 1 or more, not {self.burst!r}")
        if self.timing not in TIMINGS:
            raise ValueError(f"timing must be one of {', '.join(TIMINGS)}, not {self.timing!r}")
        if (self.sizes == CAPTURE) != (self.capture is not None):
            raise ValueError(
                f"A capture is played with sizes {CAPTURE!r} and a file, not {self.sizes!r} and {self.capture!r}"
            )
        self.line(1)
        if self.sizes != CAPTURE:
            parse_sizes(self.sizes)
            if self.timing == "capture":
                raise ValueError(f"timing 'capture' needs sizes {CAPTURE!r}, not {self.sizes!r}")

    @classmethod
    def lasting(cls, microseconds: int, size: str, rate: int, load: str = "1", seed: int = 1) -> "Traffic":
        """As many frames of one size as a MAC's line carries in that time at a load, one at least."""
        lone = cls(size, frames=1, rate=rate, load=load)
        (length,) = islice(parse_sizes(size).lengths(seed), 1)
        line = lone.line(1)
        count = line.frames_per_second(length) * line.load * microseconds / 1_000_000
        return replace(lone, frames=max(1, int(count)), seed=seed)

    def line(self, clock_khz: int) -> LineRate:
        """The MAC that offers this traffic, at a hardware clock."""
        return LineRate(self.rate, clock_khz, self.load)

    def generate(self, clock_khz: int) -> list[Frame]:
        """The frames, each with the cycle of ``clock_khz`` at which it starts; the first starts at cycle 0."""
        line = self.line(clock_khz)
        if self.capture is not None:
            captured = read_capture(self.capture)[: self.frames]
            payload = [frame.data for frame in captured]
            if self.timing == "capture":
                starts = line.starts_at((frame.nanoseconds for frame in captured), map(len, payload))
                return [Frame(start, data, serial) for serial, (start, data) in enumerate(zip(starts, payload))]
        else:
            flows = Flows(self.flows, self.queues, self.seed)
            lengths = islice(parse_sizes(self.sizes).lengths(self.seed), self.frames)
            payload = [flows.frame(n % self.flows, length, n) for n, length in enumerate(lengths)]
        starts = line.starts(map(len, payload), burst=self.burst)
        return [Frame(start, data, serial) for serial, (start, data) in enumerate(zip(starts, payload))]
