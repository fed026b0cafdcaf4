# SPDX-License-Identifier: BSD-2-Clause
"""The TX path hands buffers back: whose claim was granted, once, and not before they have been read."""

import random
from collections import Counter, deque

import pytest
from scapy.layers.inet import TCP

from hw.abi.rings import CompletionError, TxDescriptorType
from hw.config import preset
from hw.nic.tx.framer import max_descriptors
from tests.hw.nic.tx.bench import DESCRIPTOR, TxBench, context, data
from tests.hw.nic.tx.packets import Placer, padded, random_stream_packet, segmentation, segments
from tests.hw.nic.tx.recycling import NONE, NOT_OUT, POOL, SEGMENT, Judge, allow

GOOD = CompletionError.NONE.value
READ_FAULT = CompletionError.READ_FAULT.value
FRAME_LENGTH = CompletionError.FRAME_LENGTH.value
OFFLOAD = CompletionError.OFFLOAD.value
BUFFER = 512  # bytes that each has of the memory
IDS = 64


def machine(name="10g", **changes):
    return preset(name, **{"pools": 2, "pool_buffers": IDS, "max_burst_bytes": 512, **changes})


def place(pool, buffer_id):
    """Where the buffer lies."""
    return BUFFER * (IDS * (pool % 2) + buffer_id % IDS)


def piece(pool, buffer_id, length=60, *, ask=("recycle",), **fields):
    return data(place(pool, buffer_id), length, buffer_id, ask=ask, pool=pool, **fields)


def marked(raw):
    """A descriptor with ``recycle``, if it is one of data."""
    fields = DESCRIPTOR.unpack(raw)._asdict()
    if fields["type"] != TxDescriptorType.DATA.value:
        return raw
    return DESCRIPTOR.pack(**{**fields, "flags": fields["flags"] | DESCRIPTOR.mask("flags", "recycle")})


class RecyclingBench(TxBench):
    """A :class:`TxBench` with a judge, and with all that came back: ``back``, as (pool, id).

    Each buffer must come back after its claim was granted, once, in the order of the claims, and not before its bytes
    were read as often as pieces of it with ``recycle``, granted or not, say up to there, but for those that ``unread``
    names. With ``renews`` it is out again at once.
    """

    def __init__(self, config, *, latency=4, seed=0, claim_stall=0.0, out=(), **options):
        super().__init__(config, seed=seed, **options)
        self.judge = Judge(config, self.path.claims, self.path.verdict, latency, seed, claim_stall, out=set(out))
        self.back = []
        self.unread = set()
        self.renews = False

    def run(self, scenario, *watchers, allowed=3):
        async def main(ctx):
            for queue in range(self.config.queues):
                await allow(ctx, self.path.queue_write, queue, allowed)
            await scenario(ctx)

        super().run(main, self.judge.run, self._returns, *watchers)

    async def settle(self, ctx, jobs, bound=20_000, more=0):
        await super().settle(ctx, jobs, bound, more)
        assert len(self.back) == self.judge.errors.count(NONE), "idle, and not all that was granted is back"

    async def _returns(self, ctx):
        returned = self.path.returned
        seen, held, claimed = 0, deque(), Counter()
        while True:
            _, _, strobe, pool, buffer_id = await ctx.tick().sample(
                returned.strobe, returned.buffer.pool, returned.buffer.id
            )
            for claim, error in zip(self.judge.made[seen:], self.judge.errors[seen:], strict=True):
                key = claim.pool, claim.id
                claimed[place(*key)] += key not in self.unread
                if error == NONE:
                    held.append((key, claimed[place(*key)]))
            seen = len(self.judge.made)
            if strobe:
                assert held, f"buffer {buffer_id} of pool {pool} came back, and no claim was granted"
                key, reads = held.popleft()
                assert key == (pool, buffer_id)
                assert self.read_whole[place(*key)] >= reads, f"buffer {key} came back before it was read"
                self.back.append(key)
                if self.renews:
                    self.judge.out.add(key)


