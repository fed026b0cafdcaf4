# SPDX-License-Identifier: BSD-2-Clause
"""A second device that does what its driver did not ask for: the machine that it is in, and how it is set off."""

from dataclasses import dataclass, field

from driver_model.cpu.core import Core
from hw.config import IommuConfig, NicConfig
from sim.config import INTRUDER_ID, INTRUDER_REGISTERS, MachineConfig
from sim.host.load_client import Load, LoadResult
from sim.host.load_generator import REGISTERS, RESULTS, START, LoadGenerator
from sim.machine import Machine
from sim.platform import SimPlatform

DEVICE_ID = 0x20
POLL_PS = 5 * 10**6  #: between two looks whether it has ended
END_PS = 10**10


class IntruderError(Exception):
    """The intruder did not end."""


@dataclass(frozen=True)
class ProtectionMachineConfig(MachineConfig):
    """A machine with an IOMMU, and with a :class:`~sim.host.load_generator.LoadGenerator` behind it beside the NIC."""

    iommu: IommuConfig | None = field(default_factory=IommuConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iommu is None:
            raise ValueError("iommu must be an IommuConfig where protection is looked at, not None")

    @property
    def intruder_registers(self) -> int:
        """Offset of its registers."""
        return INTRUDER_REGISTERS

    def build(self) -> Machine:
        """The hardware."""
        from hw.nic.nic import Nic  # not by those who only read parameters

        intruder = LoadGenerator(
            NicConfig(data_width=self.host_width, clock_khz=self.nic.clock_khz, queues=1), first_id=INTRUDER_ID
        )
        return Machine(self, Nic(self.nic), self.build_iommu(), intruder)


class Intruder:
    """Sets the intruder off. It needs no CPU for that, as a device does what it does by itself; only its results are
    read by one.

    Parameters
    ----------
    platform : the machine
    """

    def __init__(self, platform: SimPlatform) -> None:
        self._platform = platform

    def start(self, load: Load) -> None:
        """Begin a load, from ``platform.now`` on; its device id is the intruder's."""
        for name, value in {**load.registers(), "device_id": DEVICE_ID}.items():
            self._platform.mmio_write(INTRUDER_REGISTERS + REGISTERS[name], value)
        self._platform.mmio_write(INTRUDER_REGISTERS + START, 1)

    def stop(self) -> None:
        """Send no more; what is on its way is still answered."""
        self._platform.mmio_write(INTRUDER_REGISTERS + START, 0)

    def result(self, core: Core) -> LoadResult:
        """Wait until all is answered, in a process; what was measured."""
        deadline = core.time + END_PS
        while core.mmio_read(INTRUDER_REGISTERS + START):
            if core.time >= deadline:
                raise IntruderError(f"Waited {END_PS // 10**9} ms for the intruder's requests to be answered")
            core.sleep_until(core.time + POLL_PS)
        return LoadResult(*(core.mmio_read(INTRUDER_REGISTERS + REGISTERS[name]) for name in RESULTS))
