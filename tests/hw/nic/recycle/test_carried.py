# SPDX-License-Identifier: BSD-2-Clause
"""Carried translations among a DMA and an IOMMU: none is used once its invalidation is acknowledged."""

import pytest
from amaranth.hdl import Module, ResetInserter
from amaranth.sim import Simulator

from hw.nic.recycle.carried import CarriedTranslations
from hw.nic.reset import FunctionReset
from tests.hw.nic.recycle.carried_bench import BUFFERS, CONFIG, EVERYTHING, TRANSLATED, Bench, Leaf, World

READY = 60  #: cycles after a reset until all buffers have forgotten
BUFFER, OTHER_BUFFER, PAGE, FRAME, OTHER = (1, 3), (0, 7), 0x40, 0x900, 0x901
AT = PAGE << 12 | 0x100
MESSAGE = ("tag", "process_id", "process_id_valid", "device_id", "everywhere", "size", "address")


def carrying(world, *, page=PAGE, buffer=BUFFER):
    """Have the buffer carry its translation, in the first cycles of a run."""
    if world.cycle in (READY, READY + 40):
        world.offered[0].append((page << 12 | 0x100, 60, buffer))


def translated(world, *, after=0, before=1 << 30):
    """Addresses of translated commands that were over in those cycles."""
    return [each.address for at, _, each in world.over if after <= at < before and each.address_type == TRANSLATED]


def test_the_answer_to_the_first_use_translates_the_next():
    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), carrying).run(READY + 80)
    assert [(each.address, each.address_type == TRANSLATED) for _, _, each in world.over] == [
        (AT, False),
        (FRAME << 12 | 0x100, True),
    ]
    assert world.idle


def test_an_invalidation_in_the_middle_of_a_write_is_acknowledged_after_it():
    def act(world):
        carrying(world)
        world.dma = (150, 150) if world.cycle > READY + 20 else (10, 10)
        if world.cycle == READY + 60:
            world.leaves[PAGE] = Leaf(OTHER)
            world.invalidate(PAGE, [FRAME])
        if world.cycle in (READY + 70, READY + 75):  # goes on meanwhile, and is not waited for
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 400)
    ((over, _, _),) = [each for each in world.over if each[2].address_type == TRANSLATED]
    ((cycle, _),) = world.acknowledged
    assert over < cycle <= over + 4
    assert world.taken_meanwhile == 2
    assert len(world.over) == 4


def test_an_invalidation_of_what_nobody_carries_waits_for_nothing():
    def act(world):
        carrying(world)
        world.dma = (150, 150) if world.cycle > READY + 20 else (10, 10)
        if world.cycle == READY + 60:
            world.invalidate(PAGE + 1, [])
        if world.cycle == READY + 70:
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 400)
    ((cycle, done),) = world.acknowledged
    assert cycle == done.sent + 4
    assert len(translated(world)) == 2


@pytest.mark.parametrize("number", [0, 1], ids=["writes", "reads"])
@pytest.mark.parametrize("buffer", [BUFFERS[0], BUFFERS[-1]], ids=["first", "last"])
def test_what_is_looked_up_while_buffers_forget_is_not_used(number, buffer):
    """A transfer of the buffer in every cycle: the buffers that forget first and last are no exception."""

    def act(world):
        if world.cycle in (READY, READY + 40) or READY + 60 < world.cycle < READY + 200:
            world.offered[number].append((AT, 60, buffer))
        if world.cycle == READY + 80:
            world.leaves[PAGE] = Leaf(OTHER)
            world.invalidate(PAGE, [FRAME])

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 400)
    ((acknowledged, _),) = world.acknowledged
    assert {address >> 12 for address in translated(world)} == {FRAME, OTHER}
    assert {address >> 12 for address in translated(world, after=acknowledged)} == {OTHER}