@pytest.mark.parametrize("latency", range(2, 11))
def test_each_granted_buffer_of_frames_of_one_or_more_descriptors_comes_back_and_refused_ones_do_not(latency):
    config = machine()
    out = [(pool, i) for pool in (0, 1) for i in range(IDS) if i % 3]
    bench = RecyclingBench(config, latency=latency, out=out)
    lengths = [1, 1, 2, 1, 3, 5, 1, 1, 6] * 3
    numbers = iter(range(2 * IDS))
    frames = [[divmod(next(numbers), IDS) for _ in range(length)] for length in lengths]

    async def scenario(ctx):
        for buffers in frames:
            end = buffers[-1]
            await bench.post(ctx, [piece(*name, 70, end=name == end, report=name == end) for name in buffers])
        await bench.settle(ctx, len(frames))

    bench.run(scenario)
    named = [name for buffers in frames for name in buffers]
    assert [(claim.pool, claim.id) for claim in bench.judge.made] == named
    assert bench.back == [name for name in named if name in out]
    assert bench.judge.errors == [NONE if name in out else NOT_OUT for name in named]
    memory = bench.memory
    assert bench.frames == [b"".join(memory[place(*name) :][:70] for name in buffers) for buffers in frames]
    assert [c.error for c in bench.completions[0]] == [GOOD] * len(frames)


def test_only_what_is_marked_is_claimed_and_completions_come_as_asked_for():
    bench = RecyclingBench(machine(), out=[(0, i) for i in range(8)])

    async def scenario(ctx):
        for i in range(8):
            ask = ("recycle",) if i & 1 else ()
            await bench.post(ctx, [context(reserved_top=(1 << 28) - 1), piece(0, i, ask=ask, report=bool(i & 2))])
        await bench.settle(ctx, 8)

    bench.run(scenario)
    assert bench.back == [(0, 1), (0, 3), (0, 5), (0, 7)]
    assert len(bench.judge.made) == 4
    assert [c.buffer_id for c in bench.completions[0]] == [2, 3, 6, 7]


@pytest.mark.parametrize(("allowed", "pool", "error"), [(1, 1, POOL), (2, 1, NONE), (0xFFFF, 2, POOL), (3, 15, POOL)])
def test_frames_whose_pool_is_not_their_queues_are_sent_all_the_same(allowed, pool, error):
    bench = RecyclingBench(machine(), out=[(pool, 5)])

    async def scenario(ctx):
        await bench.post(ctx, [piece(pool, 5, report=True)])
        await bench.settle(ctx, 1)

    bench.run(scenario, allowed=allowed)
    assert bench.judge.errors == [error]
    assert bench.back == ([(pool, 5)] if error == NONE else [])
    assert len(bench.frames) == 1
    assert [c.error for c in bench.completions[0]] == [GOOD]


def test_buffers_that_cannot_be_read_and_those_of_their_frame_come_back():
    bench = RecyclingBench(machine(), out=[(0, i) for i in range(24)])
    bench.bad_pages = {place(0, 9) >> 12}

    async def scenario(ctx):
        for frame in ((0, 1), (2, 9, 3), (10,), (4, 5)):
            await bench.post(ctx, [piece(0, i, 40, end=i == frame[-1], report=True) for i in frame])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert [i for _, i in bench.back] == [0, 1, 2, 9, 3, 10, 4, 5]
    assert [c.error for c in bench.completions[0]] == [GOOD] * 3 + [READ_FAULT] * 3 + [GOOD] * 2
    assert len(bench.frames) == 2


def test_buffers_of_frames_that_are_not_to_be_sent_come_back_unread():
    config = machine(fetch_depth=8, recycle_ahead=8, tx_offload=True)
    bench = RecyclingBench(config, out=[(0, i) for i in range(24)])
    bench.unread = {(0, i) for i in range(24)}
    parts = max_descriptors(config) + 2

    async def scenario(ctx):
        await bench.post(ctx, [piece(0, 0, 13), piece(0, 1, 9217)])
        await bench.post(ctx, [piece(0, 2 + i, 30, end=i == parts - 1) for i in range(parts)])
        await bench.post(ctx, [piece(0, 20, ask=("recycle", "insert_vlan"), report=True)])
        await bench.settle(ctx, 4)

    bench.run(scenario)
    assert [event["error"] for event in bench.queue_events] == [FRAME_LENGTH] * 3 + [OFFLOAD]
    assert [i for _, i in bench.back] == [*range(2 + parts), 20]
    assert (bench.commands, bench.frames) == (0, [])


