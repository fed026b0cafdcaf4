# SPDX-License-Identifier: BSD-2-Clause
"""Host memory: bytes, cycles, bandwidth, errors, exclusives, and that data never blocks the walker."""

import random
from typing import Any

import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from sim.host.dram import Dram
from sim.host.dram_config import DramConfig
from tests.hw.bus.axi_manager import AxiManager
from tests.sim.host.storage_model import attach_storage

SIZE = 1 << 14
KHZ = 250_000


class Bench:
    """A memory of random bytes with a manager on each port."""

    def __init__(self, width: int = 64, *, seed: int = 0, stall: float = 0.0, **config: Any):
        self.config = DramConfig(**config)
        self.dut = Dram(self.config, width, SIZE, KHZ)
        self.memory = bytearray(random.Random(seed).randbytes(SIZE))
        self.data = AxiManager(self.dut.data, seed=seed, stall=stall)
        self.walker = AxiManager(self.dut.walker, seed=seed + 1, stall=stall)

    def run(self, *others: Any) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-8)
        attach_storage(sim, self.dut.storage, self.memory)
        self.data.attach(sim)
        self.walker.attach(sim)

        async def bench(ctx: Any) -> None:
            await self.data.finish(ctx)
            await self.walker.finish(ctx)

        sim.add_testbench(bench)
        for other in others:
            sim.add_testbench(other)
        sim.run()


