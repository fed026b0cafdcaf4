# SPDX-License-Identifier: BSD-2-Clause
"""RxPlanner: whatever it guessed ahead, frames get the buffers that they would get one by one."""

import random

import pytest

from hw.abi.rings import DropReason
from hw.config import preset
from tests.hw.nic.rx.planner_bench import Frame, HeaderArea, PlannerBench, expected


def rings_of(rng, queues, most, lengths):
    """Buffers of each queue: id and length."""
    return [[(queue << 8 | i, rng.choice(lengths)) for i in range(rng.randint(0, most))] for queue in range(queues)]


def check(bench, rings, slots):
    pieces, drops, faults = expected(bench.frames, rings, slots)
    assert bench.pieces == pieces
    assert bench.drops == drops
    assert bench.faults == faults


@pytest.mark.parametrize("seed", range(12))
def test_frames_get_what_they_would_get_one_by_one(seed):
    """Short buffers and long, frames of many and of none, too few slots, queues that do not exist."""
    rng = random.Random(seed)
    queues = rng.choice((1, 2, 5))
    config = preset("10g", queues=queues, fetch_depth=64, data_width=512)
    lengths = rng.choice(((64,), (64, 128, 2048), (100, 100, 100, 30), (300,)))
    rings = rings_of(rng, queues, 64, lengths)
    frames = [
        Frame(rng.choice((60, 60, 61, 64, 200, 700)), rng.randrange(queues), rng.random() > 0.05) for _ in range(150)
    ]
    slots = rng.choice((3, 17, 1000))
    stall, pause = rng.choice(((0, 0), (0.3, 0), (0, 0.5), (0.5, 0.2)))
    bench = PlannerBench(config, frames, seed=seed, stall=stall, pause=pause, slots=slots)

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    check(bench, rings, slots)


@pytest.mark.parametrize("seed", range(6))
def test_descriptors_that_come_late_change_nothing_but_time(seed):
    """Fetches of all queues are under way; descriptors dribble in while frames wait for them."""
    rng = random.Random(seed)
    queues = 3
    config = preset("10g", queues=queues, fetch_depth=64)
    rings = [[(queue << 8 | i, rng.choice((64, 100))) for i in range(60)] for queue in range(queues)]
    frames = [Frame(rng.choice((60, 150)), rng.randrange(queues)) for _ in range(120)]
    bench = PlannerBench(config, frames, seed=seed)

    async def scenario(ctx):
        ctx.set(bench.planner.starvation, 10_000)
        ctx.set(bench.cache.fetching, (1 << queues) - 1)
        bench.go = True
        left = [list(ring) for ring in rings]
        while any(left):
            queue = rng.randrange(queues)
            count = rng.choice((1, 4))
            await bench.post(ctx, queue, left[queue][:count])
            del left[queue][:count]
            if rng.random() < 0.5:
                await ctx.tick().repeat(rng.randint(1, 30))
        await ctx.tick()
        ctx.set(bench.cache.fetching, 0)

    bench.run(scenario)
    check(bench, rings, 1000)


@pytest.mark.parametrize("queues", [1, 2, 16])
def test_one_frame_a_cycle(queues):
    """Frames of one buffer each, of one queue or of many, in no order."""
    config = preset("100g", queues=queues)
    rng = random.Random(queues)
    frames = [Frame(60, rng.randrange(queues)) for _ in range(240)]
    rings = [[(queue << 8 | i, 2048) for i in range(250)] for queue in range(queues)]
    bench = PlannerBench(config, frames)

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    check(bench, rings, 1000)
    assert bench.pieced_at[-1] - bench.pieced_at[0] == len(frames) - 1


