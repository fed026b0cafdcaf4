# SPDX-License-Identifier: BSD-2-Clause
"""Commands whose buffers carry their translation."""

import random

import pytest
from amaranth.sim import Simulator

from hw.abi.rings import AddressType
from hw.config import NicConfig
from hw.nic.recycle.carried_use import LOOKUP_CYCLES, CarriedUse

CONFIG = NicConfig(pools=2, pool_buffers=16, ats=True)
LATENCY = 5
BOUND = 300


class Bench:
    """Offers commands, answers lookups after :data:`LOOKUP_CYCLES`, and takes what comes out."""

    def __init__(self, dut, *, table, ready=1.0, seed=0):
        self.dut, self.table, self.ready, self.rng = dut, table, ready, random.Random(seed)
        self.commands, self.out, self.wants = [], [], []
        self.usable, self.cycle = 1, 0
        self.finish_after = None
        self.marks, self.drained = set(), {}

    def run(self, cycles):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def testbench(ctx):
            await self._bench(ctx, cycles)

        sim.add_testbench(testbench)
        sim.run()
        return self

    async def _bench(self, ctx, cycles):
        dut, ports = self.dut, self.dut.input
        looked_up = [(0, 0)] * LOOKUP_CYCLES
        for self.cycle in range(cycles):
            offered = self.commands[0] if self.commands else None
            ctx.set(ports.valid, offered is not None)
            if offered is not None:
                address, length, buffer = offered
                pool, number = buffer or (0, 0)
                name = {"named": buffer is not None, "pool": pool, "buffer_id": number}
                ctx.set(ports.payload, {"address": address, "length": length, "queue": 1, "address_type": 0, **name})
            page, frame, read, write = self.table.get(looked_up[0], (0, 0, 0, 0))
            ctx.set(dut.carried, {"page": page, "frame": frame, "read": read, "write": write, "valid": read | write})
            ctx.set(dut.output.ready, self.rng.random() < self.ready)
            ctx.set(dut.usable, self.usable if isinstance(self.usable, int) else self.usable(self.cycle))
            ctx.set(dut.mark, self.cycle in self.marks)
            ctx.set(dut.finished, bool(self.finish_after and self.cycle in self.finish_after))
            if offered is not None and ctx.get(ports.ready):
                self.commands.pop(0)
            buffer = (ctx.get(dut.buffer.pool), ctx.get(dut.buffer.id))
            looked_up = [*looked_up[1:], buffer]
            self.drained[self.cycle] = ctx.get(dut.drained)
            if ctx.get(dut.output.valid) and ctx.get(dut.output.ready):
                payload = ctx.get(dut.output.payload)
                self.out.append((payload.address, payload.length, payload.address_type, self.cycle))
            if ctx.get(dut.want.strobe):
                self.wants.append((ctx.get(dut.want.buffer.pool), ctx.get(dut.want.buffer.id), ctx.get(dut.want.page)))
            await ctx.tick()


def result(commands, *, table, write=True, usable=1, cycles=60):
    bench = Bench(CarriedUse(CONFIG, write=write), table=table)
    bench.commands, bench.usable = list(commands), usable
    bench.run(cycles)
    return [out[:3] for out in bench.out], bench.wants


BUFFER = (1, 3)
TABLE = {BUFFER: (0x5, 0x77, 1, 1)}
TRANSLATED, UNTRANSLATED = AddressType.TRANSLATED, AddressType.UNTRANSLATED


def test_the_carried_frame_takes_the_place_of_the_page():
    out, wants = result([(0x5100, 60, BUFFER)], table=TABLE)
    assert out == [(0x77100, 60, TRANSLATED)]
    assert not wants


