# SPDX-License-Identifier: BSD-2-Clause
"""Both channels in Amaranth's simulator, each with a translator in Python, behind one device and before one memory."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from amaranth import Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from hw.config import IommuConfig
from hw.iommu.read_channel import ReadChannel
from hw.iommu.write_channel import WriteChannel
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import Access, AxiManager
from tests.hw.iommu.translator_standin import TranslatorStandin

PAGE = 4096
MOVED = 0x100  #: pages between a device's page and the physical one
SMALL = IommuConfig(writes=4, reads=4, outstanding=16, write_beats=16)


class ChannelBench:
    """A write and a read channel with what is around them.

    Parameters
    ----------
    seed : of every random choice
    stall : probability, per channel and cycle, that a neighbour does not move
    latency : of memory, in cycles
    translation : parameters of both :class:`TranslatorStandin`

    Attributes
    ----------
    memory : from physical page ``MOVED`` on
    faults : (access, cycle, payload) of each report
    color : that accesses are marked with, set by tests
    """

    def __init__(
        self,
        config: IommuConfig = SMALL,
        *,
        seed: int = 0,
        stall: float = 0.0,
        latency: int | tuple[int, int] = 4,
        **translation: Any,
    ):
        self.write_channel, self.read_channel = WriteChannel(config), ReadChannel(config)
        self.memory = AxiMemory(1 << 18, base=MOVED * PAGE, seed=seed, stall=stall, latency=latency)
        write, read = self.write_channel.device, self.read_channel.device
        device = SimpleNamespace(aw=write.aw, w=write.w, b=write.b, ar=read.ar, r=read.r)
        self.manager = AxiManager(device, seed=seed, stall=stall)
        translation = {"walks": config.walks, **translation}
        self.writes = TranslatorStandin(seed=seed + 1, **translation)
        self.reads = TranslatorStandin(seed=seed + 2, **translation)
        self.faults: list[tuple[str, int, Any]] = []
        self.faulted = 0
        self.ctx: Any = None

    def map(self, *pages: int) -> None:
        """Pages that miss at first, in both directions."""
        for translator in (self.writes, self.reads):
            translator.map(*pages)

    def hit(self, *pages: int) -> None:
        """Pages that hit, in both directions."""
        for translator in (self.writes, self.reads):
            translator.hit(*pages)

    def physical(self, access: Access) -> int:
        """Where an access goes."""
        return access.address + MOVED * PAGE

    def run(self, main: Callable[["ChannelBench"], Coroutine[Any, Any, None]]) -> None:
        """Run a bench to its end."""
        write, read = self.write_channel, self.read_channel
        m = Module()
        m.submodules.write, m.submodules.read = write, read
        sim = Simulator(m)
        sim.add_clock(1e-6)
        self.memory.attach_write(sim, write.memory.aw, write.memory.w, write.memory.b)
        self.memory.attach_read(sim, read.memory.ar, read.memory.r)
        self.writes.attach(sim, write.translation)
        self.reads.attach(sim, read.translation)
        self.manager.attach(sim)

        async def reports(ctx: Any) -> None:
            cycle = 0
            ports = [write.fault, read.fault]
            for port in ports:
                ctx.set(port.ready, 1)
            while True:
                samples = [sample for port in ports for sample in (port.valid, port.payload)]
                _, _, *values, wrote, had = await ctx.tick().sample(*samples, write.faulted, read.faulted)
                for name, valid, payload in (("write", *values[:2]), ("read", *values[2:])):
                    if valid:
                        self.faults.append((name, cycle, payload))
                self.faulted += wrote + had
                cycle += 1

        async def testbench(ctx: Any) -> None:
            self.ctx = ctx
            await main(self)

        sim.add_testbench(reports, background=True)
        sim.add_testbench(testbench)
        sim.run()

    async def finish(self, timeout: int = 20_000) -> None:
        """Wait for every queued access; then nothing may be left anywhere."""
        await self.manager.finish(self.ctx, timeout)
        await self.ctx.tick().repeat(2)
        for channel, translator in ((self.write_channel, self.writes), (self.read_channel, self.reads)):
            assert self.ctx.get(channel.fence.busy) == 0
            assert not any(walk.claims for walk in translator.walks if walk), "claims were not given back"
        assert self.memory.idle

    async def check_fence(
        self, fence: Any, old: Callable[[], list[Access]], new: Callable[[], list[Access]], *, change: int = 20
    ) -> None:
        """Accesses before and after the color changes: each color is busy from the cycle after the first is accepted to
        the last response of its last, and not a cycle longer."""
        before = old()
        await self.ctx.tick().repeat(change)
        self.ctx.set(fence.color, 1)
        after = new()
        busy = [(0, 0)] * change  # over, and the manager counts from 0
        for _ in range(200):
            _, _, bits = await self.ctx.tick().sample(fence.busy)
            busy.append((bits & 1, bits >> 1))
        await self.finish()
        for color, accesses in enumerate((before, after)):
            end = max(access.answered for access in accesses)
            assert end < 200
            start = max(change, min(access.addressed for access in accesses) + 1)
            assert [bits[color] for bits in busy[start : end + 2]] == [1] * (end + 1 - start) + [0]

    def check(self, access: Access) -> None:
        """The response is what the mapping says."""
        faulty = access.address // PAGE not in (self.writes if access.data is not None else self.reads).pages
        assert access.response is (Response.SLVERR if faulty else Response.OKAY), f"{access}"
