# SPDX-License-Identifier: BSD-2-Clause
"""The TX path as a whole: bytes, order, pace, completions, errors, and stopping."""

import random
from itertools import pairwise

import pytest

from hw.abi.rings import CompletionError, QueueError
from hw.config import preset
from tests.hw.nic.tx.bench import DESCRIPTOR, END_OF_PACKET, TxBench, context, data

GOOD = CompletionError.NONE.value
READ_FAULT = CompletionError.READ_FAULT.value
FRAME_LENGTH = CompletionError.FRAME_LENGTH.value


def gathered(bench, pieces):
    """The frame that these (address, length) make, as it should leave."""
    frame = b"".join(bytes(bench.memory[address : address + length]) for address, length in pieces)
    return frame.ljust(60, b"\0")


def chain(pieces, *, report=False):
    """Descriptors of one frame."""
    last = len(pieces) - 1
    return [
        data(address, length, i, end=i == last, report=report and i == last)
        for i, (address, length) in enumerate(pieces)
    ]


@pytest.mark.parametrize(("width", "budget"), [(64, 8), (512, 1.68)])
@pytest.mark.parametrize(("queues", "active"), [(1, 1), (2, 2), (16, 1)])
def test_smallest_frames_leave_as_fast_as_their_beats_or_the_wire(width, budget, queues, active):
    config = preset("10g", data_width=width, queues=queues, max_burst_bytes=512, fetch_depth=256, outstanding_reads=256)
    bench = TxBench(config)
    count = 210

    async def scenario(ctx):
        ctx.set(bench.path.tx_enable, 0)
        for queue in range(active):
            await bench.post(ctx, [data(0x1000, 60, report=i % 8 == 7) for i in range(count // active)], queue)
        ctx.set(bench.path.tx_enable, 1)
        await bench.settle(ctx, count)

    bench.run(scenario)
    assert bench.frames == [gathered(bench, [(0x1000, 60)])] * count
    assert bench.sent_at[-1] - bench.sent_at[9] <= budget * (count - 10) + 2


@pytest.mark.parametrize("width", [64, 128, 512])
@pytest.mark.parametrize("seed", range(4))
def test_frames_from_pieces_of_any_length_and_place_leave_byte_exact_under_stalls(width, seed):
    config = preset("10g", data_width=width, max_burst_bytes=512, serial_width=16)
    bench, rng = TxBench(config, seed=seed, stall=0.3, wire_stall=0.2), random.Random(seed)
    frames = [
        [(rng.randrange(1 << 16), rng.choice((1, 7, 8, 9, 14, 63, 64, 65, 200))) for _ in range(rng.randint(1, 6))]
        for _ in range(30)
    ]
    frames = [pieces if sum(n for _, n in pieces) >= 14 else [(3, 14)] for pieces in frames]

    async def scenario(ctx):
        for pieces in frames:
            entries = chain(pieces, report=True)
            await bench.post(ctx, ([context()] if rng.random() < 0.3 else []) + entries)
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames]
    assert bench.serials == list(range(len(frames)))
    assert [event["length"] for event in bench.queue_events] == [sum(n for _, n in pieces) for pieces in frames]
    assert [event["length"] for event in bench.frame_events] == [len(frame) for frame in bench.frames]
    assert [c.buffer_id for c in bench.completions[0]] == [len(pieces) - 1 for pieces in frames]


def test_jumbo_frames_use_the_whole_buffer_and_wait_for_room_in_it():
    config = preset("10g")
    bench = TxBench(config, wire_stall=0.1)
    frames = [[(0x100 * i, 3000), (0x2001 + i, 3001), (0x4003, 3215)] for i in range(6)]

    async def scenario(ctx):
        for pieces in frames:
            await bench.post(ctx, chain(pieces))
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames]
    assert all(len(frame) == 9216 for frame in bench.frames)


def test_completions_come_only_where_asked_for_and_name_the_index_behind_their_descriptor():
    bench = TxBench(preset("10g"))

    async def scenario(ctx):
        await bench.post(ctx, [context(), data(0, 60, 7, report=True), data(0, 60, 8)])
        await bench.post(ctx, [data(0, 30, 9, end=False, report=True), data(64, 30, 10, report=True)])
        await bench.settle(ctx, 3)
        await bench.restart(ctx, 0)
        await bench.post(ctx, [data(0, 60, 11, report=True)])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert [(c.buffer_id, c.index, c.error) for c in bench.completions[0]] == [
        (7, 2, GOOD),
        (9, 4, GOOD),
        (10, 5, GOOD),
        (11, 1, GOOD),
    ]


def test_frames_of_wrong_length_are_completed_unread_and_not_sent():
    bench = TxBench(preset("10g"))

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 13, 1, report=True), data(0, 9217, 2, report=True)])
        await bench.post(ctx, [*(data(0, 60000, 3, end=False) for _ in range(3)), data(0, 60000, 4, report=True)])
        await bench.post(ctx, [data(0, 14, 5, report=True)])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert [c.error for c in bench.completions[0]] == [FRAME_LENGTH] * 3 + [GOOD]
    assert [event["error"] for event in bench.queue_events] == [FRAME_LENGTH] * 3 + [GOOD]
    assert bench.frames == [gathered(bench, [(0, 14)])]
    assert bench.commands == 1


