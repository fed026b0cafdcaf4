# SPDX-License-Identifier: BSD-2-Clause
"""A device that writes and reads all over memory, beside a NIC that works."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from driver_model.memory.dma.api import Device
from driver_model.memory.pages.page import PAGE_SHIFT
from hw.abi.iommu import TransactionType
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.load_client import Load, LoadResult
from sim.intruder import DEVICE_ID, Intruder, ProtectionMachineConfig
from sim.platform import MEMORY
from sim.protection.findings import Findings
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic

ATTACHMENTS = ("passthrough", "domain", "none")
OWN_ORDER = 4  #: of the pages that it may use where it has a domain, and aims at where nothing would stop it
OWN_IOVA = 1 << 33  #: where they are for it, beyond memory
FRAMES = 20  #: that the NIC receives afterwards
RING = 64
SEED = 1
BEAT_BYTES = 8


@dataclass(frozen=True)
class IntrusionRun:
    """What the intruder is allowed, and how often it tries.

    Attributes
    ----------
    attachment : ``passthrough``: anything, and it aims at some pages alone, for else it would end the machine;
        ``domain``: some pages of its own; ``none``: it has no device context. In these two it aims at all of memory
    count : writes, and then reads, of 64 bytes
    """

    attachment: str
    count: int

    def __post_init__(self) -> None:
        if self.attachment not in ATTACHMENTS:
            raise ValueError(f"attachment must be one of {', '.join(ATTACHMENTS)}, not {self.attachment!r}")
        if not isinstance(self.count, int) or not 2 <= self.count <= 1 << 20:
            raise ValueError(f"count must be an integer in 2..{1 << 20}, not {self.count!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise unless the run fits on a machine."""
        if not isinstance(machine, ProtectionMachineConfig):
            raise TypeError(f"machine must be a ProtectionMachineConfig, not {machine!r}")
        self.nic(machine).check(machine)

    def nic(self, machine: MachineConfig) -> RunConfig:
        """What the NIC does afterwards."""
        traffic = Traffic("64", FRAMES, rate=machine.mac_mbps * 1_000_000)
        return RunConfig(traffic, ring=RING, iommu="strict", checkers=self.attachment != "passthrough")


class Intrusion(Scenario):
    """An :class:`IntrusionRun`: between set-up and traffic of the NIC, whose buffers are posted, the intruder writes,
    then reads, while memory is watched. All memory that nobody has used yet holds random bytes.
    """

    def __init__(self, backend: Backend, machine: ProtectionMachineConfig, config: IntrusionRun) -> None:
        memory: np.ndarray = backend.storage[MEMORY]
        memory[:] = np.random.default_rng(SEED).integers(1, 256, len(memory), dtype=np.uint8)
        super().__init__(backend, machine, config.nic(machine))
        self.intrusion = config
        self.intruder = Intruder(self.platform)
        self.found: dict[str, int] = {}
        self._memory = memory

    def find(self) -> Findings:
        """Run it. ``changed`` counts bytes of all memory but the IOMMU's own fault queue, ``leaked`` beats that the
        intruder read with anything but zeros, ``strange`` fault records that do not tell it as it was."""
        self.run()
        return Findings(self.found)

    def _open(self) -> None:
        super()._open()
        assert self.iommu is not None
        core, dev = self.driver.core, self.host.devices[0]
        own = dev.pages.alloc_pages(OWN_ORDER)
        assert own is not None
        domain = self._attach(dev, own)
        base, window = 0, self.machine.memory_size
        if self.intrusion.attachment == "passthrough":
            base, window = own.address, own.size
        for write in (True, False):
            before = self._seen()
            core.sync()
            self.intruder.start(Load(window, count=self.intrusion.count, write=write, base=base, seed=SEED + write))
            result = self.intruder.result(core)
            self._note("write" if write else "read", result, int(np.count_nonzero(before != self._seen())))
        core.sleep_until(core.time + 10**8)
        self._judge_faults(window)
        self.iommu.driver.detach(DEVICE_ID)
        if domain is not None:
            self.iommu.driver.free_domain(domain)
        dev.pages.put_page(own)

    def _attach(self, dev: Device, own: Any) -> Any:
        """Give the intruder what it may have; its domain."""
        assert self.iommu is not None
        driver = self.iommu.driver
        if self.intrusion.attachment == "passthrough":
            driver.attach(DEVICE_ID, None)
        if self.intrusion.attachment != "domain":
            return None
        domain = driver.new_domain()
        if not domain.map(dev, OWN_IOVA, own.address, own.size, writable=True):
            raise MemoryError("No memory for the intruder's page table")
        driver.attach(DEVICE_ID, domain)
        return domain

    def _seen(self) -> np.ndarray:
        """All memory but the fault queue."""
        assert self.iommu is not None
        seen = self._memory.copy()
        ring = self.iommu.driver.faults.ring
        seen[ring.address : ring.address + ring.size] = 0
        return seen

    def _note(self, name: str, result: LoadResult, changed: int) -> None:
        beats = 1 if name == "write" else 64 * 8 // self.machine.host_width
        self.found |= {
            f"{name}s": result.done,
            f"{name}_errors": result.errors // beats,
            f"{name}_changed": changed,
        }
        if name == "read":
            self.found["leaked"] = result.nonzero

    def _judge_faults(self, window: int) -> None:
        assert self.iommu is not None
        faults = self.iommu.faults
        expected = {_value(TransactionType.UNTRANSLATED_WRITE), _value(TransactionType.UNTRANSLATED_READ)}
        strange = [
            fault
            for fault in faults
            if fault.device_id != DEVICE_ID or fault.ttyp not in expected or not 0 <= fault.address < window
        ]
        self.found |= {
            "faults": self.iommu.driver.faults.count,
            "strange": len(strange),
            "pages": len({fault.address >> PAGE_SHIFT for fault in faults}),
        }

    def _check_iommu(self) -> None:
        """Faults are what this is about."""


def _value(member: Any) -> int:
    return member.value
