# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the host link, in nanoseconds and bytes, and the presets.

Sources: rates, header sizes and request sizes are those of pcie-bench (Neugebauer et al., SIGCOMM 2018, and its public
model, ``pcie-bench/pcie-model``): lane rate x 128/130, less acknowledgements and flow-control updates at the rates that
the PCIe Base Specification recommends for a maximum payload of 256 bytes, less skip ordered sets. Latency, tags and
credits are typical values: a read of 64 bytes then takes about half a microsecond, as pcie-bench measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Literal

from hw.bus.axi4 import PAGE_BYTES

MAX_CYCLES = 1 << 20  #: longest one-way latency


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")


def cycles(nanoseconds: float, clock_khz: int) -> int:
    """Whole clock cycles that last at least so long."""
    exact = Fraction(nanoseconds) * clock_khz / 1_000_000
    return -(-exact.numerator // exact.denominator)


@dataclass(frozen=True)
class LinkConfig:
    """Parameters of :class:`sim.host.link.HostLink`.

    Attributes
    ----------
    wires : no link at all: both sides are joined without a cycle between them, and nothing below counts
    latency_ns : from the last byte of a packet entering one end to the packet leaving the other
    rate_mbps : megabits a second in each direction for packets with their overhead; what the layers below the
        transaction layer take is already off
    request_overhead : bytes of every packet but completions with data: 2 framing, 6 data link layer (sequence number,
        CRC), 4 common header, 12 header with a 64-bit address
    completion_overhead : bytes of a completion with data: as above, with a header of 8 instead of 12
    max_payload : most data bytes of a write packet or completion; a power of two, 128..4096
    max_read_request : most bytes of a read request packet; a power of two, 128..4096
    read_completion_boundary : completions end at multiples of it: 64 or 128 bytes
    read_tags : read requests without their whole completion
    posted_credits : data bytes of writes on the way or not yet taken at the host side, counted in whole bus beats
    posted_headers : the same in bursts
    """

    wires: bool = False
    latency_ns: float = 200.0
    rate_mbps: int = 57_880
    request_overhead: int = 24
    completion_overhead: int = 20
    max_payload: int = 256
    max_read_request: int = 512
    read_completion_boundary: int = 64
    read_tags: int = 64
    posted_credits: int = 8192
    posted_headers: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.wires, bool):
            raise TypeError(f"wires must be a bool, not {self.wires!r}")
        if not isinstance(self.latency_ns, int | float) or isinstance(self.latency_ns, bool):
            raise TypeError(f"latency_ns must be a number, not {self.latency_ns!r}")
        if not 1 <= self.latency_ns <= 100_000:
            raise ValueError(f"latency_ns must be in 1..100000, not {self.latency_ns!r}")
        _integer("rate_mbps", self.rate_mbps, 100, 2_000_000)
        _integer("request_overhead", self.request_overhead, 0, 64)
        _integer("completion_overhead", self.completion_overhead, 0, 64)
        for name, low in (("max_payload", 128), ("max_read_request", 128), ("read_completion_boundary", 64)):
            value = getattr(self, name)
            high = 128 if name == "read_completion_boundary" else 4096
            _integer(name, value, low, high)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two in {low}..{high}, not {value!r}")
        # A burst of a page must fit whole, or it would wait forever.
        _integer("read_tags", self.read_tags, -(-PAGE_BYTES // self.max_read_request), 1024)
        _integer("posted_credits", self.posted_credits, PAGE_BYTES, 1 << 20)
        _integer("posted_headers", self.posted_headers, 2, 4096)

    @property
    def ordered_by(self) -> Literal["posted", "response"]:
        """What orders writes before completions and interrupts: the posted channel, or memory's response."""
        return "response" if self.wires else "posted"

    def latency_cycles(self, clock_khz: int) -> int:
        """One-way latency in clock cycles, rounded up; at least the two that a queue needs."""
        return max(2, cycles(self.latency_ns, clock_khz))

    def bytes_per_cycle(self, clock_khz: int) -> Fraction:
        """Bytes of packets, overhead included, that one direction moves in a clock cycle."""
        return Fraction(self.rate_mbps * 1_000_000, 8 * clock_khz * 1000)

    def write_bytes(self, length: int) -> int:
        """Bytes upstream for a write burst of ``length`` data bytes."""
        return length + -(-length // self.max_payload) * self.request_overhead

    def read_bytes(self, length: int) -> int:
        """Bytes upstream that ask for ``length`` bytes."""
        return -(-length // self.max_read_request) * self.request_overhead

    def completion_bytes(self, length: int, address: int = 0) -> int:
        """Bytes downstream that answer a read of ``length`` bytes at ``address``."""
        packets = -(-(address % self.read_completion_boundary + length) // self.max_payload)
        return length + packets * self.completion_overhead


LINK_PRESETS: Mapping[str, LinkConfig] = MappingProxyType(
    {
        "gen3-x8": LinkConfig(),
        "gen3-x16": LinkConfig(rate_mbps=113_700, read_tags=128, posted_credits=16384, posted_headers=256),
        "gen4-x16": LinkConfig(rate_mbps=227_400, read_tags=256, posted_credits=32768, posted_headers=512),
        "on-chip": LinkConfig(wires=True),
    }
)


def link_preset(name: str, **changes: Any) -> LinkConfig:
    """A preset, with some parameters changed. Raises ``ValueError`` for a preset or parameter that does not exist."""
    if name not in LINK_PRESETS:
        raise ValueError(f"Link must be one of {', '.join(LINK_PRESETS)}, not {name!r}")
    known = LinkConfig.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ValueError(f"LinkConfig has no parameter {key!r}; it has {', '.join(known)}")
    return replace(LINK_PRESETS[name], **changes)
