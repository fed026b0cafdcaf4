# SPDX-License-Identifier: BSD-2-Clause
"""Pending bits follow their causes, and each drives the wire of its vector."""

import pytest
from amaranth.sim import Simulator

from hw.abi.iommu_registers import iommu_registers
from hw.config import IommuConfig
from hw.iommu.interrupts import IommuInterrupts
from hw.iommu.register_access import row_of

R = iommu_registers()


def run(bench, vectors=4):
    dut = IommuInterrupts(IommuConfig(vectors=vectors))

    async def testbench(ctx):
        await bench(ctx, dut)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


async def write(ctx, dut, name, **fields):
    shift = 8 * (R[name].offset % 8)
    halves = 3 if R[name].width == 64 else 1 << (shift // 32)
    value = R[name].pack(**fields) << shift
    ctx.set(dut.write, {"strobe": 1, "row": row_of(name), "halves": halves, "data": value})
    await ctx.tick()
    ctx.set(dut.write.strobe, 0)


@pytest.mark.parametrize(
    ("port", "enable", "cause", "bit", "vector"),
    [("cqcsr", "cie", cause, "cip", "civ") for cause in ("cqmf", "cmd_to", "cmd_ill", "fence_w_ip")]
    + [("fqcsr", "fie", cause, "fip", "fiv") for cause in ("fqmf", "fqof")],
)
def test_a_state_sets_its_bit_again_as_long_as_it_lasts(port, enable, cause, bit, vector):
    async def bench(ctx, dut):
        await write(ctx, dut, "icvec", **{vector: 2})
        ctx.set(getattr(dut, port)[cause], 1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.interrupts) == 0  # not enabled
        ctx.set(getattr(dut, port)[enable], 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.interrupts) == 0b0100
        assert ctx.get(dut.ipsr[bit]) == 1
        await write(ctx, dut, "ipsr", **{bit: 1})
        assert ctx.get(dut.interrupts) == 0
        await ctx.tick()
        assert ctx.get(dut.interrupts) == 0b0100
        ctx.set(getattr(dut, port)[cause], 0)
        await ctx.tick()
        assert ctx.get(dut.interrupts) == 0b0100  # pending until cleared
        await write(ctx, dut, "ipsr", **{bit: 1})
        await ctx.tick().repeat(3)
        assert ctx.get(dut.interrupts) == 0

    run(bench)


@pytest.mark.parametrize(("event", "bit"), [("recorded", "fip"), ("overflowed", "pmip")])
def test_an_event_in_the_cycle_of_its_clearing_is_not_lost(event, bit):
    async def bench(ctx, dut):
        ctx.set(dut.fqcsr.fie, 1)
        ctx.set(getattr(dut, event), 1)
        await ctx.tick()
        ctx.set(getattr(dut, event), 0)
        await ctx.tick()
        assert ctx.get(dut.ipsr[bit]) == 1
        ctx.set(getattr(dut, event), 1)
        await write(ctx, dut, "ipsr", **{bit: 1})
        ctx.set(getattr(dut, event), 0)
        assert ctx.get(dut.ipsr[bit]) == 1
        await write(ctx, dut, "ipsr", **{bit: 1})
        await ctx.tick()
        assert ctx.get(dut.ipsr.as_value()) == 0

    run(bench)


def test_clearing_touches_only_the_bits_written_as_1():
    async def bench(ctx, dut):
        ctx.set(dut.fqcsr.fie, 1)
        ctx.set(dut.recorded, 1)
        ctx.set(dut.overflowed, 1)
        await ctx.tick()
        ctx.set(dut.recorded, 0)
        ctx.set(dut.overflowed, 0)
        await write(ctx, dut, "ipsr", fip=1)
        assert ctx.get(dut.ipsr.as_value()) == R["ipsr"].pack(pmip=1)

    run(bench)


def test_causes_share_a_wire():
    async def bench(ctx, dut):
        await write(ctx, dut, "icvec", civ=1, fiv=1, pmiv=2)  # there is no wire 2: it becomes 0
        ctx.set(dut.fqcsr.fie, 1)
        ctx.set(dut.recorded, 1)
        ctx.set(dut.overflowed, 1)
        await ctx.tick()
        ctx.set(dut.recorded, 0)
        ctx.set(dut.overflowed, 0)
        assert ctx.get(dut.interrupts) == 0b11
        await write(ctx, dut, "ipsr", fip=1)
        assert ctx.get(dut.interrupts) == 0b01

    run(bench, vectors=2)