@pytest.mark.parametrize("sent", range(12))
def test_an_answer_that_crosses_an_invalidation_is_not_used(sent):
    """The request reached the IOMMU before the table changed; its answer comes about when the invalidation does."""

    def act(world):
        if world.cycle == READY:
            world.offered[0].append((AT, 60, BUFFER))
        if world.requests and "word" in world.requests[0]:
            world.leaves[PAGE] = Leaf(OTHER)
        if world.cycle == READY + 20 + sent:
            world.invalidate(PAGE, [FRAME])
        if world.cycle in (READY + 120, READY + 200):
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}, answer=(18, 18)), act).run(READY + 300)
    assert len(world.acknowledged) == 1
    assert translated(world) == [OTHER << 12 | 0x100]


def test_two_at_once():
    def act(world):
        carrying(world)
        carrying(world, page=PAGE + 5, buffer=(0, 7))
        if world.cycle == READY + 100:
            world.leaves[PAGE], world.leaves[PAGE + 5] = Leaf(0x904), Leaf(0x905)
            world.invalidate(PAGE, [FRAME])
            world.invalidate(PAGE + 5, [OTHER])
        if world.cycle in (READY + 102, READY + 200, READY + 260):
            world.offered[1].extend([(AT, 60, BUFFER), ((PAGE + 5) << 12, 60, (0, 7))])

    world = Bench(World(leaves={PAGE: Leaf(FRAME), PAGE + 5: Leaf(OTHER)}), act).run(READY + 300)
    assert len(world.acknowledged) == 2
    assert translated(world, after=READY + 255) == [0x904100, 0x905000]


def test_of_a_large_page_each_buffer_gets_its_part_and_a_range_ends_all():
    pages = range(PAGE, PAGE + 8)

    def act(world):
        for number, page in enumerate(pages):
            if world.cycle in (READY, READY + 40, READY + 240, READY + 300):
                world.offered[0].append((page << 12, 64, (0, number)))
        if world.cycle == READY + 100:
            world.leaves.update({page: Leaf(0x800 + page - PAGE, pages=8) for page in pages})
            world.invalidate(PAGE | 3, range(0x908, 0x910), size=1)

    leaves = {page: Leaf(0x908 + page - PAGE, pages=8) for page in pages}
    world = Bench(World(leaves=leaves), act).run(READY + 350)
    assert translated(world, before=READY + 100) == [0x908000 + (number << 12) for number in range(8)]
    assert translated(world, after=READY + 290) == [0x800000 + (number << 12) for number in range(8)]


def test_after_an_error_nothing_is_asked_until_enabled_again():
    def act(world):
        world.refuses = world.cycle < READY + 200
        world.enable = world.cycle != READY + 250
        if world.cycle >= READY and world.cycle % 10 == 0:
            world.offered[0].append((AT, 60, BUFFER))
        if world.cycle in (READY + 60, READY + 249):
            assert (world.refused, world.idle) == (1, 1)
            seen.append(world.asked)

    seen = []
    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 400)
    assert seen[0] == seen[1] > 0
    assert not world.refused
    assert not translated(world, before=READY + 250)
    assert translated(world, after=READY + 350)


def test_while_disabled_nothing_is_translated_and_invalidations_are_acknowledged():
    def act(world):
        carrying(world)
        if world.cycle == READY + 80:
            world.enable = 0
            world.invalidate(PAGE, [FRAME])
        if world.cycle > READY + 80:
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 300)
    assert len(world.acknowledged) == 1
    assert not translated(world, after=READY + 100)


def test_a_queue_that_stops_is_busy_until_its_requests_are_answered():
    def act(world):
        if world.cycle == READY:
            world.offered[0].extend(((PAGE + number) << 12, 60, (0, number)) for number in range(8))
        if world.cycle == READY + 10:
            world.queues = (0, 0)
        if world.cycle > READY + 12:
            assert any(world.busy) or not world.requests
            seen.append(world.asked)

    seen = []
    leaves = {PAGE + number: Leaf(FRAME + number) for number in range(8)}
    world = Bench(World(leaves=leaves, answer=(50, 50)), act).run(READY + 200)
    assert 0 < world.asked < 8
    assert not any(world.busy)
    assert set(seen) == {world.asked}
    assert world.idle


