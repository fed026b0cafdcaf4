# SPDX-License-Identifier: BSD-2-Clause
"""The load generator against a memory that is strict about AXI, and in the machine in both backends."""

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from hw.config import NicConfig
from sim.backends.base import Backend, launch
from sim.host.load_client import Load, LoadClient, LoadError, LoadResult
from sim.host.load_generator import REGISTERS, RESULTS, START, VECTOR, LoadGenerator
from sim.load import LoadMachineConfig
from tests.hw.axi_lite import RegisterMaster, until
from tests.hw.axi_memory import AxiMemory, Burst
from tests.hw.streams import receive

HERE = "tests.sim.host.test_load_generator"
SIZE = 1 << 14
BASE = 0x1000
WORD = 8


def simulate(dut: LoadGenerator, memory: AxiMemory, bench: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a bench on a generator in front of a memory."""
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.dut = dut
    sim = Simulator(m)
    sim.add_clock(1e-8)
    memory.attach(sim, dut.axi)
    sim.add_testbench(bench)
    sim.run()


def play(*loads: Load, memory: AxiMemory, first_id: int = 0) -> list[LoadResult]:
    """Loads on a generator of 64 bits, one after the other."""
    dut = LoadGenerator(NicConfig(queues=1), first_id=first_id)
    registers = RegisterMaster(dut.registers, 1)
    results = []

    async def bench(ctx: Any) -> None:
        for load in loads:
            for name, value in load.registers().items():
                assert await registers.write_at(ctx, REGISTERS[name], value) is Response.OKAY
            assert await registers.write_at(ctx, START, 1) is Response.OKAY
            assert await receive(ctx, dut.interrupt, name="the interrupt") == VECTOR
            assert await registers.read_at(ctx, START) == (0, Response.OKAY)
            values = [(await registers.read_at(ctx, REGISTERS[name]))[0] for name in RESULTS]
            results.append(LoadResult(*values))

    simulate(dut, memory, bench)
    return results


def places(bursts: list[Burst], load: Load) -> list[int]:
    """Which place of the window each burst goes to, all of it and nothing else."""
    assert all(burst.beats == load.size // WORD for burst in bursts)
    offsets = [burst.address - load.base for burst in bursts]
    assert all(offset % load.size == 0 and 0 <= offset < load.window for offset in offsets)
    return [offset // load.size for offset in offsets]


@pytest.mark.parametrize("seed", range(3))
def test_written_words_hold_their_own_addresses_and_nothing_else_changes(seed: int) -> None:
    memory = AxiMemory(SIZE, seed=seed, stall=0.4, latency=(2, 40))
    load = Load(window=1024, size=64, count=100, write=True, base=BASE, seed=seed + 1, outstanding=16)
    (result,) = play(load, memory=memory)
    touched = {BASE + 64 * place for place in places(memory.writes, load)}
    for address in range(0, SIZE, WORD):
        word = int.from_bytes(memory.data[address : address + WORD], "little")
        assert word == (address if address // 64 * 64 in touched else 0)
    assert (result.done, result.errors, len(memory.writes), len(memory.reads)) == (100, 0, 100, 0)


def test_random_places_cover_a_window_of_any_number_of_places_evenly_and_follow_the_seed() -> None:
    one = Load(window=12 * 64, count=600, base=BASE)
    memory = AxiMemory(SIZE)
    play(one, one, Load(window=12 * 64, count=600, base=BASE, seed=77), memory=memory)
    first, again, other = (memory.reads[start : start + 600] for start in (0, 600, 1200))
    counts = np.bincount(places(first, one), minlength=12)
    assert counts.min() > 25  # 50 are expected, and 25 would be a deviation of 3.7 sigma
    assert counts.max() < 75
    follows = {(here // 6, there // 6) for here, there in zip(places(first, one), places(first, one)[1:], strict=False)}
    assert len(follows) == 4  # no half of the window follows a half always
    assert places(again, one) == places(first, one) != places(other, one)


def test_sequential_places_wrap_around_and_ids_take_turns() -> None:
    memory = AxiMemory(SIZE)
    load = Load(window=5 * 128, size=128, count=12, random=False, base=BASE, ids=3, device_id=0xABCDE)
    play(load, memory=memory)
    assert places(memory.reads, load) == [number % 5 for number in range(12)]
    assert [burst.id for burst in memory.reads] == [number % 3 for number in range(12)]
    assert {burst.user for burst in memory.reads} == {0xABCDE}


@pytest.mark.parametrize("interval", [256, 512, 1007])
def test_requests_keep_their_interval(interval: int) -> None:
    memory = AxiMemory(SIZE)
    play(Load(window=64, size=8, count=100, interval=interval, base=BASE), memory=memory)
    cycles = [burst.cycle for burst in memory.reads]
    assert cycles == [cycles[0] + number * interval // 256 for number in range(100)]


def test_latency_and_cycles_are_those_of_the_memory() -> None:
    alone, together = Load(64, 8, 20, outstanding=1, base=BASE), Load(64, 8, 20, interval=1024, base=BASE)
    memory = AxiMemory(SIZE, latency=10)
    first, second = play(alone, together, memory=memory)
    waits = [beat - burst.cycle for beat, burst in zip(memory.read_beat_cycles[:20], memory.reads[:20], strict=True)]
    assert len(set(waits)) == 1
    assert (first.latency_min, first.latency_max, first.latency_sum) == (waits[0], waits[0], 20 * waits[0])
    assert first.cycles == memory.read_beat_cycles[19] - memory.read_beat_cycles[0]
    assert second.cycles == 19 * 4
    assert second.latency_max == second.latency_min


def test_waiting_for_the_address_to_be_taken_counts() -> None:
    memory = AxiMemory(SIZE, seed=5, stall=0.7, latency=1)
    (result,) = play(Load(64, 8, 50, outstanding=1, base=BASE), memory=memory)
    waits = [beat - burst.cycle for beat, burst in zip(memory.read_beat_cycles, memory.reads, strict=True)]
    assert result.latency_sum > sum(waits)
    assert result.latency_min >= min(waits)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("outstanding", [1, 5])
def test_no_more_than_the_bound_are_on_their_way(write: bool, outstanding: int) -> None:
    memory = AxiMemory(SIZE, latency=60)
    play(Load(1024, 8, 40, write=write, outstanding=outstanding, base=BASE), memory=memory)
    cycles = [burst.cycle for burst in (memory.writes if write else memory.reads)]
    for number, cycle in enumerate(cycles):
        assert sum(cycle - 60 < earlier <= cycle for earlier in cycles[: number + 1]) <= outstanding
    full = sum(cycles[0] <= cycle < cycles[0] + 60 for cycle in cycles)
    assert full == outstanding


@pytest.mark.parametrize("write", [False, True])
def test_refused_requests_are_counted_and_the_run_ends(write: bool) -> None:
    memory = AxiMemory(SIZE)
    memory.fail(range(BASE + 64, BASE + 128))
    result, clean = play(
        Load(256, 64, 16, write=write, random=False, base=BASE),
        Load(64, 64, 16, write=write, base=BASE),
        memory=memory,
    )
    assert (result.done, result.errors) == (16, 4 if write else 4 * 8)
    assert (clean.done, clean.errors) == (16, 0)


def test_beats_that_hold_anything_are_counted() -> None:
    memory = AxiMemory(SIZE)
    memory.data[BASE + 71] = 1
    (result,) = play(Load(256, 64, 8, random=False, base=BASE), memory=memory)
    assert result.nonzero == 2


def test_ids_begin_where_they_are_told_to() -> None:
    memory = AxiMemory(SIZE)
    play(Load(64, 64, 5, base=BASE, ids=3), Load(64, 64, 5, write=True, base=BASE, ids=3), memory=memory, first_id=128)
    assert [burst.id for burst in memory.reads] == [128, 129, 130, 128, 129]
    assert {burst.id for burst in memory.writes} == {128, 129, 130}
    with pytest.raises(ValueError, match="first_id must be 0 or a power of two below 256, not 3"):
        LoadGenerator(NicConfig(queues=1), first_id=3)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("outstanding", [1, 8])
def test_a_run_can_be_ended_early(write: bool, outstanding: int) -> None:
    """What was offered is still answered; another run follows as if nothing had been."""
    dut = LoadGenerator(NicConfig(queues=1))
    memory = AxiMemory(SIZE, seed=3, stall=0.5, latency=(5, 30))
    registers = RegisterMaster(dut.registers, 1)

    async def bench(ctx: Any) -> None:
        bursts = memory.writes if write else memory.reads
        load = Load(64, 8, 100_000, write=write, outstanding=outstanding, base=BASE)
        for wait in range(20):
            before = len(bursts)
            for name, value in load.registers().items():
                await registers.write_at(ctx, REGISTERS[name], value)
            await registers.write_at(ctx, START, 1)
            for _ in range(wait):
                await ctx.tick()
            assert await registers.write_at(ctx, START, 0) is Response.OKAY
            assert await receive(ctx, dut.interrupt, name="the interrupt") == VECTOR
            assert await registers.read_at(ctx, START) == (0, Response.OKAY)
            done, _ = await registers.read_at(ctx, REGISTERS["done"])
            assert done == len(bursts) - before
            assert memory.idle
        assert await registers.write_at(ctx, START, 0) is Response.OKAY  # nothing to end
        assert await registers.read_at(ctx, START) == (0, Response.OKAY)

    simulate(dut, memory, bench)


def test_what_registers_refuse() -> None:
    dut = LoadGenerator(NicConfig(queues=1))
    memory = AxiMemory(SIZE, latency=200)
    registers = RegisterMaster(dut.registers, 1)

    async def bench(ctx: Any) -> None:
        beyond = max(REGISTERS.values()) + 8
        assert await registers.write_at(ctx, beyond, 1) is Response.SLVERR
        assert await registers.read_at(ctx, beyond) == (0, Response.SLVERR)
        assert await registers.write_at(ctx, REGISTERS["done"], 1) is Response.SLVERR
        for name, value in Load(64, 64, 2, base=BASE).registers().items():
            assert await registers.write_at(ctx, REGISTERS[name], value) is Response.OKAY
            assert await registers.write_at(ctx, REGISTERS[name], -1, strobe=0x0F) is Response.SLVERR
            assert await registers.read_at(ctx, REGISTERS[name]) == (value, Response.OKAY)
        await registers.write_at(ctx, START, 1)
        assert await registers.read_at(ctx, START) == (1, Response.OKAY)
        assert await registers.write_at(ctx, REGISTERS["base"], 0) is Response.SLVERR
        assert await registers.write_at(ctx, START, 1) is Response.SLVERR
        await until(ctx, dut.interrupt.valid, "the run to end")
        assert await registers.read_at(ctx, REGISTERS["done"]) == (2, Response.OKAY)

    simulate(dut, memory, bench)


MACHINE = LoadMachineConfig(memory_size=1 << 16)


def in_the_machine(backend: Backend, config: LoadMachineConfig, rounds: int) -> list[Any]:
    """Writes and reads of several sizes, with a reset in the middle of a run between rounds."""
    seen: list[Any] = []
    for _ in range(rounds):
        client = LoadClient(backend)
        for size in (8, 64, 256):
            for write in (True, False):
                load = Load(4 * size, size, 12, write=write, random=write, base=0x2000 + 16 * size)
                seen.append([list(client.run(load, limit=5000)), backend.cycle])
            words = backend.storage["memory"].view(np.uint64)
            written = np.flatnonzero(words)
            seen.append((words[written] == WORD * written).tolist())
        seen.append([backend.cycle, int(backend.storage["memory"].astype(np.uint64).sum())])
        with pytest.raises(LoadError, match="Waited 100 cycles for Load"):
            client.run(Load(4096, count=1000), limit=100)
        backend.reset()
    return seen


def test_both_backends_agree_and_reset_forgets_a_run() -> None:
    seen = launch("verilator", MACHINE, f"{HERE}:in_the_machine", 2)
    assert launch("amaranth", MACHINE, f"{HERE}:in_the_machine", 2) == seen
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    assert all(all(entry) for entry in seen if isinstance(entry[0], bool))
    assert all(entry[0][5] == 0 for entry in seen if isinstance(entry[0], list))
    assert sum(isinstance(entry[0], bool) for entry in seen) == 6


def outside(backend: Backend, config: LoadMachineConfig, argument: Any) -> Any:
    return LoadClient(backend).run(Load(4096, count=5, base=1 << 20), limit=5000)


def test_memory_that_is_not_there_answers_with_errors() -> None:
    assert LoadResult(*launch("amaranth", MACHINE, f"{HERE}:outside")).errors == 5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"size": 100}, ValueError, "size must be a power of two, not 100"),
        ({"size": 4}, ValueError, r"size must be in 8\.\.4096, not 4"),
        ({"count": 1}, ValueError, "count must be in .*, not 1"),
        ({"count": True}, TypeError, "count must be an integer, not True"),
        ({"write": 1}, TypeError, "write must be a bool, not 1"),
        ({"window": 100}, ValueError, "window must be .* times the size of 64 bytes, not 100"),
        ({"window": 0}, ValueError, "window must be .*, not 0"),
        ({"base": 32}, ValueError, "base must be a multiple of 64 .*, not 32"),
        ({"base": 1 << 64}, ValueError, "base must be .*, not 18446744073709551616"),
        ({"outstanding": 257}, ValueError, r"outstanding must be in 1\.\.256, not 257"),
        ({"interval": 255}, ValueError, r"interval must be in 256\.\.65535, not 255"),
        ({"ids": 0}, ValueError, r"ids must be in 1\.\.256, not 0"),
        ({"seed": 0}, ValueError, "seed must be .*, not 0"),
    ],
)
def test_loads_that_make_no_sense_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Load(**{"window": 4096, **changes})
