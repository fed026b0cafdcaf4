# SPDX-License-Identifier: BSD-2-Clause
"""TxScheduler between a cache, slots and a gather, all stand-ins: pace, order, turns, room, and stopping."""

import random
from collections import deque
from typing import Any

import pytest
from amaranth.hdl import Module, Value
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.rings import CompletionError
from hw.config import NicConfig, preset
from hw.nic.tx.scheduler import TxScheduler
from tests.hw.nic.standins import DescriptorCache, SlotCounter
from tests.hw.nic.tx.bench import data
from tests.hw.nic.tx.frames import BAD, expected_frames, random_frame

FRAME_LENGTH = CompletionError.FRAME_LENGTH.value


def words_of(length: int, beat_bytes: int) -> int:
    """Words of the packet buffer that a frame takes."""
    return -(-max(length, 60) // beat_bytes)


class SchedulerBench:
    """Feeds descriptors, takes jobs with their pieces, and gives back their words ``hold`` cycles later.

    ``stall`` is the chance, per cycle, that nothing is taken. ``jobs`` are (cycle, queue, length, error, aborted, end,
    pieces), each piece (buffer_id, index, read, report).
    """

    def __init__(self, config: NicConfig, *, seed: int = 0, stall: float = 0.0, slots: int = 60000, hold: int = 10):
        print(f"seed {seed}")
        self.config, self.stall, self.hold = config, stall, hold
        self.random = random.Random(seed)
        self.jobs: list[tuple[Any, ...]] = []
        self.faults: list[tuple[int, int]] = []
        self.arrived: list[int] = []
        self.emitted: list[tuple[int, int]] = []  # cycle, queue
        self.cycle = 0
        self.words = 0  # set aside
        self.dut, self.cache, self.slots = TxScheduler(config), DescriptorCache(config), SlotCounter(config, slots)
        self.top = Module()
        self.top.submodules.dut, self.top.submodules.cache, self.top.submodules.slots = self.dut, self.cache, self.slots
        connect(self.top, self.dut.descriptors, self.cache.port)
        connect(self.top, self.dut.slots, self.slots.port)

    def run(self, scenario: Any) -> None:
        async def main(ctx: Any) -> None:
            ctx.set(self.dut.tx_enable, 1)
            ctx.set(self.dut.enable, (1 << self.config.queues) - 1)
            await scenario(ctx)
            assert not ctx.get(self.cache.underrun), "took descriptors that are not there"
            assert not ctx.get(self.slots.overrun), "reserved slots that are not there"

        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self._gather, background=True)  # first, so that `main` knows of the last cycle
        simulator.add_testbench(main)
        simulator.run()

    async def post(self, ctx: Any, entries: list[bytes], queue: int = 0, bound: int = 5000) -> None:
        """Push descriptors, one a cycle while there is room."""
        for raw in entries:
            for _ in range(bound):
                if ctx.get(self.cache.level[queue]) < self.config.fetch_depth:
                    break
                await ctx.tick()
            else:
                raise AssertionError(f"Waited {bound} cycles for room in queue {queue}'s cache")
            ctx.set(self.cache.push, 1)
            ctx.set(self.cache.push_queue, queue)
            ctx.set(self.cache.push_entry, int.from_bytes(raw, "little"))
            await ctx.tick()
            ctx.set(self.cache.push, 0)

    async def until_jobs(self, ctx: Any, count: int, bound: int = 5000) -> None:
        for _ in range(bound):
            if len(self.jobs) >= count:
                return
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for {count} jobs, {len(self.jobs)} came")

    async def stop(self, ctx: Any, queue: int, bound: int = 500) -> None:
        """Disable a queue and wait until it is not busy and none of its jobs is under way."""
        ctx.set(self.dut.enable, ctx.get(self.dut.enable) & ~(1 << queue))
        for _ in range(bound):
            await ctx.tick()
            emitted = sum(of == queue for _, of in self.emitted)
            if not ctx.get(self.dut.busy) >> queue & 1 and emitted == sum(job[1] == queue for job in self.jobs):
                return
        raise AssertionError(f"Waited {bound} cycles for queue {queue} to stop")

    async def start(self, ctx: Any, queue: int) -> None:
        """Start a stopped queue, as soon as the lifecycle may."""
        await ctx.tick()
        for clear in (1 << queue, 0):
            ctx.set(self.dut.clear, clear)
            ctx.set(self.cache.clear, clear)
            if clear:
                await ctx.tick()
        ctx.set(self.dut.enable, ctx.get(self.dut.enable) | 1 << queue)

    async def _gather(self, ctx: Any) -> None:
        jobs, pieces, fault = self.dut.jobs, self.dut.pieces, self.dut.fault
        beat_bytes = self.config.beat_bytes
        total = self.config.tx_buffer_bytes // beat_bytes
        partial: list[tuple[int, ...]] = []
        held: deque[tuple[int, int]] = deque()  # cycle in which words come back, and how many
        ctx.set(fault.ready, 1)
        while True:
            moves = ctx.get(pieces.valid) and self.random.random() >= self.stall
            last = moves and ctx.get(pieces.payload.last)
            ctx.set(pieces.ready, moves)
            ctx.set(jobs.ready, last)
            back = 0
            if held and held[0][0] <= self.cycle:
                back = held.popleft()[1]
                self.words -= back
            ctx.set(self.dut.returned, back)
            _, _, piece, job, there, arrived, emits, emits_queue, faulted, queue, error = await ctx.tick().sample(
                pieces.payload,
                jobs.payload,
                jobs.valid,
                self.cache.push,
                self.dut.emits,
                self.dut.emits_queue,
                fault.valid,
                fault.payload.queue,
                Value.cast(fault.payload.error),
            )
            self.cycle += 1
            if arrived:
                self.arrived.append(self.cycle)
            if emits:
                self.emitted.append((self.cycle, emits_queue))
            if faulted:
                self.faults.append((queue, error))
            if moves:
                partial.append((piece.buffer_id, piece.index, piece.read, piece.report))
            if last:
                assert there, "a job comes after its pieces"
                got = (job.queue, job.length, job.error.value, job.aborted, job.end)
                self.jobs.append((self.cycle, *got, partial))
                partial = []
                if not job.aborted and not job.error.value:
                    words = words_of(job.length, beat_bytes)
                    self.words += words
                    assert self.words <= total, "more is taken than fits"
                    held.append((self.cycle + self.hold, words))