def test_a_frame_that_cannot_be_read_is_not_sent_and_leaves_no_trace_in_the_next():
    bench = TxBench(preset("10g"))
    bench.bad_pages = {0x5}
    bad = [(0x100, 100), (0x5000, 50), (0x200, 77)]
    good = [(0x300, 33), (0x400, 44)]

    async def scenario(ctx):
        for pieces in (good, bad, good):
            await bench.post(ctx, [data(a, n, n, end=(a, n) == pieces[-1], report=True) for a, n in pieces])
        await bench.settle(ctx, 3)

    bench.run(scenario)
    assert bench.frames == [gathered(bench, good)] * 2
    assert [c.error for c in bench.completions[0]] == [GOOD, GOOD, GOOD, READ_FAULT, READ_FAULT, GOOD, GOOD]
    assert [event["error"] for event in bench.queue_events] == [GOOD, READ_FAULT, GOOD]


def test_frames_that_cannot_be_read_give_back_all_their_room():
    config = preset("10g", tx_buffer_bytes=2048, max_frame=1024)
    bench = TxBench(config)
    bench.bad_pages = {0x5}

    async def scenario(ctx):
        await bench.post(ctx, [data(0x5000, 1001) for _ in range(10)])
        await bench.post(ctx, [data(0, 1001) for _ in range(10)])
        await bench.settle(ctx, 20)

    bench.run(scenario)
    assert bench.frames == [gathered(bench, [(0, 1001)])] * 10


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (data(0, 0), QueueError.DESCRIPTOR_LENGTH),
        (bytes(16), QueueError.DESCRIPTOR_TYPE),
        (DESCRIPTOR.pack(length=60, type=3, flags=END_OF_PACKET), QueueError.DESCRIPTOR_TYPE),
    ],
)
def test_a_bad_descriptor_stops_its_queue_alone_until_it_is_started_again(bad, error):
    bench = TxBench(preset("10g"))

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 61), data(0, 10, end=False), bad])
        await bench.post(ctx, [data(0, 62)] * 3, queue=1)
        await bench.settle(ctx, 4)
        await bench.restart(ctx, 0)
        await bench.post(ctx, [data(0, 63)])
        await bench.settle(ctx, 5)

    bench.run(scenario)
    assert bench.faults == [(0, error.value)]
    assert sorted(len(frame) for frame in bench.frames) == [61, 62, 62, 62, 63]


