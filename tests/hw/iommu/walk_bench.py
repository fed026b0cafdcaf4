# SPDX-License-Identifier: BSD-2-Clause
"""The walker among stand-ins: a memory with exclusive accesses, and caches that keep everything or nothing.

::

    bench = WalkBench(memory, mode=DirectoryMode.LVL1, root=3, seed=7, caching=True)
    results = bench.run([request(device, address), request(device, address, Access.WRITE)])
    assert [read.address for read in bench.memory.reads] == [...]
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amaranth import ClockDomain, Module
from amaranth.hdl import Value
from amaranth.sim import Simulator

from hw.abi.iommu import Cause, DirectoryMode
from hw.abi.rings import AddressType
from hw.bus.axi4 import Response
from hw.config import IommuConfig
from hw.iommu.interfaces import WALK_CACHE_CYCLES, Access, WalkResult
from hw.iommu.walker import Walker


def request(
    device: int,
    address: int,
    access: Access = Access.READ,
    kind: AddressType = AddressType.UNTRANSLATED,
    process: int | None = None,
) -> dict[str, Any]:
    """A walk's request."""
    requester = {
        "device_id": device,
        "process_id": process or 0,
        "process_id_valid": process is not None,
        "address_type": kind,
    }
    return {"requester": requester, "page": address >> 12, "access": access}


class Result(NamedTuple):
    """What a walk found, and in which cycle."""

    cause: Cause
    quiet: bool
    ppn: int
    size: int
    iotval2: int
    cycle: int


@dataclass
class Transfer:
    """A read or write that memory took."""

    cycle: int
    walk: int
    address: int
    beats: int
    exclusive: bool
    data: int = 0
    due: int = 0
    moved: int = 0
    answered: list[int] = field(default_factory=list)  #: cycles in which its data were taken


class WalkMemory:
    """Bytes from address 0; everything else is an error. Responses of different walks come in any order.

    Attributes
    ----------
    reads, writes : what was taken, in order
    failing : addresses of words whose reads and writes are errors
    on_exclusive : called with the address of an exclusive write before it is done, if it is
    exclusives : whether exclusive accesses are known
    """

    def __init__(self, data: bytearray, seed: int, latency: tuple[int, int], stall: float):
        self.data = data
        self.rng = random.Random(seed)
        self.latency = latency
        self.stall = stall
        self.reads: list[Transfer] = []
        self.writes: list[Transfer] = []
        self.failing: set[int] = set()
        self.on_exclusive: Callable[[int], None] | None = None
        self.exclusives = True
        self.cycle = 0
        self.reserved: dict[int, int] = {}  #: walk to the address that it read exclusively

    def load(self, address: int) -> int | None:
        if address + 8 > len(self.data) or address in self.failing:
            return None
        return int.from_bytes(self.data[address : address + 8], "little")

    def store(self, address: int, word: int) -> None:
        self.data[address : address + 8] = word.to_bytes(8, "little")
        self.reserved = {walk: held for walk, held in self.reserved.items() if held != address}

    def attach(self, sim: Simulator, axi: Any) -> None:
        taps = [
            *(axi.ar.valid, axi.ar.ready, axi.ar.payload.as_value(), axi.r.valid, axi.r.ready),
            *(axi.aw.valid, axi.aw.ready, axi.aw.payload.as_value(), axi.w.valid, axi.w.ready, axi.w.payload.data),
            *(axi.b.valid, axi.b.ready),
        ]
        shape = axi.ar.payload.shape()
        reading: list[Transfer] = []
        writing: list[Transfer] = []

        async def process(ctx: Any) -> None:
            words: list[int] = []
            addressed: list[Transfer] = []
            shown: Transfer | None = None
            async for values in ctx.tick().sample(*taps):
                (_, reset, ar_valid, ar_ready, ar, r_valid, r_ready, *rest) = values
                (aw_valid, aw_ready, aw, w_valid, w_ready, w_data, b_valid, b_ready) = rest
                self.cycle += 1
                if reset:
                    reading.clear()
                    writing.clear()
                    words, addressed, shown = [], [], None
                    r_valid = b_valid = ar_valid = aw_valid = w_valid = 0
                    ctx.set(axi.r.valid, 0)
                    ctx.set(axi.b.valid, 0)
                if ar_valid and ar_ready:
                    reading.append(self._take(self.reads, shape.from_bits(ar)))
                if aw_valid and aw_ready:
                    addressed.append(self._take(self.writes, shape.from_bits(aw)))
                if w_valid and w_ready:
                    words.append(w_data)
                if addressed and words:
                    addressed[0].data = words.pop(0)
                    writing.append(addressed.pop(0))
                if r_valid and r_ready and shown is not None:
                    shown.moved += 1
                    shown.answered.append(self.cycle)
                    if shown.moved == shown.beats:
                        reading.remove(shown)
                    r_valid = 0
                if not r_valid:
                    ready = [each for each in reading if each.due <= self.cycle]
                    shown = self.rng.choice(ready) if ready and self._moves() else None
                    ctx.set(axi.r.valid, shown is not None)
                    if shown is not None:
                        self._offer(ctx, axi.r, shown)
                if b_valid and b_ready:
                    b_valid = 0
                if not b_valid:
                    ready = [each for each in writing if each.due <= self.cycle]
                    ctx.set(axi.b.valid, bool(ready))
                    if ready:
                        writing.remove(ready[0])
                        ctx.set(axi.b.payload.id, ready[0].walk)
                        ctx.set(axi.b.payload.resp, self._write(ready[0]))
                for channel in (axi.ar, axi.aw, axi.w):
                    ctx.set(channel.ready, self._moves())

        sim.add_process(process)

    def _moves(self) -> bool:
        return self.rng.random() >= self.stall

    def _take(self, log: list[Transfer], payload: Any) -> Transfer:
        assert payload.size == 3
        assert payload.addr >> 12 == (payload.addr + payload.len * 8) >> 12, f"{payload.addr:#x} crosses 4 KiB"
        due = self.cycle + self.rng.randint(*self.latency)
        log.append(Transfer(self.cycle, payload.id, payload.addr, payload.len + 1, bool(payload.lock), due=due))
        return log[-1]

    def _offer(self, ctx: Any, r: Any, transfer: Transfer) -> None:
        address = transfer.address + 8 * transfer.moved
        word = self.load(address)
        good = Response.OKAY
        if transfer.exclusive and self.exclusives:
            good = Response.EXOKAY
            self.reserved[transfer.walk] = address
        ctx.set(r.payload.id, transfer.walk)
        ctx.set(r.payload.data, word or 0)
        ctx.set(r.payload.resp, Response.SLVERR if word is None else good)
        ctx.set(r.payload.last, transfer.moved + 1 == transfer.beats)

    def _write(self, transfer: Transfer) -> Response:
        assert transfer.exclusive, "walks write exclusively only"
        if self.on_exclusive:
            self.on_exclusive(transfer.address)
        if self.load(transfer.address) is None:
            return Response.SLVERR
        if self.reserved.pop(transfer.walk, None) != transfer.address:
            return Response.OKAY
        self.store(transfer.address, transfer.data)
        return Response.EXOKAY


