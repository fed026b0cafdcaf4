# SPDX-License-Identifier: BSD-2-Clause
"""A channel's way through the caches: who hits, who must walk, in how many cycles, and what is counted."""

from typing import Any

from amaranth import Module
from amaranth.sim import Simulator

from hw.abi.iommu import DirectoryMode, FirstMode, SecondMode
from hw.abi.rings import AddressType
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.context_cache import ContextCache
from hw.iommu.interfaces import LOOKUP_CYCLES, Access, Outcome, PageSize
from hw.iommu.lookup import Lookup
from hw.iommu.tlb import Iotlb

CONFIG = IommuConfig(physical_bits=40, contexts=4)
HOST = {"first": 1, "pscid": 3, "second": 0, "gscid": 0}
PAGED, PLAIN, ATS = 0x100, 0x200, 0x300  #: device_id of a device with a first stage, of one with none, with EN_ATS
PAGE, PPN = 0x12340, 0x55550
LARGE, LARGE_PPN = 0x200000, 0x88000  #: 2 MiB


class Bench:
    """A Lookup with its caches, and the walk table's place."""

    def __init__(self) -> None:
        self.m = m = Module()
        m.submodules.lookup = self.lookup = Lookup(CONFIG)
        m.submodules.tlb = self.tlb = Iotlb(CONFIG, lookups=1)
        m.submodules.contexts = self.contexts = ContextCache(CONFIG, lookups=1)
        join(m, self.lookup.context, self.contexts.lookups[0])
        join(m, self.lookup.tlb, self.tlb.lookups[0])

    def run(self, bench: Any, *watchers: Any) -> None:
        async def started(ctx: Any) -> None:
            ctx.set(self.lookup.directory.mode, DirectoryMode.LVL1)
            ctx.set(self.lookup.walk.walk, 2)
            await ctx.tick().repeat(70)  # the sweep after reset
            for device, fields in (
                (PAGED, {"first_mode": FirstMode.SV39, "space": HOST}),
                (PLAIN, {}),
                (ATS, {"first_mode": FirstMode.SV39, "enable_ats": 1, "space": HOST}),
            ):
                fill = self.contexts.fill
                ctx.set(fill.strobe, 1)
                ctx.set(fill.device_id, device)
                ctx.set(fill.context, {"first_mode": FirstMode.BARE, "second_mode": SecondMode.BARE} | fields)
                await ctx.tick()
            ctx.set(self.contexts.fill.strobe, 0)
            for page, ppn, size, writable in (
                (PAGE, PPN, PageSize.SIZE_4K, 0),
                (PAGE + 1, PPN + 1, PageSize.SIZE_4K, 1),
                (LARGE, LARGE_PPN, PageSize.SIZE_2M, 1),
            ):
                for name, value in {"strobe": 1, "space": HOST, "page": page, "size": size}.items():
                    ctx.set(getattr(self.tlb.fill, name), value)
                ctx.set(self.tlb.fill.translation, {"ppn": ppn, "readable": 1, "writable": writable})
                await ctx.tick()
                ctx.set(self.tlb.fill.strobe, 0)
                await ctx.tick().repeat(5)
            await bench(ctx)

        simulator = Simulator(self.m)
        simulator.add_clock(1e-8)
        simulator.add_testbench(started)
        for watcher in watchers:
            simulator.add_process(watcher)
        simulator.run()

    def present(self, ctx: Any, device: int, address: int, access: Access = Access.READ, **fields: Any) -> None:
        """Put a request on the channel."""
        first = fields.pop("first", 1)
        channel = self.lookup.channel
        ctx.set(channel.request, 1)
        ctx.set(channel.first, first)
        ctx.set(channel.requester, {"device_id": device} | fields)
        ctx.set(channel.address, address)
        ctx.set(channel.access, access)

    async def ask(self, ctx: Any, device: int, address: int, access: Access = Access.READ, **fields: Any) -> Any:
        """The outcome, and the page if it is a hit."""
        self.present(ctx, device, address, access, **fields)
        for _ in range(LOOKUP_CYCLES):
            assert not ctx.get(self.lookup.channel.answered)
            await ctx.tick()
            self.present(ctx, 0xDEAD, ~address & 0xFFFF_FFFF)
            ctx.set(self.lookup.channel.request, 0)
        channel = self.lookup.channel
        assert ctx.get(channel.answered)
        answer = ctx.get(channel.answer)
        result = (answer.outcome, answer.ppn) if answer.outcome == Outcome.HIT else answer.outcome
        await ctx.tick()
        return result


