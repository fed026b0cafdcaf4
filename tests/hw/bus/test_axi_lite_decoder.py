# SPDX-License-Identifier: BSD-2-Clause
"""The register decoder: who sees an access, the order of responses, and that nothing waits without reason."""

import random
from collections import deque
from functools import partial
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.bus.axi4 import Response
from hw.bus.axi_lite_decoder import AXILiteDecoder, Region
from tests.hw.streams import send

REGIONS = {"low": Region(0, 6), "high": Region(1 << 8, 5)}
LIMIT = 2000  #: cycles that a bench may take


class Subordinate:
    """Takes each channel and answers at random times; reads give their address with a number of this subordinate."""

    def __init__(self, bus: Any, number: int, seed: int, stall: float):
        self.bus = bus
        self.number = number
        self.rng = random.Random(f"{seed} {number}")
        self.stall = stall
        self.written: list[tuple[int, int, int]] = []
        self.read: list[int] = []

    def attach(self, sim: Simulator) -> None:
        sim.add_testbench(self.writes, background=True)
        sim.add_testbench(self.reads, background=True)

    async def writes(self, ctx: Any) -> None:
        bus, addresses, words, ready = self.bus, deque[int](), deque[tuple[int, int]](), 0
        while True:
            moves = [self.rng.random() >= self.stall for _ in range(3)]
            ctx.set(bus.aw.ready, moves[0] and len(addresses) < 2)
            ctx.set(bus.w.ready, moves[1] and len(words) < 2)
            if not ctx.get(bus.b.valid):
                ctx.set(bus.b.valid, ready > 0 and moves[2])
            _, _, aw, address, w, word, b = await ctx.tick().sample(
                bus.aw.valid & bus.aw.ready,
                bus.aw.p.addr,
                bus.w.valid & bus.w.ready,
                bus.w.p,
                bus.b.valid & bus.b.ready,
            )
            if aw:
                addresses.append(address)
            if w:
                words.append((word.data, word.strb))
            if b:
                ready -= 1
                ctx.set(bus.b.valid, 0)
            if addresses and words:
                self.written.append((addresses.popleft(), *words.popleft()))
                ready += 1

    async def reads(self, ctx: Any) -> None:
        bus, waiting = self.bus, deque[int]()
        while True:
            ctx.set(bus.ar.ready, self.rng.random() >= self.stall and len(waiting) < 2)
            if not ctx.get(bus.r.valid) and waiting and self.rng.random() >= self.stall:
                ctx.set(bus.r.valid, 1)
                ctx.set(bus.r.p.data, self.number << 32 | waiting[0])
            _, _, ar, address, r = await ctx.tick().sample(
                bus.ar.valid & bus.ar.ready, bus.ar.p.addr, bus.r.valid & bus.r.ready
            )
            if r:
                waiting.popleft()
                ctx.set(bus.r.valid, 0)
            if ar:
                waiting.append(address)
                self.read.append(address)


async def receive(ctx: Any, channel: Any, count: int, rng: random.Random, stall: float) -> list[Any]:
    """Take that many responses at random times."""
    taken: list[Any] = []
    for _ in range(LIMIT):
        ctx.set(channel.ready, rng.random() >= stall)
        *_, valid, payload, ready = await ctx.tick().sample(channel.valid, channel.p, channel.ready)
        if valid and ready:
            taken.append(payload)
        if len(taken) == count:
            ctx.set(channel.ready, 0)
            return taken
    raise AssertionError(f"waited {LIMIT} cycles for {count} responses, and {len(taken)} came")


def region_of(address: int) -> tuple[str, int] | None:
    """Where an access belongs."""
    for name, region in REGIONS.items():
        if region.base <= address < region.base + (1 << region.addr_width):
            return name, address - region.base
    return None


