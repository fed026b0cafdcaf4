# SPDX-License-Identifier: BSD-2-Clause
"""The whole IOMMU in Amaranth's simulator: a device in front, one memory behind both ports, registers by name.

::

    bench = IommuBench()
    root = bench.space(DEVICE)
    bench.map(root, 0x5000, ppn=0x42)

    async def main(bench):
        await bench.open()
        read = bench.read(0x5000)
        await bench.finish()
        assert read.result == ...

    bench.run(main)
"""

from collections.abc import Callable, Coroutine
from typing import Any

from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.iommu import (
    COMMAND_BYTES,
    DirectoryCommand,
    DirectoryMode,
    FaultRecord,
    FenceCommand,
    InvalidateCommand,
    Opcode,
)
from hw.config import CacheConfig, IommuConfig
from hw.iommu.iommu import Iommu
from tests.golden import model
from tests.golden.paging import SV39
from tests.golden.tables import LEAF, PAGE, Context, Tables
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import Access, AxiManager
from tests.hw.iommu.control_bench import IommuMaster

DEVICE = 5
SMALL = IommuConfig(
    tlb_4k=CacheConfig(8, 2),
    tlb_64k=CacheConfig(2, 2),
    tlb_2m=CacheConfig(2, 2),
    tlb_1g=CacheConfig(1, 2),
    walk_cache_1=CacheConfig(2, 2),
    walk_cache_2=CacheConfig(1, 2),
    walk_cache_3=CacheConfig(1, 2),
    contexts=2,
    counters=2,
)
QUEUE_LOG2 = 5  #: entries of the command queue and the fault queue
RECORD = Codec(FaultRecord)
INVALIDATE, FENCE, DIRECTORY = Codec(InvalidateCommand), Codec(FenceCommand), Codec(DirectoryCommand)