def test_a_frame_whose_end_is_not_there_and_a_queue_without_slots_hold_up_only_themselves():
    bench = TxBench(preset("10g"), slots=1)

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 61, report=True), data(0, 62, report=True), data(0, 63)])
        await bench.post(ctx, [data(0, 64), data(0, 30, end=False)], queue=1)
        await bench.settle(ctx, 2)
        assert sorted(len(frame) for frame in bench.frames) == [61, 64]
        await bench.post(ctx, [data(0, 35)], queue=1)
        await bench.settle(ctx, 3)
        ctx.set(bench.slots.give, 1)
        await ctx.tick()
        ctx.set(bench.slots.give, 0)
        await bench.settle(ctx, 5)

    bench.run(scenario)
    assert [len(frame) for frame in bench.frames[2:]] == [65, 62, 63]


def test_queues_take_turns_frame_by_frame():
    bench = TxBench(preset("10g"))

    async def scenario(ctx):
        ctx.set(bench.path.tx_enable, 0)
        for queue in (0, 1):
            await bench.post(ctx, [data(0, 60 + queue)] * 5, queue)
        await ctx.tick().repeat(20)
        assert bench.commands == 0
        ctx.set(bench.path.tx_enable, 1)
        await bench.settle(ctx, 10)

    bench.run(scenario)
    queues = [event["queue"] for event in bench.queue_events]
    assert all(first != second for first, second in pairwise(queues))


def test_a_frame_of_too_many_descriptors_is_completed_unread_up_to_its_end():
    config = preset("10g", fetch_depth=8)
    bench = TxBench(config)
    limit = bench.path.max_descriptors
    assert limit == 4

    async def scenario(ctx):
        for length in (limit, limit + 1, 3 * limit, 2):
            await bench.post(ctx, [data(0, 20, i, end=i == length - 1, report=True) for i in range(length)])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert [event["error"] for event in bench.queue_events] == [GOOD, FRAME_LENGTH, FRAME_LENGTH, GOOD]
    assert [c.index for c in bench.completions[0]] == list(range(1, 24))
    assert [len(frame) for frame in bench.frames] == [80, 60]


def test_an_overlong_chain_without_end_is_aborted_when_its_queue_stops():
    bench = TxBench(preset("10g", fetch_depth=8))

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 20, end=False)] * 6)
        await ctx.tick().repeat(40)
        assert ctx.get(bench.path.control.busy) == 1
        await bench.restart(ctx, 0)
        await bench.post(ctx, [data(0, 70)])
        await bench.settle(ctx, 2)

    bench.run(scenario)
    assert [(event["aborted"], event["error"]) for event in bench.queue_events] == [(1, GOOD), (0, GOOD)]
    assert [len(frame) for frame in bench.frames] == [70]


@pytest.mark.parametrize("seed", range(4))
def test_a_queue_that_stops_in_traffic_finishes_what_it_took_and_reads_nothing_afterwards(seed):
    bench, rng = TxBench(preset("10g"), seed=seed, stall=0.3), random.Random(seed)
    frames = [[(rng.randrange(1 << 15), rng.randint(20, 200)) for _ in range(rng.randint(1, 4))] for _ in range(12)]

    async def scenario(ctx):
        for pieces in frames:
            await bench.post(ctx, chain(pieces, report=True))
        ctx.set(bench.path.control.enable, 2)
        for _ in range(5000):
            await ctx.tick()
            if not ctx.get(bench.path.control.busy):
                break
        else:
            raise AssertionError("Waited 5000 cycles for queue 0 to become idle")
        await ctx.tick()  # the bench notes an edge's transfers after this scenario has seen it
        reads, completions = bench.commands, len(bench.completions[0])
        await bench.post(ctx, chain(frames[0]))
        await ctx.tick().repeat(200)
        assert (reads, completions) == (bench.commands, len(bench.completions[0]))
        await bench.settle(ctx, completions)

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames[: len(bench.frames)]]
    assert len(bench.completions[0]) == len(bench.frames)
    assert 0 < len(bench.frames) < len(frames)


