# SPDX-License-Identifier: BSD-2-Clause
"""What a run is: its parameters and its measurements, and the job that makes runs inside a simulator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.drivers.queue_config import COMPLETION_CYCLES
from driver_model.drivers.ring import check_entries
from driver_model.drivers.strategies import STRATEGIES, hardware_pools
from driver_model.memory.page import PAGE_SIZE
from driver_model.net.xdp_programs import PROGRAMS
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.traffic.capture import write_capture
from sim.traffic.source import Traffic

MAX_CORES = 16
IOMMU_MODES = ("none", "passthrough", "lazy", "strict")  #: from the least protection to the most
RING_ROOM = 2  #: a page_pool holds as many pages again as its ring, and a page is a buffer


@dataclass(frozen=True)
class RunConfig:
    """One run on one machine.

    Attributes
    ----------
    traffic : what arrives on the wire
    strategy : buffer strategy of the driver
    verdict : XDP program: ``drop``, ``tx`` or ``pass``
    cores : CPU cores; queue pair *q* belongs to core *q* modulo ``cores``
    queues : queue pairs in use
    ring : entries of each ring
    moderation_cycles, moderation_count : an interrupt waits so many hardware cycles, or for so many completions,
        whichever is first; 0 switches that off, and a count needs cycles, or the last frames would wait for ever
    completion_cycles : hardware cycles that a completion waits for others to share its line, see
        :class:`driver_model.drivers.queue_config.QueueConfig`
    profile : cost profile of the cores
    iommu : ``none`` on a machine without an IOMMU; else how the NIC uses it: ``passthrough``, ``lazy`` or ``strict``
    checkers : the ownership checker, and a check of every frame's bytes when the driver sees it
    """

    traffic: Traffic
    strategy: str = "page_pool"
    verdict: str = "drop"
    cores: int = 1
    queues: int = 1
    ring: int = 512
    moderation_cycles: int = 0
    moderation_count: int = 0
    completion_cycles: int = COMPLETION_CYCLES
    profile: str = "e5-1650v4"
    iommu: str = "none"
    checkers: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (
            ("strategy", tuple(STRATEGIES)),
            ("verdict", tuple(PROGRAMS)),
            ("profile", tuple(Profile.names())),
            ("iommu", IOMMU_MODES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        for name in ("cores", "queues"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        if not 1 <= self.cores <= MAX_CORES:
            raise ValueError(f"cores must be in 1..{MAX_CORES}, not {self.cores!r}")
        check_entries("ring", self.ring)
        if self.moderation_count > 1 and not self.moderation_cycles:
            raise ValueError(
                f"moderation_count = {self.moderation_count!r} needs moderation_cycles, or the last frames would wait "
                f"for ever"
            )

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        if (self.iommu == "none") != (machine.iommu is None):
            which = "without" if machine.iommu is None else "with"
            raise ValueError(f"iommu must fit the machine, which is {which} an IOMMU, not {self.iommu!r}")
        if not 1 <= self.queues <= machine.nic.queues:
            raise ValueError(f"queues must be in 1..{machine.nic.queues} on this machine, not {self.queues!r}")
        if self.traffic.queues > self.queues:
            raise ValueError(f"Traffic is spread over {self.traffic.queues} queues, but only {self.queues} are in use")
        if hardware_pools(self.strategy) and machine.nic.pools < self.queues:
            raise ValueError(
                f"strategy {self.strategy} needs a hardware pool for each queue in use, so nic.pools must be at least "
                f"{self.queues} on this machine, not {machine.nic.pools!r}"
            )
        needed = self.queues * self.ring * RING_ROOM * PAGE_SIZE
        if needed > machine.memory_size:
            raise ValueError(
                f"memory_size must be at least {needed} for {self.queues} rings of {self.ring} entries, "
                f"not {machine.memory_size!r}"
            )


@dataclass(frozen=True)
class Measurement:
    """What a run measured. Frames are counted once; lengths are those in memory, without FCS.

    Attributes
    ----------
    clock_khz, core_khz : clocks of hardware and cores
    offered, delivered : frames that began on the wire, and frames that software received (``tx``: that left again)
    dropped : frames by reason; with ``delivered`` they make up ``offered``
    lengths : how many frames of each length were delivered
    cycles : hardware cycles from when software first had a frame to the last delivery, for ``delivered`` frames; not
        less than the wire took
    operations : for each operation of the cost profile, how often it happened during the traffic, and its picoseconds
    statistics : counters at the end of the run, of driver, page_pool and hardware
    accesses : how many accesses the device made to memory during the traffic, by (is a write, address modulo 64,
        length); empty without access log
    """

    clock_khz: int
    core_khz: int
    offered: int
    delivered: int
    dropped: Mapping[str, int]
    lengths: Mapping[int, int]
    cycles: Fraction
    operations: Mapping[str, tuple[int, int]]
    statistics: Mapping[str, int]
    accesses: Mapping[tuple[bool, int, int], int]

    @property
    def cycles_per_packet(self) -> Fraction:
        """Hardware cycles for each delivered frame."""
        return self.cycles / self.delivered

    @property
    def packets_per_second(self) -> Fraction:
        """Delivered frames a second."""
        return self.clock_khz * 1000 / self.cycles_per_packet

    def cpu_cycles(self, operation: str) -> Fraction:
        """CPU cycles that an operation took for each delivered frame."""
        picoseconds = self.operations[operation][1]
        return Fraction(picoseconds * self.core_khz, 10**9 * self.delivered)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return asdict(self) | {
            "lengths": sorted(self.lengths.items()),
            "cycles": str(self.cycles),
            "operations": {name: list(value) for name, value in self.operations.items()},
            "accesses": [[*access, count] for access, count in sorted(self.accesses.items())],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Measurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls(
            **dict(values)
            | {
                "lengths": dict(values["lengths"]),
                "cycles": Fraction(values["cycles"]),
                "operations": {name: (count, ps) for name, (count, ps) in values["operations"].items()},
                "accesses": {(write, offset, length): count for write, offset, length, count in values["accesses"]},
            }
        )


def run_cases(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`RunConfig`; one with ``sent`` has the
    frames that left written to the capture file of that name. Returns ``cases``, the measurements in the same order,
    and ``profiles``, the digest of each cost profile used.
    """
    from sim.scenario import Scenario  # only inside a simulator: the rest of this module is for those who prepare runs

    measured = []
    profiles = {}
    for number, case in enumerate(cases, 1):
        values = dict(case["run"])
        config = RunConfig(traffic=Traffic(**values.pop("traffic")), **values)
        if number > 1:
            backend.reset()
        scenario = Scenario(backend, machine, config)
        result = scenario.run()
        if "sent" in case:
            write_capture(case["sent"], scenario.captured())
        profiles[config.profile] = Profile.load(config.profile).digest
        measured.append(result.as_json())
        _progress(number, len(cases), case["label"], result)
    return {"cases": measured, "profiles": profiles}


def _progress(number: int, total: int, label: str, result: Measurement) -> None:
    rate = float(result.packets_per_second) / 1e6
    line = f"[{number:{len(str(total))}}/{total}] {label}: {rate:.2f} Mpps, {sum(result.dropped.values())} dropped"
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="\n" if number == total else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
