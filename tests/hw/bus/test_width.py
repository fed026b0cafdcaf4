# SPDX-License-Identifier: BSD-2-Clause
"""The width converter against a byte-exact memory: every alignment and length, random stalls, several IDs."""

import random
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from hw.bus.width import WidthConverter
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import AxiManager

SIZE = 1 << 14
HALF = SIZE // 2


def run(dut: WidthConverter, manager: AxiManager, memory: AxiMemory) -> None:
    m = Module()
    m.domains.sync = ClockDomain()  # which plain wires would be without
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    memory.attach(sim, dut.wide)
    manager.attach(sim)

    async def bench(ctx: Any) -> None:
        await manager.finish(ctx)

    sim.add_testbench(bench)
    sim.run()


def random_bytes_at(rng: random.Random, word: int) -> tuple[int, int]:
    """Address and length of bytes that a burst may touch: in one page, at most 64 beats."""
    length = rng.choice((1, word, 2 * word, 8 * word, rng.randint(1, 63 * word)))
    offset = rng.choice((0, 64, rng.randrange(4096)))
    return rng.randrange(HALF // 4096) * 4096 + min(offset, 4096 - length), length


@pytest.mark.parametrize(("narrow", "wide"), [(64, 128), (64, 256), (64, 512), (128, 512), (64, 64)])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_bytes_are_exact(narrow: int, wide: int, stall: float) -> None:
    seed = narrow * 1000 + wide + int(stall * 10)
    print(f"seed {seed}")
    rng = random.Random(seed)
    word = narrow // 8
    dut = WidthConverter(narrow, wide, outstanding=4)
    memory = AxiMemory(SIZE, seed=seed, stall=stall, latency=(1, 30))
    memory.data[:] = rng.randbytes(SIZE)
    manager = AxiManager(dut.narrow, seed=seed, stall=stall)
    expected = bytearray(memory.data)
    reads = []
    for _ in range(30):
        address, length = random_bytes_at(rng, word)
        data = rng.randbytes(length)
        expected[address : address + length] = data
        manager.write(address, data)  # of one ID, so that overlapping writes keep their order
        address, length = random_bytes_at(rng, word)
        beats = -(-(address % word + length) // word)
        reads.append(manager.read(HALF + address, beats, id=rng.randrange(4)))
    run(dut, manager, memory)
    assert memory.data == expected
    assert {access.response for access in manager.done} == {Response.OKAY}
    for access in reads:
        start = access.address // word * word
        assert access.result == memory.data[start : start + access.beats * word], f"read of {access.address:#x}"


@pytest.mark.parametrize("size", [0, 1, 2])
def test_beats_below_the_narrow_width(size: int) -> None:
    """Beats that share a lane are gathered, and come back each in its own."""
    rng = random.Random(size)
    dut = WidthConverter(64, 256)
    memory = AxiMemory(SIZE, seed=size, stall=0.2)
    memory.data[:] = rng.randbytes(SIZE)
    manager = AxiManager(dut.narrow, seed=size, stall=0.2)
    expected = bytearray(memory.data)
    reads = []
    for n in range(10):
        block = rng.randbytes(rng.randint(1, 40 << size))
        address = 256 * n + rng.randrange(64)
        expected[address : address + len(block)] = block
        manager.write(address, block, size=size)
        reads.append(manager.read(HALF + 256 * n + rng.randrange(64), rng.randint(1, 40), size=size))
    run(dut, manager, memory)
    assert memory.data == expected
    for read in reads:
        for beat in range(read.beats):
            at = (read.address >> size << size) + (beat << size)
            word = read.result[8 * beat :][:8]
            assert word[at % 8 :][: 1 << size] == memory.data[at : at + (1 << size)], (
                f"beat {beat} of {read.address:#x}"
            )


def test_responses_of_an_id_keep_their_order() -> None:
    """Checked by the manager, which takes R for the oldest read of its ID. The memory lets IDs overtake each other."""
    dut = WidthConverter(64, 512)
    memory = AxiMemory(SIZE, seed=5, stall=0.3, latency=(1, 60))
    memory.data[:] = random.Random(5).randbytes(SIZE)
    manager = AxiManager(dut.narrow, seed=5)
    reads = [manager.read(256 * n, 20, id=n % 3) for n in range(30)]
    run(dut, manager, memory)
    assert all(access.result == memory.data[access.address :][:160] for access in reads)
    assert [access.address for access in manager.done] != [access.address for access in reads]


def test_full_throughput() -> None:
    """Aligned bursts cost one cycle a narrow beat, in both directions at once, and one wide beat."""
    dut = WidthConverter(64, 512)
    memory = AxiMemory(SIZE)
    manager = AxiManager(dut.narrow)
    reads = [manager.read(64 * n, 8) for n in range(40)]
    writes = [manager.write(64 * n, bytes(64)) for n in range(40)]
    run(dut, manager, memory)
    for accesses in (reads, writes):
        assert accesses[-1].moved[-1] - accesses[0].moved[0] == 40 * 8 - 1
    assert {burst.beats for burst in memory.reads + memory.writes} == {1}


def test_data_does_not_wait_for_its_address_to_be_taken() -> None:
    """A subordinate may wait for both before it takes the address (IHI 0022, A3.3.1); here it takes W first."""
    dut = WidthConverter(64, 256, outstanding=2)
    manager = AxiManager(dut.narrow)
    written = [manager.write(0x40 * n, bytes([n]) * 40) for n in range(6)]
    m = Module()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    manager.attach(sim)
    addresses, words = [], []

    async def subordinate(ctx: Any) -> None:
        for n in range(len(written)):
            ctx.set(dut.wide.w.ready, 1)
            beats = 0
            for _ in range(100):
                *_, valid, word = await ctx.tick().sample(dut.wide.w.valid, dut.wide.w.payload)
                if valid:
                    beats += 1
                    words.append((word.data & 0xFF, word.strb, word.last))
                if beats == 2:
                    break
            assert beats == 2, f"waited 100 cycles for the data of burst {n}"
            ctx.set(dut.wide.w.ready, 0)
            ctx.set(dut.wide.aw.ready, 1)
            *_, valid, address = await ctx.tick().sample(dut.wide.aw.valid, dut.wide.aw.payload.addr)
            assert valid, "an address that was offered went away"
            addresses.append(address)
            ctx.set(dut.wide.aw.ready, 0)
            ctx.set(dut.wide.b.valid, 1)
            await ctx.tick().until(dut.wide.b.ready)
            ctx.set(dut.wide.b.valid, 0)

    sim.add_testbench(subordinate)
    sim.run()
    assert addresses == [access.address for access in written]
    assert words == [(n, strobe, last) for n in range(6) for strobe, last in ((0xFFFF_FFFF, 0), (0xFF, 1))]


def test_errors_reach_each_beat() -> None:
    dut = WidthConverter(64, 256)
    memory = AxiMemory(SIZE)
    memory.fail(range(0x100, 0x120))
    manager = AxiManager(dut.narrow)
    accesses = [
        manager.read(0x100, 4),
        manager.read(0x120, 4),
        manager.read(0x118, 1, id=2),
        manager.write(0x100, bytes(8)),
        manager.write(0x120, bytes(8)),
    ]
    run(dut, manager, memory)
    bad, good = Response.SLVERR, Response.OKAY
    assert [access.response for access in accesses] == [bad, good, bad, bad, good]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="at least as wide as the narrow side's 256 bits, not 64"):
        WidthConverter(256, 64)
    with pytest.raises(ValueError, match="AXI4 data width must be 64, 128, 256 or 512 bits, not 96"):
        WidthConverter(64, 96)
    with pytest.raises(ValueError, match="outstanding must be a power of two, not 3"):
        WidthConverter(64, 128, outstanding=3)