@pytest.mark.parametrize("stops", [0, 1], ids=["rx", "tx"])
def test_a_direction_stops_while_the_other_goes_on_asking(stops):
    """Of one queue, whose buffers never carry anything: no page is mapped."""

    def act(world):
        world.offered[0].append((AT, 60, BUFFERS[0]))
        world.offered[1].append((AT, 60, BUFFERS[1]))
        if world.cycle == READY + 100:
            world.queues = (2, 3) if stops == 0 else (3, 1)
        seen.append(world.busy[stops])
        others.append(world.busy[1 - stops])

    seen, others = [], []
    world = Bench(World(answer=(50, 50), queues=(3, 3)), act).run(READY + 400)
    mask = (1, 2)[stops]
    assert any(busy & mask for busy in seen[: READY + 100])
    assert not any(busy & mask for busy in seen[READY + 200 :])
    assert any(others[READY + 200 :])
    assert world.asked > 30


def test_queues_with_a_process_neither_use_translations_nor_ask():
    def act(world):
        carrying(world)
        if world.cycle > READY + 50:
            world.offered[0].append((AT, 60, BUFFER))

    world = World(leaves={PAGE: Leaf(FRAME)}, contexts={READY + 100: (0, 1 << 20 | 7), READY + 200: (0, 7)})
    Bench(world, act).run(READY + 300)
    assert translated(world, before=READY + 100)
    assert not translated(world, after=READY + 130, before=READY + 200)
    assert translated(world, after=READY + 230)
    assert world.asked == 1


def test_buffers_forget_all_when_the_device_is_another():
    def act(world):
        carrying(world)
        if world.cycle == READY + 60:
            world.leaves[PAGE] = Leaf(OTHER)
            world.device = 6
        if world.cycle == READY + 61:
            world.invalidate(PAGE + 1, [])
        if world.cycle > READY + 60:
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}, answer=(20, 20)), act).run(READY + 300)
    assert {address >> 12 for address in translated(world, before=READY + 60)} == {FRAME}
    assert {address >> 12 for address in translated(world, after=READY + 60)} == {OTHER}
    assert len(world.acknowledged) == 1
    assert world.idle


def test_an_answer_to_the_device_of_before_is_not_used():
    """Asked for by the one, answered when it is the other."""

    def act(world):
        if world.cycle == READY:
            world.offered[0].append((AT, 60, BUFFER))
        if world.cycle == READY + 30:
            world.device = 6
        if world.cycle in (READY + 200, READY + 230):
            world.offered[0].append((AT, 60, BUFFER))

    world = Bench(World(leaves={PAGE: Leaf(FRAME)}, answer=(60, 60)), act).run(READY + 300)
    assert world.asked == 3
    assert not translated(world)


def test_an_error_from_before_translations_were_enabled_anew_refuses_nothing():
    """Two requests are refused; when the second is, software has mended the device's context."""

    def act(world):
        if world.cycle == READY:
            world.offered[0].append((AT, 60, BUFFER))
        if world.cycle == READY + 1:
            world.offered[0].append((AT + 4096, 60, OTHER_BUFFER))
        world.refuses = world.cycle < READY + 30
        world.answer = (5, 5) if world.asked == 0 else (80, 80)
        world.enable = not READY + 40 <= world.cycle < READY + 42
        if READY + 42 < world.cycle < READY + 120:
            assert not world.refused or world.cycle < READY + 46
        if world.cycle in (READY + 120, READY + 220):
            world.offered[0].append((AT, 60, BUFFER))
        seen.append(world.refused)

    seen = []
    world = Bench(World(leaves={PAGE: Leaf(FRAME)}), act).run(READY + 300)
    assert seen[READY + 39]
    assert not any(seen[READY + 46 :])
    assert len(translated(world)) == 1


