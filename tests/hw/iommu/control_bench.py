# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's control part in Amaranth's simulator: registers by name, queues in memory, caches that take invalidations
at random."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

from amaranth import ClockDomain, Module
from amaranth.hdl import Value
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.iommu import COMMAND_BYTES, FaultRecord
from hw.abi.iommu_registers import iommu_registers
from hw.bus.axi4 import Response
from hw.config import IommuConfig
from hw.iommu.control import IommuControl
from tests.hw.axi_lite import RegisterMaster
from tests.hw.axi_memory import AxiMemory

SMALL = IommuConfig(counters=2, walks=2)
COMMANDS, FAULTS, DATA = 0x2000, 0x4000, 0x6000
PATIENCE = 3000
RECORD = Codec(FaultRecord)


class IommuMaster(RegisterMaster):
    """Drives the IOMMU's registers by name, with accesses of their size."""

    def __init__(self, bus: Any):
        self.bus = bus
        self.registers = iommu_registers()

    async def put(self, ctx: Any, name: str, value: int) -> None:
        """Write a whole register, which must be accepted."""
        register = self.registers[name]
        address, size = register.offset, register.width // 8
        shift = address % 8
        response = await self.write_at(ctx, address, value << 8 * shift, strobe=((1 << size) - 1) << shift)
        assert response is Response.OKAY, f"write to {name} answered {response.name}"

    async def set(self, ctx: Any, name: str, **fields: int) -> None:
        """Write a register by its fields, zero where not given."""
        await self.put(ctx, name, self.registers[name].pack(**fields))

    async def get(self, ctx: Any, name: str, field: str | None = None) -> int:
        """Read a register or one field of it."""
        register = self.registers[name]
        row, response = await self.read_at(ctx, register.offset)
        assert response is Response.OKAY, f"read of {name} answered {response.name}"
        value = row >> 8 * (register.offset % 8) & ((1 << register.width) - 1)
        return value if field is None else register.get(value, field)

    async def wait(self, ctx: Any, name: str, field: str, value: int, cycles: int = PATIENCE) -> None:
        """Poll a field until it has a value."""
        for _ in range(cycles // 8):
            found = await self.get(ctx, name, field)
            if found == value:
                return
            await ctx.tick().repeat(4)
        raise AssertionError(f"{name}.{field} was {found} after {cycles} cycles of waiting for {value}")


class ControlBench:
    """The device, memory behind it, and what it said.

    Parameters
    ----------
    seed, stall, latency : of memory
    taking : probability that the caches take an offered invalidation in a cycle

    Attributes
    ----------
    invalidations : (cycle, payload) of each that was taken
    """

    def __init__(
        self,
        config: IommuConfig = SMALL,
        *,
        seed: int = 0,
        stall: float = 0.0,
        latency: int | tuple[int, int] = 4,
        taking: float = 1.0,
    ):
        self.dut = IommuControl(config)
        self.memory = AxiMemory(1 << 16, seed=seed, stall=stall, latency=latency)
        self.registers = IommuMaster(self.dut.registers)
        self.invalidations: list[tuple[int, Any]] = []
        self.taking = taking
        self.cycle = 0
        self._random = random.Random(seed)
        self.ctx: Any = None

    def run(self, bench: Callable[["ControlBench"], Coroutine[Any, Any, None]]) -> None:
        """Run a bench to its end."""

        async def testbench(ctx: Any) -> None:
            self.ctx = ctx
            await bench(self)

        m = Module()
        m.domains.sync = self.domain = ClockDomain()
        m.submodules.dut = self.dut
        sim = Simulator(m)
        sim.add_clock(1e-6)
        self.memory.attach(sim, self.dut.axi)
        sim.add_process(self._caches)
        sim.add_testbench(testbench)
        sim.run()

    async def _caches(self, ctx: Any) -> None:
        port = self.dut.invalidations
        ready = False
        held = None
        async for _, reset, valid, payload, bits in ctx.tick().sample(
            port.valid, port.payload, Value.cast(port.payload)
        ):
            self.cycle += 1
            if reset:
                held = None
                continue
            assert held is None or (valid and bits == held), "an invalidation changed before it was taken"
            if valid and ready:
                self.invalidations.append((self.cycle, payload))
            held = bits if valid and not ready else None
            ready = self._random.random() < self.taking
            ctx.set(port.ready, ready)

    async def put(self, name: str, value: int) -> None:
        await self.registers.put(self.ctx, name, value)

    async def set(self, name: str, **fields: int) -> None:
        await self.registers.set(self.ctx, name, **fields)

    async def get(self, name: str, field: str | None = None) -> int:
        return await self.registers.get(self.ctx, name, field)

    async def wait(self, name: str, field: str, value: int) -> None:
        await self.registers.wait(self.ctx, name, field, value)

    async def reset(self) -> None:
        """Pulse the reset of the domain."""
        self.ctx.set(self.domain.rst, 1)
        await self.ctx.tick()
        self.ctx.set(self.domain.rst, 0)

    async def ticks(self, cycles: int) -> None:
        await self.ctx.tick().repeat(cycles)

    async def commands_on(self, log2size: int = 4, **fields: int) -> None:
        """Give the command queue a place and turn it on."""
        await self.set("cqb", log2sz_1=log2size - 1, ppn=COMMANDS >> 12)
        await self.set("cqcsr", cqen=1, **fields)
        await self.wait("cqcsr", "cqon", 1)

    def write_command(self, index: int, command: bytes) -> None:
        """Put a command into the queue's memory."""
        at = COMMANDS + COMMAND_BYTES * index
        self.memory.data[at : at + COMMAND_BYTES] = command

    async def execute(self, *commands: bytes, start: int = 0, log2size: int = 4) -> None:
        """Write commands from an index on and move the tail behind them."""
        for n, command in enumerate(commands):
            self.write_command((start + n) % (1 << log2size), command)
        await self.set("cqt", index=(start + len(commands)) % (1 << log2size))

    async def faults_on(self, log2size: int = 2, **fields: int) -> None:
        """Give the fault queue a place and turn it on."""
        await self.set("fqb", log2sz_1=log2size - 1, ppn=FAULTS >> 12)
        await self.set("fqcsr", fqen=1, **fields)
        await self.wait("fqcsr", "fqon", 1)

    async def report(self, source: int, **fields: Any) -> int:
        """Offer a fault report until it is taken; the cycles that took."""
        port = self.dut.faults[source]
        self.ctx.set(port.payload, fields)
        self.ctx.set(port.valid, 1)
        for cycles in range(PATIENCE):
            _, _, ready = await self.ctx.tick().sample(port.ready)
            if ready:
                self.ctx.set(port.valid, 0)
                return cycles
        raise AssertionError(f"report of source {source} not taken in {PATIENCE} cycles")

    def record(self, index: int) -> Any:
        """A record of the fault queue in memory."""
        return RECORD.unpack(self.memory.data[FAULTS + RECORD.size * index :][: RECORD.size])