@pytest.mark.parametrize(
    ("reason", "slots", "count"),
    [(DropReason.NO_BUFFER, 1000, 0), (DropReason.COMPLETION_FULL, 0, 8), (DropReason.QUEUE_DISABLED, 1000, 8)],
)
def test_frames_that_are_dropped_at_once_do_not_hold_up_those_of_other_queues(reason, slots, count):
    config = preset("100g", queues=2)
    frames = [Frame(60, i % 2) for i in range(200)]
    rings = [[(i, 2048) for i in range(200)], [(256 | i, 2048) for i in range(count)]]
    bench = PlannerBench(config, frames)

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        if not slots:
            ctx.set(bench.slots.give_queue, 1)
            ctx.set(bench.slots.give, -1000 & 0xFFFF)
            await ctx.tick()
            ctx.set(bench.slots.give, 0)
        if reason is DropReason.QUEUE_DISABLED:
            ctx.set(bench.planner.enable, 1)
        bench.go = True

    bench.run(scenario)
    assert bench.drops == [(1, 60, reason)] * 100
    assert bench.pieced_at[-1] - bench.pieced_at[0] == len(frames) - 1


@pytest.mark.parametrize(("length", "size", "cycles"), [(1514, 1024, 24), (1514, 512, 24), (9000, 2048, 141)])
def test_frames_of_many_buffers_keep_pace_with_their_beats(length, size, cycles):
    config = preset("100g", queues=1)
    frames = [Frame(length, 0) for _ in range(40)]
    rings = [[(i, size) for i in range(250)]]
    bench = PlannerBench(config, frames)

    async def scenario(ctx):
        await bench.post(ctx, 0, rings[0])
        bench.go = True

    bench.run(scenario)
    check(bench, rings, 1000)
    assert bench.pieced_at[-1] - bench.pieced_at[0] <= cycles * (len(frames) - 1) + 10


@pytest.mark.parametrize("place", range(4))
def test_an_empty_descriptor_faults_its_queue_and_nothing_else(place):
    """Also one that only a frame of many buffers comes to see, and one behind frames that were looked up already."""
    config = preset("10g", queues=2, fetch_depth=64)
    frames = [Frame(60 if i % 3 else 150, i % 2) for i in range(30)]
    rings = [[(queue << 8 | i, 100 if queue or i != place else 0) for i in range(40)] for queue in range(2)]
    bench = PlannerBench(config, frames)

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    assert bench.faults == [0]
    check(bench, rings, 1000)


@pytest.mark.parametrize("seed", range(6))
def test_queues_stop_and_start_in_traffic(seed):
    """At any moment. Each start has its own descriptors: they are used in their order, without a gap, and all that were
    taken were taken before ``busy`` fell."""
    rng = random.Random(seed)
    queues = 2
    config = preset("10g", queues=queues, fetch_depth=16)
    frames = [Frame(rng.choice((60, 60, 150, 350)), rng.randrange(queues)) for _ in range(400)]
    bench = PlannerBench(config, frames, seed=seed, stall=rng.choice((0, 0.6)), pause=0.3)

    async def scenario(ctx):
        planner = bench.planner
        ctx.set(planner.starvation, 40)
        bench.go = True
        ctx.set(bench.cache.fetching, rng.choice((0, 1, 3)))
        for start in range(1, 40):
            queue = rng.randrange(queues)
            others = ctx.get(planner.enable) & ~(1 << queue)
            ctx.set(planner.enable, others)
            for _ in range(400):
                if not ctx.get(planner.busy) >> queue & 1:
                    break
                await ctx.tick()
            else:
                raise AssertionError("Waited 400 cycles for busy to fall")
            level = ctx.get(bench.cache.level[queue])
            await ctx.tick().repeat(rng.randint(1, 12))
            assert ctx.get(bench.cache.level[queue]) == level, "taken after busy fell"
            ctx.set(planner.clear, 1 << queue)
            await ctx.tick()
            ctx.set(planner.clear, 0)
            ctx.set(planner.enable, others | 1 << queue)
            for i in range(rng.randrange(17)):
                await bench.post(ctx, queue, [(queue << 15 | start << 5 | i, rng.choice((64, 128)))])
                await ctx.tick().repeat(rng.randint(1, 3))
            await ctx.tick().repeat(rng.randint(1, 40))
        ctx.set(bench.cache.fetching, 0)

    bench.run(scenario)
    taken = [piece.buffer_id for piece in bench.pieces if not piece.drop]
    assert taken
    for queue in range(queues):
        own = [identity for identity in taken if identity >> 15 == queue]
        assert own == sorted(own)
        for start in {identity >> 5 for identity in own}:
            order = [identity & 31 for identity in own if identity >> 5 == start]
            assert order == list(range(len(order)))