ADDRESS = PAGE << 12 | 0x678
HIT = (Outcome.HIT, PPN)
UNCHANGED = (Outcome.HIT, PAGE)
PID = {"process_id_valid": 1}


REQUESTS: list[tuple[int, int, Access, dict[str, Any], Any]] = [
    (PAGED, ADDRESS, Access.READ, {}, HIT),
    (PAGED, ADDRESS, Access.WRITE, {}, Outcome.RETRY),  # not writable, or D is to be set
    (PAGED, ADDRESS + 4096, Access.WRITE, {}, (Outcome.HIT, PPN + 1)),
    (PAGED, ADDRESS + 8192, Access.READ, {}, Outcome.RETRY),
    (PAGED, (LARGE + 0x1FE) << 12, Access.READ, {}, (Outcome.HIT, LARGE_PPN + 0x1FE)),
    (PAGED, ADDRESS, Access.READ, PID, Outcome.RETRY),
    (PAGED, ADDRESS | 1 << 63, Access.READ, {}, Outcome.RETRY),
    (PAGED, ADDRESS, Access.EXECUTE, {}, Outcome.RETRY),
    (PAGED, ADDRESS, Access.READ, {"address_type": AddressType.TRANSLATED}, Outcome.RETRY),
    (PLAIN, ADDRESS, Access.WRITE, {}, UNCHANGED),
    (PLAIN, ADDRESS, Access.WRITE, PID, Outcome.RETRY),
    (PLAIN, ADDRESS | 1 << CONFIG.physical_bits, Access.READ, {}, Outcome.RETRY),
    (PLAIN, ADDRESS, Access.READ, {"address_type": AddressType.TRANSLATED}, Outcome.RETRY),
    (ATS, ADDRESS, Access.READ, {}, HIT),
    (ATS, ADDRESS, Access.WRITE, {"address_type": AddressType.TRANSLATED}, UNCHANGED),
    (ATS, ADDRESS, Access.READ, {"address_type": AddressType.TRANSLATION_REQUEST}, Outcome.RETRY),
    (ATS, ADDRESS, Access.READ, {"address_type": AddressType.PREFETCH}, Outcome.RETRY),
    (PAGED + 1, ADDRESS, Access.READ, {}, Outcome.RETRY),
]


def test_who_hits() -> None:
    bench = Bench()

    async def body(ctx: Any) -> None:
        for device, address, access, fields, expected in REQUESTS:
            found = await bench.ask(ctx, device, address, access, **fields)
            assert found == expected, f"{access} of {address:#x} by {device:#x} {fields}"

    bench.run(body)


def test_the_directory_switches_all() -> None:
    bench = Bench()

    async def body(ctx: Any) -> None:
        ctx.set(bench.lookup.directory.mode, DirectoryMode.BARE)
        for device in (PAGED, PLAIN, 0):
            assert await bench.ask(ctx, device, ADDRESS) == UNCHANGED
        assert await bench.ask(ctx, PAGED, ADDRESS | 1 << CONFIG.physical_bits) == Outcome.RETRY
        assert await bench.ask(ctx, ATS, ADDRESS, address_type=AddressType.TRANSLATED) == Outcome.RETRY
        ctx.set(bench.lookup.directory.mode, DirectoryMode.OFF)
        for device in (PAGED, PLAIN, ATS):
            assert await bench.ask(ctx, device, ADDRESS) == Outcome.RETRY

    bench.run(body)