def test_a_queue_is_busy_until_its_completions_are_handed_over():
    """Those of both queues wait, of one behind the other."""
    bench = TxBench(preset("10g"))
    bench.holds = True

    async def scenario(ctx):
        for queue in (0, 1):
            await bench.post(ctx, [data(100, 70, report=True)], queue=queue)
        await ctx.tick().repeat(300)
        assert len(bench.frames) == 2
        assert bench.completions == [[], []]
        assert ctx.get(bench.path.control.busy) == 3
        bench.holds = False
        await bench.settle(ctx, 2)
        assert [len(done) for done in bench.completions] == [1, 1]

    bench.run(scenario)


@pytest.mark.parametrize("cut", [1, 5, 12, 40, 70, 90, 130])
def test_after_reset_in_traffic_the_path_is_as_after_power_on(cut):
    bench = TxBench(preset("10g"), stall=0.1)
    frames = [[(100, 70)], [(301, 33), (502, 41)], [(0, 15), (64, 100), (700, 3)]]

    async def scenario(ctx):
        for pieces in [*frames, *frames]:
            await bench.post(ctx, chain(pieces, report=True))
        await bench.post(ctx, [data(0, 9)], queue=1)
        await ctx.tick().repeat(cut)
        await bench.reset(ctx)
        assert ctx.get(bench.path.control.busy) == 0
        for pieces in frames:
            await bench.post(ctx, chain(pieces, report=True))
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames]
    assert [completion.index for completion in bench.completions[0]] == [1, 3, 6]


def test_trace_points_name_each_buffer_read_and_each_frame_sent():
    bench = TxBench(preset("10g", serial_width=8))
    seen = {"gathered": [], "sent": []}

    async def scenario(ctx):
        await bench.post(ctx, [data(0, 40, 21, end=False), data(0, 40, 22), context(), data(0, 60, 23)])
        await bench.settle(ctx, 2)

    async def watch(ctx):
        while True:
            await ctx.tick()
            for name, log in seen.items():
                point = getattr(bench.path, name)
                if ctx.get(point.strobe):
                    log.append((ctx.get(point.serial), ctx.get(point.detail)))

    bench.run(scenario, watch)
    assert seen == {"gathered": [(0, 21), (0, 22), (1, 23)], "sent": [(0, 0), (1, 0)]}


def test_kinds_of_destination_are_told_apart():
    bench = TxBench(preset("10g"))
    for position, destination in enumerate(("020000000001", "ffffffffffff", "01005e000001")):
        bench.memory[0x100 * position : 0x100 * position + 6] = bytes.fromhex(destination)

    async def scenario(ctx):
        await bench.post(ctx, [data(0x100 * position, 60) for position in range(3)])
        await bench.settle(ctx, 3)

    bench.run(scenario)
    assert [(e["multicast"], e["broadcast"]) for e in bench.frame_events] == [(0, 0), (0, 1), (1, 0)]


def test_reads_wait_for_room_where_the_wire_is_slow():
    bench = TxBench(preset("10g", tx_buffer_bytes=2048, max_frame=1024), wire_stall=0.8)
    frames = [[(0x400 * i + i, 1000 - i)] for i in range(8)]

    async def scenario(ctx):
        for pieces in frames:
            await bench.post(ctx, chain(pieces))
        await ctx.tick().repeat(300)
        assert bench.commands == 2, "two frames of 1,000 bytes fill 2,048"
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames]


@pytest.mark.parametrize("width", [64, 128, 512])
def test_a_buffer_full_of_frames_to_be_padded_keeps_each_as_it_is(width):
    config = preset("10g", data_width=width, tx_buffer_bytes=2048, max_frame=1024, fetch_depth=256, serial_width=16)
    bench = TxBench(config)
    frames = [[(16 * i, 14 + i % 3)] for i in range(180)]

    async def scenario(ctx):
        await bench.post(ctx, [data(*pieces[0], i) for i, pieces in enumerate(frames)])
        await ctx.tick().until(bench.path.wire.valid)
        bench.wire_stall = 1.0
        await ctx.tick().repeat(1500)
        bench.wire_stall = 0.0
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    assert bench.frames == [gathered(bench, pieces) for pieces in frames]
    assert bench.serials == list(range(len(frames)))
