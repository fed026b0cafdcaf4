# SPDX-License-Identifier: BSD-2-Clause
"""Pages of pools: what hardware says is read of the right pool, and writes wait for it, but not for ever."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.abi.pools import PoolState
from hw.abi.registers import register_map
from hw.bus.axi4 import Response
from hw.config import preset
from hw.nic.interfaces import WRITE_CYCLES
from hw.nic.register_block import RegisterBlock, register_layout
from hw.nic.register_set import is_shadowed, pulses
from tests.hw.axi_lite import RegisterMaster

QUEUES = 2
RETURNS = tuple(f"return{count}" for count in range(1, 5))
WAITING = 50  #: cycles that are enough to see that something waits


class Bench:
    """The register block with hardware behind it that tells its state as late as it may: ``words[name][pool]`` are the
    registers that it gives."""

    def __init__(self, pools=3):
        self.pools = pools
        self.map = register_map(QUEUES, pools=pools)
        self.dut = RegisterBlock(preset("10g", queues=QUEUES, pools=pools))
        self.given = [name for name, register in self.map.pool.items() if register.hardware]
        self.words = {name: [Signal(64, name=f"{name}_{pool}") for pool in range(pools)] for name in self.given}
        self.writes = []
        self.top = m = Module()
        m.submodules.dut = dut = self.dut
        for name, words in self.words.items():
            with m.Switch(dut.pool_read):
                for pool, word in enumerate(words):
                    with m.Case(pool):
                        m.d.sync += dut.pool_values[name].eq(word)

    def run(self, bench):
        write = self.dut.pool_write

        async def listen(ctx):
            names = [name for name, _ in write.at.shape()]
            async for _, _, at, pool, word in ctx.tick().sample(write.at, write.pool, write.data):
                self.writes.extend((pool, name, word) for name in names if at[name])

        async def testbench(ctx):
            await bench(ctx, RegisterMaster(self.dut.bus, QUEUES, self.pools))

        sim = Simulator(self.top)
        sim.add_clock(1e-6)
        sim.add_testbench(listen, background=True)
        sim.add_testbench(testbench)
        sim.run()

    async def begin(self, ctx, name, pool, **fields):
        """A write whose response is taken when it comes; returns when its address and data are taken."""
        bus = self.dut.bus
        ctx.set(bus.aw.payload.addr, self.map.address(name, pool=pool))
        ctx.set(bus.w.payload, {"data": self.map.pool[name].pack(**fields), "strb": 0xFF})
        for signal in (bus.aw.valid, bus.w.valid, bus.b.ready):
            ctx.set(signal, 1)
        for _ in range(20):
            _, _, taken = await ctx.tick().sample(bus.aw.ready)
            if taken:
                break
        else:
            raise AssertionError(f"waited 20 cycles for the write to {name} to be taken")
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)

    async def response(self, ctx, cycles):
        """Response that comes in the last of so many cycles; None if none comes."""
        bus = self.dut.bus
        for cycle in range(1, cycles + 1):
            _, _, valid, response = await ctx.tick().sample(bus.b.valid, bus.b.payload.resp)
            if valid:
                assert cycle == cycles, f"a response after {cycle} cycles rather than {cycles}"
                return Response(response)
        return None


@pytest.mark.parametrize("pools", [1, 3, 16])
def test_what_the_hardware_gives_is_read_of_the_pool_that_is_asked_for(pools):
    seed = pools
    print(f"seed {seed}")
    rng, b = random.Random(seed), Bench(pools)
    assert b.given == ["status", "buffers", "outstanding", "loop_status", "result", "misuse", "misuse_count"]
    words = {name: [rng.getrandbits(64) & b.map.pool[name].mask for _ in range(pools)] for name in b.given}

    async def bench(ctx, master):
        for name, signals in b.words.items():
            for signal, word in zip(signals, words[name]):
                ctx.set(signal, word)
        places = [(name, pool) for name in words for pool in range(pools)]
        for name, pool in rng.sample(places, len(places)):
            assert await master.read(ctx, name, of_pool=pool) == words[name][pool], (name, pool)
        age = b.map.pool["result"].get(words["result"][-1], "age")
        assert await master.field(ctx, "result", "age", of_pool=pools - 1) == age

    b.run(bench)


def test_the_layout_of_what_hardware_gives_is_the_described_one():
    b = Bench()
    for name in b.given:
        layout = b.dut.pool_values[name].shape()
        assert layout == register_layout(b.map.pool[name])
        assert {field: (layout[field].offset, layout[field].width) for field, _ in layout} == {
            field.name: (field.lsb, field.width) for field in b.map.pool[name].fields.values()
        }


def test_pulses_are_told_and_not_read_back():
    b = Bench()

    async def bench(ctx, master):
        for name in ("loop", "low_water"):
            register = b.map.pool[name]
            assert pulses(register)
            assert is_shadowed("pool", register)
            assert await master.write_at(ctx, b.map.address(name, pool=1), register.mask) is Response.OKAY
            await ctx.tick()
            assert b.writes.pop() == (1, name, register.mask)
            assert await master.read(ctx, name, of_pool=1) == register.mask & ~pulses(register)
            assert await master.read(ctx, name, of_pool=2) == register.reset

    b.run(bench)


@pytest.mark.parametrize("state", PoolState)
def test_a_pool_that_drains_is_not_enabled(state):
    b = Bench()

    async def bench(ctx, master):
        ctx.set(b.words["status"][1], state.value)
        expected = Response.SLVERR if state is PoolState.DRAINING else Response.OKAY
        assert await master.write(ctx, "control", of_pool=1, enable=1, lifo=1) is expected
        assert await master.write(ctx, "control", of_pool=2, enable=1) is Response.OKAY
        assert await master.write(ctx, "control", of_pool=1, enable=0) is Response.OKAY
        assert await master.write(ctx, "limit", of_pool=1, limit=7) is Response.OKAY
        await ctx.tick()
        allowed = [(1, "control", 3)] if expected is Response.OKAY else []
        assert b.writes == [*allowed, (2, "control", 1), (1, "control", 0), (1, "limit", 7)]
        assert await master.read(ctx, "control", of_pool=1) == 0

    b.run(bench)


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("pool", [0, 2])
def test_a_return_waits_for_room(name, pool):
    b = Bench()

    async def bench(ctx, master):
        assert await master.write(ctx, name, of_pool=pool, id0=1) is Response.OKAY
        ctx.set(b.dut.returns_full, 1)
        await b.begin(ctx, name, pool, id0=5, id3=9)
        assert await b.response(ctx, WAITING) is None
        assert not ctx.get(b.dut.idle)
        ctx.set(b.dut.returns_full, 0)
        assert await b.response(ctx, 3) is Response.OKAY
        await ctx.tick().repeat(2)
        assert b.writes == [(pool, name, 1), (pool, name, 9 << 48 | 5)]

    b.run(bench)


@pytest.mark.parametrize("name", ["command", "buffer_address"])
def test_a_command_waits_for_the_one_before_of_its_pool(name):
    b = Bench()

    async def bench(ctx, master):
        ctx.set(b.dut.command_busy, 0b010)
        for other in (0, 2):
            assert await master.write_at(ctx, b.map.address(name, pool=other), 3) is Response.OKAY
        await b.begin(ctx, name, 1)
        assert await b.response(ctx, WAITING) is None
        ctx.set(b.dut.command_busy, 0b101)
        assert await b.response(ctx, 3) is Response.OKAY
        await ctx.tick().repeat(2)
        assert b.writes == [(0, name, 3), (2, name, 3), (1, name, 0)]

    b.run(bench)


def test_nothing_else_waits():
    b = Bench()

    async def bench(ctx, master):
        ctx.set(b.dut.returns_full, 1)
        ctx.set(b.dut.command_busy, 0b111)
        for kind, registers in (("port", b.map.port), ("queue", b.map.queue), ("pool", b.map.pool)):
            page = {} if kind == "port" else {kind: 1}
            for name, register in registers.items():
                address = b.map.address(name, **page)
                if register.writable and name not in (*RETURNS, "command", "buffer_address"):
                    await master.write_at(ctx, address, 0)
                await master.read_at(ctx, address)
        ctx.set(b.dut.command_busy, 0)
        assert await master.write(ctx, "command", of_pool=1) is Response.OKAY
        ctx.set(b.dut.command_busy, 0b111)
        ctx.set(b.dut.returns_full, 0)
        assert await master.write(ctx, "return1", of_pool=1) is Response.OKAY

    b.run(bench)


@pytest.mark.parametrize("name", [*RETURNS, "command", "buffer_address"])
@pytest.mark.parametrize("before", [True, False])
def test_a_function_reset_refuses_what_waits(name, before):
    b = Bench()

    async def bench(ctx, master):
        ctx.set(b.dut.returns_full, 1)
        ctx.set(b.dut.command_busy, 0b111)
        ctx.set(b.dut.resetting, before)
        await b.begin(ctx, name, 1)
        if before:
            assert await b.response(ctx, 4) is Response.SLVERR
        else:
            assert await b.response(ctx, WAITING) is None
            ctx.set(b.dut.resetting, 1)
            assert await b.response(ctx, 2) is Response.SLVERR
        await ctx.tick().repeat(2)
        assert ctx.get(b.dut.idle)
        assert b.writes == []

    b.run(bench)


def test_a_write_of_all_strobes_off_is_refused_and_told_to_nobody():
    b = Bench()

    async def bench(ctx, master):
        for name in ("control", "command", "return2"):
            assert await master.write_at(ctx, b.map.address(name, pool=0), 1, strobe=0x0F) is Response.SLVERR
        assert b.writes == []

    b.run(bench)


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (("return1", {"id0": 1}), ("return3", {}), False),
        (("command", {"id": 1}), ("buffer_address", {}), False),
        (("command", {"id": 1}), ("command", {}), False),
        (("control", {"lifo": 1}), ("control", {"enable": 1}), True),
    ],
)
def test_the_next_access_is_judged_by_what_this_one_led_to(first, second, refused):
    """With hardware that tells of it two cycles after the broadcast."""
    b = Bench()
    m, at = b.top, b.dut.pool_write.at
    returned, commanded, draining = Signal(), Signal(), Signal()
    m.d.sync += [returned.eq(at.return1), commanded.eq(at.command), draining.eq(at.control)]
    with m.If(returned):
        m.d.sync += b.dut.returns_full.eq(1)
    with m.If(commanded):
        m.d.sync += b.dut.command_busy.eq(0b010)
    with m.If(draining):
        m.d.sync += b.words["status"][1].eq(PoolState.DRAINING.value)

    async def bench(ctx, master):
        bus = b.dut.bus
        await b.begin(ctx, first[0], 1, **first[1])
        ctx.set(bus.aw.payload.addr, b.map.address(second[0], pool=1))
        ctx.set(bus.w.payload.data, b.map.pool[second[0]].pack(**second[1]))
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.valid, 1)
        assert await b.response(ctx, 4) is Response.OKAY
        await ctx.tick()
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        if refused:
            assert await b.response(ctx, WRITE_CYCLES - 1) is Response.SLVERR
        else:
            assert await b.response(ctx, WAITING) is None
        assert [name for _, name, _ in b.writes] == [first[0]]

    b.run(bench)


@pytest.mark.parametrize("pools", [1, 16])
def test_every_pool_is_told_of_its_writes_only(pools):
    seed = pools
    print(f"seed {seed}")
    rng, b = random.Random(seed), Bench(pools)

    async def bench(ctx, master):
        expected = []
        for _ in range(60):
            name, pool = rng.choice(("limit", "overdue_bound", "acknowledge", "return4")), rng.randrange(pools)
            word = rng.getrandbits(64)
            assert await master.write_at(ctx, b.map.address(name, pool=pool), word) is Response.OKAY
            expected.append((pool, name, word & b.map.pool[name].mask))
        await ctx.tick()
        assert b.writes == expected

    b.run(bench)