@pytest.mark.parametrize(
    ("command", "table", "wanted"),
    [
        ((0x5100, 60, None), TABLE, False),
        ((0x6100, 60, BUFFER), TABLE, True),
        ((0x5100, 60, (1, 4)), TABLE, True),
        ((0x5FF0, 17, BUFFER), TABLE, False),
        ((0x5100, 60, BUFFER), {BUFFER: (0x5, 0x77, 1, 0)}, True),
    ],
    ids=["no buffer", "another page", "another buffer", "two pages", "not to be written"],
)
def test_others_go_out_as_they_came(command, table, wanted):
    out, wants = result([command], table=table)
    assert out == [(command[0], command[1], UNTRANSLATED)]
    assert wants == ([(*command[2], command[0] >> 12)] if wanted else [])


def test_the_last_byte_of_a_page_is_covered():
    assert result([(0x5FF0, 16, BUFFER)], table=TABLE)[0] == [(0x77FF0, 16, TRANSLATED)]


def test_reads_need_the_permission_to_read():
    table = {BUFFER: (0x5, 0x77, 0, 1)}
    assert result([(0x5100, 60, BUFFER)], table=table, write=False)[0] == [(0x5100, 60, UNTRANSLATED)]
    assert result([(0x5100, 60, BUFFER)], table=TABLE, write=False)[0] == [(0x77100, 60, TRANSLATED)]


def test_nothing_goes_out_translated_once_that_is_over():
    out, wants = result([(0x5100, 60, BUFFER)], table=TABLE, usable=0)
    assert out == [(0x5100, 60, UNTRANSLATED)]
    assert not wants


@pytest.mark.parametrize("cycle", range(LATENCY + 1))
def test_a_lookup_counts_if_translations_were_usable_ever_since(cycle):
    """The command is looked up in cycle 0, and its fate known in cycle 3; in ``cycle`` translations are not usable."""
    ((address, *_),), _ = result([(0x5100, 60, BUFFER)], table=TABLE, usable=lambda now: now != cycle)
    assert address == (0x5100 if cycle <= LOOKUP_CYCLES + 1 else 0x77100)


def test_one_a_cycle():
    bench = Bench(CarriedUse(CONFIG, write=True), table=TABLE)
    bench.commands = [(0x5000 + 64 * i, 60, BUFFER) for i in range(50)]
    bench.run(80)
    cycles = [cycle for *_, cycle in bench.out]
    assert cycles == list(range(LATENCY, LATENCY + 50))


@pytest.mark.parametrize("seed", range(5))
def test_order_and_contents_survive_any_pause(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    table = {(pool, number): (number, 100 + number, 1, 1) for pool in range(2) for number in range(16)}
    bench = Bench(CarriedUse(CONFIG, write=True), table=table, ready=rng.choice((0.2, 0.5, 0.9)), seed=seed)
    commands = [(rng.randrange(16) << 12 | 64, 60, (rng.randrange(2), rng.randrange(16))) for _ in range(100)]
    bench.commands = list(commands)
    bench.run(1000)
    expected = [
        ((100 + buffer[1]) << 12 | 64, 60, TRANSLATED) if address >> 12 == buffer[1] else (address, 60, UNTRANSLATED)
        for address, _, buffer in commands
    ]
    assert [out[:3] for out in bench.out] == expected


def test_drained_waits_for_what_went_in_before_the_mark_and_for_no_other():
    bench = Bench(CarriedUse(CONFIG, write=True), table=TABLE)
    bench.commands = [(0x5000, 60, BUFFER)] * 60
    bench.marks = {10}  # the command of cycle 10 counts: eleven have gone in
    bench.finish_after = set(range(70, 90))
    bench.run(100)
    low = [cycle for cycle, drained in bench.drained.items() if not drained]
    assert low == list(range(11, 82))  # the eleventh is over in cycle 80


def test_nothing_under_way_is_drained_at_once():
    bench = Bench(CarriedUse(CONFIG, write=True), table=TABLE)
    bench.marks = {10}
    bench.run(20)
    assert [cycle for cycle, drained in bench.drained.items() if not drained] == [11]
