# SPDX-License-Identifier: BSD-2-Clause
"""The width converter against a byte-exact model: every length and alignment, random stalls, several IDs."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from hw.bus.width import WidthConverter
from tests.hw.axi_memory import AxiMemory

SIZE = 1 << 14
TIMEOUT = 20_000


@dataclass
class Burst:
    """A burst of the narrow manager."""

    id: int
    address: int
    beats: int
    write: bytes = b""  #: bytes from ``address`` on, up to the end of the last beat


def simulator(dut: WidthConverter) -> Simulator:
    """The converter with a clock, which plain wires would be without."""
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    return sim


def random_burst(rng: random.Random, narrow_bytes: int, *, write: bool) -> Burst:
    beats = rng.choice((1, 1, 2, 3, 4, 7, 8, 16, 33, 64))
    start = rng.randrange(0, 4096 // narrow_bytes - beats + 1) * narrow_bytes
    skip = rng.choice((0, 0, rng.randrange(narrow_bytes)))
    address = rng.randrange(SIZE // 4096) * 4096 + start + skip
    data = rng.randbytes(beats * narrow_bytes - skip) if write else b""
    return Burst(rng.randrange(4), address, beats, data)


def run_reads(sim: Simulator, port: Any, bursts: list[Burst], narrow_bytes: int, stall: float, seed: int) -> dict:
    """Issue reads; what came back: per ID a list of (bytes, response) in order."""
    rng = random.Random(seed)
    results: dict[int, list] = {burst.id: [] for burst in bursts}
    pending: dict[int, deque] = {burst.id: deque() for burst in bursts}
    for burst in bursts:
        pending[burst.id].append(burst)
    cycles: list[int] = []

    async def address(ctx: Any) -> None:
        for burst in bursts:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(port.ar.payload.id, burst.id)
            ctx.set(port.ar.payload.addr, burst.address)
            ctx.set(port.ar.payload.len, burst.beats - 1)
            ctx.set(port.ar.payload.size, narrow_bytes.bit_length() - 1)
            ctx.set(port.ar.valid, 1)
            taken = 0
            while not taken:
                _, _, taken = await ctx.tick().sample(port.ar.ready)
            ctx.set(port.ar.valid, 0)

    async def collect(ctx: Any) -> None:
        parts: dict[int, bytes] = dict.fromkeys(pending, b"")
        worst: dict[int, int] = dict.fromkeys(pending, 0)
        cycle = 0
        while any(pending.values()):
            ready = rng.random() >= stall
            ctx.set(port.r.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.r.valid, port.r.payload)
            cycle += 1
            assert cycle < TIMEOUT, f"R data still missing for {sum(map(len, pending.values()))} bursts (seed {seed})"
            if not (ready and valid):
                continue
            cycles.append(cycle)
            burst = pending[payload.id][0]
            parts[payload.id] += payload.data.to_bytes(narrow_bytes, "little")
            worst[payload.id] = max(worst[payload.id], payload.resp.value)
            assert payload.last == (len(parts[payload.id]) == burst.beats * narrow_bytes), f"R last of {burst}"
            if payload.last:
                pending[payload.id].popleft()
                results[payload.id].append((parts[payload.id], worst[payload.id]))
                parts[payload.id], worst[payload.id] = b"", 0
        ctx.set(port.r.ready, 0)

    sim.add_testbench(address)
    sim.add_testbench(collect)
    results["cycles"] = cycles
    return results


def run_writes(sim: Simulator, port: Any, bursts: list[Burst], narrow_bytes: int, stall: float, seed: int) -> dict:
    """Issue writes, data and addresses apart; per ID the responses."""
    rng = random.Random(seed)
    responses: dict[int, list[Response]] = {burst.id: [] for burst in bursts}
    cycles: list[int] = []

    async def address(ctx: Any) -> None:
        for burst in bursts:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(port.aw.payload.id, burst.id)
            ctx.set(port.aw.payload.addr, burst.address)
            ctx.set(port.aw.payload.len, burst.beats - 1)
            ctx.set(port.aw.payload.size, narrow_bytes.bit_length() - 1)
            ctx.set(port.aw.valid, 1)
            taken = 0
            while not taken:
                _, _, taken = await ctx.tick().sample(port.aw.ready)
            ctx.set(port.aw.valid, 0)

    async def beats(ctx: Any) -> None:
        cycle = 0
        for burst in bursts:
            skip = burst.address % narrow_bytes
            padded = bytes(skip) + burst.write
            for beat in range(burst.beats):
                while rng.random() < stall:
                    await ctx.tick()
                    cycle += 1
                mask = (1 << narrow_bytes) - 1
                raw = padded[beat * narrow_bytes :][:narrow_bytes]
                ctx.set(port.w.payload.data, int.from_bytes(raw, "little"))
                ctx.set(port.w.payload.strb, mask & (mask << skip) if beat == 0 else mask)
                ctx.set(port.w.payload.last, beat == burst.beats - 1)
                ctx.set(port.w.valid, 1)
                taken = 0
                while not taken:
                    _, _, taken = await ctx.tick().sample(port.w.ready)
                    cycle += 1
                    assert cycle < TIMEOUT, f"W of {burst.address:#x} was not taken (seed {seed})"
                cycles.append(cycle)
                ctx.set(port.w.valid, 0)

    async def answers(ctx: Any) -> None:
        for _ in range(TIMEOUT):
            if sum(map(len, responses.values())) == len(bursts):
                return
            ready = rng.random() >= stall
            ctx.set(port.b.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.b.valid, port.b.payload)
            if ready and valid:
                responses[payload.id].append(payload.resp)
        raise AssertionError(f"B still missing after {TIMEOUT} cycles (seed {seed})")

    for bench in (address, beats, answers):
        sim.add_testbench(bench)
    return {"responses": responses, "cycles": cycles}


@pytest.mark.parametrize(("narrow", "wide"), [(64, 128), (64, 256), (64, 512), (128, 512), (64, 64)])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_bytes_are_exact(narrow: int, wide: int, stall: float) -> None:
    seed = narrow * 1000 + wide + int(stall * 10)
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = WidthConverter(narrow, wide, outstanding=4)
    sim = simulator(dut)
    memory = AxiMemory(SIZE, seed=seed, stall=stall, latency=(1, 30))
    memory.data[:] = rng.randbytes(SIZE)
    memory.attach(sim, dut.wide)
    half = SIZE // 2  # writes go to the lower half, reads to the upper
    writes = [random_burst(rng, narrow // 8, write=True) for _ in range(25)]
    reads = [random_burst(rng, narrow // 8, write=False) for _ in range(25)]
    expected = bytearray(memory.data)
    by_id: dict[int, list] = {}
    for burst in writes:
        burst.address %= half
        expected[burst.address : burst.address + len(burst.write)] = burst.write
        burst.id = 0  # responses of one ID keep the order of overlapping writes
    for burst in reads:
        burst.address = burst.address % half + half
        start = burst.address // (narrow // 8) * (narrow // 8)
        by_id.setdefault(burst.id, []).append((start, burst.beats * narrow // 8))
    got = run_reads(sim, dut.narrow, reads, narrow // 8, stall, seed)
    done = run_writes(sim, dut.narrow, writes, narrow // 8, stall, seed)
    sim.run()
    assert memory.data == expected
    assert done["responses"] == {0: [Response.OKAY] * len(writes)}
    for key, bursts in by_id.items():
        assert got[key] == [(bytes(memory.data[start : start + length]), 0) for start, length in bursts]


def test_full_throughput() -> None:
    """Aligned bursts cost one cycle a narrow beat, in both directions at once."""
    dut = WidthConverter(64, 512)
    sim = simulator(dut)
    memory = AxiMemory(SIZE, latency=4)
    memory.attach(sim, dut.wide)
    bursts = [Burst(0, 64 * n, 8, bytes(range(64))) for n in range(40)]
    got = run_reads(sim, dut.narrow, bursts, 8, 0, 1)
    done = run_writes(sim, dut.narrow, bursts, 8, 0, 1)
    sim.run()
    assert done["cycles"][-1] - done["cycles"][0] == 319
    assert got["cycles"][-1] - got["cycles"][0] == 319
    assert {burst.beats for burst in memory.reads + memory.writes} == {1}


def test_errors_reach_each_beat() -> None:
    dut = WidthConverter(64, 256)
    sim = simulator(dut)
    memory = AxiMemory(SIZE, latency=4)
    memory.fail(range(0x100, 0x120))
    memory.attach(sim, dut.wide)
    got = run_reads(sim, dut.narrow, [Burst(1, 0x100, 4), Burst(1, 0x120, 4), Burst(2, 0x118, 1)], 8, 0, 1)
    done = run_writes(sim, dut.narrow, [Burst(3, 0x100, 1, bytes(8)), Burst(3, 0x120, 1, bytes(8))], 8, 0, 1)
    sim.run()
    assert [worst for _, worst in got[1]] == [Response.SLVERR.value, Response.OKAY.value]
    assert got[2][0][1] == Response.SLVERR.value
    assert done["responses"][3] == [Response.SLVERR, Response.OKAY]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="at least as wide as the narrow side's 256 bits, not 64"):
        WidthConverter(256, 64)
    with pytest.raises(ValueError, match="AXI4 data width must be 64, 128, 256 or 512 bits, not 96"):
        WidthConverter(64, 96)
    with pytest.raises(ValueError, match="outstanding must be a power of two, not 3"):
        WidthConverter(64, 128, outstanding=3)
