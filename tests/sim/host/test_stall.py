# SPDX-License-Identifier: BSD-2-Clause
"""Random stalls: they lose nothing, keep the streams' rules, and repeat with their seed."""

import random
from itertools import pairwise
from typing import Any

import pytest
from amaranth import Module
from amaranth.hdl import Fragment
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.bus.axi4 import AXI4Signature
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.packet import packet_stream
from sim.host.stall import BusStall, FrameStall, StreamStall, stall_setting
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import AxiManager
from tests.sim.host.stalls import set_stalls

TIMEOUT = 5000


def simulator(dut: wiring.Component) -> Simulator:
    m = Module()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    return sim


def pass_items(count: int, rate: int, seed: int = 7, busy: float = 0.0) -> list[int]:
    """Send 0, 1, 2 …; the cycles in which they came out. Checks order, and that an offer stays."""
    dut = StreamStall(16, 0)
    sim = simulator(dut)
    cycles: list[int] = []

    async def source(ctx: Any) -> None:
        await set_stalls(ctx, dut, rate, seed)
        for item in range(count):
            ctx.set(dut.input.payload, item)
            ctx.set(dut.input.valid, 1)
            await ctx.tick().until(dut.input.ready)
        ctx.set(dut.input.valid, 0)

    async def sink(ctx: Any) -> None:
        rng = random.Random(3)
        offered = False
        for cycle in range(TIMEOUT):
            ready = rng.random() >= busy
            ctx.set(dut.output.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.output.valid, dut.output.payload)
            assert valid or not offered, "an offer was taken back"
            offered = bool(valid) and not ready
            if valid:
                assert payload == len(cycles)
            if valid and ready:
                cycles.append(cycle)
                if len(cycles) == count:
                    return
        raise AssertionError(f"{len(cycles)} of {count} items came out within {TIMEOUT} cycles")

    sim.add_testbench(source)
    sim.add_testbench(sink)
    sim.run()
    return cycles


def test_rate_zero_is_wires() -> None:
    assert pass_items(50, 0) == list(range(1, 51))


@pytest.mark.parametrize("rate", [32, 128, 230])
def test_the_rate_is_kept(rate: int) -> None:
    cycles = pass_items(400, rate)
    moved = len(cycles) / (cycles[-1] + 1)
    assert moved == pytest.approx(1 - rate / 256, abs=0.06)


def test_offers_stay_under_backpressure() -> None:
    pass_items(300, 128, busy=0.6)


def test_the_seed_decides() -> None:
    first = pass_items(100, 128)
    assert pass_items(100, 128) == first
    assert pass_items(100, 128, seed=8) != first


def test_without_a_rate_nothing_stalls() -> None:
    """Before any setting, after one of another place, and again after rate 0."""
    dut = StreamStall(16, 1)
    sim = simulator(dut)
    moved: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.input.valid, 1)
        ctx.set(dut.output.ready, 1)
        for rate, places in ((0, 0), (255, 1), (255, 2), (0, 2)):
            await set_stalls(ctx, dut, rate, 3, places)
            moved.append(0)
            for _ in range(100):
                _, _, ready = await ctx.tick().sample(dut.input.ready)
                moved[-1] += ready

    sim.add_testbench(bench)
    sim.run()
    assert moved[0] == moved[1] == moved[3] == 100
    assert moved[2] < 10


def test_a_stalled_bus_loses_nothing() -> None:
    seed = 4
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = BusStall(AXI4Signature(64), 0)
    memory = AxiMemory(1 << 13, seed=seed)
    manager = AxiManager(dut.manager, seed=seed)
    expected = bytearray(memory.data)
    for n in range(20):
        block = rng.randbytes(rng.randint(1, 128))
        expected[128 * n : 128 * n + len(block)] = block
        manager.write(128 * n, block)
    reads = [manager.read(4096 + 64 * n, 8, id=n % 4) for n in range(20)]
    memory.data[4096:] = expected[4096:] = rng.randbytes(4096)
    sim = simulator(dut)
    memory.attach(sim, dut.subordinate)
    manager.attach(sim)

    async def bench(ctx: Any) -> None:
        await set_stalls(ctx, dut, 128, seed, places=5)
        await manager.finish(ctx)

    sim.add_testbench(bench)
    sim.run()
    assert memory.data == expected
    assert all(read.result == memory.data[read.address : read.address + 64] for read in reads)
    assert any(later - earlier > 1 for read in reads for earlier, later in pairwise(read.moved))


def test_channels_stall_at_their_own_times() -> None:
    """AW and AR of a register bus, offered together, part."""
    dut = BusStall(AXILiteSignature(12), 0)
    sim = simulator(dut)
    taken: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        await set_stalls(ctx, dut, 128, 1, places=5)
        for port in (dut.manager.aw, dut.manager.ar):
            ctx.set(port.valid, 1)
        for port in (dut.subordinate.aw, dut.subordinate.ar):
            ctx.set(port.ready, 1)
        for _ in range(50):
            _, _, *pair = await ctx.tick().sample(dut.manager.aw.ready, dut.manager.ar.ready)
            taken.append(tuple(pair))

    sim.add_testbench(bench)
    sim.run()
    assert set(taken) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_frames_have_gaps_before_but_not_inside() -> None:
    dut = FrameStall(packet_stream(64), 0)
    sim = simulator(dut)
    length, count = 8, 40
    seen: list[tuple[int, int]] = []

    async def source(ctx: Any) -> None:
        await set_stalls(ctx, dut, 128, 9)
        for beat in range(length * count):
            ctx.set(dut.input.payload.data, beat)
            ctx.set(dut.input.payload.first, beat % length == 0)
            ctx.set(dut.input.payload.last, beat % length == length - 1)
            ctx.set(dut.input.valid, 1)
            await ctx.tick().until(dut.input.ready)
        ctx.set(dut.input.valid, 0)

    async def sink(ctx: Any) -> None:
        ctx.set(dut.output.ready, 1)
        for cycle in range(TIMEOUT):
            _, _, valid, beat = await ctx.tick().sample(dut.output.valid, dut.output.payload)
            if valid:
                seen.append((cycle, beat.data))
                if len(seen) == length * count:
                    return
        raise AssertionError(f"{len(seen)} of {length * count} beats came out within {TIMEOUT} cycles")

    sim.add_testbench(source)
    sim.add_testbench(sink)
    sim.run()
    assert [beat for _, beat in seen] == list(range(length * count))
    gaps = {"inside": set(), "before": set()}
    for (earlier, _), (later, beat) in pairwise(seen):
        gaps["inside" if beat % length else "before"].add(later - earlier - 1)
    assert gaps["inside"] == {0}
    assert len(gaps["before"]) > 5
    assert max(gaps["before"]) <= 64


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match=r"Stall rate must be in 0\.\.255, not 256"):
        stall_setting(256, 1, 0)
    with pytest.raises(TypeError, match="Stall seed must be an integer, not 'x'"):
        stall_setting(1, "x", 0)
    with pytest.raises(ValueError, match=r"Stall place must be an integer in 0\.\.63, not 64"):
        Fragment.get(StreamStall(8, 64), None)
    with pytest.raises(TypeError, match="A stalled bus consists of streams, but lone is"):
        BusStall(wiring.Signature({"lone": In(1), "many": Out(stream.Signature(data.StructLayout({"a": 1})))}), 1)