@pytest.mark.parametrize("width", [64, 256])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_bytes_are_exact(width: int, stall: float) -> None:
    seed = width + int(10 * stall)
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench(width, seed=seed, stall=stall, outstanding=4)
    word = width // 8
    expected = bytearray(bench.memory)
    reads = []
    for _ in range(30):
        manager = rng.choice((bench.data, bench.walker))
        quarter = SIZE // 4 * (manager is bench.walker)  # so that the ports' writes do not race
        size = rng.choice((word.bit_length() - 1, rng.randrange(word.bit_length())))
        length = rng.randint(1, 20 << size)
        address = quarter + rng.choice((rng.randrange(SIZE // 4 - length), 0))
        address = min(address, address // 4096 * 4096 + 4096 - length)
        data = rng.randbytes(length)
        expected[address : address + length] = data
        manager.write(address, data, size=size, id=rng.randrange(256))
        beats = rng.randint(1, 20)
        address = SIZE // 2 + rng.randrange(SIZE // 2 // 4096) * 4096 + rng.randrange(4096 - beats * word)
        reads.append(manager.read(address, beats, id=rng.randrange(256)))
    bench.run()
    assert bench.memory == expected
    assert {access.response for access in bench.data.done + bench.walker.done} == {Response.OKAY}
    for access in reads:
        start = access.address // word * word
        assert access.result == bench.memory[start : start + access.beats * word]


def test_latencies() -> None:
    """First R and B come exactly when the documentation says."""
    bench = Bench(64, read_latency_ns=40, write_latency_ns=24)
    read = bench.data.read(0x100, 4)
    write = bench.data.write(0x200, bytes(32))
    far = bench.walker.read(0x300, 1, earliest=50)
    bench.run()
    assert [cycle - read.addressed for cycle in read.moved] == [10, 11, 12, 13]
    assert write.answered - write.moved[-1] == 6
    assert far.moved[0] - far.addressed == 10


def test_the_walkers_port_may_have_a_latency_of_its_own() -> None:
    bench = Bench(64, read_latency_ns=40, walker_latency_ns=80)
    near = bench.data.read(0x100, 1)
    far = bench.walker.read(0x300, 1)
    bench.run()
    assert [access.moved[0] - access.addressed for access in (near, far)] == [10, 20]


@pytest.mark.parametrize(("lead", "seen"), [(0, "old"), (1, "new")])
def test_a_write_is_visible_from_the_next_cycle(lead: int, seen: str) -> None:
    """A read whose word leaves storage on the edge of the write sees the old bytes, one edge later the new ones."""
    bench = Bench(64, read_latency_ns=40)
    bench.memory[0x80:0x88] = b"old old "
    read = bench.data.read(0x80, 1, earliest=10)
    write = bench.walker.write(0x80, b"new new ", earliest=17 - lead)
    bench.run()
    leaves = read.moved[0] - 2  # the storage's cycle and the output's
    assert write.moved[0] == leaves - lead
    assert read.result.startswith(seen.encode())


def test_full_rate() -> None:
    """Bursts in both directions at once, one beat a cycle each."""
    bench = Bench(64)
    reads = [bench.data.read(64 * n, 8) for n in range(32)]
    writes = [bench.data.write(8192 + 64 * n, bytes(64)) for n in range(32)]
    bench.run()
    assert reads[-1].moved[-1] - reads[0].moved[0] == 32 * 8 - 1
    assert writes[-1].moved[-1] - writes[0].moved[0] == 32 * 8 - 1


def test_bandwidth_is_a_bound_and_is_reached() -> None:
    """At a quarter of a word a cycle, reads and writes together move no more, and little less."""
    bench = Bench(64, bandwidth_megabytes=500, outstanding=4)
    rate = float(bench.config.bytes_per_cycle(KHZ))
    assert rate == 2
    accesses = [bench.data.read(64 * n, 8) for n in range(20)]
    accesses += [bench.data.write(8192 + 64 * n, bytes(64)) for n in range(20)]
    bench.run()
    cycles = max(access.answered for access in accesses) - min(access.addressed for access in accesses)
    moved = 64 * len(accesses)
    assert moved <= rate * cycles
    assert moved >= 0.93 * rate * cycles


def test_outside_memory() -> None:
    """DECERR, nothing written, and the access after it is unharmed."""
    bench = Bench(64)
    before = bytes(bench.memory)
    good = [bench.data.read(64, 1)]
    accesses = [
        bench.data.write(SIZE, bytes(64)),
        bench.data.write(1 << 60, bytes(8)),
        bench.data.read(SIZE, 8),
        bench.data.read((1 << 64) - 8, 1),
        bench.walker.write(SIZE, bytes(8)),
        bench.walker.read(SIZE, 1),
    ]
    good += [bench.data.read(SIZE - 64, 8), bench.data.write(0, before[:8])]
    bench.run()
    assert [access.response for access in accesses] == [Response.DECERR] * len(accesses)
    assert [access.response for access in good] == [Response.OKAY] * 3
    assert accesses[2].result == bytes(64)
    assert good[1].result == before[-64:]
    assert bench.memory == before


@pytest.mark.parametrize("stall", [0.0, 0.9])
def test_data_does_not_block_the_walker(stall: float) -> None:
    """With the data port flooded, and its R taken or hardly so, a walk takes its latency and a wait of some cycles."""
    bench = Bench(64, read_latency_ns=40, outstanding=8)
    bench.data.stall = stall
    for n in range(16 if stall else 30):
        bench.data.read(64 * n, 8)
        bench.data.write(8192 + 64 * n, bytes(64))
    walks = [bench.walker.read(4096 + 8 * n, 1, earliest=60 + 20 * n) for n in range(10)]
    bench.run()
    assert max(walk.moved[0] - walk.addressed for walk in walks) <= 10 + 3


def test_exclusive_accesses() -> None:
    bench = Bench(64)
    walker, data = bench.walker, bench.data
    first = walker.read(0x40, lock=True, id=1)
    plain = walker.write(0x48, b"neighbor", id=7, earliest=30)  # another word
    taken = walker.write(0x40, b"accessed", id=1, lock=True, earliest=40)
    again = walker.write(0x40, b"too late", id=1, lock=True, earliest=60)  # the reservation is used up
    bench.walker.read(0x80, lock=True, id=2, earliest=70)
    data.write(0x84, b"x", earliest=100)
    lost = walker.write(0x80, b"refused!", id=2, lock=True, earliest=120)
    bench.walker.read(0xC0, lock=True, id=3, earliest=130)
    other = walker.write(0xC0, b"refused!", id=4, lock=True, earliest=160)
    mine = walker.write(0xC0, b"granted!", id=3, lock=True, earliest=180)
    unsupported = data.write(0x100, b"ordinary", lock=True, earliest=190)
    before = bytes(bench.memory)
    bench.run()
    assert first.response is Response.EXOKAY
    assert plain.response is Response.OKAY
    assert [access.response for access in (taken, again)] == [Response.EXOKAY, Response.OKAY]
    assert lost.response is Response.OKAY
    assert [access.response for access in (other, mine)] == [Response.OKAY, Response.EXOKAY]
    assert unsupported.response is Response.OKAY
    assert bench.memory[0x40:0x50] == b"accessedneighbor"
    assert bench.memory[0x80:0x88] == before[0x80:0x84] + b"x" + before[0x85:0x88]
    assert bench.memory[0xC0:0xC8] == b"granted!"
    assert bench.memory[0x100:0x108] == b"ordinary"


def test_a_store_of_software_ends_a_reservation() -> None:
    """Software writes memory behind the ports' backs: a word that it changed since the exclusive read keeps the change,
    whenever it came; one that it did not change is written."""
    for time in range(40, 80):
        bench = Bench(128, seed=time)
        bench.walker.read(0x48, lock=True, id=1, size=3)
        write = bench.walker.write(0x48, b"accessed", id=1, lock=True, size=3, earliest=60)
        before = bytes(bench.memory[0x40:0x50])

        async def software(ctx: Any, bench: Bench = bench, time: int = time) -> None:
            await ctx.tick().repeat(time)
            bench.memory[0x48:0x50] = b"unmapped"

        bench.run(software)
        assert bench.memory[0x48:0x50] == b"unmapped"
        assert bench.memory[0x40:0x48] == before[:8]
        assert write.response is (Response.OKAY if time <= write.moved[0] - 1 else Response.EXOKAY), time
    bench = Bench(128)
    bench.walker.read(0x48, lock=True, id=1, size=3)
    write = bench.walker.write(0x48, b"accessed", id=1, lock=True, size=3, earliest=60)
    bench.run()
    assert (write.response, bench.memory[0x48:0x50]) == (Response.EXOKAY, b"accessed")


def test_reset_forgets_everything() -> None:
    """Responses under way never come, and the memory answers as after power-on."""
    bench = Bench(64)
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = bench.dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    attach_storage(sim, bench.dut.storage, bench.memory)
    port = bench.dut.data

    async def ask(ctx: Any, address: int) -> tuple[int, int]:
        """Cycle and word of the first R."""
        ctx.set(port.ar.payload.addr, address)
        ctx.set(port.ar.payload.len, 3)
        ctx.set(port.ar.payload.size, 3)
        ctx.set(port.ar.valid, 1)
        for cycle in range(100):
            _, _, taken, came, payload = await ctx.tick().sample(port.ar.ready, port.r.valid, port.r.payload)
            if taken:
                ctx.set(port.ar.valid, 0)
            if came:
                return cycle, payload.data
        raise AssertionError("no R within 100 cycles")

    async def testbench(ctx: Any) -> None:
        first, _ = await ask(ctx, 0x100)
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        assert not ctx.get(port.r.valid)
        again, word = await ask(ctx, 0x200)
        assert again == first
        assert word == int.from_bytes(bench.memory[0x200:0x208], "little")

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outstanding": 1}, "outstanding must be in 2..1024, not 1"),
        ({"monitors": 3}, "monitors must be a power of two, not 3"),
        ({"bandwidth_megabytes": 0}, "bandwidth_megabytes must be in 100..2000000, not 0"),
        ({"read_latency_ns": -1}, "read_latency_ns must be in 0..100000, not -1"),
        ({"walker_latency_ns": -1}, "walker_latency_ns must be in 0..100000, not -1"),
    ],
)
def test_config_is_validated(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DramConfig(**change)


def test_parameters_are_validated() -> None:
    with pytest.raises(TypeError, match="outstanding must be an integer, not '4'"):
        DramConfig(outstanding="4")
    with pytest.raises(TypeError, match="write_latency_ns must be a number, not None"):
        DramConfig(write_latency_ns=None)
    with pytest.raises(ValueError, match="Memory size must be a positive multiple of 4096 bytes, not 5000"):
        Dram(DramConfig(), 64, 5000, KHZ)
    with pytest.raises(TypeError, match="config must be a DramConfig, not 'fast'"):
        Dram("fast", 64, 4096, KHZ)
