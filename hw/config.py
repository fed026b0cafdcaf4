# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the hardware, validated once, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from hw.abi.pools import MAX_POOL_BUFFERS, MAX_POOLS
from hw.abi.registers import MAX_FRAME

T = TypeVar("T")
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
    read_ids : AXI IDs of the reads of TX data, a power of two up to 32: answers to different ones may come in any
        order, and wait in a memory of ``outstanding_reads`` bursts for their turn; 1: in order, without such a memory
    max_burst_bytes : longest AXI burst
    classify : headers of received frames are parsed, and their checksums judged, for their completions
    rss : receive-side scaling: a Toeplitz hash and a table of queues; needs ``classify``
    steering_rules : exact steering rules that fit: 0 (none, and no table), or 64 to 512; they need ``classify``
    header_split : headers of received TCP and UDP packets can go to buffers of their own; needs ``classify``
    tx_offload : checksums and VLAN tags can be inserted into frames that are sent
    segmentation : TCP segmentation offload; needs tx_offload
    pools : pools of buffers that recycle in hardware; 0 leaves recycling out
    pool_buffers : buffer ids of each pool, a power of two; ECP5 has room for 2,048 of all pools together
    recycle_ahead : recycled buffers that an RX queue holds in advance, a power of two up to ``fetch_depth``
    ats : address translation services: recycled buffers can carry their translation, and those of descriptors can be
        prefetched into an IOMMU; needs ``pools``
    serial_width : bits of the simulation-only frame number; 0 leaves it and all trace points out
    probes : simulation-only ports that show the handshakes of inside streams
    """

    data_width: int = 64
    clock_khz: int = 156_250
    queues: int = 2
    rx_buffer_bytes: int = 32768
    tx_buffer_bytes: int = 32768
    max_frame: int = MAX_FRAME
    fetch_depth: int = 64
    outstanding_reads: int = 32
    outstanding_writes: int = 32
    read_ids: int = 1
    max_burst_bytes: int = 512
    classify: bool = False
    rss: bool = False
    steering_rules: int = 0
    header_split: bool = False
    tx_offload: bool = False
    segmentation: bool = False
    pools: int = 0
    pool_buffers: int = 1024
    recycle_ahead: int = 16
    ats: bool = False
    serial_width: int = 0
    probes: bool = False

    def __post_init__(self) -> None:
        if self.data_width not in WIDTHS:
            raise ValueError(f"data_width must be one of {', '.join(map(str, WIDTHS))}, not {self.data_width!r}")
        _check("clock_khz", self.clock_khz, 1, 10_000_000)
        _check("queues", self.queues, 1, 16)
        _check("max_frame", self.max_frame, 64, MAX_FRAME)
        for name in ("rx_buffer_bytes", "tx_buffer_bytes"):
            _check(name, getattr(self, name), 2048, 1 << 20, power_of_two=True)
            if getattr(self, name) < 2 * self.max_frame:
                raise ValueError(
                    f"{name} must hold two frames of max_frame = {self.max_frame} bytes, not {getattr(self, name)!r}"
                )
        _check("fetch_depth", self.fetch_depth, 8, 512, power_of_two=True)
        _check("outstanding_reads", self.outstanding_reads, 1, 256)
        _check("outstanding_writes", self.outstanding_writes, 1, 256)
        _check("read_ids", self.read_ids, 1, 32, power_of_two=True)
        _check("max_burst_bytes", self.max_burst_bytes, 64, 4096, power_of_two=True)
        if self.max_burst_bytes > 256 * self.beat_bytes:
            raise ValueError(
                f"max_burst_bytes must be at most 256 beats of {self.beat_bytes} bytes, not {self.max_burst_bytes!r}"
            )
        for name in ("classify", "rss", "header_split"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, not {getattr(self, name)!r}")
        if self.steering_rules or isinstance(self.steering_rules, bool):
            _check("steering_rules that are not 0", self.steering_rules, 64, 512, power_of_two=True)
        for name in ("rss", "steering_rules"):
            if getattr(self, name) and not self.classify:
                raise ValueError(f"{name} needs classify: only of a parsed frame is it known whose it is")
        if self.header_split and not self.classify:
            raise ValueError("header_split needs classify: only of a parsed frame is it known where its headers end")
        if not isinstance(self.tx_offload, bool):
            raise TypeError(f"tx_offload must be a bool, not {self.tx_offload!r}")
        if not isinstance(self.segmentation, bool):
            raise TypeError(f"segmentation must be a bool, not {self.segmentation!r}")
        if self.segmentation and not self.tx_offload:
            raise ValueError(f"segmentation needs tx_offload, which is {self.tx_offload!r}")
        _check("pools", self.pools, 0, MAX_POOLS)
        _check("pool_buffers", self.pool_buffers, 16, MAX_POOL_BUFFERS, power_of_two=True)
        _check("recycle_ahead", self.recycle_ahead, 8, self.fetch_depth if self.pools else 512, power_of_two=True)
        if not isinstance(self.ats, bool):
            raise TypeError(f"ats must be a bool, not {self.ats!r}")
        if self.ats and not self.pools:
            raise ValueError(f"ats needs pools, of which there are {self.pools!r}: only their buffers keep an address")
        _check("serial_width", self.serial_width, 0, 64)
        if not isinstance(self.probes, bool):
            raise TypeError(f"probes must be a bool, not {self.probes!r}")

    @property
    def beat_bytes(self) -> int:
        """Bytes of a datapath beat."""
        return self.data_width // 8

    @property
    def mmio_addr_width(self) -> int:
        """Address bits of the register interface: one page for the port, and one for each queue pair and pool."""
        return 12 + (self.queues + self.pools).bit_length()


@dataclass(frozen=True)
class CacheConfig:
    """Shape of a set-associative cache.

    Attributes
    ----------
    sets : a power of two
    ways : entries of each set, any number
    """

    sets: int
    ways: int

    def __post_init__(self) -> None:
        _check("sets", self.sets, 1, 4096, power_of_two=True)
        _check("ways", self.ways, 1, 64)

    @property
    def entries(self) -> int:
        """Entries of all sets."""
        return self.sets * self.ways


REPLACEMENTS = ("not_recent", "round_robin", "random")
INDEXES = ("low", "hashed")


@dataclass(frozen=True)
class IommuConfig:
    """Parameters of the IOMMU.

    Attributes
    ----------
    data_width : bits of a beat from devices to memory; the walk port always has 64
    first_levels, second_levels : most levels of each stage's tables: 3 (Sv39, Sv39x4), or 4 (Sv48 and Sv48x4 as well)
    physical_bits : bits of a physical address
    hardware_ad : A and D can be set by hardware (capability AMO_HWAD), by exclusive accesses on the walk port
    ats : a device's context may allow translation requests and translated ones (capability ATS)
    tlb_4k, tlb_64k, tlb_2m, tlb_1g : IOTLB for leaves of each size
    tlb_index : the set is the page number's low bits, or all its bits hashed
    walk_cache_1, walk_cache_2, walk_cache_3 : caches for non-leaf entries that point to a table of level 0, 1 and 2,
        of both stages
    replacement : which way of a full set a new entry takes: any not hit of late, the next in turn, a random one
    contexts : device contexts cached
    walks : concurrent walks; misses to one page share one
    writes : write bursts accepted and not yet committed: how far translations look ahead
    write_beats : beats of data buffered for them
    reads : reads that wait for a walk, or behind one that does, while others pass
    outstanding : bursts of each direction that memory has not answered
    counters : programmable performance counters
    vectors : interrupt wires
    ats_timeout_cycles : how long a device may take to acknowledge an invalidation
    """

    data_width: int = 64
    first_levels: int = 4
    second_levels: int = 4
    physical_bits: int = 56
    hardware_ad: bool = True
    ats: bool = True
    tlb_4k: CacheConfig = CacheConfig(64, 4)
    tlb_64k: CacheConfig = CacheConfig(8, 4)
    tlb_2m: CacheConfig = CacheConfig(8, 4)
    tlb_1g: CacheConfig = CacheConfig(1, 4)
    tlb_index: str = "low"
    walk_cache_1: CacheConfig = CacheConfig(8, 4)
    walk_cache_2: CacheConfig = CacheConfig(1, 4)
    walk_cache_3: CacheConfig = CacheConfig(1, 4)
    replacement: str = "not_recent"
    contexts: int = 8
    walks: int = 4
    writes: int = 8
    write_beats: int = 128
    reads: int = 8
    outstanding: int = 64
    counters: int = 4
    vectors: int = 4
    ats_timeout_cycles: int = 1 << 20

    def __post_init__(self) -> None:
        if self.data_width not in WIDTHS:
            raise ValueError(f"data_width must be one of {', '.join(map(str, WIDTHS))}, not {self.data_width!r}")
        for name, low, high in (
            ("first_levels", 3, 4),
            ("second_levels", 3, 4),
            ("physical_bits", 32, 56),
            ("contexts", 1, 64),
            ("walks", 1, 32),
            ("writes", 2, 64),
            ("reads", 1, 64),
            ("counters", 0, 31),
            ("vectors", 1, 16),
            ("ats_timeout_cycles", 1, 1 << 32),
        ):
            _check(name, getattr(self, name), low, high)
        _check("outstanding", self.outstanding, 1, 1024, power_of_two=True)
        _check("write_beats", self.write_beats, 2, 4096, power_of_two=True)
        for name in ("hardware_ad", "ats"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, not {getattr(self, name)!r}")
        for name in IOMMU_CACHES:
            if not isinstance(getattr(self, name), CacheConfig):
                raise TypeError(f"{name} must be a CacheConfig, not {getattr(self, name)!r}")
        for name, allowed in (("replacement", REPLACEMENTS), ("tlb_index", INDEXES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")


IOMMU_CACHES = ("tlb_4k", "tlb_64k", "tlb_2m", "tlb_1g", "walk_cache_1", "walk_cache_2", "walk_cache_3")

_NICS = {
    "10g": NicConfig(),
    "100g": NicConfig(
        data_width=512,
        clock_khz=250_000,
        queues=16,
        rx_buffer_bytes=65536,
        tx_buffer_bytes=65536,
        fetch_depth=256,
        outstanding_reads=256,
        outstanding_writes=64,
        read_ids=16,
    ),
}
_IOMMUS = {"10g": IommuConfig(), "100g": IommuConfig(data_width=512, walks=8, writes=16, reads=16, outstanding=256)}
_OFFLOADS = {
    "classify": True,
    "rss": True,
    "steering_rules": 64,
    "header_split": True,
    "tx_offload": True,
    "segmentation": True,
}
OFFLOAD = "-offload"  #: behind a preset's name: the same with all that the NIC can know of packets
RECYCLE = "-recycle"  #: likewise: the same with pools of buffers that recycle in hardware
_POOLS = {"10g": {"pools": 2, "pool_buffers": 1024}, "100g": {"pools": 16, "pool_buffers": 2048, "recycle_ahead": 32}}

PRESETS = MappingProxyType(
    _NICS
    | {name + OFFLOAD: replace(nic, **_OFFLOADS) for name, nic in _NICS.items()}
    | {name + RECYCLE: replace(nic, **_POOLS[name]) for name, nic in _NICS.items()}
)


def speed_of(name: str) -> str:
    """A preset's name without what is built in beside."""
    return name.removesuffix(OFFLOAD).removesuffix(RECYCLE)


IOMMU_PRESETS = MappingProxyType({name: _IOMMUS[speed_of(name)] for name in PRESETS})
CORES: Mapping[str, Mapping[str, NicConfig | IommuConfig]] = MappingProxyType({"nic": PRESETS, "iommu": IOMMU_PRESETS})


def preset(name: str, **changes: Any) -> NicConfig:
    """A preset of the NIC, with some parameters changed. Raises ``ValueError`` for a preset or parameter that does not
    exist."""
    config = _named("Preset", PRESETS, name)
    known = NicConfig.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ValueError(f"NicConfig has no parameter {key!r}; it has {', '.join(known)}")
    return replace(config, **changes)


def core_preset(core: str, name: str) -> NicConfig | IommuConfig:
    """A preset of a core: ``nic`` or ``iommu``. Raises ``ValueError`` for one that does not exist."""
    return _named("Preset", _named("Core", CORES, core), name)


def _named(kind: str, table: Mapping[str, T], name: str) -> T:
    if name not in table:
        raise ValueError(f"{kind} must be one of {', '.join(table)}, not {name!r}")
    return table[name]
