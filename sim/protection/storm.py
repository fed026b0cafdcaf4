# SPDX-License-Identifier: BSD-2-Clause
"""A device that faults as fast as it can, beside a NIC that receives at line rate."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from driver_model.drivers.iommu.driver import IommuSetup
from hw.abi.iommu import Event
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.load_client import Load
from sim.intruder import DEVICE_ID, Intruder, ProtectionMachineConfig
from sim.iommu_use import IommuUse
from sim.protection.findings import Findings
from sim.run import RunConfig
from sim.scenario import MICROSECOND, Scenario
from sim.traffic.source import Traffic

KINDS = ("write", "read")
FAULT_ENTRIES = 16  #: so few that a short storm fills the queue
THIRDS = 3
MARGIN = 10 * MICROSECOND  #: after each change, until rates are measured
REQUEST_BYTES = 64
WIRE_BYTES = 84  #: of a frame of 64 bytes, with preamble and gap
FOREVER = (1 << 32) - 1


@dataclass(frozen=True)
class StormRun:
    """The storm rages in the second third of the traffic.

    Attributes
    ----------
    kind : of the intruder's requests: ``write`` or ``read``
    same_core : the interrupt of the IOMMU goes to the NIC's core, else to another
    frames : of 64 bytes at line rate
    interval : cycles between two requests, in 1/256
    """

    kind: str
    same_core: bool
    frames: int
    interval: int = 256

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not isinstance(self.frames, int) or self.frames < THIRDS:
            raise ValueError(f"frames must be an integer of at least {THIRDS}, not {self.frames!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise unless the run fits on a machine."""
        if not isinstance(machine, ProtectionMachineConfig):
            raise TypeError(f"machine must be a ProtectionMachineConfig, not {machine!r}")
        self.nic(machine).check(machine)
        least = THIRDS * 3 * MARGIN * machine.mac_mbps // (8 * WIRE_BYTES * MICROSECOND)
        if self.frames < least:
            raise ValueError(f"frames must be at least {least} for rates to be measured, not {self.frames!r}")

    def nic(self, machine: MachineConfig) -> RunConfig:
        """What the NIC does."""
        traffic = Traffic("64", self.frames, rate=machine.mac_mbps * 1_000_000)
        return RunConfig(traffic, cores=2, iommu="strict")


class Storm(Scenario):
    """A :class:`StormRun`: the NIC's buffers stay mapped (page_pool), and the intruder has a domain of its own in which
    nothing is mapped."""

    def __init__(self, backend: Backend, machine: ProtectionMachineConfig, config: StormRun) -> None:
        super().__init__(backend, machine, config.nic(machine))
        assert machine.iommu is not None
        self.storm = config
        self.intruder = Intruder(self.platform)
        self.found: dict[str, int] = {}
        setup = IommuSetup(fault_entries=FAULT_ENTRIES, irq_core=0 if config.same_core else 1)
        events: tuple[Any, ...] = (Event.FAULT,)
        self.iommu = IommuUse(self.host, self.config.iommu, machine.iommu, setup=setup, events=events)
        self._domain: Any = None

    def find(self) -> Findings:
        """Run it. ``before``, ``during`` and ``after`` are frames that software received in ``window`` picoseconds of
        each third; ``faults`` are the errors that the IOMMU counted, of which the driver read ``records``, and found
        ``overflows`` times that others were lost."""
        measurement = self.run()
        assert self.iommu is not None
        times = sorted(self.times)
        window = self._third - 2 * MARGIN
        for number, name in enumerate(("before", "during", "after")):
            start = self._begins + number * self._third + MARGIN
            self.found[name] = bisect_left(times, start + window) - bisect_left(times, start)
        faults = self.iommu.driver.faults
        self.found |= {
            "window": window,
            "delivered": measurement.delivered,
            "dropped": sum(measurement.dropped.values()),
            "faults": self.statistics["iommu_fault"],
            "records": faults.count,
            "overflows": faults.overflows,
            "strange": sum(fault.device_id != DEVICE_ID for fault in faults.faults),
        }
        return Findings(self.found)

    def _open(self) -> None:
        super()._open()
        assert self.iommu is not None
        self._domain = self.iommu.driver.new_domain()
        self.iommu.driver.attach(DEVICE_ID, self._domain)
        core = self.driver.core
        core.sync()
        # The first frame starts LEAD_CYCLES after this process has ended.
        self._begins = self.platform.now
        wire = self.frames[-1].start * self.machine.cycle_ps
        self._third = wire // THIRDS
        load = Load(
            self.machine.memory_size,
            size=REQUEST_BYTES,
            count=FOREVER,
            write=self.storm.kind == "write",
            interval=self.storm.interval,
        )
        self.platform.at(self._begins + self._third, lambda: self.intruder.start(load))
        self.platform.at(self._begins + 2 * self._third, self.intruder.stop)

    def _close(self) -> None:
        assert self.iommu is not None
        result = self.intruder.result(self.driver.core)
        self.found |= {
            "requests": result.done,
            "errors": result.errors,
            "cycles": result.cycles,
        }
        self.iommu.driver.detach(DEVICE_ID)
        self.iommu.driver.free_domain(self._domain)
        super()._close()

    def _check_iommu(self) -> None:
        """Faults are what this is about."""
