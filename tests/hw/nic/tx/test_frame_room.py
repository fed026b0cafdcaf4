# SPDX-License-Identifier: BSD-2-Clause
"""FrameRoom: frames wait for their words of the packet buffer, in order, one a cycle, and never with fewer."""

import random

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.frame_room import FrameRoom

OFFERED, SEEN = 2, 4  # cycles from a frame that comes to its offer, and from words given back to their use


class RoomBench:
    """Offers frames of (queue, words); ``taken`` are (cycle, number, stopped), ``asked`` the words of those not given
    back."""

    def __init__(self, **parameters):
        self.config = preset("10g", max_frame=1024, tx_buffer_bytes=2048, **parameters)
        self.dut = FrameRoom(self.config)
        self.words = self.config.tx_buffer_bytes // self.config.beat_bytes
        self.cycle, self.enable = 0, (1 << self.config.queues) - 1
        self.came, self.taken = [], []

    def run(self, scenario):
        async def main(ctx):
            ctx.set(self.dut.enable, self.enable)
            await scenario(ctx)

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.run()

    async def tick(self, ctx, frame=None, ready=1, released=0, returned=0, unused=0):
        """A cycle; whether the frame was accepted, and the number of the one that was taken."""
        dut, number = self.dut, None
        ctx.set(dut.frames.valid, frame is not None)
        if frame is not None:
            ctx.set(dut.frames.payload.queue, frame[0])
            ctx.set(dut.frames.payload.record.words, frame[1])
            ctx.set(dut.frames.payload.record.first, len(self.came))
        for name, value in (("released", released), ("returned", returned), ("unused", unused)):
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.output.ready, ready)
        accepted = frame is not None and bool(ctx.get(dut.frames.ready))
        if accepted:
            self.came.append((self.cycle, *frame))
        if ready and ctx.get(dut.output.valid):
            number = ctx.get(dut.output.payload.record.first)
            self.taken.append((self.cycle, number, ctx.get(dut.output.payload.stopped)))
        await ctx.tick()
        self.cycle += 1
        return accepted, number


def test_frames_that_fit_pass_one_a_cycle_two_cycles_later():
    bench = RoomBench()

    async def scenario(ctx):
        for _ in range(16):
            accepted, _ = await bench.tick(ctx, (0, 8))
            assert accepted
        for _ in range(OFFERED):
            await bench.tick(ctx)

    bench.run(scenario)
    assert bench.taken == [(cycle + OFFERED, cycle, 0) for cycle in range(16)]


@pytest.mark.parametrize("way", ["released", "returned", "unused"])
def test_a_frame_waits_for_its_last_word_and_no_longer(way):
    bench = RoomBench()

    async def scenario(ctx):
        await bench.tick(ctx, (0, bench.words))
        await bench.tick(ctx, (1, 3))
        for _ in range(20):
            await bench.tick(ctx)
        assert [number for _, number, _ in bench.taken] == [0]
        for _ in range(3):
            await bench.tick(ctx, **{way: 1})
        last = bench.cycle - 1
        for _ in range(20):
            await bench.tick(ctx)
        assert bench.taken[1:] == [(last + SEEN, 1, 0)]

    bench.run(scenario)


def test_a_frame_of_a_stopped_queue_needs_no_room_and_stays_stopped():
    bench = RoomBench()

    async def scenario(ctx):
        await bench.tick(ctx, (0, bench.words))
        for queue in (1, 0, 1):
            await bench.tick(ctx, (queue, 9))
        for _ in range(8):
            await bench.tick(ctx)
        assert len(bench.taken) == 1
        ctx.set(bench.dut.enable, 0b01)
        await bench.tick(ctx)
        ctx.set(bench.dut.enable, 0b11)
        for _ in range(8):
            await bench.tick(ctx)
        assert [(number, stopped) for _, number, stopped in bench.taken] == [(0, 0), (1, 1)]
        for _ in range(3):
            await bench.tick(ctx, unused=9)  # of frame 1, which was not taken, and words of frame 0
        for _ in range(8):
            await bench.tick(ctx)
        assert [(number, stopped) for _, number, stopped in bench.taken[2:]] == [(2, 0), (3, 1)]

    bench.run(scenario)


@pytest.mark.parametrize("seed", range(4))
def test_random_frames_never_ask_for_more_than_there_is(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = RoomBench()
    frames = [(rng.randrange(2), rng.choice((8, 9, 33, 128))) for _ in range(400)]

    async def scenario(ctx):
        offered, used, owed = None, 0, []
        waiting = list(frames)
        for _ in range(20_000):
            if offered is None and waiting and rng.random() < 0.7:
                offered = waiting.pop(0)
            back = {}
            if owed and rng.random() < 0.6:
                way, words = owed.pop(rng.randrange(len(owed)))
                back[way] = words
                used -= words
            accepted, number = await bench.tick(ctx, offered, rng.random() < 0.8, **back)
            if accepted:
                offered = None
            if number is not None:
                words = frames[number][1]
                used += words
                assert used <= bench.words
                way = rng.choice(("released", "returned", "unused"))
                owed += [("released", 1)] * words if way == "released" else [(way, words)]
            if len(bench.taken) == len(frames):
                return
        raise AssertionError(f"Waited 20000 cycles for {len(frames)} frames, {len(bench.taken)} were taken")

    bench.run(scenario)
    assert [number for _, number, _ in bench.taken] == list(range(len(frames)))
