# SPDX-License-Identifier: BSD-2-Clause
"""QueueRegister: each queue's register, zero until it is written."""

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.queue_register import QueueRegister
from tests.hw.nic.queue_writes import write_register


def test_registers_are_kept_apart_and_forgotten_by_reset():
    dut = QueueRegister(preset("10g", queues=3), "rx_fill_size", width=16, ports=2)
    reset = Signal()
    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-6)

    async def testbench(ctx):
        async def read(*expected):
            for queue, value in enumerate(expected):
                ctx.set(dut.reads[0].queue, queue)
                ctx.set(dut.reads[1].queue, 2 - queue)
                assert ctx.get(dut.reads[0].value) == value
                assert ctx.get(dut.reads[1].value) == expected[2 - queue]

        await read(0, 0, 0)
        await write_register(ctx, dut.write, "rx_fill_size", 1, entries=64)
        await write_register(ctx, dut.write, "rx_fill_size", 2, entries=128)
        await write_register(ctx, dut.write, "tx_ring_size", 0, entries=256)
        await read(0, 64, 128)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await read(0, 0, 0)
        await write_register(ctx, dut.write, "rx_fill_size", 0, entries=8)
        await read(8, 0, 0)

    sim.add_testbench(testbench)
    sim.run()


def test_parameters_are_checked():
    for name in ("size", "rx_status", "rx_header"):
        with pytest.raises(ValueError, match=f"one of a queue pair's .* \\(rx_fill_base, .*\\), not '{name}'"):
            QueueRegister(preset("10g"), name, width=16)
    with pytest.raises(ValueError, match="Width must be in 1..64 bits, not 65"):
        QueueRegister(preset("10g"), "context", width=65)