def test_a_miss_asks_for_its_walk_in_the_cycle_of_its_answer() -> None:
    bench = Bench()

    async def body(ctx: Any) -> None:
        lookup = bench.lookup
        requester = {"device_id": PAGED, "process_id": 5, "process_id_valid": 1}
        for taken in (0, 1):
            ctx.set(lookup.walk.taken, taken)
            bench.present(ctx, PAGED, ADDRESS, Access.WRITE, process_id=5, process_id_valid=1)
            await ctx.tick()
            ctx.set(lookup.channel.request, 0)
            await ctx.tick().repeat(2)
            assert ctx.get(lookup.walk.request)
            wanted = ctx.get(lookup.walk.wanted)
            assert (wanted.page, wanted.access) == (PAGE, Access.WRITE)
            assert all(getattr(wanted.requester, name) == value for name, value in requester.items())
            answer = ctx.get(lookup.channel.answer)
            assert answer.outcome == (Outcome.WALK if taken else Outcome.RETRY)
            assert answer.walk == 2
            await ctx.tick()
            assert not ctx.get(lookup.walk.request)

    bench.run(body)


def test_hold_is_for_misses_only() -> None:
    """They ask for no walk then; a hit stays one."""
    bench = Bench()

    async def body(ctx: Any) -> None:
        ctx.set(bench.lookup.channel.hold, 1)
        assert await bench.ask(ctx, PAGED, ADDRESS, Access.READ) == HIT
        bench.present(ctx, PAGED, ADDRESS, Access.WRITE)
        await ctx.tick()
        ctx.set(bench.lookup.channel.request, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(bench.lookup.channel.answered)
        assert ctx.get(bench.lookup.channel.answer.outcome) == Outcome.RETRY
        assert not ctx.get(bench.lookup.walk.request)

    bench.run(body)


def test_a_request_every_cycle_is_answered_every_cycle_in_order() -> None:
    bench = Bench()
    addresses = [PAGE << 12, (PAGE + 1) << 12, (PAGE + 2) << 12, (LARGE + 5) << 12] * 4
    expected = [PPN, PPN + 1, None, LARGE_PPN + 5] * 4

    async def body(ctx: Any) -> None:
        channel = bench.lookup.channel
        found = []
        for cycle in range(len(addresses) + LOOKUP_CYCLES):
            assert ctx.get(channel.answered) == (cycle >= LOOKUP_CYCLES)
            if cycle >= LOOKUP_CYCLES:
                answer = ctx.get(channel.answer)
                found.append(answer.ppn if answer.outcome == Outcome.HIT else None)
                assert ctx.get(bench.lookup.walk.request) == (answer.outcome != Outcome.HIT)
            if cycle < len(addresses):
                bench.present(ctx, PAGED, addresses[cycle])
            else:
                ctx.set(channel.request, 0)
            await ctx.tick()
        assert found == expected

    bench.run(body)


def test_first_lookups_are_counted_with_their_space() -> None:
    bench = Bench()
    events: list[Any] = []

    async def watch(ctx: Any) -> None:
        event = bench.lookup.event
        async for _, _, strobe, value in ctx.tick().sample(event.strobe, event):
            if strobe:
                events.append((value.miss, value.requester.device_id, value.space.pscid))

    async def body(ctx: Any) -> None:
        await bench.ask(ctx, PAGED, ADDRESS)
        await bench.ask(ctx, PAGED, ADDRESS, Access.WRITE)
        await bench.ask(ctx, PAGED, ADDRESS, Access.WRITE, first=0)
        await bench.ask(ctx, ATS, ADDRESS, address_type=AddressType.TRANSLATED)
        await bench.ask(ctx, PAGED + 1, ADDRESS)
        assert events == [(0, PAGED, 3), (1, PAGED, 3), (0, ATS, 3), (1, PAGED + 1, 0)]

    bench.run(body, watch)
