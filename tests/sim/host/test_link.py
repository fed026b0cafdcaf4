# SPDX-License-Identifier: BSD-2-Clause
"""The host link's memory side: bytes, order, cycles, and the analytic bound of its rate."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from tests.sim.host.link_bench import SIZE, LinkBench, receive

HALF = SIZE // 2


def random_range(rng: random.Random, word: int) -> tuple[int, int]:
    length = rng.choice((4, 60, 64, 256, 512, rng.randint(1, 60 * word)))
    offset = rng.randrange(4096)
    return rng.randrange(HALF // 4096) * 4096 + min(offset, 4096 - length), length


@pytest.mark.parametrize(("preset", "width"), [("gen3-x8", 64), ("gen4-x16", 256), ("on-chip", 64)])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_bytes_are_exact(preset: str, width: int, stall: float) -> None:
    seed = width + int(10 * stall)
    print(f"seed {seed}")
    rng = random.Random(seed)
    word = width // 8
    bench = LinkBench(preset, width=width, seed=seed, stall=stall, memory={"latency": (1, 40)}, latency_ns=60)
    bench.memory.data[:] = rng.randbytes(SIZE)
    expected = bytearray(bench.memory.data)
    writes, reads = [], []
    for _ in range(30):
        address, length = random_range(rng, word)
        data = rng.randbytes(length)
        expected[address : address + length] = data
        # On chip, only writes of one ID keep their order.
        writes.append(bench.device.write(address, data, id=0 if preset == "on-chip" else rng.randrange(4)))
        address, length = random_range(rng, word)
        reads.append(bench.device.read(HALF + address, -(-(address % word + length) // word), id=rng.randrange(4)))
    bench.run()
    assert bench.memory.data == expected
    for access in reads:
        start = access.address // word * word
        assert access.result == bench.memory.data[start : start + access.beats * word], f"read of {access.address:#x}"
    assert [(burst.address, burst.beats) for burst in bench.memory.writes] == [(w.address, w.beats) for w in writes]
    assert {burst.id for burst in bench.memory.writes} == {0}  # so that memory keeps the order of the posted channel


def test_a_read_sees_every_write_that_entered_before_it() -> None:
    """The write's last beat in the cycle of the read's address, or just before, with a memory slow to take writes."""
    bench = LinkBench(latency_ns=40, memory={"latency": (30, 60)})
    pairs = []
    for n in range(20):
        length = 64 if n % 2 else 8
        beats = length // 8
        start = 100 * n
        write = bench.device.write(64 * n, bytes([n + 1] * length), earliest=start, id=n % 3)
        # W is taken from the cycle after AW: its last beat is in cycle start + beats.
        pairs.append((write, bench.device.read(64 * n, beats, earliest=start + beats + n // 10, id=n % 5)))
    bench.run()
    assert {read.addressed - write.moved[-1] for write, read in pairs} == {0, 1}
    for write, read in pairs:
        assert read.result == write.data


def test_latencies() -> None:
    bench = LinkBench(memory={"latency": 10})
    write = bench.device.write(0x100, bytes(60))
    read = bench.device.read(0x200, 8, earliest=200)
    bench.run()
    # The memory counts the cycle after a transfer.
    assert bench.memory.writes[0].cycle - 1 == bench.arrival(write.moved[-1], 60 + 24)
    assert bench.memory.write_beats[0].cycle == bench.memory.writes[0].cycle
    assert write.answered == write.moved[-1] + 1
    assert bench.memory.reads[0].cycle - 1 == bench.arrival(read.addressed, 24)
    first = bench.memory.read_beat_cycles[0] - 1
    assert read.moved == list(range(bench.arrival(first, 8 + 20), bench.arrival(first, 8 + 20) + 8))


@pytest.mark.parametrize(
    ("address", "length", "charged"),
    [(0, 8, 8), (0, 64, 64), (4, 4, 4), (6, 1, 4), (0, 60, 60), (7, 60, 64), (5, 2, 4), (12, 20, 20), (0, 300, 300)],
)
def test_a_write_is_charged_its_words(address: int, length: int, charged: int) -> None:
    """At a byte a cycle, the time of arrival tells how many bytes a burst was charged."""
    bench = LinkBench(rate_mbps=1250)
    write = bench.device.write(address, bytes(length))
    bench.run()
    expected = bench.arrival(write.moved[-1], bench.config.write_bytes(charged))
    assert bench.memory.writes[0].cycle - 1 == expected


@pytest.mark.parametrize("length", [64, 256, 512])
def test_write_rate(length: int) -> None:
    """Never above the analytic bound of the link, and within a few per cent of it."""
    bench = LinkBench(width=512, khz=250_000)
    count = 12_000 // (length + 24)
    for n in range(count):
        bench.device.write(n * length % SIZE, bytes(length))
    bench.run()
    cycles = [burst.cycle for burst in bench.memory.writes]
    first, last = cycles[count // 4], cycles[-1]
    moved = length * (count - 1 - count // 4)
    bound = bench.rate * length / bench.config.write_bytes(length)
    assert moved <= bound * (last - first + 1)
    assert moved >= 0.97 * bound * (last - first)


@pytest.mark.parametrize("length", [64, 256, 512])
def test_read_rate(length: int) -> None:
    bench = LinkBench(width=512, khz=250_000, memory={"latency": 20, "interleave": False})
    count = 12_000 // (length + 20)
    reads = [bench.device.read(n * length % SIZE, length // 64) for n in range(count)]
    bench.run()
    steady = reads[count // 4 :]
    cycles = steady[-1].answered - steady[0].answered
    moved = length * (len(steady) - 1)
    bound = bench.rate * length / bench.config.completion_bytes(length)
    assert moved <= bound * (cycles + 1)
    assert moved >= 0.97 * bound * cycles


def test_both_directions_at_once() -> None:
    """Write data upstream and read data downstream do not slow each other; requests take their share upstream."""
    bench = LinkBench(width=512, khz=250_000, memory={"latency": 20, "interleave": False})
    count = 50
    writes = [bench.device.write(n * 256, bytes(256), id=1) for n in range(count)]
    reads = [bench.device.read(HALF + n * 256, 4) for n in range(count)]
    bench.run()
    upstream = count * (256 + 24 + 24)
    cycles = bench.memory.writes[-1].cycle - bench.latency - writes[0].addressed
    assert 0.95 * float(bench.rate) * cycles <= upstream <= float(bench.rate) * cycles
    downstream = (count - 1) * (256 + 20)
    cycles = reads[-1].answered - reads[0].answered
    assert 0.95 * float(bench.rate) * cycles <= downstream <= float(bench.rate) * (cycles + 1)


def test_on_chip_is_wires() -> None:
    """A beat a cycle each way, and not a cycle more latency than memory's own."""
    bench = LinkBench("on-chip", memory={"latency": 1})
    writes = [bench.device.write(64 * n, bytes(64)) for n in range(20)]
    reads = [bench.device.read(HALF + 64 * n, 8) for n in range(20)]
    bench.run()
    assert writes[-1].moved[-1] - writes[0].moved[0] == 20 * 8 - 1
    assert reads[-1].moved[-1] - reads[0].moved[0] == 20 * 8 - 1
    assert bench.memory.reads[0].cycle - 1 == reads[0].addressed
    assert bench.memory.writes[0].cycle - 1 == writes[0].addressed