def test_what_was_taken_of_a_frame_that_is_aborted_comes_back_and_nothing_else_is_claimed():
    config = machine(fetch_depth=8, recycle_ahead=8)
    bench = RecyclingBench(config, out=[(0, i) for i in range(8)])
    bench.unread = {(0, i) for i in range(8)}
    limit = max_descriptors(config)

    async def scenario(ctx):
        await bench.post(ctx, [piece(0, i, 20, end=False) for i in range(limit + 2)])
        await ctx.tick().repeat(60)
        await bench.restart(ctx, 0)
        await bench.settle(ctx, 1)

    bench.run(scenario)
    assert [event["aborted"] for event in bench.queue_events] == [1]
    assert [i for _, i in bench.back] == [claim.id for claim in bench.judge.made] == list(range(limit))


def test_a_descriptor_that_faults_its_queue_is_not_claimed():
    bench = RecyclingBench(machine(), out=[(0, i) for i in range(3)])

    async def scenario(ctx):
        await bench.post(ctx, [piece(0, 0), piece(0, 1, 40, end=False), piece(0, 2, 0)])
        await bench.settle(ctx, 1)

    bench.run(scenario)
    assert len(bench.faults) == 1
    assert bench.back == [(0, 0)]
    assert len(bench.judge.made) == 1


@pytest.mark.parametrize("latency", [2, 10])
@pytest.mark.parametrize("after", [18, 25, 30, 36, 45, 60])
def test_a_queue_that_stops_is_busy_until_its_claims_are_judged_and_its_buffers_back(latency, after):
    bench = RecyclingBench(machine(), latency=latency, out=[(0, i) for i in range(IDS)], claim_stall=0.5)

    async def scenario(ctx):
        for i in range(20):
            await bench.post(ctx, [piece(0, 2 * i, 30, end=False), piece(0, 2 * i + 1, 40)])
            if i == 9:
                bench.judge.holds = after < 30
        await ctx.tick().repeat(after)
        ctx.set(bench.path.control.enable, 2)
        await ctx.tick().repeat(100)
        bench.judge.holds = False
        for _ in range(5000):
            if not ctx.get(bench.path.control.busy):
                break
            await ctx.tick()
        else:
            raise AssertionError("Waited 5000 cycles for queue 0 to become idle")
        await ctx.tick()
        claimed, back = len(bench.judge.made), len(bench.back)
        assert claimed == back == bench.judge.errors.count(NONE)
        await ctx.tick().repeat(100)
        assert (claimed, back) == (len(bench.judge.made), len(bench.back))

    bench.run(scenario)
    assert len(bench.back) == 2 * len(bench.queue_events)


def test_while_claims_are_held_up_their_queue_is_busy_and_nothing_comes_back():
    bench = RecyclingBench(machine(), out=[(0, i) for i in range(IDS)])

    async def scenario(ctx):
        bench.judge.holds = True
        await bench.post(ctx, [piece(0, i) for i in range(40)])
        await ctx.tick().repeat(300)
        assert ctx.get(bench.path.control.busy) == 1
        assert (bench.judge.made, bench.back, bench.commands) == ([], [], 0)
        bench.judge.holds = False
        await bench.settle(ctx, 40)

    bench.run(scenario)
    assert bench.back == [(0, i) for i in range(40)]


@pytest.mark.parametrize("seed", range(3))
def test_requests_for_segmentation_hand_no_buffer_back_and_are_sent_whole(seed):
    config = machine(tx_offload=True, segmentation=True)
    bench, rng = RecyclingBench(config, seed=seed, out=[(0, i) for i in range(IDS)]), random.Random(seed)
    placer, expected, posted = Placer(bench, rng), [], []
    for _ in range(12):
        packet = random_stream_packet(rng, rng.randrange(1, 900))
        request = segmentation(rng, packet, 200)
        first = len(request.memory) - len(packet[TCP].payload)
        posted.append([marked(raw) for raw in placer.put(request, first=first)])
        expected += segments(packet, 200)

    async def scenario(ctx):
        for entries in posted:
            await bench.post(ctx, entries)
        await bench.settle(ctx, len(posted), more=len(expected) - len(posted))

    bench.run(scenario)
    assert bench.frames == padded(expected)
    assert set(bench.judge.errors) == {SEGMENT}
    assert bench.back == []


