# SPDX-License-Identifier: BSD-2-Clause
"""Translations that buffers carry, and that they forget."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import NicConfig
from hw.nic.recycle.carried_table import CarriedTable

CONFIG = NicConfig(pools=3, pool_buffers=16)
BUFFERS = [(pool, buffer) for pool in range(3) for buffer in range(16)]
EVERYTHING = (1 << 52) - 1
LIMIT = 200


class Bench:
    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    async def until_known(self):
        for _ in range(LIMIT):
            if not self.ctx.get(self.dut.forgetting):
                return
            await self.ctx.tick()
        raise AssertionError(f"Waited {LIMIT} cycles for the table to have looked at {len(BUFFERS)} buffers")

    def name(self, target, buffer):
        self.ctx.set(target.pool, buffer[0])
        self.ctx.set(target.id, buffer[1])

    async def write(self, buffer, page, frame):
        write = self.dut.write
        self.name(write.buffer, buffer)
        self.ctx.set(write.carried.page, page)
        self.ctx.set(write.carried.frame, frame)
        self.ctx.set(write.carried.write, 1)
        self.ctx.set(write.carried.valid, 1)
        self.ctx.set(write.strobe, 1)
        await self.ctx.tick()
        self.ctx.set(write.strobe, 0)

    async def look_up(self, buffer, port):
        """Page and frame that a buffer carries, or None."""
        self.name(self.dut.buffers[port], buffer)
        await self.ctx.tick().repeat(2)
        carried = self.dut.carried[port]
        if not self.ctx.get(carried.valid):
            return None
        return self.ctx.get(carried.page), self.ctx.get(carried.frame)

    async def forget(self, page=0, mask=0):
        self.ctx.set(self.dut.pages.page, page)
        self.ctx.set(self.dut.pages.mask, mask)
        await self.ctx.tick().repeat(2)
        elsewhere = self.ctx.get(self.dut.elsewhere)
        self.ctx.set(self.dut.forget, 1)
        await self.ctx.tick()
        self.ctx.set(self.dut.forget, 0)
        return elsewhere


def run(body):
    dut = CarriedTable(CONFIG)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        bench = Bench(ctx, dut)
        assert ctx.get(dut.forgetting)
        await bench.until_known()
        await body(bench)

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("port", [0, 1])
def test_a_buffer_carries_what_was_written(port):
    async def body(bench):
        for number, buffer in enumerate(BUFFERS):
            assert await bench.look_up(buffer, port) is None
            await bench.write(buffer, 100 + number, 500 + number)
        for number, buffer in enumerate(BUFFERS):
            assert await bench.look_up(buffer, port) == (100 + number, 500 + number)

    run(body)


@pytest.mark.parametrize("port", [0, 1])
def test_a_buffer_that_is_looked_up_while_it_is_written_carries_the_new(port):
    async def body(bench):
        for frame in range(1, 4):
            bench.name(bench.dut.buffers[port], (1, 2))
            await bench.write((1, 2), 20, frame)
            bench.name(bench.dut.buffers[port], (0, 0))
            await bench.ctx.tick()
            carried = bench.ctx.get(bench.dut.carried[port])
            assert (carried.valid, carried.page, carried.frame) == (1, 20, frame)

    run(body)


@pytest.mark.parametrize("seed", range(4))
def test_those_of_the_pages_forget_and_no_others(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def body(bench):
        for _ in range(4):
            pages = {buffer: rng.randrange(64) for buffer in BUFFERS}
            for buffer, page in pages.items():
                await bench.write(buffer, page, page + 1000)
            mask = (1 << rng.randrange(5)) - 1
            page = rng.randrange(64)
            await bench.forget(page, mask)
            assert bench.ctx.get(bench.dut.forgetting)
            await bench.until_known()
            for buffer, own in pages.items():
                kept = (own ^ page) & ~mask
                assert await bench.look_up(buffer, rng.randrange(2)) == ((own, own + 1000) if kept else None)

    run(body)


def test_what_is_written_meanwhile_does_not_count():
    async def body(bench):
        await bench.forget(5)
        await bench.write((0, 0), 7, 8)
        await bench.until_known()
        assert await bench.look_up((0, 0), 0) is None

    run(body)


def test_of_two_at_once_all_forget_all():
    async def body(bench):
        for number, buffer in enumerate(BUFFERS):
            await bench.write(buffer, number, number)
        await bench.forget(3)
        await bench.ctx.tick().repeat(20)
        await bench.forget(4)
        await bench.until_known()
        for buffer in BUFFERS:
            assert await bench.look_up(buffer, 1) is None

    run(body)


def test_pages_beyond_all_that_were_carried_are_elsewhere():
    async def body(bench):
        assert await bench.forget(5)
        await bench.until_known()
        await bench.write((1, 2), 20, 1)
        await bench.write((1, 3), 30, 1)
        for page, mask, elsewhere in ((19, 0, 1), (20, 0, 0), (25, 0, 0), (30, 0, 0), (31, 0, 1), (16, 15, 0)):
            assert await bench.forget(page, mask) == elsewhere, page
            await bench.until_known()
        await bench.forget(0, EVERYTHING)
        await bench.until_known()
        assert await bench.forget(25)

    run(body)
