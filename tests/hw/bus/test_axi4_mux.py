# SPDX-License-Identifier: BSD-2-Clause
"""Managers share a port without loss, and none waits behind another for longer than its turn."""

import random

import pytest
from amaranth.sim import Simulator

from hw.bus.axi4_mux import AXI4Mux
from tests.hw.axi_memory import AxiMemory
from tests.hw.bus.axi_manager import AxiManager

SIZE = 1 << 14
WORD = 8
IDS = (range(4), (64, 66), range(128, 256))


def run(dut, managers, memory):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    memory.attach(sim, dut.memory)
    for manager in managers:
        manager.attach(sim)

    async def testbench(ctx):
        for manager in managers:
            await manager.finish(ctx)

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("seed", range(3))
def test_every_manager_gets_its_own_answers(seed):
    """The memory checks that payloads hold and that W beats come in the order of their addresses."""
    rng = random.Random(seed)
    dut = AXI4Mux(64, *IDS)
    memory = AxiMemory(SIZE, seed=seed, stall=0.3, latency=(1, 40))
    memory.data[:] = rng.randbytes(SIZE)
    initial = bytes(memory.data)
    managers = [AxiManager(dut.managers[k], seed=seed + k, stall=0.2) for k in range(len(IDS))]
    expected = bytearray(initial)
    reads = []
    for n in range(25):
        for k, manager in enumerate(managers):
            reads.append(manager.read(WORD * rng.randrange(SIZE // 32), rng.choice([1, 4]), id=rng.choice(IDS[k])))
            block = rng.randbytes(WORD * rng.choice([1, 4]))
            address = SIZE // 2 + 32 * (3 * n + k)
            expected[address : address + len(block)] = block
            manager.write(address, block, id=rng.choice(IDS[k]))
    run(dut, managers, memory)
    assert memory.data == expected
    assert all(
        read.result == initial[read.address :][: WORD * read.beats] for read in reads if read.address < SIZE // 2
    )


def test_nothing_is_added_where_one_manager_is_alone():
    """A read and a write a cycle pass, and in the cycle in which they are offered."""
    dut = AXI4Mux(64, (0,), (64,))
    memory = AxiMemory(SIZE, latency=1)
    manager = AxiManager(dut.managers[0])
    reads = [manager.read(8 * n) for n in range(20)]
    writes = [manager.write(SIZE // 2 + 8 * n, bytes(8)) for n in range(20)]
    run(dut, [manager], memory)
    for accesses in (reads, writes):
        assert accesses[-1].addressed - accesses[0].addressed == 19


def test_a_busy_manager_shares_evenly():
    dut = AXI4Mux(64, (0,), (64,))
    memory = AxiMemory(SIZE, latency=1)
    managers = [AxiManager(dut.managers[k]) for k in range(2)]
    reads = [[manager.read(8 * n, id=64 * k) for n in range(20)] for k, manager in enumerate(managers)]
    writes = [[manager.write(8 * n, bytes(8), id=64 * k) for n in range(20)] for k, manager in enumerate(managers)]
    run(dut, managers, memory)
    for first, second in (reads, writes):
        for a, b in zip(first, second, strict=True):
            assert abs(a.addressed - b.addressed) <= 2


@pytest.mark.parametrize("ids", [(), ((1, 2), (2,)), ((256,),), ((-1,),)])
def test_ids_that_do_not_tell_managers_apart_are_refused(ids):
    with pytest.raises(ValueError, match="manager"):
        AXI4Mux(64, *ids)


def test_a_wide_bus_and_narrow_ids():
    dut = AXI4Mux(512, range(2), (2,), id_width=2)
    memory = AxiMemory(SIZE, latency=1)
    managers = [AxiManager(dut.managers[k]) for k in range(2)]
    writes = [managers[k].write(64 * k, bytes([k + 1]) * 64, id=id) for k, id in ((0, 1), (1, 2))]
    run(dut, managers, memory)
    assert memory.data[:128] == b"\1" * 64 + b"\2" * 64
    assert all(write.answered for write in writes)


def test_a_manager_that_floods_leaves_the_other_its_share():
    """Long bursts against single beats: each waits for one burst of the other at most, however many there are."""
    beats = 8
    dut = AXI4Mux(64, (0,), (64,))
    memory = AxiMemory(SIZE, latency=1)
    flood, calm = (AxiManager(dut.managers[k]) for k in range(2))
    for n in range(60):
        flood.write(8 * beats * n, bytes(8 * beats))
    writes = [calm.write(SIZE - 8, bytes(8), id=64, earliest=20 + 20 * n) for n in range(20)]
    run(dut, [flood, calm], memory)
    assert all(write.addressed - write.earliest <= beats + 2 for write in writes)