def test_completions_are_cut_at_the_payload() -> None:
    """512 bytes that start on a boundary take two completions, elsewhere three; the beats' times show it."""
    for offset, address in ((0, 0x400), (32, 0x420)):
        bench = LinkBench("gen3-x8", rate_mbps=1250, memory={"latency": 4, "interleave": False})  # a byte a cycle
        read = bench.device.read(address, 64)
        bench.run()
        gaps = [later - earlier for earlier, later in pairwise(read.moved)]
        long = [index + 1 for index, gap in enumerate(gaps) if gap != 8]
        assert long == ([32] if offset == 0 else [28, 60])
        assert {gaps[index - 1] for index in long} == {8 + 20}
        assert read.moved[-1] - read.moved[0] + 8 + 20 == bench.config.completion_bytes(512, address)


def test_bytes_are_told_as_they_enter() -> None:
    """What the lanes carry, in the cycles in which it enters them."""
    bench = LinkBench("gen3-x8")
    write, read = bench.device.write(0x100, bytes(300)), bench.device.read(0x400, 64)
    up, down = Counter[int](), Counter[int]()

    async def observe(ctx: Any) -> None:
        for cycle in range(400):
            up[cycle] += ctx.get(bench.dut.up_bytes)
            down[cycle] += ctx.get(bench.dut.down_bytes)
            await ctx.tick()

    bench.run(observe)
    assert +up == {write.moved[-1]: bench.config.write_bytes(300), read.addressed: bench.config.read_bytes(512)}
    assert +down == {cycle - 1: 8 + (index % 32 == 0) * 20 for index, cycle in enumerate(bench.memory.read_beat_cycles)}


