# SPDX-License-Identifier: BSD-2-Clause
"""QueueFaults: the first fault of each queue, once."""

from amaranth.sim import Simulator

from hw.abi.rings import QueueError
from hw.config import preset
from hw.nic.rings.faults import QueueFaults
from tests.hw.streams import receive


def simulate(bench):
    dut = QueueFaults(preset("10g", queues=3))
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def report(ctx, *faults):
        for source, (queue, error) in enumerate(faults):
            ctx.set(dut.reports[source].strobe, 1)
            ctx.set(dut.reports[source].queue, queue)
            ctx.set(dut.reports[source].error, error)
        await ctx.tick()
        for source in range(2):
            ctx.set(dut.reports[source].strobe, 0)

    async def testbench(ctx):
        await bench(ctx, dut, report)

    sim.add_testbench(testbench)
    sim.run()


def test_first_faults_are_reported_once_each():
    async def bench(ctx, dut, report):
        await report(ctx, (2, QueueError.DOORBELL), (1, QueueError.RING_READ))
        assert ctx.get(dut.failed) == 0b110
        await report(ctx, (1, QueueError.DOORBELL))
        await report(ctx, (0, QueueError.RING_READ), (0, QueueError.DOORBELL))
        got = {}
        for _ in range(3):
            fault = await receive(ctx, dut.faults)
            got[fault.queue] = fault.error
        assert got == {0: QueueError.RING_READ, 1: QueueError.RING_READ, 2: QueueError.DOORBELL}
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.faults.valid)

    simulate(bench)


def test_a_cleared_queue_may_fail_again():
    async def bench(ctx, dut, report):
        await report(ctx, (1, QueueError.DOORBELL))
        await receive(ctx, dut.faults)
        ctx.set(dut.clear, 0b010)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        assert ctx.get(dut.failed) == 0
        await report(ctx, (1, QueueError.RING_READ))
        fault = await receive(ctx, dut.faults)
        assert (fault.queue, fault.error) == (1, QueueError.RING_READ)

    simulate(bench)
