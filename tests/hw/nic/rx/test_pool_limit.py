# SPDX-License-Identifier: BSD-2-Clause
"""RxPlanner and pools that let no more buffers out: frames are dropped whole, at once, for that reason."""

import random

import pytest

from hw.abi.rings import DropReason
from hw.config import preset
from tests.hw.nic.rx.planner_bench import Frame, HeaderArea, PlannerBench, expected

LAG = 6  #: cycles after a change in which frames leave that were judged before


def mask(queues):
    return sum(1 << queue for queue in queues)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_frames_of_refused_and_limited_queues_drop_whole_and_others_notice_nothing(seed, split):
    """Frames of one buffer and of many, over too few buffers and slots, whole and split."""
    rng = random.Random(seed)
    queues, entries = 4, 16
    config = preset("10g", queues=queues, pools=2, classify=split, header_split=split, data_width=512)
    refused, limited = {0}, {0, 1, 3}
    areas = {1: HeaderArea(0x10_0000, 128), 2: HeaderArea(0x20_0000, 64)} if split else {}
    rings = [
        [(queue << 8 | i, rng.choice((64, 100, 2048))) for i in range(rng.choice((0, 5, 64)))]
        for queue in range(queues)
    ]
    frames = [
        Frame(rng.choice((60, 60, 64, 200, 700)), rng.randrange(queues), rng.random() > 0.05, rng.choice((0, 42, 54)))
        for _ in range(150)
    ]
    slots = rng.choice((3, 17, 1000))
    stall, pause = rng.choice(((0, 0), (0.3, 0), (0.5, 0.2)))
    bench = PlannerBench(config, frames, seed=seed, stall=stall, pause=pause, slots=slots, areas=areas, entries=entries)

    async def scenario(ctx):
        ctx.set(bench.planner.refused, mask(refused))
        ctx.set(bench.planner.limited, mask(limited))
        for queue, ring in enumerate(rings):
            await bench.post(ctx, queue, ring)
        bench.go = True

    bench.run(scenario)
    pieces, drops, faults = expected(frames, rings, slots, areas, entries, refused, limited)
    assert bench.pieces == pieces
    assert bench.drops == drops
    assert bench.faults == faults
    assert DropReason.POOL_LIMIT in {reason for _, _, reason in drops}


@pytest.mark.parametrize("port", ["refused", "limited"])
def test_frames_that_are_dropped_for_the_pool_do_not_hold_up_those_of_other_queues(port):
    """The refused queue has buffers; to the limited one some are on the way, and all are late."""
    config = preset("100g", queues=2, pools=2)
    frames = [Frame(60, i % 2) for i in range(200)]
    bench = PlannerBench(config, frames)

    async def scenario(ctx):
        ctx.set(getattr(bench.planner, port), 0b10)
        await bench.post(ctx, 0, [(i, 2048) for i in range(200)])
        if port == "refused":
            await bench.post(ctx, 1, [(i, 2048) for i in range(200)])
            ctx.set(bench.cache.fetching, 0b10)
        bench.go = True

    bench.run(scenario)
    assert bench.drops == [(1, 60, DropReason.POOL_LIMIT)] * 100
    assert bench.pieced_at[-1] - bench.pieced_at[0] == len(frames) - 1


@pytest.mark.parametrize(
    ("refused", "limited", "enabled", "slots", "reason"),
    [
        (1, 0, 1, 0, DropReason.POOL_LIMIT),
        (1, 1, 0, 0, DropReason.QUEUE_DISABLED),
        (0, 1, 1, 0, DropReason.COMPLETION_FULL),
        (0, 1, 1, 9, DropReason.POOL_LIMIT),
        (0, 0, 1, 9, DropReason.NO_BUFFER),
    ],
)
def test_the_first_reason_that_holds_counts(refused, limited, enabled, slots, reason):
    bench = PlannerBench(preset("10g", queues=1, pools=1), [Frame(60, 0)] * 5, slots=slots)

    async def scenario(ctx):
        ctx.set(bench.planner.refused, refused)
        ctx.set(bench.planner.limited, limited)
        ctx.set(bench.planner.enable, enabled)
        bench.go = True

    bench.run(scenario)
    assert [drop[2] for drop in bench.drops] == [reason] * 5


@pytest.mark.parametrize(("limited", "cycles"), [(1, 0), (0, 11)])
def test_a_frame_of_a_limited_queue_waits_for_nothing_that_is_not_on_the_way(limited, cycles):
    """Behind one that had the last buffer."""
    bench = PlannerBench(preset("10g", queues=1, pools=1), [Frame(60, 0)] * 2)

    async def scenario(ctx):
        ctx.set(bench.planner.limited, limited)
        await bench.post(ctx, 0, [(1, 2048)])
        await ctx.tick().repeat(5)
        bench.go = True

    bench.run(scenario)
    assert bench.drops == [(0, 60, DropReason.POOL_LIMIT if limited else DropReason.NO_BUFFER)]
    assert bench.pieced_at[1] - bench.pieced_at[0] == 1 + cycles


