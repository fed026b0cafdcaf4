# SPDX-License-Identifier: BSD-2-Clause
"""Memory, DMA and IOMMU around carried translations: all at random, and who reaches an old frame is found out."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from amaranth.sim import Simulator

from hw.abi.rings import AddressType
from hw.config import NicConfig
from hw.nic.recycle.carried import CarriedTranslations

CONFIG = NicConfig(pools=2, pool_buffers=16, ats=True)
BUFFERS = [(pool, buffer) for pool in range(CONFIG.pools) for buffer in range(CONFIG.pool_buffers)]
TRANSLATED, UNTRANSLATED = AddressType.TRANSLATED, AddressType.UNTRANSLATED
ACKNOWLEDGED = 400  #: cycles until an invalidation is, at most, where DMA takes 60
EVERYTHING = (1 << 51) - 1


class Leaf(NamedTuple):
    """What the page table says of a page: the frame, what is allowed, and how many pages go together."""

    frame: int
    read: bool = True
    write: bool = True
    pages: int = 1


class Under(NamedTuple):
    """A command under way."""

    ends: int
    address: int
    address_type: AddressType


@dataclass
class Invalidation:
    """One that software wants, of pages ``page`` with ``size``; then ``frames`` are old."""

    page: int
    frames: list[int]
    size: int = 0
    tag: int = 0
    device: int = 3
    sent: int = 0


@dataclass
class World:
    """The bench's state, which a test's ``act`` changes before each cycle.

    ``leaves`` is the page table, and ``old`` has the frames whose invalidation was acknowledged. Translation requests
    are answered from the table of the moment in which they reach the IOMMU, ``reach`` cycles after they went out, and
    the answer comes ``answer`` cycles later. Commands of the DMA are over after ``dma`` cycles.
    """

    seed: int = 0
    leaves: dict[int, Leaf] = field(default_factory=dict)
    old: set[int] = field(default_factory=set)
    queued: deque = field(default_factory=deque)  # invalidations to be sent
    waiting: deque = field(default_factory=deque)  # sent, in order
    acknowledged: list = field(default_factory=list)
    offered: tuple = field(default_factory=lambda: (deque(), deque()))  # (address, length, buffer): writes, reads
    given: tuple = field(default_factory=lambda: (deque(), deque()))  # taken by the block, not gone out
    under_way: tuple = field(default_factory=lambda: (deque(), deque()))
    over: list = field(default_factory=list)  # (cycle, write, Under)
    requests: deque = field(default_factory=deque)
    asked: int = 0
    ready: float = 1.0
    reach: tuple = (5, 5)
    answer: tuple = (5, 5)
    dma: tuple = (10, 10)
    refuses: bool = False
    enable: int = 1
    queues: tuple = (3, 3)  # enabled ones, of RX and TX
    contexts: dict = field(default_factory=dict)  # written in a cycle: queue, and the register's value
    device: int = 0
    prefetch: float = 0.0
    cycle: int = 0
    busy: tuple = (0, 0)
    idle: int = 0
    refused: int = 0
    taken_meanwhile: int = 0  # commands while an invalidation was not acknowledged

    def __post_init__(self):
        self.rng = random.Random(self.seed)

    def translate(self, page, *, no_write):
        """An answer's word, as the table is now."""
        leaf = self.leaves.get(page)
        if leaf is None:
            return 0
        allowed = leaf.read | (leaf.write and not no_write) << 1
        number, large = leaf.frame, 0
        if leaf.pages > 1:
            number, large = leaf.frame & -leaf.pages | leaf.pages // 2 - 1, 1
        return allowed | large << 11 | number << 12

    def invalidate(self, page, frames, *, size=0):
        """Software has changed the table: send it, behind the others."""
        self.queued.append(Invalidation(page, list(frames), size, tag=self.rng.randrange(32)))

    def check(self, what, address):
        frame = address >> 12
        assert frame not in self.old, f"seed {self.seed}, cycle {self.cycle}: {what} of frame {frame:#x}, which is old"