def test_an_invalidation_that_comes_while_all_is_reset_is_acknowledged():
    m = Module()
    m.submodules.reset = reset = FunctionReset()
    dut = CarriedTranslations(CONFIG)
    m.submodules.dut = ResetInserter(reset.reset)(dut)
    m.d.comb += [reset.drained.eq(1), reset.quiet.eq(dut.idle), dut.hold.eq(reset.closing), dut.invalidated.ready.eq(1)]
    sim = Simulator(m)
    sim.add_clock(1e-6)

    async def testbench(ctx):
        for offset in range(40):
            acknowledged, taken = [], False
            for cycle in range(120):
                ctx.set(reset.request, cycle == 0)
                ctx.set(dut.invalidate.valid, cycle >= offset and not taken)
                ctx.set(dut.invalidate.payload, {**dict.fromkeys(MESSAGE, 0), "tag": offset % 32})
                taken |= ctx.get(dut.invalidate.valid) and ctx.get(dut.invalidate.ready)
                if ctx.get(dut.invalidated.valid):
                    acknowledged.append(ctx.get(dut.invalidated.payload.tag))
                await ctx.tick()
            assert not ctx.get(reset.resetting)
            assert acknowledged == [offset % 32], f"{offset} cycles after CONTROL.reset"

    sim.add_testbench(testbench)
    sim.run()


class Software:
    """Traffic, and maps, unmaps and invalidations, at random; from ``calm`` on traffic only."""

    PAGES = range(0x40, 0x60)

    def __init__(self, world, calm):
        rng = world.rng
        self.calm = calm
        self.free = list(range(0x900, 0x900 + 96))
        self.pace = rng.choice((60, 150, 300))  # cycles from change to change, on average
        self.load = rng.choice((0.1, 0.4, 1.0))
        self.near = rng.choice((len(BUFFERS), 4))  # buffers in use
        for page in self.PAGES:
            self._map(world, page)

    def _map(self, world, page):
        rng = world.rng
        if self.free:
            rights = rng.choice(((1, 1), (1, 1), (1, 0), (0, 1)))
            world.leaves[page] = Leaf(self.free.pop(rng.randrange(len(self.free))), *map(bool, rights))

    def _recover(self, world):
        """Frames of acknowledged invalidations are mapped again some day: whoever still uses them is found out."""
        while world.acknowledged and world.acknowledged[0][0] < world.cycle - 200:
            for frame in world.acknowledged.pop(0)[1].frames:
                world.old.discard(frame)
                self.free.append(frame)

    def _change(self, world):
        rng = world.rng
        bits = rng.choice((0, 0, 0, 1, 2, 5))
        first = rng.choice(self.PAGES) & -(1 << bits)
        span = [page for page in range(first, first + (1 << bits)) if page in world.leaves]
        for page in self.PAGES:
            if page not in world.leaves and rng.random() < 0.3:
                self._map(world, page)
        if not span:
            return
        frames = [world.leaves.pop(page).frame for page in span]
        if rng.random() < 0.5:
            self._map(world, span[0])
        if rng.random() < 0.1:
            world.invalidate(EVERYTHING, frames, size=1)
        else:
            world.invalidate(first | (1 << bits) // 2 - 1 if bits else first, frames, size=bits > 0)

    def __call__(self, world):
        rng = world.rng
        self._recover(world)
        if world.cycle == self.calm:
            for page in self.PAGES:
                if page not in world.leaves:
                    self._map(world, page)
        for offered in world.offered:
            if len(offered) < 2 and rng.random() < self.load:
                number = rng.randrange(self.near)
                at = self.PAGES[number] << 12 | rng.choice((0, 0x100, 0xFC0, 0xFE0))
                offered.append((at, rng.choice((1, 32, 60)), BUFFERS[number] if rng.random() < 0.9 else None))
        if world.cycle < self.calm and rng.randrange(self.pace) == 0 and len(world.queued) < 3:
            self._change(world)


CYCLES, CALM = 1500, 900


@pytest.mark.parametrize("seed", range(20))
def test_no_old_frame_is_touched(seed):
    print(f"seed {seed}")
    world = World(seed=seed)
    rng = world.rng
    world.ready = rng.choice((0.4, 0.8, 1.0))
    world.reach, world.answer = rng.choice(((1, 4), (1, 30))), rng.choice(((1, 4), (1, 60)))
    world.dma = rng.choice(((1, 5), (1, 60)))
    world.prefetch = rng.choice((0, 0.05))
    Bench(world, Software(world, CALM)).run(CYCLES)
    assert not world.waiting
    assert not world.queued
    assert world.taken_meanwhile
    assert translated(world, before=CALM)
    assert translated(world, after=CALM + 400)
