# SPDX-License-Identifier: BSD-2-Clause
"""TurnOrder: fair, and quick past queues that rest."""

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.turns import TurnOrder


def turns_of(queues, active, cycles):
    """Whose turn it is in each cycle, where every turn takes one and ``active(queue, cycle)`` tells who has work."""
    dut = TurnOrder(preset("10g", queues=queues))
    order = []

    async def bench(ctx):
        ctx.set(dut.next, 1)
        for cycle in range(cycles):
            queue = ctx.get(dut.queue)
            order.append(queue)
            ctx.set(dut.passed, not active(queue, cycle))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return order


@pytest.mark.parametrize("queues", [1, 2, 3, 16])
def test_active_queues_take_turns_and_idle_ones_are_all_asked(queues):
    expected = [cycle % queues for cycle in range(50)]
    assert turns_of(queues, lambda queue, cycle: True, 50) == expected
    assert turns_of(queues, lambda queue, cycle: False, 50) == expected


@pytest.mark.parametrize("queues", [2, 3, 16])
def test_queues_at_rest_cost_little_but_are_not_forgotten(queues):
    order = turns_of(queues, lambda queue, cycle: queue == 1, 640)
    assert order.count(1) >= 640 * (64 - queues) // 64 - queues
    assert all(order[start : start + 64 + queues].count(0) for start in range(0, 560, 64))


def test_a_queue_that_wakes_among_active_ones_soon_has_every_second_turn():
    order = turns_of(16, lambda queue, cycle: queue == 3 or (queue == 9 and cycle >= 100), 300)
    woken = order.index(9, 100)
    assert woken < 100 + 64 + 16
    share = [order[woken:].count(queue) for queue in (3, 9)]
    assert abs(share[0] - share[1]) <= 1
    assert sum(share) > (300 - woken) * 2 // 3