def test_interleaved_data_ends_a_completion() -> None:
    """At a byte a cycle, a beat takes its 8 bytes, and 20 more where the ID changes."""
    bench = LinkBench(rate_mbps=1250, max_payload=512, memory={"latency": 4, "seed": 6, "interleave": True})
    reads = [bench.device.read(512 * n, 48, id=n) for n in range(2)]
    bench.run()
    order = sorted((cycle, read.id) for read in reads for cycle in read.moved)
    changes = [later[1] != earlier[1] for earlier, later in pairwise(order)]
    assert sum(changes) > 2
    assert [later[0] - earlier[0] for earlier, later in pairwise(order)] == [28 if change else 8 for change in changes]


def test_credits_take_a_latency_to_come_back() -> None:
    bench = LinkBench(posted_credits=4096)
    writes = [bench.device.write(512 * n, bytes(512)) for n in range(9)]
    bench.run()
    taken = bench.memory.write_beats[63].cycle - 1
    assert writes[7].addressed < taken
    assert writes[8].addressed > taken + bench.latency


def test_credits_bound_the_writes_under_way() -> None:
    """With a host that takes nothing, the device stops when the credits are used up; nothing is lost."""
    bench = LinkBench(posted_credits=4096)
    for n in range(20):
        bench.device.write(512 * n, random.Random(n).randbytes(512))

    async def stopped(ctx: Any) -> None:
        await ctx.tick().repeat(900)
        assert sum(access.addressed is not None for access in list(bench.device.done)) == 8
        ctx.set(bench.dut.host.b.valid, 0)
        for _ in range(20):
            await receive(ctx, bench.dut.host.aw, "AW")
            for beat in range(64):
                _, payload = await receive(ctx, bench.dut.host.w, "W")
                assert payload.last == (beat == 63)

    bench.run(stopped, memory=False)


def test_tags_bound_the_reads_under_way() -> None:
    """A read of 512 bytes takes one tag, of 1024 two; a tag is free when the device has the whole answer."""
    bench = LinkBench(read_tags=16)
    reads = [bench.device.read(1024 * n, 128 if n % 2 else 64) for n in range(20)]
    bench.device.stall = 0.0
    bench.run()
    for access in reads:
        tags = sum(
            2 if other.beats == 128 else 1 for other in reads if other.addressed <= access.addressed < other.answered
        )
        assert tags <= 16
    last_answer = reads[0].answered
    assert sum(access.addressed < last_answer for access in reads) == 11


def test_writes_pass_reads_that_memory_does_not_take() -> None:
    bench = LinkBench()

    async def host(ctx: Any) -> None:
        for _ in range(100):
            await receive(ctx, bench.dut.host.aw, "AW behind blocked reads")
            await receive(ctx, bench.dut.host.w, "W behind blocked reads")
        for _ in range(10):  # the writes were never acknowledged: the reads wait for that, too
            _, _, valid = await ctx.tick().sample(bench.dut.host.ar.valid)
            assert not valid
        for _ in range(100):
            ctx.set(bench.dut.host.b.valid, 1)
            await ctx.tick()
        ctx.set(bench.dut.host.b.valid, 0)
        for n in range(10):
            _, address = await receive(ctx, bench.dut.host.ar, "AR")
            assert address.addr == 64 * n
            ctx.set(bench.dut.host.r.payload.last, 1)
            ctx.set(bench.dut.host.r.valid, 1)
            await ctx.tick()
            ctx.set(bench.dut.host.r.valid, 0)

    for n in range(10):
        bench.device.read(64 * n, 1, earliest=50)
    for n in range(100):
        bench.device.write(8 * n, bytes(8))
    bench.run(host, memory=False)


