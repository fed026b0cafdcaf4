# SPDX-License-Identifier: BSD-2-Clause
"""What a run in overload is, and what it measures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim.config import MachineConfig
from sim.line_rate.run import RX_BUFFER, LineRun
from sim.traffic.pacing import FCS_BYTES, LineRate

LOOPS = ("off", "fixed", "track")
QUEUES = 4  #: with a pool each
CALM_WINDOWS = 12  #: before the overload: four more than the loop needs to know the steady state


@dataclass(frozen=True)
class OverloadRun:
    """Frames at line rate, in turn for queues with a pool each. At first all consumers are faster than what they are
    offered; then that of queue 0 becomes slower.

    So many queues share the line that software can add buffers faster than a consumer is offered too much: a JOIN takes
    some 30 cycles.

    Attributes
    ----------
    loop : feedback loop of all pools: ``off``, at a ``fixed`` limit, or one that ``track`` s the steady state
    overload : times its rate that the slow consumer is offered
    frames : of all queues in overload
    size : bytes of a frame on the wire, with FCS
    limit : buffers outstanding, also where the loop tracks; the loop opens again at three quarters
    slack, window : of a loop that tracks: register LOOP
    ids : buffers that each pool can have: all memory there is
    buffers : of each pool at first
    low, lot : when fewer than ``low`` are free, ``lot`` more join
    seed : of the payload
    """

    loop: str = "fixed"
    overload: int = 2
    frames: int = 200_000
    size: int = 64
    limit: int = 1024
    slack: int = 256
    window: int = 12
    ids: int = 8192
    buffers: int = 256
    low: int = 128
    lot: int = 32
    seed: int = 1

    def __post_init__(self) -> None:
        if self.loop not in LOOPS:
            raise ValueError(f"loop must be one of {', '.join(LOOPS)}, not {self.loop!r}")
        for name, low, high in (
            ("overload", 2, 100),
            ("frames", 1000, 10_000_000),
            ("size", 64, RX_BUFFER + FCS_BYTES),
            ("limit", 64, 1 << 16),
            ("slack", 0, 65535),
            ("window", 8, 20),
            ("ids", 128, 1 << 15),
            ("buffers", 64, self.ids),
            ("low", 1, self.ids),
            ("lot", 1, 64),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")
        if self.ids & (self.ids - 1):
            raise ValueError(f"ids must be a power of two in 128..{1 << 15}, not {self.ids!r}")
        if self.loop == "off":
            return
        if self.limit >= self.ids:
            raise ValueError(f"limit must be less than the {self.ids} ids, not {self.limit!r}: else nothing is bounded")
        # What the slow consumer of queue 0 is offered beyond its rate must exceed the limit for the loop to close.
        least = -(-self.limit * QUEUES * self.overload // (self.overload - 1))
        if self.frames < least:
            raise ValueError(
                f"frames must be at least {least} for a limit of {self.limit}, not {self.frames!r}: else the loop "
                f"never closes"
            )

    @property
    def line(self) -> LineRun:
        """The traffic, and where its buffers are."""
        return LineRun(recycle=True, size=self.size, queues=QUEUES, ring=self.ids, headroom=0, seed=self.seed)

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        self.line.check(machine)

    @property
    def calm_cycles(self) -> int:
        """Cycles before the overload."""
        return CALM_WINDOWS << self.window

    def overload_cycles(self, line: LineRate) -> int:
        """Cycles in which so many frames come."""
        return -(-self.frames * line.frame_cycles(self.line.length) // 1)


@dataclass(frozen=True)
class Look:
    """What software and the registers of a pool said at one time.

    Attributes
    ----------
    cycle : since the overload began
    free, outstanding, ahead, limit, closings : as registers say
    joined : buffers of the pool, as software says
    held : buffers that software has seen, and not handed back
    consumed : frames so far
    """

    cycle: int
    free: int
    outstanding: int
    ahead: int
    limit: int
    closings: int
    joined: int
    held: int
    consumed: int

    @property
    def used(self) -> int:
        """Buffers that count against the limit."""
        return self.outstanding + self.ahead


@dataclass(frozen=True)
class QueueMeasurement:
    """What happened to a queue and its pool.

    Attributes
    ----------
    offered, received : frames of the whole run
    dropped : the others, by reason
    calm_used : most buffers that counted against the limit before the overload
    used, held, limit : most in overload
    settled_limit : most in force since the loop first closed, 0 if it did not
    looks : at the overload's beginning, at the first look after which the loop had closed and the first at which there
        was no buffer left, if there were such, and at the end, by name
    series : some looks at equal times
    """

    offered: int
    received: int
    dropped: Mapping[str, int]
    calm_used: int
    used: int
    held: int
    limit: int
    settled_limit: int
    looks: Mapping[str, Look]
    series: Sequence[Look]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "QueueMeasurement":
        """Of plain JSON values."""
        looks = {name: Look(**look) for name, look in values["looks"].items()}
        return cls(**{**values, "looks": looks, "series": [Look(**look) for look in values["series"]]})


@dataclass(frozen=True)
class OverloadMeasurement:
    """Of the overloaded queue 0, and of the others."""

    queues: Sequence[QueueMeasurement]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OverloadMeasurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls([QueueMeasurement.from_json(queue) for queue in values["queues"]])
