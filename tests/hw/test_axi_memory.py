# SPDX-License-Identifier: BSD-2-Clause
"""The memory that other benches trust: it stores, answers in order, and notices every broken rule."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.bus.axi4 import AXI4Signature, Response
from tests.hw.axi_memory import AxiMemory
from tests.hw.streams import receive, send


def simulate(memory, bench):
    module = Module()
    module.d.sync += Signal().eq(1)
    axi = wiring.Signature.create(AXI4Signature(64), path=("axi",))
    sim = Simulator(module)
    sim.add_clock(1e-6)
    memory.attach(sim, axi)

    async def testbench(ctx):
        await bench(ctx, axi)

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_written_bytes_are_read_back(stall):
    memory = AxiMemory(4096, seed=3, stall=stall, latency=(1, 9))

    async def bench(ctx, axi):
        await send(ctx, axi.aw, {"id": 5, "addr": 0x40, "len": 1, "size": 3})
        await send(ctx, axi.w, {"data": 0x1122334455667788, "strb": 0xFF, "last": 0})
        await send(ctx, axi.w, {"data": 0xFFFFFFFFFFFFFFAA, "strb": 0x01, "last": 1})
        response = await receive(ctx, axi.b)
        assert (response.id, response.resp) == (5, Response.OKAY)
        await send(ctx, axi.ar, {"id": 2, "addr": 0x40, "len": 1, "size": 3})
        first, second = await receive(ctx, axi.r), await receive(ctx, axi.r)
        assert (first.data, first.last, second.data, second.last, second.id) == (0x1122334455667788, 0, 0xAA, 1, 2)
        assert memory.idle

    simulate(memory, bench)
    assert memory.data[0x40:0x49] == bytes.fromhex("8877665544332211aa")


def test_failing_and_missing_addresses():
    memory = AxiMemory(4096, base=0x1000)
    memory.fail(range(0x1100, 0x1108))

    async def bench(ctx, axi):
        for address, expected in ((0x1100, Response.SLVERR), (0x2000, Response.DECERR), (0x1108, Response.OKAY)):
            await send(ctx, axi.aw, {"id": 0, "addr": address, "len": 0, "size": 3})
            await send(ctx, axi.w, {"data": 1, "strb": 0xFF, "last": 1})
            assert (await receive(ctx, axi.b)).resp == expected
            await send(ctx, axi.ar, {"id": 0, "addr": address, "len": 0, "size": 3})
            assert (await receive(ctx, axi.r)).resp == expected

    simulate(memory, bench)
    assert memory.data.count(1) == 1


@pytest.mark.parametrize(
    ("aw", "w", "message"),
    [
        ({"addr": 0xFF8, "len": 1, "size": 3}, {}, "AXI AW burst 0xff8..0x1007 crosses 4 KiB"),
        ({"addr": 0, "len": 0, "size": 2}, {}, "AXI AW has beats of 4 bytes on a bus of 8"),
        ({"addr": 0, "len": 0, "size": 3}, {"last": 0}, "AXI W last is False on beat 1 of 1"),
        ({"addr": 0, "len": 1, "size": 3}, {"last": 1}, "AXI W last is True on beat 1 of 2"),
    ],
)
def test_broken_rules_are_named(aw, w, message):
    async def bench(ctx, axi):
        await send(ctx, axi.aw, {"id": 0, **aw})
        await send(ctx, axi.w, {"data": 0, "strb": 0xFF, **w})
        await ctx.tick().repeat(2)

    with pytest.raises(AssertionError, match=message):
        simulate(AxiMemory(8192), bench)


def test_a_changing_offer_is_noticed():
    async def bench(ctx, axi):
        ctx.set(axi.aw.payload.size, 3)
        ctx.set(axi.aw.valid, 1)
        await ctx.tick()
        for address in range(50):
            ctx.set(axi.aw.payload.addr, 8 * address)
            await ctx.tick()

    with pytest.raises(AssertionError, match="AXI AW changed"):
        simulate(AxiMemory(4096, seed=1, stall=0.9), bench)
