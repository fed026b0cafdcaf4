# SPDX-License-Identifier: BSD-2-Clause
"""Runs of a DMA load generator: the machine, what a run is and measures, and the job that makes runs in a simulator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from hw.abi.iommu import Event
from hw.abi.iommu_registers import iommu_registers
from hw.config import NicConfig
from sim.backends.base import Backend
from sim.config import IOMMU_REGISTERS, MachineConfig
from sim.host.load_client import Load, LoadClient, LoadResult
from sim.host.load_generator import LoadGenerator
from sim.load_tables import DEVICE_ID, DIRECTORY, PAGE_SIZES, table_bytes, write_tables
from sim.machine import Machine

MEMORY = "memory"
VIRTUAL = 3 << 30  #: where the window begins for the device, with an IOMMU
PHYSICAL = PAGE_SIZES[-1]  #: and where in memory
CYCLES_PER_REQUEST = 10_000  #: bound on how long a run may take
BUSY_POLLS = 1000
COUNTED: Mapping[str, Any] = {"misses": Event.TLB_MISS, "table_reads": Event.TABLE_READ}  #: events of a run, by name


@dataclass(frozen=True)
class LoadMachineConfig(MachineConfig):
    """A machine with a :class:`~sim.host.load_generator.LoadGenerator` in the NIC's place: 512 bits and 250 MHz if
    nothing is said. Of ``nic``, only the width, the clock and the size of the register space count."""

    nic: NicConfig = field(default_factory=lambda: NicConfig(data_width=512, clock_khz=250_000, queues=1))
    host_width: int = 512
    memory_size: int = 80 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nic", replace(self.nic, serial_width=0))  # no frames to number

    def build(self) -> Machine:
        """The hardware."""
        return Machine(self, LoadGenerator(self.nic), self.build_iommu())


@dataclass(frozen=True)
class LoadRun:
    """A load over a window at its full rate, and one request at a time over the same.

    Attributes
    ----------
    load : what is sent, without the place of its window; ``warm`` requests go before it, unmeasured
    page : size of the pages that the window is mapped with: 4096, 65536 or 2 MiB; 0 on a machine without an IOMMU
    levels : of the page table: 3 (Sv39) or 4 (Sv48)
    warm : requests that fill the caches
    alone : requests of which no two are on their way at a time, for their latency
    """

    load: Load
    page: int = 0
    levels: int = 4
    warm: int = 1000
    alone: int = 200

    def __post_init__(self) -> None:
        if self.page and self.page not in PAGE_SIZES:
            raise ValueError(f"page must be 0 or one of {', '.join(map(str, PAGE_SIZES))}, not {self.page!r}")
        for name in ("warm", "alone"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 2:
                raise ValueError(f"{name} must be an integer of at least 2, not {getattr(self, name)!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        if bool(self.page) != (machine.iommu is not None):
            raise ValueError(
                f"Page size 0 is for a machine without an IOMMU, another for one with it, not {self.page!r}"
            )
        if self.tables + table_bytes(self.load.window, self.levels) > machine.memory_size:
            raise ValueError(
                f"A window of {self.load.window!r} bytes does not fit into memory_size = {machine.memory_size!r}"
            )

    @property
    def tables(self) -> int:
        """Address of the device directory and the page table, behind the window."""
        return PHYSICAL + -(-self.load.window // PAGE_SIZES[-1]) * PAGE_SIZES[-1]

    @property
    def loads(self) -> tuple[Load, Load, Load]:
        """To warm up, to measure the rate, and to measure the latency."""
        values = asdict(self.load) | {"base": VIRTUAL if self.page else PHYSICAL, "device_id": DEVICE_ID}
        seed = self.load.seed
        return (
            Load(**values | {"count": self.warm, "seed": seed + 1}),
            Load(**values),
            Load(**values | {"count": self.alone, "outstanding": 1, "seed": seed + 2}),
        )


@dataclass(frozen=True)
class LoadMeasurement:
    """What a run measured.

    Attributes
    ----------
    rate : the load at its full rate
    alone : the same requests one at a time
    events : of the load at its full rate, by the names of :data:`COUNTED`; empty without an IOMMU
    """

    rate: LoadResult
    alone: LoadResult
    events: Mapping[str, int]

    def bits_per_cycle(self, size: int) -> Fraction:
        """Data bits in a cycle, of requests of ``size`` bytes."""
        return Fraction(8 * size * (self.rate.done - 1), self.rate.cycles)

    @property
    def latency(self) -> Fraction:
        """Mean cycles of a request that is alone."""
        return Fraction(self.alone.latency_sum, self.alone.done)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return {"rate": self.rate._asdict(), "alone": self.alone._asdict(), "events": dict(self.events)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LoadMeasurement":
        """The measurement that :meth:`as_json` gave these values for."""
        return cls(LoadResult(**values["rate"]), LoadResult(**values["alone"]), values["events"])


class LoadRunError(Exception):
    """A run ended with errors."""


def run_loads(backend: Backend, machine: LoadMachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`LoadRun`. Returns ``cases``, the
    measurements in the same order, and ``profiles``: none, as no software takes part.
    """
    measured = []
    for number, case in enumerate(cases, 1):
        values = dict(case["run"])
        run = LoadRun(load=Load(**values.pop("load")), **values)
        run.check(machine)
        if number > 1:
            backend.reset()
        measured.append(_measure(backend, run).as_json())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": {}}


def _measure(backend: Backend, run: LoadRun) -> LoadMeasurement:
    client = LoadClient(backend)
    if run.page:
        _translate(backend, client, run)
    warm, rate, alone = run.loads
    play(client, warm)
    before = _events(client) if run.page else {}
    full = play(client, rate)
    events = {name: count - before[name] for name, count in _events(client).items()} if run.page else {}
    return LoadMeasurement(full, play(client, alone), events)


def play(client: LoadClient, load: Load) -> LoadResult:
    """Run a load. Raises :class:`LoadRunError` for responses that are errors."""
    result = client.run(load, limit=load.count * CYCLES_PER_REQUEST)
    if result.errors:
        raise LoadRunError(f"{result.errors} responses to {load!r} were errors")
    return result


def _translate(backend: Backend, client: LoadClient, run: LoadRun) -> None:
    """Write directory and table, and set the IOMMU up to use and to count."""
    memory: np.ndarray = backend.storage[MEMORY]
    root = write_tables(
        memory,
        at=run.tables,
        virtual=VIRTUAL,
        physical=PHYSICAL,
        window=run.load.window,
        page=run.page,
        levels=run.levels,
    )
    registers = iommu_registers()
    for number, event in enumerate(COUNTED.values(), 1):
        selector = registers[f"iohpmevt{number}"]
        client.mailbox.write_register(IOMMU_REGISTERS + selector.offset, selector.pack(eventid=event.value))
    ddtp = registers["ddtp"]
    client.mailbox.write_register(IOMMU_REGISTERS + ddtp.offset, ddtp.pack(iommu_mode=DIRECTORY, ppn=root))
    for _ in range(BUSY_POLLS):
        if not ddtp.get(client.read(IOMMU_REGISTERS + ddtp.offset), "busy"):
            return
    raise LoadRunError(f"Register ddtp of the IOMMU was still busy after {BUSY_POLLS} reads")


def _events(client: LoadClient) -> dict[str, int]:
    registers = iommu_registers()
    return {
        name: client.read(IOMMU_REGISTERS + registers[f"iohpmctr{number}"].offset)
        for number, name in enumerate(COUNTED, 1)
    }
