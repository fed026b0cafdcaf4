# SPDX-License-Identifier: BSD-2-Clause
"""The whole path from a narrow manager to storage, as the machine joins it, with stalls between all parts."""

import random
from typing import Any

import pytest
from amaranth import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.width import WidthConverter
from sim.host.dram import Dram
from sim.host.dram_config import DramConfig
from sim.host.link import HostLink
from sim.host.link_config import link_preset
from sim.host.stall import BusStall
from tests.hw.bus.axi_manager import AxiManager
from tests.sim.host.stalls import set_stalls
from tests.sim.host.storage_model import attach_storage

SIZE = 1 << 14
KHZ = 156_250


@pytest.mark.parametrize(("preset", "width"), [("gen3-x8", 64), ("gen3-x8", 256), ("on-chip", 256)])
@pytest.mark.parametrize("rate", [0, 96])
def test_reads_see_the_writes_before_them(preset: str, width: int, rate: int) -> None:
    """Random writes, each read back by a read that is issued when its response has come."""
    seed = width + rate
    print(f"seed {seed}")
    rng = random.Random(seed)
    m = Module()
    m.submodules.converter = converter = WidthConverter(64, width)
    m.submodules.link = link = HostLink(link_preset(preset, latency_ns=60), width, KHZ)
    m.submodules.dram = dram = Dram(DramConfig(), width, SIZE, KHZ)
    m.submodules.near = near = BusStall(AXI4Signature(width), 0)
    m.submodules.far = far = BusStall(AXI4Signature(width), 5)
    for source, sink in (
        (converter.wide, near.manager),
        (near.subordinate, link.device),
        (link.host, far.manager),
        (far.subordinate, dram.data),
    ):
        connect(m, source, sink)
    memory = bytearray(rng.randbytes(SIZE))
    manager = AxiManager(converter.narrow, seed=seed)
    sim = Simulator(m)
    sim.add_clock(1e-8)
    attach_storage(sim, dram.storage, memory)
    manager.attach(sim)
    model = bytearray(memory)

    async def bench(ctx: Any) -> None:
        for stall, places in ((near, 5), (far, 10)):
            await set_stalls(ctx, stall, rate, seed, places)
        for _ in range(8):
            length = rng.randint(1, 300)
            address = rng.randrange(SIZE // 4096) * 4096 + rng.randrange(4096 - length)
            block = rng.randbytes(length)
            model[address : address + length] = block
            write = manager.write(address, block, id=rng.randrange(4))
            for _ in range(2000):
                if write.answered is not None:
                    break
                await ctx.tick()
            assert write.answered is not None, f"no B for {address:#x} within 2000 cycles"
            read = manager.read(address, -(-(address % 8 + length) // 8), id=rng.randrange(4))
            await manager.finish(ctx)
            assert read.response is Response.OKAY
            assert read.result == model[address // 8 * 8 :][: len(read.result)], f"read of {address:#x}"

    sim.add_testbench(bench)
    sim.run()
    assert memory == model
