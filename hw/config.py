# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the hardware, validated once, and the presets."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

WIDTHS = (64, 128, 256, 512)


def _check(name: str, value: Any, low: int, high: int, *, power_of_two: bool = False) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high or (power_of_two and value & (value - 1)):
        kind = "a power of two" if power_of_two else "an integer"
        raise ValueError(f"{name} must be {kind} in {low}..{high}, not {value!r}")


@dataclass(frozen=True)
class NicConfig:
    """Parameters of the NIC.

    Attributes
    ----------
    data_width : bits of a datapath beat: packet stream and AXI
    clock_khz : frequency that the preset is meant for; only reports and pacing use it
    queues : queue pairs
    rx_buffer_bytes, tx_buffer_bytes : packet buffers; each holds at least two frames of the greatest length
    max_frame : longest frame in bytes that the buffers and registers allow, without FCS
    fetch_depth : descriptors that each ring's cache holds, fetched and in flight together
    outstanding_reads, outstanding_writes : bound on AXI transactions without response
    max_burst_bytes : longest AXI burst
    serial_width : bits of the simulation-only frame number; 0 leaves it and all trace points out
    """

    data_width: int = 64
    clock_khz: int = 156_250
    queues: int = 2
    rx_buffer_bytes: int = 32768
    tx_buffer_bytes: int = 32768
    max_frame: int = 9216
    fetch_depth: int = 64
    outstanding_reads: int = 32
    outstanding_writes: int = 32
    max_burst_bytes: int = 512
    serial_width: int = 0

    def __post_init__(self) -> None:
        if self.data_width not in WIDTHS:
            raise ValueError(f"data_width must be one of {', '.join(map(str, WIDTHS))}, not {self.data_width!r}")
        _check("clock_khz", self.clock_khz, 1, 10_000_000)
        _check("queues", self.queues, 1, 16)
        _check("max_frame", self.max_frame, 64, 9216)
        for name in ("rx_buffer_bytes", "tx_buffer_bytes"):
            _check(name, getattr(self, name), 2048, 1 << 20, power_of_two=True)
            if getattr(self, name) < 2 * self.max_frame:
                raise ValueError(
                    f"{name} must hold two frames of max_frame = {self.max_frame} bytes, not {getattr(self, name)!r}"
                )
        _check("fetch_depth", self.fetch_depth, 8, 512, power_of_two=True)
        _check("outstanding_reads", self.outstanding_reads, 1, 256)
        _check("outstanding_writes", self.outstanding_writes, 1, 256)
        _check("max_burst_bytes", self.max_burst_bytes, 64, 4096, power_of_two=True)
        if self.max_burst_bytes > 256 * self.beat_bytes:
            raise ValueError(
                f"max_burst_bytes must be at most 256 beats of {self.beat_bytes} bytes, not {self.max_burst_bytes!r}"
            )
        _check("serial_width", self.serial_width, 0, 64)

    @property
    def beat_bytes(self) -> int:
        """Bytes of a datapath beat."""
        return self.data_width // 8

    @property
    def mmio_addr_width(self) -> int:
        """Address bits of the register interface: one page for the port and one for each queue pair."""
        return 12 + self.queues.bit_length()


PRESETS = MappingProxyType({"10g": NicConfig()})


def preset(name: str, **changes: Any) -> NicConfig:
    """A preset, with some parameters changed. Raises ``ValueError`` for a preset or parameter that does not exist."""
    if name not in PRESETS:
        raise ValueError(f"Preset must be one of {', '.join(PRESETS)}, not {name!r}")
    known = NicConfig.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ValueError(f"NicConfig has no parameter {key!r}; it has {', '.join(known)}")
    return replace(PRESETS[name], **changes)