def wide(**changes: Any) -> NicConfig:
    return preset("10g", data_width=512, **{"fetch_depth": 256, "tx_buffer_bytes": 65536, **changes})


@pytest.mark.parametrize(("queues", "active"), [(1, 1), (2, 2), (16, 1), (16, 16)])
@pytest.mark.parametrize("descriptors", [1, 2, 3])
def test_waiting_frames_are_taken_a_descriptor_a_cycle_of_one_queue_or_many(queues, active, descriptors):
    bench = SchedulerBench(wide(queues=queues))
    frames = 192 // active // descriptors
    count = frames * active

    async def scenario(ctx):
        ctx.set(bench.dut.tx_enable, 0)
        for queue in range(active):
            for number in range(frames):
                last = descriptors - 1
                await bench.post(
                    ctx, [data(0, 30, number, end=i == last, report=i == last) for i in range(descriptors)], queue
                )
        await ctx.tick().repeat(40)
        assert not bench.emitted
        ctx.set(bench.dut.tx_enable, 1)
        await bench.until_jobs(ctx, count)

    bench.run(scenario)
    assert bench.jobs[-1][0] - bench.jobs[0][0] == (count - 1) * descriptors
    turns = [job[1] for job in bench.jobs]
    assert all(set(turns[i : i + active]) == set(range(active)) for i in range(0, count, active))


@pytest.mark.parametrize("active", [1, 16])
def test_frames_are_taken_as_fast_as_their_descriptors_arrive(active):
    bench = SchedulerBench(wide(queues=16, fetch_depth=64))

    async def scenario(ctx):
        for number in range(1200):
            await bench.post(ctx, [data(0, 60, number, report=number % 4 == 0)], number // 4 % active)
        await bench.until_jobs(ctx, 1200, bound=100)

    bench.run(scenario)
    assert bench.jobs[-1][0] - bench.jobs[0][0] <= 1200 + 20


def test_a_frame_is_taken_and_emitted_a_known_time_after_it_has_arrived():
    bench = SchedulerBench(wide())

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 60)])
        await bench.until_jobs(ctx, 1)

    bench.run(scenario)
    assert bench.emitted[0][0] - bench.arrived[0] == 20
    assert bench.jobs[0][0] - bench.arrived[0] == 25


