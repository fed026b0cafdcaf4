# SPDX-License-Identifier: BSD-2-Clause
"""A device that goes on writing to buffers which its driver has unmapped."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_low

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.drivers.iommu.driver import MODES, RiscvIommu
from driver_model.memory.dma.api import DmaDirection, dma_map_single, dma_mapping_error, dma_unmap_single
from driver_model.memory.dma.iommu_ops import IommuDma
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.pages.page import PAGE_SIZE
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.load_client import Load
from sim.intruder import DEVICE_ID, Intruder, ProtectionMachineConfig
from sim.platform import SimPlatform
from sim.protection.findings import Findings
from sim.scenario import MICROSECOND, RunError

MOST_BUFFERS = 512
PATTERN = 0xA5  #: what the CPU keeps in a buffer that it has unmapped
BEFORE = 60 * MICROSECOND  #: of writes to live mappings
STEP = 200 * MICROSECOND  #: between two batches for the ownership checker
LIMIT = 10**12
WRITE_BYTES = 64
LANDED = (
    "device access in the stale window",
    "device access after unmap",
    "device access outside a mapping",
)


@dataclass(frozen=True)
class StaleRun:
    """A driver maps buffers for a device that writes all over them, unmaps them one after the other, and puts data of
    its own there, while the device never stops.

    Attributes
    ----------
    mode : ``passthrough``, ``lazy`` or ``strict``
    buffers : of a page each, 1..512
    microseconds : from the last unmap until the buffers are looked at
    interval : cycles between two writes of the device, in 1/256
    seed : of the places that it writes to
    """

    mode: str
    buffers: int
    microseconds: int
    interval: int = 64 << 8
    seed: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        for name, high in (("buffers", MOST_BUFFERS), ("microseconds", 10**6)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not 1 <= value <= high:
                raise ValueError(f"{name} must be in 1..{high}, not {value!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise unless the run fits on a machine."""
        if not isinstance(machine, ProtectionMachineConfig):
            raise TypeError(f"machine must be a ProtectionMachineConfig, not {machine!r}")
        needed = 4 * MOST_BUFFERS * PAGE_SIZE
        if machine.memory_size < needed:
            raise ValueError(f"memory_size must be at least {needed}, not {machine.memory_size!r}")


class StaleWindow:
    """A :class:`StaleRun` on a machine just after reset; the NIC stays as it is then, disabled."""

    def __init__(self, backend: Backend, machine: ProtectionMachineConfig, config: StaleRun) -> None:
        config.check(machine)
        self.backend = backend
        self.machine = machine
        self.config = config
        self.platform = SimPlatform(
            backend,
            machine.cycle_ps,
            1 << machine.nic.mmio_addr_width,
            machine.iommu_registers,
            machine.intruder_registers,
        )
        self.intruder = Intruder(self.platform)
        self.checker = OwnershipChecker(machine.cycle_ps, device_log=True, stop=False)
        self.system = System(self.platform, Profile.load("e5-1650v4"))
        self.host = Host(self.system.cores, checker=self.checker)
        self.iommu = RiscvIommu(self.host)
        self.found: dict[str, int] = {}
        self._returned: dict[int, int] = {}  # when unmap did, by page
        self._writes: list[tuple[int, int]] = []  # of the device: cycle and address

    def run(self) -> Findings:
        """All of it. ``landed`` counts the device's writes that reached a buffer after its unmap had returned,
        ``age_*`` is how long after, ``landed_stale`` those of them that the ownership checker put into the stale
        window, ``changed`` counts the CPU's bytes that they changed, and ``changed_late`` those that still changed in
        the end; ``refused`` are the errors that the device got."""
        self._process(self._body)
        for violation in self.checker.violations:
            if violation.rule not in LANDED:
                raise RunError(f"Besides what was expected: {violation.rule}: {violation.message}")
        ages, stale = [], {(access.cycle, access.address) for access in self.checker.stale}
        self.found["landed_stale"] = 0
        for cycle, address in self._writes:
            returned = self._returned.get(address // PAGE_SIZE)
            if returned is not None and cycle * self.machine.cycle_ps > returned:
                ages.append(cycle * self.machine.cycle_ps - returned)
                self.found["landed_stale"] += (cycle, address) in stale
        ages.sort()
        self.found["landed"] = len(ages)
        if ages:
            self.found |= {"age_min": ages[0], "age_median": median_low(ages), "age_max": ages[-1]}
        return Findings(self.found)

    def _body(self) -> None:
        config, core, dev = self.config, self.host.cores[0], self.host.devices[0]
        self.iommu.probe()
        self.iommu.open()
        ops = self.iommu.set_up_dma(DEVICE_ID, config.mode)
        block = dev.pages.alloc_pages((config.buffers - 1).bit_length())
        if block is None:
            raise RunError(f"No memory for {config.buffers} buffers")
        buffers = [block.address + PAGE_SIZE * number for number in range(config.buffers)]
        addresses = []
        for buffer in reversed(buffers):  # for addresses are handed out from the top down
            addresses.append(dma_map_single(dev, buffer, PAGE_SIZE, DmaDirection.FROM_DEVICE))
            if dma_mapping_error(dev, addresses[-1]):
                raise RunError(f"No address for buffer {buffer:#x}")
        addresses.reverse()
        if addresses != [addresses[0] + PAGE_SIZE * number for number in range(config.buffers)]:
            raise RunError(f"Buffers are not mapped side by side: {addresses!r}")
        core.sync()
        self.intruder.start(
            Load(
                window=config.buffers * PAGE_SIZE,
                size=WRITE_BYTES,
                count=(1 << 32) - 1,
                write=True,
                interval=config.interval,
                base=addresses[0],
                seed=config.seed,
            )
        )
        core.sleep_until(core.time + BEFORE)
        started = core.time
        for buffer, address in zip(buffers, addresses, strict=True):
            dma_unmap_single(dev, address, PAGE_SIZE, DmaDirection.FROM_DEVICE)
            self._returned[buffer // PAGE_SIZE] = core.time
            core.store(buffer, bytes([PATTERN]) * PAGE_SIZE)
        self.found["unmapping"] = core.time - started
        core.sleep_until(core.time + config.microseconds * MICROSECOND)
        first = self.platform.read(block.address, len(buffers) * PAGE_SIZE)
        core.sleep_until(core.time + BEFORE)
        second = self.platform.read(block.address, len(buffers) * PAGE_SIZE)
        self.intruder.stop()
        result = self.intruder.result(core)
        self.found |= {
            "writes": result.done,
            "refused": result.errors,
            "changed": len(first) - first.count(PATTERN),
            "changed_late": sum(one != other for one, other in zip(first, second, strict=True)),
        }
        dev.pages.put_page(block)
        self.iommu.tear_down_dma(DEVICE_ID, ops)
        self.iommu.close()
        self.found |= {
            "faults": self.iommu.faults.count,
            "flushes": ops.flush_queue.flushes if isinstance(ops, IommuDma) and ops.flush_queue else 0,
        }

    def _process(self, body: Callable[[], None]) -> None:
        def main() -> None:
            body()
            self.platform.stop()

        self.system.cores[0].spawn("stale window", main)
        end = self.platform.now + LIMIT
        done = False
        while not done:
            done = self.platform.run(self.platform.now + STEP)
            writes = [access for access in self.backend.accesses() if access.is_write]
            self.checker.device_accesses(self.backend.cycle, writes)
            self._writes += [(access.cycle, access.address) for access in writes]
            if self.platform.now > end:
                raise RunError(f"Waited {LIMIT // 10**9} ms for a device's buffers to be unmapped and looked at")
        self.system.shutdown()