@pytest.mark.parametrize(
    ("latency", "pools", "queues", "active"), [(2, 1, 1, 1), (10, 1, 1, 1), (10, 16, 2, 2), (6, 16, 16, 1)]
)
def test_smallest_frames_whose_buffers_recycle_leave_one_a_cycle(latency, pools, queues, active):
    """As those without: of one queue or of two, to one pool or to many, granted or refused."""
    config = machine(
        data_width=512, pools=pools, pool_buffers=256, queues=queues, fetch_depth=256, outstanding_reads=256
    )
    count = 200
    names = [(i % pools, i) for i in range(count)]
    paces = []
    for ask in ((), ("recycle",)):
        bench = RecyclingBench(config, latency=latency, out=[name for name in names if name[1] % 5])

        async def scenario(ctx, bench=bench, ask=ask):
            ctx.set(bench.path.tx_enable, 0)
            for i, name in enumerate(names):
                await bench.post(ctx, [piece(*name, 64, ask=ask, report=i % 8 == 7)], i % active)
            ctx.set(bench.path.tx_enable, 1)
            await bench.settle(ctx, count)

        bench.run(scenario, allowed=0xFFFF)
        assert len(bench.frames) == count
        paces.append(bench.sent_at[-1] - bench.sent_at[9])
    assert len(bench.judge.made) == count
    assert len(bench.back) == count - count // 5
    assert paces[1] <= paces[0] <= count - 10 + 2


@pytest.mark.parametrize("latency", range(2, 11))
def test_random_traffic_gives_each_granted_buffer_back_once_after_it_was_read(latency):
    seed, width = latency, (64, 128, 512)[latency % 3]
    config, rng = machine(data_width=width, serial_width=16), random.Random(seed)
    stall = 0.3 * (latency % 2)
    bench = RecyclingBench(config, latency=latency, seed=seed, claim_stall=stall, stall=stall, wire_stall=stall / 2)
    bench.renews = True
    bench.bad_pages = {place(1, 8) >> 12}
    bench.unread = {(pool, i) for pool in range(16) for i in range(48, IDS)}
    bench.judge.out = {(pool, i) for pool in (0, 1) for i in range(IDS) if rng.random() < 0.7}
    claims, sent = ([], []), []

    def frame(queue):
        kind = rng.choice(("sent",) * 6 + ("short", "chain"))
        count = {"sent": rng.choice((1, 1, 2, 4)), "short": 1, "chain": max_descriptors(config) + 3}[kind]
        ids = range(48) if kind == "sent" else range(48, IDS)
        entries, parts = [], []
        for i in range(count):
            pool, buffer_id = rng.choice((0, 0, 1, 1, 7)), rng.choice(ids)
            length = 5 if kind == "short" else rng.randrange(14, BUFFER)
            recycle, report, end = rng.random() < 0.7, rng.random() < 0.3, i == count - 1
            address = place(pool, buffer_id) + (0 if recycle else 1 << 16)
            ask = ("recycle",) if recycle else ()
            entries.append(data(address, length, buffer_id, end=end, report=report, ask=ask, pool=pool))
            parts.append((address, length))
            if recycle:
                claims[queue].append((pool, buffer_id))
        if kind == "sent" and not any(address >> 12 in bench.bad_pages for address, _ in parts):
            sent.append(b"".join(bytes(bench.memory[a : a + n]) for a, n in parts).ljust(60, b"\0"))
        return entries

    async def scenario(ctx):
        for _ in range(60):
            queue = rng.randrange(2)
            await bench.post(ctx, frame(queue), queue)
        await bench.settle(ctx, 60)

    bench.run(scenario)
    for queue in (0, 1):
        assert [(c.pool, c.id) for c in bench.judge.made if c.queue == queue] == claims[queue]
    assert sorted(bench.frames) == sorted(sent)
    assert {NONE, NOT_OUT, POOL} == set(bench.judge.errors)
