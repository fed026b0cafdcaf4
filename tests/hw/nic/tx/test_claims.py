# SPDX-License-Identifier: BSD-2-Clause
"""Claims of TX pieces: what is claimed, what goes on and when, and at which pace."""

import random
from collections import deque
from itertools import count

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.tx.claims import WAITING, TxClaims
from tests.hw.nic.tx.recycling import NONE, NOT_OUT, POOL, SEGMENT, ClaimMade, Judge, allow


def machine(**changes):
    return preset("10g", pools=2, pool_buffers=1024, **changes)


def piece(index, *, last=True, recycle=True, pool=0, **fields):
    return {
        "address": 0x1000_0000_0000 + index,
        "length": index & 0xFFF,
        "buffer_id": index,
        "index": index,
        "read": 1,
        "report": index & 1,
        "last": int(last),
        "recycle": int(recycle),
        "pool": pool,
        **fields,
    }


class ClaimsBench:
    """Jobs and their pieces in, what comes out kept. ``stall`` is the chance that a stream pauses; ``out_holds`` stops
    what comes out."""

    def __init__(self, config, frames, *, latency=2, stall=0.0, seed=0, out=()):
        print(f"seed {seed}")
        self.config, self.stall, self.rng = config, stall, random.Random(seed)
        self.stage = TxClaims(config)
        self.judge = Judge(config, self.stage.claims, self.stage.verdict, latency, seed, stall, out=set(out))
        self.frames, self.feed = frames, deque()
        self.out_holds = False
        self.jobs, self.pieces = [], []
        self.taken_at, self.left_at, self.jobs_at = [], [], []
        self.count = sum(len(pieces) for _, pieces in frames)

    def run(self, scenario, allowed=(3, 3)):
        async def main(ctx):
            for queue, pools in enumerate(allowed):
                await allow(ctx, self.stage.queue_write, queue, pools)
            self.feed.extend(self.frames)
            await scenario(ctx)

        simulator = Simulator(self.stage)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.add_testbench(self._give, background=True)
        simulator.add_testbench(self._take, background=True)
        simulator.add_testbench(self.judge.run, background=True)
        simulator.run()

    async def settle(self, ctx, bound=5000):
        for _ in range(bound):
            await ctx.tick()
            if len(self.pieces) == self.count and len(self.jobs) == len(self.frames):
                await ctx.tick().repeat(30)
                assert len(self.pieces) == self.count
                return
        raise AssertionError(f"Waited {bound} cycles for {self.count} pieces: {len(self.pieces)} came")

    async def _give(self, ctx):
        feed, jobs, pieces = self.feed, self.stage.jobs_in, self.stage.pieces_in
        job_offered, piece_offered, place = False, False, 0
        for cycle in count():
            if feed:
                job_offered |= self.rng.random() >= self.stall
                piece_offered |= self.rng.random() >= self.stall
                job, listed = feed[0]
                ctx.set(jobs.payload, job)
                ctx.set(pieces.payload, listed[place])
            ctx.set(jobs.valid, int(job_offered))
            ctx.set(pieces.valid, int(piece_offered))
            _, _, job_taken, piece_taken = await ctx.tick().sample(jobs.ready, pieces.ready)
            if piece_offered and piece_taken:
                self.taken_at.append(cycle)
                piece_offered, place = False, place + 1
                assert job_taken == (place == len(listed))
            if job_offered and job_taken:
                job_offered, place = False, 0
                feed.popleft()

    async def _take(self, ctx):
        jobs, pieces = self.stage.jobs, self.stage.pieces
        for cycle in count():
            for stream in (jobs, pieces):
                ctx.set(stream.ready, int(not self.out_holds and self.rng.random() >= self.stall))
            _, _, job_here, job, piece_here, given = await ctx.tick().sample(
                jobs.valid & jobs.ready, jobs.payload, pieces.valid & pieces.ready, pieces.payload
            )
            if job_here:
                self.jobs.append(job.serial)
                self.jobs_at.append(cycle)
            if piece_here:
                names = [name for name, _ in given.shape()]
                self.pieces.append({name: getattr(given, name) for name in names})
                self.left_at.append(cycle)

    def expected(self):
        """Pieces as they should come out: each claim's verdict in turn."""
        errors = iter(self.judge.errors)
        listed = [given for _, pieces in self.frames for given in pieces]
        return [{**given, "recycle": int(given["recycle"] and next(errors) == NONE)} for given in listed]


def singles(frames, recycle=lambda i: True, **fields):
    return [({"serial": i}, [piece(i, recycle=recycle(i), **fields)]) for i in range(frames)]


@pytest.mark.parametrize("latency", range(2, 11))
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_each_piece_goes_on_as_it_was_with_its_own_verdict_and_all_in_order(latency, stall):
    rng = random.Random(f"{latency} {stall}")
    frames, index = [], 0
    for serial in range(120):
        length = rng.choice((1, 1, 2, 3, 9))
        job = {"queue": rng.randrange(2), "length": rng.randrange(9000), "end": 1, "serial": serial}
        pieces = [
            piece(index + i, last=i == length - 1, recycle=rng.random() < 0.6, pool=rng.randrange(2))
            for i in range(length)
        ]
        frames.append((job, pieces))
        index += length
    out = [(p["pool"], p["buffer_id"]) for _, pieces in frames for p in pieces if rng.random() < 0.6]
    bench = ClaimsBench(machine(serial_width=16), frames, latency=latency, stall=stall, seed=latency, out=out)
    bench.run(bench.settle)
    assert bench.jobs == [job["serial"] for job, _ in frames]
    assert bench.pieces == bench.expected()
    claimed = [(job, given) for job, pieces in frames for given in pieces if given["recycle"]]
    assert bench.judge.made == [ClaimMade(job["queue"], p["pool"], p["buffer_id"], NONE) for job, p in claimed]
    assert set(bench.judge.errors) == {NONE, NOT_OUT}


