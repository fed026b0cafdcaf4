# SPDX-License-Identifier: BSD-2-Clause
"""What a run with a slow reader is, and what it measures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim.config import MachineConfig
from sim.memory_samples import MemorySample
from sim.run import RunConfig

QUEUES = 2  #: with a core and a socket each
SLOW, OTHER = range(QUEUES)  #: that of the reader which becomes slow, and the other
UNBOUNDED = 1 << 40  #: bytes that may wait in a socket: any number


@dataclass(frozen=True)
class OverloadRun:
    """A run whose consumer is ``socket``. At first both readers keep up; for a time that of queue 0 reads no more than
    one packet in ``pace_us``; then it keeps up again. Meanwhile files are read on the other core, and afterwards memory
    is taken there.

    Attributes
    ----------
    run : the traffic, of two queues with a core each, and how it is received
    calm_us, overload_us : when reading becomes slow, and for how long
    pace_us : what the slow reader waits between two packets
    file_us : time in which a page of a file is read; 0: none is, and memory is free at the beginning
    claim_us : time in which another process takes a page for itself, from when the slow reader keeps up again, as long
        as it gets one; where files are read
    period_us : between two samples of memory
    """

    run: RunConfig
    calm_us: int = 1000
    overload_us: int = 14_000
    pace_us: int = 8
    file_us: int = 40
    claim_us: int = 1
    period_us: int = 500

    def __post_init__(self) -> None:
        for name, low in (
            ("calm_us", 1),
            ("overload_us", 1),
            ("pace_us", 1),
            ("file_us", 0),
            ("claim_us", 1),
            ("period_us", 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} must be an integer, {low} or more, not {value!r}")
        for name, wanted in (("consumer", "socket"), ("verdict", "none"), ("queues", QUEUES), ("cores", QUEUES)):
            if getattr(self.run, name) != wanted:
                raise ValueError(f"run.{name} must be {wanted!r}, not {getattr(self.run, name)!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OverloadRun":
        """The run that ``asdict`` made these values of."""
        return cls(**dict(values) | {"run": RunConfig.from_dict(values["run"])})

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        self.run.check(machine)


@dataclass(frozen=True)
class QueueOutcome:
    """What became of a queue's frames.

    Attributes
    ----------
    offered, read : frames that came, and packets that the socket's reader took
    read_in_overload : of those, while the reader of queue 0 was slow
    dropped : frames by reason, of the hardware's and the socket's
    no_memory : polls that could not fill the ring
    """

    offered: int
    read: int
    read_in_overload: int
    dropped: Mapping[str, int]
    no_memory: int


@dataclass(frozen=True)
class OverloadMeasurement:
    """What a run measured.

    Attributes
    ----------
    queues : the overloaded one, and the other
    series : memory over time
    statistics : counters of driver and pools, and of the zone under the names of ``/proc/vmstat``
    """

    queues: Sequence[QueueOutcome]
    series: Sequence[MemorySample]
    statistics: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OverloadMeasurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls(
            [QueueOutcome(**queue) for queue in values["queues"]],
            [MemorySample(**sample) for sample in values["series"]],
            values["statistics"],
        )
