# SPDX-License-Identifier: BSD-2-Clause
"""What a run is, and the job that makes runs inside a simulator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.drivers.queue_config import COMPLETION_CYCLES
from driver_model.drivers.ring import check_entries
from driver_model.drivers.strategies import hardware_pools
from driver_model.drivers.strategies import strategy as choose_strategy
from driver_model.drivers.strategies.base import PoolOptions
from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.net.local_socket import RMEM_DEFAULT
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.xdp_programs import NO_PROGRAM, PROGRAMS, program
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.consumers import CONSUMERS
from sim.dma_use import DMA_WAYS
from sim.measurement import Measurement
from sim.traffic.capture import write_capture
from sim.traffic.source import Traffic

MAX_CORES = 16
IOMMU_MODES = ("none", "passthrough", "lazy", "strict")  #: from the least protection to the most
VERDICTS = (*PROGRAMS, NO_PROGRAM.name)
PAGE_SIZES = (4096, 65536)  #: of a kernel
RING_ROOM = 2  #: a page_pool holds as many pages again as its ring, and a page is a buffer


@dataclass(frozen=True)
class RunConfig:
    """One run on one machine.

    Attributes
    ----------
    traffic : what arrives on the wire
    strategy : buffer strategy of the driver, or one of one's own (:mod:`driver_model.own`)
    verdict : XDP program: ``drop``, ``tx``, ``pass`` or ``redirect``; ``none`` is attached, and all passes; or one's
        own
    consumer : who takes what passes: ``collector`` compares and releases it; behind a stack with SKBs are
        ``no_protocol``, where nothing is registered for it, ``filter``, which drops it, ``forward``, ``nat``,
        ``socket``, whose reader takes it later, and ``pin``, which keeps what flow 0 sends
    hold_us, rcvbuf, stream : of a socket: microseconds that it holds each packet, bytes of truesize that may wait (of
        ``pin``, too), and whether packets are coalesced
    skb : how SKBs are made and freed
    page_size : of the kernel, 4096 or 65536
    pcp_batch : pages that the cores' lists of free pages trade at once; None: as on a machine of 1 GiB or more
    pool : what a strategy with a page_pool asks of it
    detached_freelists : bulk free of slab objects detaches freelists, as from Linux 4.4 on
    pool_size, pool_max : buffers of a pool in the device, see :class:`driver_model.drivers.queue_config.QueueConfig`
    cores : CPU cores; queue pair *q* belongs to core *q* modulo ``cores``
    queues : queue pairs in use
    ring : entries of each ring
    moderation_cycles, moderation_count : an interrupt waits so many hardware cycles, or for so many completions,
        whichever is first; 0 switches that off, and a count needs cycles, or the last frames would wait for ever
    completion_cycles : hardware cycles that a completion waits for others to share its line, see
        :class:`driver_model.drivers.queue_config.QueueConfig`
    profile : cost profile of the cores
    residual_cycles : core cycles of a packet that goes up the stack, beside what the profile has of it
    core_khz : their clock, in kHz; 0: the profile's own
    iommu : ``none`` on a machine without an IOMMU; else how the NIC uses it: ``passthrough``, ``lazy`` or ``strict``
    dma : how addresses come about without an IOMMU: ``direct``, ``bounce`` or ``hypercall``
    cache_seed : of what the caches do by themselves, where the profile's machine is not coherent
    discards : there, see :attr:`driver_model.cpu.noncoherent.CoreCache.discards`
    checkers : the ownership checker, and a check of every frame's bytes when the driver sees it
    """

    traffic: Traffic
    strategy: str = "page_pool"
    verdict: str = "drop"
    consumer: str = "collector"
    hold_us: int = 0
    rcvbuf: int = RMEM_DEFAULT
    stream: bool = False
    skb: SkbPolicy = field(default_factory=SkbPolicy)
    page_size: int = PAGE_SIZE
    pcp_batch: int | None = None
    pool: PoolOptions = field(default_factory=PoolOptions)
    detached_freelists: bool = True
    pool_size: int = 0
    pool_max: int = 0
    cores: int = 1
    queues: int = 1
    ring: int = 512
    moderation_cycles: int = 0
    moderation_count: int = 0
    completion_cycles: int = COMPLETION_CYCLES
    profile: str = "e5-1650v4"
    residual_cycles: int = 0
    core_khz: int = 0
    iommu: str = "none"
    dma: str = "direct"
    cache_seed: int = 0
    discards: bool = False
    checkers: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (
            ("consumer", CONSUMERS),
            ("page_size", PAGE_SIZES),
            ("profile", tuple(Profile.names())),
            ("iommu", IOMMU_MODES),
            ("dma", tuple(DMA_WAYS)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
        for name in ("cores", "queues", "hold_us", "rcvbuf", "residual_cycles", "core_khz"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        if not 1 <= self.cores <= MAX_CORES:
            raise ValueError(f"cores must be in 1..{MAX_CORES}, not {self.cores!r}")
        if self.core_khz < 0:
            raise ValueError(f"core_khz must be 0 or more, not {self.core_khz!r}")
        if self.dma != "direct" and self.iommu != "none":
            raise ValueError(f"dma must be direct where an IOMMU makes the addresses ({self.iommu}), not {self.dma!r}")
        check_entries("ring", self.ring)
        choose_strategy(self.strategy, self.pool)
        program(self.verdict)
        if self.moderation_count > 1 and not self.moderation_cycles:
            raise ValueError(
                f"moderation_count = {self.moderation_count!r} needs moderation_cycles, or the last frames would wait "
                f"for ever"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The run that ``asdict`` made these values of."""
        parts = {"traffic": Traffic, "skb": SkbPolicy, "pool": PoolOptions}
        made = {name: kind(**values[name]) for name, kind in parts.items() if name in values}
        return cls(**dict(values) | made)

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
        needed = self.queues * self.ring * RING_ROOM * self.page_size
        if needed > machine.memory_size:
            raise ValueError(
                f"memory_size must be at least {needed} for {self.queues} rings of {self.ring} entries, "
                f"not {machine.memory_size!r}"
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
        values = case["run"]
        config = RunConfig.from_dict(values)
        if number > 1:
            backend.reset()
        scenario = Scenario(backend, machine, config)
        result = scenario.run()
        scenario.system.shutdown()
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
