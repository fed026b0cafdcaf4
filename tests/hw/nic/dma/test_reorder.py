# SPDX-License-Identifier: BSD-2-Clause
"""ReorderBuffer: beats land in any order across IDs, and leave in the order of their bursts."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.dma.reorder import ReorderBuffer
from tests.hw.streams import receive

BOUND = 20000


class Bench:
    """Reserves bursts, and lands their beats in the order that ``choose`` makes of the IDs that have one: it is given
    the waiting bursts of each ID, oldest first, as (burst, next beat), and gives the burst that lands a beat next, or
    None."""

    def __init__(self, config, ids, lengths, choose, *, pause=0.0, seed=1):
        self.dut = ReorderBuffer(config, ids)
        self.lengths, self.pause = lengths, pause
        self.choose, self.random = choose, random.Random(seed)
        self.reserved: list[int] = []  #: ID of each burst reserved
        self.landed: list[tuple[int, int, int]] = []  #: cycle, burst, beat
        self.left: list[tuple[int, int, int]] = []  #: cycle, data, error
        self.cycle = 0
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        self.sim.add_process(self._count)
        self.sim.add_testbench(self._memory)
        self.sim.add_testbench(self._client)

    async def _count(self, ctx):
        async for _ in ctx.tick():
            self.cycle += 1

    async def _memory(self, ctx):
        dut, waiting = self.dut, {}
        while len(self.landed) < sum(self.lengths):
            assert self.cycle < BOUND, f"Waited {BOUND} cycles for {sum(self.lengths)} beats to land"
            burst = self.choose({number: queue[0] for number, queue in waiting.items() if queue})
            ctx.set(dut.landing.valid, burst is not None)
            if burst is not None:
                queue = waiting[self.reserved[burst]]
                beat = queue[0][1]
                last = beat == self.lengths[burst] - 1
                ctx.set(
                    dut.landing.payload,
                    {
                        "number": self.reserved[burst],
                        "last": last,
                        "beat": {"data": burst << 8 | beat, "error": (burst * beat) % 3 == 1},
                    },
                )
                self.landed.append((self.cycle, burst, beat))
                queue.popleft() if last else queue.__setitem__(0, (burst, beat + 1))
            reserve = len(self.reserved) < len(self.lengths) and ctx.get(dut.room)
            ctx.set(dut.reserve, reserve)
            if reserve:
                number = ctx.get(dut.number)
                ctx.set(dut.beats, self.lengths[len(self.reserved)] - 1)
                waiting.setdefault(number, deque()).append((len(self.reserved), 0))
                self.reserved.append(number)
            await ctx.tick()
        ctx.set(dut.landing.valid, 0)
        ctx.set(dut.reserve, 0)

    async def _client(self, ctx):
        for _ in range(sum(self.lengths)):
            while self.random.random() < self.pause:
                await ctx.tick()
            beat = await receive(ctx, self.dut.output, name="a beat in order", bound=BOUND)
            # It was offered before the edge that has been counted.
            self.left.append((self.cycle - 1, beat.data, beat.error))

    def check(self):
        """All beats have left, in order, with their errors."""
        self.sim.run()
        expected = [
            (burst << 8 | beat, int((burst * beat) % 3 == 1))
            for burst, length in enumerate(self.lengths)
            for beat in range(length)
        ]
        assert [(data, error) for _, data, error in self.left] == expected


def lengths_of(config, random_, count):
    longest = config.max_burst_bytes // config.beat_bytes
    return [random_.choice((1, longest, random_.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize(
    ("ids", "slots", "width", "burst", "gaps", "pause", "seed"),
    [
        (2, 2, 64, 64, 0.0, 0.0, 1),
        (4, 5, 64, 64, 0.3, 0.0, 2),
        (8, 32, 64, 128, 0.0, 0.4, 3),
        (16, 8, 64, 64, 0.2, 0.2, 4),
        (4, 16, 512, 64, 0.6, 0.0, 5),
        (16, 64, 512, 256, 0.1, 0.1, 6),
    ],
)
def test_any_order_across_ids_becomes_the_order_of_the_bursts(ids, slots, width, burst, gaps, pause, seed):
    print(f"seed {seed}")
    random_ = random.Random(seed)
    config = preset("10g", data_width=width, max_burst_bytes=burst, outstanding_reads=slots)

    def choose(heads):
        if not heads or random_.random() < gaps:
            return None
        return random_.choice(list(heads.values()))[0]

    bench = Bench(config, ids, lengths_of(config, random_, 150), choose, pause=pause, seed=seed)
    bench.check()
    order = [burst for _, burst, _ in bench.landed]
    assert order != sorted(order), "beats must really have landed out of order"
    assert bench.reserved == [index % ids for index in range(150)]


def test_beats_that_land_in_order_leave_one_a_cycle_four_cycles_later():
    config = preset("10g", max_burst_bytes=64)
    lengths = [1, 8, 1, 1, 3, 8, 8, 2] * 20
    bench = Bench(config, 8, lengths, lambda heads: min(heads.values())[0] if heads else None)
    bench.check()
    landed, left = ([entry[0] for entry in entries] for entries in (bench.landed, bench.left))
    assert landed[-1] - landed[0] == left[-1] - left[0] == sum(lengths) - 1
    assert left[0] - landed[0] == 4


def test_a_late_burst_holds_up_only_what_lies_beyond_all_slots():
    """Burst 3 is withheld: every burst of another ID lands, as far as there are slots, and everything before it has
    left by then; no R beat is refused at any time."""
    ids, slots, late = 4, 16, 3
    config = preset("10g", max_burst_bytes=64, outstanding_reads=slots)
    released = []

    def choose(heads):
        candidates = [head for head in heads.values() if head[0] != late or released]
        if not candidates and bench.cycle > 300:
            released.append(bench.cycle)
        return min(candidates)[0] if candidates else None

    bench = Bench(config, ids, [8] * 40, choose)
    bench.check()
    before = {burst for cycle, burst, _ in bench.landed if cycle <= released[0]}
    assert before == {burst for burst in range(late + slots) if burst < late or burst % ids != late % ids}
    assert [data >> 8 for cycle, data, _ in bench.left if cycle <= released[0]] == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize("ids", [0, 1, 3, "4"])
def test_number_of_ids_is_checked(ids):
    with pytest.raises(ValueError, match=f"must be a power of two from 2 up, not {ids!r}"):
        ReorderBuffer(preset("10g"), ids)