@pytest.mark.parametrize("latency", range(2, 11))
@pytest.mark.parametrize("every", [1, 2, 7])
def test_one_piece_a_cycle_with_or_without_claims_whatever_their_verdict(latency, every):
    frames = singles(200, recycle=lambda i: i % every == 0)
    out = [(0, i) for i in range(200) if i % 3]
    bench = ClaimsBench(machine(serial_width=16), frames, latency=latency, out=out)
    bench.run(bench.settle)
    for at in (bench.taken_at, bench.left_at):
        assert at[-1] - at[0] == 199
    assert bench.pieces == bench.expected()


@pytest.mark.parametrize("latency", [2, 10])
def test_pieces_of_one_frame_pass_one_a_cycle_too(latency):
    pieces = [piece(i, last=i == 149) for i in range(150)]
    bench = ClaimsBench(machine(serial_width=16), [({"serial": 5}, pieces)], latency=latency)
    bench.run(bench.settle)
    assert bench.left_at[-1] - bench.left_at[0] == 149
    assert bench.jobs_at[0] <= bench.left_at[0]


@pytest.mark.parametrize("latency", [2, 5, 10])
def test_latencies_are_those_of_the_contract(latency):
    claimed = ClaimsBench(machine(serial_width=16), singles(1), latency=latency, out=[(0, 0)])
    claimed.run(claimed.settle)
    (taken,) = claimed.taken_at
    assert claimed.judge.offered_at == [taken + 2]
    assert claimed.left_at == [taken + 2 + latency + 2]
    plain = ClaimsBench(machine(serial_width=16), singles(1, recycle=lambda i: False))
    plain.run(plain.settle)
    assert plain.left_at == [plain.taken_at[0] + 3]
    assert plain.judge.made == []


@pytest.mark.parametrize("pools", [1, 2, 16])
@pytest.mark.parametrize("allowed", [(0xFFFF, 0), (0xA5A5, 0x5A5A), (1, 0x8000)])
def test_pools_that_the_queue_may_not_hand_back_to_or_that_do_not_exist_are_refused(pools, allowed):
    config = preset("10g", pools=pools, pool_buffers=1024, serial_width=16)
    frames = [({"queue": i & 1, "serial": i}, [piece(i, pool=i >> 1)]) for i in range(32)]
    bench = ClaimsBench(config, frames, out=[(i >> 1, i) for i in range(32)])
    bench.run(bench.settle, allowed)
    exist = (1 << pools) - 1
    assert bench.judge.errors == [NONE if allowed[i & 1] & exist & 1 << (i >> 1) else POOL for i in range(32)]
    assert [claim.error for claim in bench.judge.made] == bench.judge.errors
    assert bench.pieces == bench.expected()


def test_no_pool_is_allowed_before_software_names_it():
    bench = ClaimsBench(machine(serial_width=16), singles(3), out=[(0, i) for i in range(3)])
    bench.run(bench.settle, allowed=())
    assert bench.judge.errors == [POOL] * 3
    assert [given["recycle"] for given in bench.pieces] == [0] * 3


def test_requests_for_segmentation_hand_nothing_back():
    """A frame's last descriptor tells, so what was cut from an overlong one in front of its end is no request yet."""
    config = machine(serial_width=16, tx_offload=True, segmentation=True)
    kinds = [(1, 1, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)]  # segment, end, pool
    frames = [
        (
            {"serial": i, "end": end, "offload": {"segment": segment}},
            [piece(2 * i, last=False, pool=pool), piece(2 * i + 1, pool=pool)],
        )
        for i, (segment, end, pool) in enumerate(kinds)
    ]
    bench = ClaimsBench(config, frames, out=[(0, i) for i in range(6)])
    bench.run(bench.settle, allowed=(1, 1))
    assert bench.judge.errors == [SEGMENT, SEGMENT, NONE, NONE, NONE, NONE, POOL, POOL]
    assert bench.pieces == bench.expected()


@pytest.mark.parametrize("latency", [2, 10])
def test_nothing_is_lost_while_what_comes_next_or_the_claims_hold_everything_up(latency):
    frames = singles(100)
    bench = ClaimsBench(machine(serial_width=16), frames, latency=latency, out=[(0, i) for i in range(0, 100, 2)])

    async def scenario(ctx):
        bench.out_holds = True
        await ctx.tick().repeat(100)
        assert bench.pieces == []
        assert WAITING <= len(bench.judge.errors) <= len(bench.taken_at) <= WAITING + 4
        bench.out_holds = False
        bench.judge.holds = True
        await ctx.tick().repeat(100)
        assert len(bench.pieces) < len(bench.taken_at) <= 2 * WAITING + 10
        bench.judge.holds = False
        await bench.settle(ctx)

    bench.run(scenario)
    assert bench.pieces == bench.expected()
    assert bench.jobs == list(range(100))
