# SPDX-License-Identifier: BSD-2-Clause
"""QueueMemory: a word for each queue, zero after reset and after it was cleared."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.nic.queue_memory import QueueMemory


@pytest.mark.parametrize("queues", [1, 3, 16])
def test_words_are_those_last_written_unless_cleared_or_reset_since(queues):
    print("seed", queues)
    rng = random.Random(queues)
    dut, reset = QueueMemory(8, queues), Signal()
    words = [0] * queues

    async def bench(ctx):
        for _ in range(500):
            write, queue, value = rng.random() < 0.6, rng.randrange(queues), rng.randrange(256)
            clear = rng.getrandbits(queues) if rng.random() < 0.1 else 0
            resets = rng.random() < 0.02
            ctx.set(dut.write_enable, write)
            ctx.set(dut.write_queue, queue)
            ctx.set(dut.write_value, value)
            ctx.set(dut.clear, clear)
            ctx.set(reset, resets)
            ctx.set(dut.read_queue, rng.randrange(queues))
            assert ctx.get(dut.value) == words[ctx.get(dut.read_queue)]
            await ctx.tick()
            if write:
                words[queue] = value
            for cleared in range(queues):
                if resets or clear >> cleared & 1:
                    words[cleared] = 0

    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("queues", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_wrong_numbers_of_queues_are_named(queues, error):
    with pytest.raises(error, match=str(queues)):
        QueueMemory(8, queues)
