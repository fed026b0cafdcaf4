# SPDX-License-Identifier: BSD-2-Clause
"""CommandMerge: every command once, in turn, one a cycle."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.dma.merge import CommandMerge
from tests.hw.streams import receive, send


def merged(clients, each, *, offered=1.0, accepted=1.0):
    """The order in which clients' commands come out, as (client, number), and the cycles."""
    dut = CommandMerge(preset("10g"), clients)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    random_ = random.Random(clients)
    order, cycles, clock = [], [], [0]

    async def count(ctx):
        async for _ in ctx.tick():
            clock[0] += 1

    def source(index):
        async def bench(ctx):
            for number in range(each):
                while random_.random() >= offered:
                    await ctx.tick()
                command = {"address": number, "length": index + 1, "queue": index & 1}
                await send(ctx, dut.clients[index], command, name=f"client {index}")

        return bench

    async def sink(ctx):
        while len(order) < clients * each:
            if random_.random() >= accepted:
                await ctx.tick()
                continue
            owned = await receive(ctx, dut.output, name="merged command")
            assert (owned.command.length, owned.command.queue) == (owned.client + 1, owned.client & 1)
            order.append((owned.client, owned.command.address))
            cycles.append(clock[0])

    for index in range(clients):
        sim.add_testbench(source(index))
    sim.add_testbench(sink)
    sim.add_process(count)
    sim.run()
    return order, cycles


@pytest.mark.parametrize(
    ("clients", "offered", "accepted"), [(1, 1.0, 0.5), (3, 0.4, 1.0), (3, 1.0, 0.4), (5, 0.7, 0.7)]
)
def test_every_command_comes_once_in_its_clients_order(clients, offered, accepted):
    order, _ = merged(clients, 40, offered=offered, accepted=accepted)
    for client in range(clients):
        assert [number for index, number in order if index == client] == list(range(40))


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_clients_take_turns_at_one_command_a_cycle(clients):
    order, cycles = merged(clients, 30)
    assert cycles[-1] - cycles[0] == len(cycles) - 1
    turns = [client for client, _ in order][: 28 * clients]
    assert turns == turns[:clients] * 28


def test_a_command_is_offered_two_cycles_after_it_was_taken():
    dut = CommandMerge(preset("10g"), 3)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    waited = []

    async def bench(ctx):
        await send(ctx, dut.clients[1], {"address": 5, "length": 1, "queue": 0})
        while not ctx.get(dut.output.valid):
            waited.append(await ctx.tick())
            assert len(waited) < 10, "Waited 10 cycles for the command"

    sim.add_testbench(bench)
    sim.run()
    assert len(waited) + 1 == 2


def test_number_of_clients_is_checked():
    with pytest.raises(ValueError, match="Clients must be an integer in 1..16, not 17"):
        CommandMerge(preset("10g"), 17)
