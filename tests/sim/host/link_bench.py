# SPDX-License-Identifier: BSD-2-Clause
"""A host link with a manager at the device's end, a memory at the host's, and register benches on both."""

from typing import Any

from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from sim.host.link import HostLink
from sim.host.link_config import link_preset
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import AxiManager

SIZE = 1 << 16


class LinkBench:
    """``run(*benches)`` runs until all benches are over and every queued access is answered."""

    def __init__(
        self,
        preset: str = "gen3-x8",
        *,
        width: int = 64,
        khz: int = 156_250,
        seed: int = 0,
        stall: float = 0.0,
        memory: dict[str, Any] | None = None,
        **changes: Any,
    ):
        self.config = link_preset(preset, **changes)
        self.dut = HostLink(self.config, width, khz)
        self.memory = AxiMemory(SIZE, **{"seed": seed, "stall": stall, **(memory or {})})
        self.device = AxiManager(self.dut.device, seed=seed, stall=stall)
        self.latency = self.config.latency_cycles(khz)
        self.rate = self.config.bytes_per_cycle(khz)
        self.processes: list[Any] = []  #: more of the simulation, such as :class:`Registers`
        self.m = Module()
        self.m.domains.sync = self.domain = ClockDomain()
        self.m.submodules.dut = self.dut

    def run(self, *benches: Any, memory: bool = True) -> None:
        sim = Simulator(self.m)
        sim.add_clock(1e-8)
        if memory:
            self.memory.attach(sim, self.dut.host)
        self.device.attach(sim)
        for process in self.processes:
            sim.add_process(process)
        for bench in benches:
            sim.add_testbench(bench)

        async def finish(ctx: Any) -> None:
            await self.device.finish(ctx)
            if not memory:
                return
            writes = sum(access.data is not None for access in self.device.done)
            for _ in range(5000):
                if len(self.memory.writes) == writes and self.memory.idle:
                    return
                await ctx.tick()
            raise AssertionError(f"{len(self.memory.writes)} of {writes} writes came to memory within 5000 cycles")

        sim.add_testbench(finish)
        sim.run()

    def arrival(self, cycle: int, size: int) -> int:
        """First cycle at the far end for a packet that enters an idle lane."""
        return cycle + -(-size // self.rate) + self.latency


async def receive(ctx: Any, port: Any, what: str, *, timeout: int = 1000) -> tuple[int, Any]:
    """Take one item of a stream: cycles waited, payload."""
    ctx.set(port.ready, 1)
    for waited in range(timeout):
        _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
        if valid:
            ctx.set(port.ready, 0)
            return waited, payload
    raise AssertionError(f"no {what} within {timeout} cycles")


async def send(ctx: Any, port: Any, what: str, *, timeout: int = 1000, **fields: Any) -> int:
    """Offer one item on a stream; cycles waited."""
    for name, value in fields.items():
        ctx.set(port.payload if name == "payload" else port.payload[name], value)
    ctx.set(port.valid, 1)
    for waited in range(timeout):
        _, _, ready = await ctx.tick().sample(port.ready)
        if ready:
            ctx.set(port.valid, 0)
            return waited
    raise AssertionError(f"{what} was not taken within {timeout} cycles")


class Registers:
    """A device's registers as a process: answers after ``latency`` cycles; addresses from 0x800 on are refused."""

    def __init__(self, port: Any, latency: int = 3):
        self.port = port
        self.latency = latency
        self.log: list[tuple[int, str, int, int]] = []  #: cycle, kind, address, data
        self.values: dict[int, int] = {}

    async def process(self, ctx: Any) -> None:
        port = self.port
        addresses, values, answers, reads = [], [], [], []
        cycle = 0
        for channel in (port.aw, port.w, port.ar):
            ctx.set(channel.ready, 1)
        samples = (port.aw.valid, port.aw.p.addr, port.w.valid, port.w.p.data, port.ar.valid, port.ar.p.addr)
        b_valid = r_valid = False
        async for _, _, aw, address, w, value, ar, wanted, b, r in ctx.tick().sample(
            *samples, port.b.ready, port.r.ready
        ):
            if aw:
                addresses.append(address)
            if w:
                values.append(value)
            while addresses and values:
                address, value = addresses.pop(0), values.pop(0)
                self.log.append((cycle, "write", address, value))
                if address < 0x800:
                    self.values[address] = value
                answers.append((cycle + self.latency, Response.OKAY if address < 0x800 else Response.SLVERR))
            if ar:
                self.log.append((cycle, "read", wanted, self.values.get(wanted, 0)))
                reads.append((cycle + self.latency, self.values.get(wanted, 0)))
            if b_valid and b:
                b_valid = False
            if r_valid and r:
                r_valid = False
            if not b_valid and answers and answers[0][0] <= cycle:
                ctx.set(port.b.p.resp, answers.pop(0)[1])
                b_valid = True
            if not r_valid and reads and reads[0][0] <= cycle:
                ctx.set(port.r.p.data, reads.pop(0)[1])
                r_valid = True
            ctx.set(port.b.valid, b_valid)
            ctx.set(port.r.valid, r_valid)
            cycle += 1
