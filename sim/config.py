# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of a simulated machine: the NIC and the host around it, validated once, and the presets."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hw.bus.axi4 import PAGE_BYTES
from hw.config import PRESETS as NIC_PRESETS
from hw.config import WIDTHS, IommuConfig, NicConfig, speed_of
from sim.host.delay import MIN_DELAY
from sim.host.dram_config import DramConfig
from sim.host.link_config import LINK_PRESETS, LinkConfig, cycles

if TYPE_CHECKING:
    from amaranth.lib import wiring

    from sim.machine import Machine

MAX_MEMORY = 1 << 34
IOMMU_REGISTERS = 1 << 18  #: offset of the IOMMU's registers among all, beyond every NIC's
INTRUDER_REGISTERS = IOMMU_REGISTERS + (1 << 13)  #: and of a second device's
INTRUDER_ID = 1 << 7  #: AXI IDs from here on are the second device's
SERIAL_BITS = 32  #: of the frame numbers that the wire's player keeps


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, not {value!r}")


@dataclass(frozen=True)
class MachineConfig:
    """Parameters of :class:`sim.machine.Machine`; a :class:`sim.backends.base.Design`.

    Attributes
    ----------
    nic, link, dram : parameters of those parts
    iommu : parameters of the IOMMU between link and memory, None without one; its data width is always ``host_width``
    iommu_register_ns : from the CPU to the IOMMU's registers, one way; 0: none. 50 as a core's load from memory takes
        about 100 there and back on a server, most of which is the way across the chip that an uncached access goes too
    host_width : bits of a beat of link and memory, at least the NIC's
    memory_size : bytes of host memory, from address 0; whole pages
    mac_mbps : megabits a second of the wire; it paces what the NIC sends, as traffic paces what it receives
    stalls : streams between the parts (the wire's, every channel of every bus, interrupts) can be held back at random
        while the machine runs, see :meth:`sim.host.mailbox.MailboxClient.set_stalls`
    access_log : keep :meth:`sim.backends.base.Backend.accesses`; no part of the hardware
    """

    nic: NicConfig = field(default_factory=NicConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    dram: DramConfig = field(default_factory=DramConfig)
    iommu: IommuConfig | None = None
    iommu_register_ns: float = 50.0
    host_width: int = 64
    memory_size: int = 64 << 20
    mac_mbps: int = 10_000
    stalls: bool = False
    access_log: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for name, kind in (
            ("nic", NicConfig),
            ("link", LinkConfig),
            ("dram", DramConfig),
            ("stalls", bool),
            ("access_log", bool),
        ):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        if self.iommu is not None and not isinstance(self.iommu, IommuConfig):
            raise TypeError(f"iommu must be an IommuConfig or None, not {self.iommu!r}")
        if not isinstance(self.iommu_register_ns, int | float) or isinstance(self.iommu_register_ns, bool):
            raise TypeError(f"iommu_register_ns must be a number, not {self.iommu_register_ns!r}")
        if not 0 <= self.iommu_register_ns <= 100_000:
            raise ValueError(f"iommu_register_ns must be in 0..100000, not {self.iommu_register_ns!r}")
        if self.host_width not in WIDTHS or self.host_width < self.nic.data_width:
            allowed = ", ".join(str(width) for width in WIDTHS if width >= self.nic.data_width)
            raise ValueError(
                f"host_width must be one of {allowed} for a NIC of {self.nic.data_width} bits, not {self.host_width!r}"
            )
        _integer("memory_size", self.memory_size, PAGE_BYTES, MAX_MEMORY)
        if self.memory_size % PAGE_BYTES:
            raise ValueError(f"memory_size must be a multiple of {PAGE_BYTES}, not {self.memory_size!r}")
        _integer("mac_mbps", self.mac_mbps, 10, 1_000_000)
        if self.nic.serial_width > SERIAL_BITS:
            raise ValueError(f"nic.serial_width must be in 0..{SERIAL_BITS} here, not {self.nic.serial_width!r}")
        if self.iommu is not None:
            if self.iommu.walks > self.dram.monitors:
                raise ValueError(
                    f"dram.monitors must be at least iommu.walks = {self.iommu.walks}, for each walk reserves words of "
                    f"its own, not {self.dram.monitors!r}"
                )
            object.__setattr__(self, "iommu", replace(self.iommu, data_width=self.host_width))

    @property
    def cycle_ps(self) -> int:
        """Picoseconds of a clock cycle."""
        return round(Fraction(10**9, self.nic.clock_khz))

    @property
    def mac_bytes_per_cycle(self) -> Fraction:
        """Bytes that the wire carries in a clock cycle."""
        return Fraction(self.mac_mbps * 1_000_000, 8 * self.nic.clock_khz * 1000)

    @property
    def iommu_register_cycles(self) -> int:
        """Clock cycles to the IOMMU's registers, one way; 0, or at least the two that a queue needs."""
        return max(MIN_DELAY, cycles(self.iommu_register_ns, self.nic.clock_khz)) if self.iommu_register_ns else 0

    @property
    def iommu_registers(self) -> int | None:
        """Offset of the IOMMU's registers, None without one."""
        return None if self.iommu is None else IOMMU_REGISTERS

    @property
    def intruder_registers(self) -> int | None:
        """Offset of a second device's registers, None without one."""
        return None

    def build(self) -> "Machine":
        """The hardware."""
        from hw.nic.nic import Nic  # not by those who only read parameters
        from sim.machine import Machine  # imports this module

        return Machine(self, Nic(self.nic), self.build_iommu())

    def build_iommu(self) -> "wiring.Component | None":
        """The IOMMU's hardware, None without one."""
        if self.iommu is None:
            return None
        from hw.iommu.iommu import Iommu

        return Iommu(self.iommu)


_MACHINES = {
    "10g": MachineConfig(nic=NIC_PRESETS["10g"]),
    "100g": MachineConfig(
        nic=NIC_PRESETS["100g"],
        link=LINK_PRESETS["gen4-x16"],
        dram=DramConfig(bandwidth_megabytes=76_800, outstanding=256),
        host_width=512,
        mac_mbps=100_000,
    ),
}
PRESETS = MappingProxyType({name: replace(_MACHINES[speed_of(name)], nic=nic) for name, nic in NIC_PRESETS.items()})


def preset(name: str, **changes: Any) -> MachineConfig:
    """A preset, with some parameters changed. Raises ``ValueError`` for a preset or parameter that does not exist."""
    if name not in PRESETS:
        raise ValueError(f"Preset must be one of {', '.join(PRESETS)}, not {name!r}")
    known = MachineConfig.__dataclass_fields__
    for key in changes:
        if key not in known:
            raise ValueError(f"MachineConfig has no parameter {key!r}; it has {', '.join(known)}")
    return replace(PRESETS[name], **changes)
