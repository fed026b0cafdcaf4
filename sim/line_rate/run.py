# SPDX-License-Identifier: BSD-2-Clause
"""What a run at line rate is, and what it measures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from driver_model.drivers.ring import check_entries
from hw.abi.rings import ENTRY_BYTES
from sim.config import MachineConfig
from sim.host.stream_account import StreamCount
from sim.line_rate.queues import Buffers
from sim.load_tables import PAGE_SIZES, table_bytes
from sim.traffic.pacing import FCS_BYTES

DIRECTIONS = ("rx", "tx", "both")
FORWARD = "forward"
UNTRANSLATED, PREFETCHED, CARRIED = TRANSLATIONS = ("untranslated", "prefetched", "carried")
PHYSICAL = PAGE_SIZES[-1]  #: where rings and buffers begin
ALIGNMENT = 4096
MIN_STRIDE = 2048
RX_BUFFER = 2048  #: bytes of data of a receive buffer
LEVELS = 3  #: of the page table


@dataclass(frozen=True)
class LineRun:
    """Frames of one size at line rate.

    Attributes
    ----------
    direction : ``rx``, ``tx``, ``both`` at once, or ``forward``: what was received is sent, from the same buffers
    recycle : receive buffers are those of pools, which recycle in hardware
    translation : how the NIC helps an IOMMU: not at all; it has translations prefetched; its buffers carry them
    pool : buffers of each queue's pool; 0: as many as a ring has entries
    size : bytes of a frame on the wire, with FCS
    queues : queue pairs in use, with the same number of frames each
    frames : to be measured, in each direction
    warm : frames before those
    ring : entries of each ring
    headroom : bytes of a buffer before a frame
    page : size of the pages that rings and buffers are mapped with; 0 on a machine without an IOMMU
    wait : register TIMEOUTS.completion, cycles that a completion waits for others
    stalls : hold back every stream at random in so many of 256 cycles, on a machine built with stalls; 0: never
    seed : of the payload
    """

    direction: str = "rx"
    recycle: bool = False
    translation: str = UNTRANSLATED
    pool: int = 0
    size: int = 64
    queues: int = 1
    frames: int = 20_000
    warm: int = 2_000
    ring: int = 512
    headroom: int = 256
    page: int = 0
    wait: int = 256
    stalls: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.direction not in (*DIRECTIONS, FORWARD):
            raise ValueError(f"direction must be one of {', '.join((*DIRECTIONS, FORWARD))}, not {self.direction!r}")
        if self.direction == FORWARD and self.length > RX_BUFFER:
            raise ValueError(f"size must be at most {RX_BUFFER + FCS_BYTES} to be forwarded, not {self.size!r}")
        if self.translation not in TRANSLATIONS:
            raise ValueError(f"translation must be one of {', '.join(TRANSLATIONS)}, not {self.translation!r}")
        if self.page and self.page not in PAGE_SIZES:
            raise ValueError(f"page must be 0 or one of {', '.join(map(str, PAGE_SIZES))}, not {self.page!r}")
        check_entries("ring", self.ring)
        for name, low, high in (
            ("size", 64, 9220),
            ("pool", 0, 1 << 16),
            ("queues", 1, 16),
            ("frames", 1, 10_000_000),
            ("warm", 1, 10_000_000),
            ("headroom", 0, 1024),
            ("wait", 0, 65535),
            ("stalls", 0, 255),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")

    @property
    def length(self) -> int:
        """Bytes of a frame in memory."""
        return self.size - FCS_BYTES

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        if bool(self.page) != (machine.iommu is not None):
            raise ValueError(
                f"Page size 0 is for a machine without an IOMMU, another for one with it, not {self.page!r}"
            )
        if self.stalls and not machine.stalls:
            raise ValueError(f"A machine without stalls cannot hold back streams in {self.stalls!r} of 256 cycles")
        if self.recycle and self.queues > machine.nic.pools:
            raise ValueError(f"queues must be at most the {machine.nic.pools} pools of the NIC, not {self.queues!r}")
        if self.pool and not self.recycle:
            raise ValueError(f"pool must be 0 where buffers do not recycle, not {self.pool!r}")
        if self.translation != UNTRANSLATED and not (self.page and machine.nic.ats):
            raise ValueError(f"Without an IOMMU, or nic.ats in the NIC, translations cannot be {self.translation}")
        if self.recycle and self.received_buffers > machine.nic.pool_buffers:
            raise ValueError(
                f"pool, or ring, must be at most the {machine.nic.pool_buffers} ids of a pool, not "
                f"{self.received_buffers!r}"
            )
        if self.queues > machine.nic.queues:
            raise ValueError(f"queues must be at most the {machine.nic.queues} of the NIC, not {self.queues!r}")
        if self.end + (table_bytes(self.end - PHYSICAL, LEVELS) if self.page else 0) > machine.memory_size:
            raise ValueError(f"{self!r} needs {self.end} bytes of memory and more, not {machine.memory_size!r}")

    def rings(self, queue: int, direction: int) -> int:
        """Address of a queue's rings of a direction, 0 RX and 1 TX: descriptors, then completions."""
        each = -(-2 * self.ring * ENTRY_BYTES // ALIGNMENT) * ALIGNMENT
        return PHYSICAL + (2 * queue + direction) * each

    def buffers(self, queue: int, direction: int) -> Buffers:
        """A queue's buffers of a direction."""
        size = self.length if direction else RX_BUFFER
        stride = max(MIN_STRIDE, 1 << (size + self.headroom - 1).bit_length())
        strides = [max(MIN_STRIDE, 1 << (each + self.headroom - 1).bit_length()) for each in (RX_BUFFER, self.length)]
        counts = self.received_buffers, self.ring
        sizes = [count * stride for count, stride in zip(counts, strides, strict=True)]
        base = self.rings(self.queues, 0) + queue * sum(sizes) + direction * sizes[0]
        return Buffers(base, stride, self.headroom, size, counts[direction])

    @property
    def received_buffers(self) -> int:
        """Receive buffers of each queue."""
        return self.pool or self.ring

    @property
    def end(self) -> int:
        """Address behind the last buffer, in whole pages of the largest size."""
        last = self.buffers(self.queues, 0).base
        return -(-last // PAGE_SIZES[-1]) * PAGE_SIZES[-1]


@dataclass(frozen=True)
class LineMeasurement:
    """What a run measured, in the middle of a longer one in which every frame was accounted for.

    Attributes
    ----------
    cycles : length of the measured time
    received, sent : frames in that time
    dropped : frames of the whole run that the NIC dropped, by reason
    streams : the account of streams in that time, where the machine has one
    """

    cycles: int
    received: int
    sent: int
    dropped: Mapping[str, int]
    streams: Mapping[str, StreamCount] = field(default_factory=dict)

    def cycles_per_frame(self, direction: str) -> Fraction:
        """Cycles a frame of ``rx`` or ``tx``."""
        return Fraction(self.cycles, self.received if direction == "rx" else self.sent)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        streams = {name: list(count) for name, count in self.streams.items()}
        return {**asdict(self), "dropped": dict(self.dropped), "streams": streams}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LineMeasurement":
        """The measurement that :meth:`as_json` gave these values for."""
        streams = {name: StreamCount(*count) for name, count in values["streams"].items()}
        return cls(**{**values, "streams": streams})