class Bench:
    """Moves one cycle of every port; ``act(world)`` is called before each."""

    def __init__(self, world, act=None):
        self.world, self.act = world, act or (lambda world: None)
        self.dut = CarriedTranslations(CONFIG)

    def run(self, cycles):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def testbench(ctx):
            for self.world.cycle in range(cycles):
                self.act(self.world)
                self._cycle(ctx)
                await ctx.tick()

        sim.add_testbench(testbench)
        sim.run()
        return self.world

    def _cycle(self, ctx):
        world, dut = self.world, self.dut
        ctx.set(dut.enable, world.enable)
        ctx.set(dut.device_id, world.device)
        for control, queues in zip((dut.rx_control, dut.tx_control), world.queues, strict=True):
            ctx.set(control.enable, queues)
        write = dut.queue_write
        process = world.contexts.get(world.cycle)
        ctx.set(write.at.context, process is not None)
        if process is not None:
            ctx.set(write.queue, process[0])
            ctx.set(write.data, process[1])
        for want in dut.prefetches:
            ctx.set(want.strobe, world.rng.random() < world.prefetch)
            ctx.set(want.address, world.rng.randrange(1 << 16))
        ctx.set(dut.read.command.ready, world.rng.random() < world.ready)
        offers = [self._offer(ctx, number) for number in range(2)]
        answered = self._answer(ctx)
        message = self._invalidate(ctx)
        finished = [self._finish(ctx, number) for number in range(2)]
        # All inputs are there.
        for number, offered in enumerate(offers):
            port = (dut.writes, dut.reads)[number]
            if offered and ctx.get(port.ready):
                world.given[number].append(world.offered[number].popleft())
                world.taken_meanwhile += bool(world.waiting)
            self._out(ctx, number)
        if answered:
            assert ctx.get(dut.read.data.ready), "an answer must be taken at once"
            world.requests.popleft()
        self._ask(ctx)
        for number, command in enumerate(finished):
            if command is not None:
                world.over.append((world.cycle, number == 0, command))
        self._acknowledge(ctx)
        if message is not None and ctx.get(dut.invalidate.ready):
            message.sent = world.cycle
            world.waiting.append(world.queued.popleft())
        for waiting in world.waiting:
            assert world.cycle - waiting.sent < ACKNOWLEDGED, (
                f"seed {world.seed}: not acknowledged within {ACKNOWLEDGED} cycles: {waiting}"
            )
        world.busy = (ctx.get(dut.rx_control.busy), ctx.get(dut.tx_control.busy))
        world.idle, world.refused = ctx.get(dut.idle), ctx.get(dut.refused)

    def _offer(self, ctx, number):
        port, offered = (self.dut.writes, self.dut.reads)[number], self.world.offered[number]
        ctx.set(port.valid, bool(offered))
        if offered:
            address, length, buffer = offered[0]
            pool, id_ = buffer or (0, 0)
            ctx.set(
                port.payload,
                {
                    "address": address,
                    "length": length,
                    "queue": number,
                    "address_type": UNTRANSLATED,
                    "named": buffer is not None,
                    "pool": pool,
                    "buffer_id": id_,
                },
            )
        ctx.set((self.dut.writes_out, self.dut.reads_out)[number].ready, self.world.rng.random() < self.world.ready)
        return bool(offered)

    def _out(self, ctx, number):
        """A command goes out as it came, or to a frame that its page has or had."""
        world, port = self.world, (self.dut.writes_out, self.dut.reads_out)[number]
        if not (ctx.get(port.valid) and ctx.get(port.ready)):
            return
        out = ctx.get(port.payload)
        address, length, buffer = world.given[number].popleft()
        assert out.length == length
        if out.address_type == UNTRANSLATED:
            assert out.address == address
        else:
            assert out.address_type == TRANSLATED
            assert buffer is not None
            assert out.address & 0xFFF == address & 0xFFF
            assert (address & 0xFFF) + length <= 4096
        under_way = world.under_way[number]
        ends = world.cycle + world.rng.randint(*world.dma)
        under_way.append(Under(max(ends, under_way[-1].ends + 1 if under_way else 0), out.address, out.address_type))

    def _finish(self, ctx, number):
        """The oldest command is over, if it is time; its bytes landed until now."""
        under_way = self.world.under_way[number]
        over = bool(under_way) and under_way[0].ends <= self.world.cycle
        ctx.set((self.dut.written, self.dut.have_read)[number], over)
        if not over:
            return None
        command = under_way.popleft()
        if command.address_type == TRANSLATED:
            self.world.check(("a write", "a read")[number], command.address)
        return command

    def _ask(self, ctx):
        world, port = self.world, self.dut.read.command
        if ctx.get(port.valid) and ctx.get(port.ready):
            out, last = ctx.get(port.payload), world.requests[-1] if world.requests else None
            assert out.length == 8
            assert out.address_type in (AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH)
            world.asked += out.address_type == AddressType.TRANSLATION_REQUEST
            reaches = world.cycle + world.rng.randint(*world.reach)
            comes = reaches + world.rng.randint(*world.answer)
            if last is not None:
                reaches, comes = max(reaches, last["reaches"]), max(comes, last["comes"] + 1)
            translates = out.address_type == AddressType.TRANSLATION_REQUEST
            world.requests.append({"reaches": reaches, "comes": comes, "at": out.address, "translates": translates})
        for request in world.requests:
            if request["reaches"] <= world.cycle and "word" not in request:
                request["word"] = world.translate(request["at"] >> 12, no_write=request["at"] & 1)
                request["error"] = world.refuses and request["translates"]

    def _answer(self, ctx):
        requests, port = self.world.requests, self.dut.read.data
        come = bool(requests) and requests[0]["comes"] <= self.world.cycle and "word" in requests[0]
        ctx.set(port.valid, come)
        if come:
            word, error = requests[0]["word"], requests[0]["error"]
            ctx.set(port.payload, {"data": word, "count": 8, "last": 1, "error": error})
        return come

    def _invalidate(self, ctx):
        world, port = self.world, self.dut.invalidate
        message = world.queued[0] if world.queued else None
        ctx.set(port.valid, message is not None)
        if message is not None:
            fields = {"tag": message.tag, "device_id": message.device, "size": message.size, "address": message.page}
            ctx.set(port.payload, {"process_id": 0, "process_id_valid": 0, "everywhere": 0, **fields})
        ctx.set(self.dut.invalidated.ready, world.rng.random() < world.ready)
        return message

    def _acknowledge(self, ctx):
        """The oldest is acknowledged: nothing under way touches what is old now."""
        world, port = self.world, self.dut.invalidated
        if not (ctx.get(port.valid) and ctx.get(port.ready)):
            return
        assert world.waiting, f"seed {world.seed}: an acknowledgement that nobody waits for"
        answer, done = ctx.get(port.payload), world.waiting.popleft()
        assert (answer.tag, answer.device_id) == (done.tag, done.device)
        world.old.update(done.frames)
        world.acknowledged.append((world.cycle, done))
        for under_way in world.under_way:
            for command in under_way:
                if command.address_type == TRANSLATED:
                    world.check("an access under way", command.address)