@pytest.mark.parametrize("seed", range(4))
def test_each_access_reaches_its_region_and_responses_keep_their_order(seed: int) -> None:
    rng = random.Random(seed)
    stall = 0.3 * seed
    dut = AXILiteDecoder(9, REGIONS, outstanding=3)
    subordinates = {
        name: Subordinate(getattr(dut, name), number, seed, stall) for number, name in enumerate(REGIONS, 1)
    }
    addresses = [rng.choice((0x00, 0x38, 0x40, 0xF8, 0x100, 0x118, 0x120, 0x1F8)) for _ in range(40)]
    words = [{"data": rng.getrandbits(64), "strb": rng.choice((0xFF, 0x0F, 0xF0))} for _ in addresses]
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for subordinate in subordinates.values():
        subordinate.attach(sim)
    bus = dut.manager
    requests = [{"addr": address} for address in addresses]
    answers: dict[str, list[Any]] = {}

    async def offer(ctx: Any, name: str, entries: list[dict[str, int]]) -> None:
        for entry in entries:
            await send(ctx, getattr(bus, name), entry, name=name)

    async def collect(ctx: Any, name: str) -> None:
        answers[name] = await receive(ctx, getattr(bus, name), len(addresses), random.Random(seed), stall)

    for name, entries in (("aw", requests), ("w", words), ("ar", requests)):
        sim.add_testbench(partial(offer, name=name, entries=entries))
    for name in ("b", "r"):
        sim.add_testbench(partial(collect, name=name))
    sim.run()

    places = [region_of(address) for address in addresses]
    expected = [Response.OKAY if place else Response.DECERR for place in places]
    assert [answer.resp for answer in answers["b"]] == expected
    assert [answer.resp for answer in answers["r"]] == expected
    numbers = {name: subordinate.number for name, subordinate in subordinates.items()}
    assert [answer.data for answer in answers["r"]] == [
        numbers[place[0]] << 32 | place[1] if place else 0 for place in places
    ]
    for name, subordinate in subordinates.items():
        own = [(place[1], word) for place, word in zip(places, words) if place and place[0] == name]
        assert subordinate.written == [(address, word["data"], word["strb"]) for address, word in own]
        assert subordinate.read == [address for address, _ in own]


def test_accesses_pass_in_the_same_cycle() -> None:
    dut = AXILiteDecoder(9, REGIONS)
    sim = Simulator(dut)
    sim.add_clock(1e-8)

    async def bench(ctx: Any) -> None:
        manager, high = dut.manager, dut.high
        ctx.set(high.ar.ready, 1)
        ctx.set(manager.ar.p.addr, 0x110)
        ctx.set(manager.ar.valid, 1)
        assert (ctx.get(high.ar.valid), ctx.get(high.ar.p.addr), ctx.get(manager.ar.ready)) == (1, 0x10, 1)
        ctx.set(manager.aw.p.addr, 0x108)
        ctx.set(manager.aw.valid, 1)
        assert not ctx.get(high.aw.valid)  # a write waits for its data
        ctx.set(manager.w.valid, 1)
        ctx.set(high.aw.ready, 1)
        assert (ctx.get(high.aw.valid), ctx.get(high.w.valid), ctx.get(manager.aw.ready)) == (1, 1, 0)
        await ctx.tick()
        ctx.set(high.w.ready, 1)
        assert (ctx.get(high.aw.valid), ctx.get(manager.aw.ready), ctx.get(manager.w.ready)) == (0, 1, 1)
        await ctx.tick()
        ctx.set(manager.aw.valid, 0)
        ctx.set(high.b.valid, 1)
        assert ctx.get(manager.b.valid)

    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region(8, 4), "Region base must be a multiple of 2\\*\\*4, not 8"),
        (lambda: Region(0, 2), "Region addr_width must be in 3..64, not 2"),
        (lambda: AXILiteDecoder(9, {}), "at least one region"),
        (lambda: AXILiteDecoder(8, REGIONS), "Region high must end at or before 2\\*\\*8, not 0x120"),
        (lambda: AXILiteDecoder(9, {"a": Region(0, 6), "b": Region(32, 5)}), "Region b at 0x20 overlaps"),
        (lambda: AXILiteDecoder(9, REGIONS, outstanding=0), "outstanding must be a positive integer, not 0"),
    ],
)
def test_parameters_are_validated(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