class IommuBench:
    """An IOMMU with its surroundings.

    Parameters
    ----------
    config : of the IOMMU
    size : bytes of memory
    seed : of every random choice
    stall : probability, per channel and cycle, that a neighbour does not move
    latency, walk_latency : of memory's data port and of its walker port, in cycles
    domain : the clock domain, for benches that reset it

    Attributes
    ----------
    memory, walks : the data port and the walker port, with their accesses; the bytes are the same
    tables : gives out pages of memory and builds structures in it; page 0 is never given out
    directory : root page of the device directory, of one level
    """

    def __init__(
        self,
        config: IommuConfig = SMALL,
        *,
        size: int = 1 << 20,
        seed: int = 0,
        stall: float = 0.0,
        latency: int | tuple[int, int] = 4,
        walk_latency: int | tuple[int, int] = 20,
        domain: ClockDomain | None = None,
    ):
        self.domain = domain
        self.dut = Iommu(config)
        self.tables = Tables.empty(size)
        self.directory = self.tables.take()
        self.commands, self.faults = self.tables.take(), self.tables.take()
        self.memory = AxiMemory(size, seed=seed, stall=stall, latency=latency)
        self.walks = AxiMemory(size, seed=seed + 1, stall=stall, latency=walk_latency)
        self.memory.data = self.walks.data = self.tables.memory.data
        self.manager = AxiManager(self.dut.device, seed=seed, stall=stall)
        self.registers = IommuMaster(self.dut.registers)
        self.ctx: Any = None
        self._tail = 0

    def run(self, main: Callable[["IommuBench"], Coroutine[Any, Any, None]], *background: Any) -> None:
        """Run a bench to its end, with others in the background."""

        async def testbench(ctx: Any) -> None:
            self.ctx = ctx
            await main(self)

        m = Module()
        m.submodules.dut = self.dut
        if self.domain is not None:
            m.domains.sync = self.domain
        sim = Simulator(m)
        sim.add_clock(1e-6)
        self.memory.attach(sim, self.dut.memory)
        self.walks.attach(sim, self.dut.walker)
        self.manager.attach(sim)
        for bench in background:
            sim.add_testbench(bench, background=True)
        sim.add_testbench(testbench)
        sim.run()

    @property
    def data(self) -> bytearray:
        """The bytes of memory."""
        return self.tables.memory.data

    def space(self, device: int = DEVICE, *, pscid: int = 1, **context: Any) -> int:
        """Give a device a first-stage Sv39 table of its own; its root page."""
        root = self.tables.take()
        fields = {"first": (SV39, root), "pscid": pscid, **context}
        self.tables.put_context(model.DirectoryMode.LVL1, self.directory, device, Context.of(**fields))
        return root

    def map(self, root: int, address: int, ppn: int | None = None, *, flags: int = LEAF, level: int = 0) -> int:
        """Map a page, to a new one if none is named; its physical page."""
        ppn = self.tables.take() if ppn is None else ppn
        self.tables.map(SV39, root, address, ppn, level=level, flags=flags)
        return ppn

    def read(self, address: int, beats: int = 1, *, device: int = DEVICE, **more: Any) -> Access:
        """Queue a read of a device."""
        return self.manager.read(address, beats, user={"device_id": device} | more.pop("user", {}), **more)

    def write(self, address: int, data: bytes, *, device: int = DEVICE, **more: Any) -> Access:
        """Queue a write of a device."""
        return self.manager.write(address, data, user={"device_id": device} | more.pop("user", {}), **more)

    async def finish(self, timeout: int = 20_000) -> None:
        """Wait for every queued access."""
        await self.manager.finish(self.ctx, timeout)

    async def ticks(self, cycles: int) -> None:
        await self.ctx.tick().repeat(cycles)

    async def open(self, mode: DirectoryMode = DirectoryMode.LVL1) -> None:
        """Turn the queues on, then translation."""
        registers, ctx = self.registers, self.ctx
        await registers.set(ctx, "cqb", log2sz_1=QUEUE_LOG2 - 1, ppn=self.commands)
        await registers.set(ctx, "fqb", log2sz_1=QUEUE_LOG2 - 1, ppn=self.faults)
        for name, enable, on in (("cqcsr", "cqen", "cqon"), ("fqcsr", "fqen", "fqon")):
            await registers.set(ctx, name, **{enable: 1})
            await registers.wait(ctx, name, on, 1)
        self._tail = 0
        await self.set_mode(mode)

    async def set_mode(self, mode: DirectoryMode) -> None:
        """Write ddtp."""
        await self.registers.set(self.ctx, "ddtp", iommu_mode=mode.value, ppn=self.directory)
        await self.registers.wait(self.ctx, "ddtp", "busy", 0)

    async def command(self, *commands: bytes) -> None:
        """Post commands and wait until all are done."""
        for command in commands:
            at = self.commands * PAGE + COMMAND_BYTES * self._tail
            self.data[at : at + COMMAND_BYTES] = command
            self._tail = (self._tail + 1) % (1 << QUEUE_LOG2)
        await self.registers.set(self.ctx, "cqt", index=self._tail)
        await self.registers.wait(self.ctx, "cqh", "index", self._tail)

    async def records(self, count: int) -> list[Any]:
        """So many fault records, taken from the queue; an assertion if it has others than that a while later."""
        head = await self.registers.get(self.ctx, "fqh", "index")
        places = [(head + place) % (1 << QUEUE_LOG2) for place in range(count)]
        tail = (head + count) % (1 << QUEUE_LOG2)
        await self.registers.wait(self.ctx, "fqt", "index", tail)
        await self.ticks(50)
        await self.registers.wait(self.ctx, "fqt", "index", tail, cycles=8)
        await self.registers.set(self.ctx, "fqh", index=tail)
        start = self.faults * PAGE
        return [RECORD.unpack(self.data[start + at * RECORD.size :][: RECORD.size]) for at in places]


def invalidate(address: int | None = None, **fields: Any) -> bytes:
    """IOTINVAL.VMA, of all or of one page."""
    if address is not None:
        fields |= {"av": 1, "address": address // PAGE}
    return INVALIDATE.pack(opcode=Opcode.IOTINVAL.value, **fields)


def fence(**fields: Any) -> bytes:
    """IOFENCE.C that waits for earlier reads and writes."""
    return FENCE.pack(opcode=Opcode.IOFENCE.value, **{"pr": 1, "pw": 1, **fields})


def invalidate_directory(**fields: Any) -> bytes:
    """IODIR.INVAL_DDT."""
    return DIRECTORY.pack(opcode=Opcode.IODIR.value, **fields)