class WalkBench:
    """A walker with its surroundings.

    Parameters
    ----------
    data : memory's bytes
    mode, root : register ddtp
    caching : whether the stand-ins for the caches keep what they are given
    latency, stall : of memory

    Attributes
    ----------
    fills : what the caches were given: ("context", "pointer" or "leaf", fields)
    events : cycles in which each event was on
    reset_at : cycle of a reset, after which the walks that were under way are started again
    each_cycle : called with the simulator's context and the cycle, before each clock edge
    """

    def __init__(
        self,
        data: bytearray,
        *,
        mode: DirectoryMode,
        root: int,
        config: IommuConfig | None = None,
        seed: int = 0,
        caching: bool = False,
        latency: tuple[int, int] = (3, 3),
        stall: float = 0.0,
    ):
        self.config = config or IommuConfig()
        self.dut = Walker(self.config)
        self.mode, self.root = mode, root
        self.memory = WalkMemory(data, seed, latency, stall)
        self.caching = caching
        self.fills: list[tuple[str, Any]] = []
        self.events: dict[str, int] = dict.fromkeys(("directory", "first", "second", "read", "cache_hit"), 0)
        self.contexts: dict[int, int] = {}
        self.pointers: dict[tuple[int, int, int], int] = {}
        self.reset_at: int | None = None
        self.each_cycle: Callable[[Any, int], None] | None = None
        m = Module()
        m.domains.sync = self.domain = ClockDomain()
        m.submodules.dut = self.dut
        self.sim = sim = Simulator(m)
        sim.add_clock(1e-8)
        self.memory.attach(sim, self.dut.axi)
        self._attach_lookups(sim)
        self._attach_fills(sim)

    def _attach_lookups(self, sim: Simulator) -> None:
        dut, cache = self.dut, self.dut.walk_cache
        context = Value.cast(dut.contexts.context)

        async def process(ctx: Any) -> None:
            ctx.set(dut.directory, {"mode": self.mode, "ppn": self.root})
            waiting: list[Any] = [None] * (WALK_CACHE_CYCLES - 1)
            taps = (dut.contexts.device_id, cache.strobe, cache.space.as_value(), cache.page)
            async for _, _, device, asked, space, page in ctx.tick().sample(*taps):
                ctx.set(dut.contexts.hit, device in self.contexts)
                # Without a hit the answer means nothing.
                ctx.set(context, self.contexts.get(device, -1 & (1 << len(context)) - 1))
                waiting.append(self._pointer(space, page) if asked else None)
                found = waiting.pop(0)
                ctx.set(cache.found, found is not None)
                ctx.set(cache.level, found[0] if found else 3)
                ctx.set(cache.ppn, found[1] if found else (1 << 44) - 1)

        sim.add_process(process)

    def _pointer(self, space: int, page: int) -> tuple[int, int] | None:
        for level in range(3):
            if (ppn := self.pointers.get((space, level, page >> 9 * (level + 1)))) is not None:
                return level, ppn
        return None

    def _attach_fills(self, sim: Simulator) -> None:
        dut = self.dut
        contexts, pointers, leaves = dut.context_fill, dut.walk_cache_fill, dut.tlb_fill
        names = tuple(self.events)

        async def process(ctx: Any) -> None:
            taps = (
                *(contexts.strobe, contexts.device_id, contexts.context.as_value()),
                *(pointers.strobe, pointers.space.as_value(), pointers.page, pointers.level, pointers.ppn),
                *(leaves.strobe, leaves.space.as_value(), leaves.everywhere, leaves.page, leaves.size),
                leaves.translation.as_value(),
                *(getattr(dut.event, name) for name in names),
            )
            async for _, _, *values in ctx.tick().sample(*taps):
                if values[0]:
                    self.fills.append(("context", tuple(values[1:3])))
                    if self.caching:
                        self.contexts[values[1]] = values[2]
                if values[3]:
                    self.fills.append(("pointer", tuple(values[4:8])))
                    space, page, level, ppn = values[4:8]
                    if self.caching:
                        self.pointers[space, level, page >> 9 * (level + 1)] = ppn
                if values[8]:
                    self.fills.append(("leaf", tuple(values[9:14])))
                for name, value in zip(names, values[14:], strict=True):
                    self.events[name] += value

        sim.add_process(process)

    def run(self, requests: Iterable[dict[str, Any]], *, at_once: int | None = None, bound: int = 4000) -> list[Result]:
        """Do all requests, so many at a time; results in their order."""
        results: dict[int, Result] = {}
        todo = list(enumerate(requests))
        dut = self.dut
        free = list(range(at_once or self.config.walks))
        busy: dict[int, int] = {}

        async def bench(ctx: Any) -> None:
            offered: tuple[int, int] | None = None
            last = cycle = 0
            while len(results) < len(todo_all):
                if offered is None and todo and free:
                    index, wanted = todo.pop(0)
                    offered = index, free.pop(0)
                    ctx.set(dut.start.payload, {"walk": offered[1], "request": wanted})
                    ctx.set(dut.start.valid, 1)
                if self.each_cycle:
                    self.each_cycle(ctx, cycle)
                resets = cycle == self.reset_at
                ctx.set(self.domain.rst, resets)
                taps = (dut.start.ready, dut.finish.strobe, dut.finish.walk, dut.finish.result.as_value())
                _, _, ready, strobe, walk, raw = await ctx.tick().sample(*taps)
                cycle += 1
                if resets:
                    todo[:0] = [each for each in todo_all if each[0] in busy.values()]
                    free.extend(busy)
                    busy.clear()
                    continue
                if offered is not None and ready:
                    busy[offered[1]] = offered[0]
                    offered = None
                    ctx.set(dut.start.valid, 0)
                if strobe:
                    found = WalkResult.from_bits(raw)
                    results[busy.pop(walk)] = Result(
                        *(found.cause, bool(found.quiet), found.ppn, int(found.size.value), found.iotval2), cycle
                    )
                    free.append(walk)
                    last = cycle
                assert cycle - last < bound, f"no walk ended for {bound} cycles; under way: {busy}"
            for _ in range(3):
                await ctx.tick()

        todo_all = list(todo)
        self.sim.add_testbench(bench)
        self.sim.run()
        return [results[index] for index in range(len(todo_all))]