@pytest.mark.parametrize("seed", range(8))
def test_frames_are_split_that_can_be_and_buffers_cover_what_is_behind_the_headers(seed):
    """Among frames that arrive whole, of queues that split and one that does not, over buffers that are too short."""
    rng = random.Random(seed)
    queues, entries = 3, 16
    config = preset("10g", queues=queues, classify=True, header_split=True)
    areas = {
        queue: HeaderArea(rng.getrandbits(58) << 6, size)
        for queue, size in enumerate(rng.sample((64, 128, 256, 512), 2))
    }
    rings = rings_of(rng, queues, 64, rng.choice(((2048,), (64, 100), (10, 300))))
    headers = (0, 0, 42, 54, 64, 65, 128, 129, 255)
    lengths = (60, 64, 65, 66, 100, 129, 256, 300)
    frames = [Frame(rng.choice(lengths), rng.randrange(queues), headers=rng.choice(headers)) for _ in range(150)]
    slots = rng.choice((17, 1000))
    stall, pause = rng.choice(((0, 0), (0.3, 0), (0.5, 0.2)))
    bench = PlannerBench(
        config, frames, seed=seed, stall=stall, pause=pause, slots=slots, areas=areas, entries=entries
    )  # fmt: skip

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    pieces, drops, faults = expected(frames, rings, slots, areas, entries)
    assert bench.pieces == pieces
    assert bench.drops == drops
    assert bench.faults == faults
    assert {piece.queue for piece in pieces if piece.header_at is not None} == set(areas)


@pytest.mark.parametrize(("headers", "pieces"), [(54, 2), (0, 1)])
def test_a_frame_that_is_split_takes_two_cycles_and_one_that_is_not_takes_one(headers, pieces):
    config = preset("100g", queues=2, classify=True, header_split=True)
    frames = [Frame(60, i // 3 % 2, headers=headers) for i in range(240)]
    rings = [[(queue << 8 | i, 2048) for i in range(250)] for queue in range(2)]
    areas = {queue: HeaderArea(0x40_0000 << queue, 128) for queue in range(2)}
    bench = PlannerBench(config, frames, areas=areas)

    async def scenario(ctx):
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    assert bench.pieces == expected(frames, rings, 1000, areas)[0]
    assert bench.pieced_at[-1] - bench.pieced_at[0] == pieces * len(frames) - 1


def test_what_a_queue_splits_when_it_is_started_again_is_what_it_was_set_to_then():
    """Frames that came before wait meanwhile: for a fetch of another queue, behind a frame of that."""
    config = preset("10g", queues=2, classify=True, header_split=True)
    frames = [Frame(60, 1), *(Frame(100 + i, 0, headers=70) for i in range(6))]
    wide, narrow = HeaderArea(0x10_0000, 128), HeaderArea(0x20_0000, 64)
    bench = PlannerBench(config, frames, areas={0: wide})

    async def scenario(ctx):
        planner = bench.planner
        ctx.set(planner.starvation, 10_000)
        ctx.set(bench.cache.fetching, 0b10)
        await bench.post(ctx, 0, [(i, 2048) for i in range(8)])
        bench.go = True
        await ctx.tick().repeat(30)
        ctx.set(planner.enable, 0b10)
        await ctx.tick().repeat(5)
        assert not ctx.get(planner.busy) & 1
        await bench.set_headers(ctx, 0, narrow)
        ctx.set(planner.clear, 1)
        await ctx.tick()
        ctx.set(planner.clear, 0)
        ctx.set(planner.enable, 0b11)
        await bench.post(ctx, 0, [(i, 2048) for i in range(8)])
        await bench.post(ctx, 1, [(0x100, 2048)])

    bench.run(scenario)
    assert [piece.length for piece in bench.pieces] == [60, *range(100, 106)]
    assert not any(piece.drop or piece.header_at for piece in bench.pieces)