def test_data_at_the_host_does_not_wait_for_its_address_to_be_taken() -> None:
    bench = LinkBench()

    async def host(ctx: Any) -> None:
        for n in range(20):
            for beat in range(3):
                _, word = await receive(ctx, bench.dut.host.w, f"beat {beat} of burst {n} before its address")
                assert (word.data, word.last) == (n * 0x0101_0101_0101_0101, beat == 2)
            ctx.set(bench.dut.host.w.ready, 1)
            for _ in range(5):  # the next burst's data does not pass two addresses
                *_, valid = await ctx.tick().sample(bench.dut.host.w.valid)
                assert not valid
            ctx.set(bench.dut.host.w.ready, 0)
            _, address = await receive(ctx, bench.dut.host.aw, "AW")
            assert address.addr == 64 * n

    for n in range(20):
        bench.device.write(64 * n, bytes([n]) * 24)
    bench.run(host, memory=False)


def test_credits_that_come_back_before_an_address_is_taken_lose_nothing() -> None:
    """A host that takes data at once and each address only long after it."""
    bench = LinkBench(posted_headers=2, latency_ns=20)

    async def data(ctx: Any) -> None:
        for n in range(12):
            _, word = await receive(ctx, bench.dut.host.w, f"data of write {n}")
            assert word.data == n + 1

    async def addresses(ctx: Any) -> None:
        for n in range(12):
            await ctx.tick().repeat(100)
            _, address = await receive(ctx, bench.dut.host.aw, f"address of write {n}")
            assert address.addr == 64 * n

    for n in range(12):
        bench.device.write(64 * n, (n + 1).to_bytes(8, "little"))
    bench.run(data, addresses, memory=False)


def test_memory_errors_on_posted_writes_are_counted() -> None:
    bench = LinkBench()
    bench.memory.fail(range(0x1000, 0x2000))
    writes = [bench.device.write(address, bytes(64)) for address in (0, 0x1000, 0x1040, 0x2000)]
    read = bench.device.read(0x1000, 8)
    errors = []

    async def count(ctx: Any) -> None:
        await bench.device.finish(ctx)
        errors.append(ctx.get(bench.dut.posted_errors))

    bench.run(count)
    assert errors == [2]
    assert {access.response for access in writes} == {Response.OKAY}
    assert read.response is Response.SLVERR


def test_reset_forgets_everything() -> None:
    """Bursts under way never come out, and credits, tags and times are as after power-on."""
    bench = LinkBench(latency_ns=60)
    device, host = bench.dut.device, bench.dut.host

    async def flood(ctx: Any, cycles: int) -> list[tuple[int, ...]]:
        """Offer writes and reads; what the device and the host see in each cycle."""
        seen = []
        for name, value in (("len", 3), ("size", 3)):
            ctx.set(device.aw.payload[name], value)
            ctx.set(device.ar.payload[name], value)
        ctx.set(device.w.payload.strb, 0xFF)
        for port in (device.aw, device.ar, device.w):
            ctx.set(port.valid, 1)
        beat = 0
        for _ in range(cycles):
            ctx.set(device.w.payload.last, beat % 4 == 3)
            _, _, *values = await ctx.tick().sample(
                device.aw.ready,
                device.ar.ready,
                device.w.ready,
                device.b.valid,
                host.aw.valid,
                host.w.valid,
                host.ar.valid,
            )
            beat += values[2]
            seen.append(tuple(values))
        for port in (device.aw, device.ar, device.w):
            ctx.set(port.valid, 0)
        return seen

    async def testbench(ctx: Any) -> None:
        first = await flood(ctx, 80)
        assert any(values[4] for values in first)
        ctx.set(bench.domain.rst, 1)
        await ctx.tick()
        ctx.set(bench.domain.rst, 0)
        assert await flood(ctx, 80) == first

    sim = Simulator(bench.m)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