@pytest.mark.parametrize("comes", [False, True])
def test_a_frame_of_a_limited_queue_waits_for_what_is_on_the_way(comes):
    """At most ``starvation`` cycles."""
    bench = PlannerBench(preset("10g", queues=1, pools=1), [Frame(150, 0), Frame(60, 0)])

    async def scenario(ctx):
        ctx.set(bench.planner.limited, 1)
        ctx.set(bench.cache.fetching, 1)
        await bench.post(ctx, 0, [(1, 100)])
        bench.go = True
        await ctx.tick().repeat(60)
        assert not bench.pieces
        if comes:
            await bench.post(ctx, 0, [(2, 100)])
        ctx.set(bench.cache.fetching, 0)

    bench.run(scenario)
    if comes:
        assert [piece.buffer_id for piece in bench.pieces] == [1, 2, 0]
        assert bench.drops == [(0, 60, DropReason.POOL_LIMIT)]
    else:
        assert bench.drops == [(0, 150, DropReason.POOL_LIMIT)]
        assert bench.pieces[1].buffer_id == 1, "the frame that was dropped had taken nothing"


def test_the_starvation_timeout_of_a_limited_queue_is_the_limit():
    bench = PlannerBench(preset("10g", queues=1, pools=1), [Frame(60, 0)])

    async def scenario(ctx):
        ctx.set(bench.planner.limited, 1)
        ctx.set(bench.cache.fetching, 1)
        bench.go = True
        await ctx.tick().repeat(90)
        assert not bench.drops

    bench.run(scenario)
    assert bench.drops == [(0, 60, DropReason.POOL_LIMIT)]


def test_a_frame_of_many_buffers_that_waits_is_dropped_whole_when_its_queue_is_refused():
    bench = PlannerBench(preset("10g", queues=1, pools=1), [Frame(250, 0), Frame(60, 0)])

    async def scenario(ctx):
        ctx.set(bench.planner.starvation, 10_000)
        ctx.set(bench.cache.fetching, 1)
        await bench.post(ctx, 0, [(1, 100), (2, 100)])
        bench.go = True
        await ctx.tick().repeat(80)
        assert not bench.pieces
        ctx.set(bench.planner.refused, 1)
        await ctx.tick().repeat(12)
        assert bench.drops[0] == (0, 250, DropReason.POOL_LIMIT)
        level = ctx.get(bench.cache.level[0])
        assert level == 2, "it had taken nothing"

    bench.run(scenario)
    assert bench.drops == [(0, 250, DropReason.POOL_LIMIT), (0, 60, DropReason.POOL_LIMIT)]


@pytest.mark.parametrize("seed", range(8))
def test_refusals_at_any_moment_take_effect_within_the_lag(seed):
    """Of either of two queues, in traffic of one frame a cycle, some of many buffers: later than the lag after a
    refusal began no buffer leaves the cache, and later than that after it ended no frame is refused."""
    rng = random.Random(seed)
    config = preset("100g", queues=2, pools=2)
    frames = [Frame(rng.choice((60, 60, 60, 60, 250) if seed % 2 else (60,)), rng.randrange(2)) for _ in range(400)]
    bench = PlannerBench(config, frames, seed=seed)
    since = [[10_000, 10_000], [10_000, 10_000]]  # cycles in which each queue was refused, and was not, in a row
    latest = [0, 0]  # what happened last after each kind of change

    async def watch(ctx):
        planner = bench.planner
        take, event = planner.descriptors.take, planner.event
        while True:
            _, _, refused, taken, taker, dropped, dropper, reason = await ctx.tick().sample(
                planner.refused, take.strobe, take.queue, event.strobe, event.queue, event.reason
            )
            for queue in range(2):
                on = refused >> queue & 1
                since[queue] = [since[queue][0] + 1 if on else 0, 0 if on else since[queue][1] + 1]
                # A queue's count is 1 in the cycle of the change.
                if on and taken and taker == queue:
                    latest[0] = max(latest[0], since[queue][0] - 1)
                if not on and dropped and dropper == queue:
                    assert DropReason(reason) is DropReason.POOL_LIMIT
                    latest[1] = max(latest[1], since[queue][1] - 1)

    async def scenario(ctx):
        for queue in range(2):
            await bench.post(ctx, queue, [(queue << 8 | i, 100) for i in range(255)])
        bench.go = True
        for _ in range(40):
            ctx.set(bench.planner.refused, rng.randrange(4))
            await ctx.tick().repeat(rng.randint(1, 20))
        ctx.set(bench.planner.refused, 0b11)

    bench.run(scenario, watch)
    assert 0 < latest[0] <= LAG
    assert latest[1] <= LAG
    assert {reason for _, _, reason in bench.drops} == {DropReason.POOL_LIMIT}
    for queue in range(2):
        taken = [piece.buffer_id for piece in bench.pieces if piece.queue == queue and not piece.drop]
        assert taken == [queue << 8 | i for i in range(len(taken))], "no buffer is lost to a frame that is dropped"