@pytest.mark.parametrize("seed", range(6))
def test_random_frames_of_queues_that_stop_and_start_are_taken_as_their_rings_say(seed):
    rng = random.Random(seed)
    config = preset("10g", queues=3, fetch_depth=8, tx_buffer_bytes=2048, max_frame=1024)
    bench = SchedulerBench(config, seed=seed, stall=rng.choice((0, 0.5)), hold=rng.choice((5, 100)))
    sessions: list[list[list[bytes]]] = [[] for _ in range(3)]  # what was posted since each start
    marks: list[list[int]] = [[] for _ in range(3)]  # faults before each
    todo: list[list[bytes]] = [[] for _ in range(3)]

    def begin(queue: int) -> None:
        """What is posted next; all buffer ids of a queue differ."""
        number = 256 * len(sessions[queue])
        entries = []
        for _ in range(rng.randint(1, 12)):
            frame = random_frame(rng, config, number + len(entries))
            if rng.random() < 0.05:
                entries += [*frame[: rng.randrange(len(frame))][:2], rng.choice(BAD), data(0, 60)]
                break
            entries += frame
        sessions[queue].append([])
        marks[queue].append(len(bench.faults))
        todo[queue] = entries

    async def scenario(ctx):
        for queue in range(3):
            begin(queue)
        restarts = 0
        while restarts < 25 or any(todo):
            if restarts < 25 and rng.random() < 0.01:
                queue = rng.randrange(3)
                await bench.stop(ctx, queue)
                if rng.random() < 0.3:
                    await ctx.tick().repeat(20)
                await bench.start(ctx, queue)
                begin(queue)
                restarts += 1
            ready = [q for q in range(3) if todo[q] and ctx.get(bench.cache.level[q]) < config.fetch_depth]
            if ready and rng.random() < 0.7:
                queue = rng.choice(ready)
                entry = todo[queue].pop(0)
                sessions[queue][-1].append(entry)
                await bench.post(ctx, [entry], queue)
            else:
                await ctx.tick()
        await ctx.tick().repeat(2000)

    bench.run(scenario)
    for queue in range(3):
        got = [job[2:] for job in bench.jobs if job[1] == queue]
        for number, entries in enumerate(sessions[queue]):
            stopped = number < len(sessions[queue]) - 1
            expected = [
                (frame.length, FRAME_LENGTH if frame.wrong else 0, 0, frame.end, frame.pieces)
                for frame in expected_frames(entries, config)
                if not frame.error
            ]
            faults = [frame.error for frame in expected_frames(entries, config) if frame.error]
            taken = []
            while expected and got and got[0] == expected[0]:
                taken.append(got.pop(0))
                expected.pop(0)
            assert stopped or not expected
            if stopped and taken and not taken[-1][3]:
                assert got.pop(0)[2], "a frame was cut and its queue stopped, so it is aborted"
            seen = bench.faults[marks[queue][number] : [*marks[queue], None][number + 1]]
            errors = [error for faulted, error in seen if faulted == queue]
            assert errors == faults or (stopped and not errors)
            assert not errors or not expected
        assert not got


def test_a_queue_that_stops_needs_no_room_and_delays_no_other():
    config = preset("10g", queues=2, fetch_depth=8, tx_buffer_bytes=2048, max_frame=1024)
    bench = SchedulerBench(config, hold=400)

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 1000)] * 2, 1)
        await bench.until_jobs(ctx, 2)
        await bench.post(ctx, [data(0, 20, end=False)] * 6)  # cut: the first four are emitted
        await bench.until_jobs(ctx, 3)
        await bench.post(ctx, [data(0, 1000)] * 3, 1)
        await ctx.tick().repeat(40)
        assert len(bench.jobs) == 3, "there is no room"
        await bench.stop(ctx, 0, bound=10)
        await bench.stop(ctx, 1, bound=10)
        await bench.start(ctx, 1)
        await bench.post(ctx, [data(0, 500)], 1)
        await bench.until_jobs(ctx, 5)

    bench.run(scenario)
    assert [(job[1], job[2], job[4]) for job in bench.jobs] == [
        (1, 1000, 0),
        (1, 1000, 0),
        (0, 80, 0),
        (0, bench.jobs[3][2], 1),
        (1, 500, 0),
    ]


def test_a_queue_without_slots_delays_no_other():
    bench = SchedulerBench(wide(queues=16), slots=3)

    async def scenario(ctx):
        for queue in range(15):
            await bench.post(ctx, [data(0, 60, report=True)] * 5, queue)
        await bench.until_jobs(ctx, 45)
        await ctx.tick().repeat(100)
        ctx.set(bench.dut.tx_enable, 0)
        await bench.post(ctx, [data(0, 60)] * 200, 15)
        ctx.set(bench.dut.tx_enable, 1)
        await bench.until_jobs(ctx, 245)
        ctx.set(bench.slots.give, 1)
        ctx.set(bench.slots.give_queue, 4)
        await ctx.tick()
        ctx.set(bench.slots.give, 0)
        await bench.until_jobs(ctx, 246, bound=60)

    bench.run(scenario)
    assert bench.jobs[244][0] - bench.jobs[45][0] == 199
    assert bench.jobs[245][1] == 4


def test_a_frame_of_more_reports_than_slots_waits_until_its_queue_stops():
    bench = SchedulerBench(preset("10g", queues=1), slots=2)

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 60, report=True)])
        await bench.post(ctx, [data(0, 30, i, end=i == 2, report=True) for i in range(3)])
        await bench.post(ctx, [data(0, 60)])
        await ctx.tick().repeat(300)
        assert len(bench.jobs) == 1
        await bench.stop(ctx, 0, bound=10)
        await bench.start(ctx, 0)
        await bench.post(ctx, [data(0, 61)])
        await bench.until_jobs(ctx, 2, bound=60)

    bench.run(scenario)
    assert [job[2] for job in bench.jobs] == [60, 61]
