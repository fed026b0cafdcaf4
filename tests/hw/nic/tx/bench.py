# SPDX-License-Identifier: BSD-2-Clause
"""The TX path between a driver, a memory and a wire, all in Python."""

import random
from collections import Counter, deque
from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal, Value
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import TxCompletion, TxContext, TxDescriptor, TxDescriptorType
from hw.config import NicConfig
from hw.nic.tx.path import TxPath
from tests.hw.nic.standins import DescriptorCache, SlotCounter

DESCRIPTOR = Codec(TxDescriptor)
CONTEXT = Codec(TxContext)
COMPLETION = Codec(TxCompletion)
END_OF_PACKET = DESCRIPTOR.mask("flags", "end_of_packet")
REPORT = DESCRIPTOR.mask("flags", "report")


def data(
    address: int,
    length: int,
    buffer_id: int = 0,
    *,
    end: bool = True,
    report: bool = False,
    ask: tuple[str, ...] = (),
    **fields: int,
) -> bytes:
    """A data descriptor; ``ask`` names other flags."""
    flags = (END_OF_PACKET if end else 0) | (REPORT if report else 0)
    for name in ask:
        flags |= DESCRIPTOR.mask("flags", name)
    return DESCRIPTOR.pack(
        address=address, length=length, buffer_id=buffer_id, type=TxDescriptorType.DATA.value, flags=flags, **fields
    )


def context(**fields: int) -> bytes:
    """A context descriptor."""
    return CONTEXT.pack(**{"mss": 0xFFFF, **fields}, type=TxDescriptorType.CONTEXT.value)


class TxBench:
    """Feeds descriptors, answers reads, keeps the frames and completions that come out.

    ``stall`` is the chance, per cycle, that the read side pauses; ``wire_stall`` that the wire does; ``latency`` the
    cycles from a command to its first beat; ``bad_pages`` are pages whose reads fail. While ``holds``, no completion is
    taken.
    """

    def __init__(
        self,
        config: NicConfig,
        *,
        seed: int = 0,
        stall: float = 0.0,
        wire_stall: float = 0.0,
        latency: int = 30,
        slots: int = 1000,
    ):
        print(f"seed {seed}")
        self.config, self.stall, self.wire_stall, self.latency = config, stall, wire_stall, latency
        self.random = random.Random(seed)
        self.memory = bytearray(self.random.randbytes(1 << 17))
        self.bad_pages: set[int] = set()
        self.holds = False
        self.frames: list[bytes] = []
        self.sent_at: list[int] = []
        self.serials: list[int] = []
        self.completions: list[list[Any]] = [[] for _ in range(config.queues)]
        self.queue_events: list[dict[str, int]] = []
        self.frame_events: list[dict[str, int]] = []
        self.faults: list[tuple[int, int]] = []
        self.commands = 0
        self.read_whole: Counter[int] = Counter()  # addresses of commands whose last byte was taken
        self.cycle = 0
        self.path, self.cache = TxPath(config), DescriptorCache(config)
        self.slots = SlotCounter(config, slots)
        self.reads: deque[list[int]] = deque()  # cycle of the first beat, address, bytes left, failed, first address
        self.offered = False
        self.partial, self.inside = b"", False  # the frame that is leaving
        m = Module()
        self.reset_signal = Signal()
        self.top = ResetInserter(self.reset_signal)(m)
        m.submodules.path, m.submodules.cache, m.submodules.slots = self.path, self.cache, self.slots
        connect(m, self.path.descriptors, self.cache.port)
        completions = self.path.completions
        m.d.comb += [
            completions.free.eq(self.slots.port.free),
            self.slots.port.reserve.eq(completions.reserve),
            self.slots.port.reserve_queue.eq(completions.reserve_queue),
            self.slots.port.reserve_count.eq(completions.reserve_count),
        ]

    def run(self, scenario: Any, *watchers: Any) -> None:
        """Run ``scenario(ctx)`` against a path whose queues are all enabled; ``watchers`` run beside it."""

        async def main(ctx: Any) -> None:
            ctx.set(self.path.tx_enable, 1)
            ctx.set(self.path.control.enable, (1 << self.config.queues) - 1)
            await scenario(ctx)

        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.add_testbench(self._reads, background=True)
        simulator.add_testbench(self._wire, background=True)
        simulator.add_testbench(self._events, background=True)
        for watcher in watchers:
            simulator.add_testbench(watcher, background=True)
        simulator.run()

    async def post(self, ctx: Any, entries: list[bytes], queue: int = 0, bound: int = 5000) -> None:
        """Push descriptors into the cache as it has room."""
        for raw in entries:
            for _ in range(bound):
                if ctx.get(self.cache.level[queue]) < self.config.fetch_depth:
                    break
                await ctx.tick()
            else:
                raise AssertionError(f"Waited {bound} cycles for room in queue {queue}'s cache")
            ctx.set(self.cache.push, 1)
            ctx.set(self.cache.push_queue, queue)
            ctx.set(self.cache.push_entry, int.from_bytes(raw, "little"))
            await ctx.tick()
            ctx.set(self.cache.push, 0)

    async def settle(self, ctx: Any, jobs: int, bound: int = 20_000, more: int = 0) -> None:
        """Wait until ``jobs`` frames have met their fate, those gathered and ``more`` segments have been sent, and
        nothing is busy."""
        for _ in range(bound):
            await ctx.tick()
            gathered = sum(1 for event in self.queue_events if not event["error"] and not event["aborted"])
            done = len(self.queue_events) >= jobs and len(self.frame_events) >= gathered + more
            if done and not ctx.get(self.path.control.busy):
                await ctx.tick().repeat(5)
                assert not ctx.get(self.cache.underrun), "took descriptors that are not there"
                assert not ctx.get(self.slots.overrun), "reserved slots that are not there"
                return
        raise AssertionError(
            f"Waited {bound} cycles for {jobs} frames: {len(self.queue_events)} gathered, {len(self.frames)} sent"
        )

    async def reset(self, ctx: Any) -> None:
        """Reset the path in whatever it does; memory, driver and wire forget it too."""
        ctx.set(self.reset_signal, 1)
        await ctx.tick().repeat(2)
        self.offered = False
        for log in (self.reads, self.frames, self.frame_events, self.queue_events, *self.completions):
            log.clear()
        ctx.set(self.path.read.data.valid, 0)
        ctx.set(self.reset_signal, 0)

    async def restart(self, ctx: Any, queue: int) -> None:
        """Stop a queue, and start it from index 0."""
        others = ((1 << self.config.queues) - 1) & ~(1 << queue)
        ctx.set(self.path.control.enable, others)
        await ctx.tick().repeat(10)
        for clear in (1 << queue, 0):
            ctx.set(self.path.control.clear, clear)
            ctx.set(self.cache.clear, clear)
            await ctx.tick()
        ctx.set(self.path.control.enable, others | 1 << queue)

    async def _reads(self, ctx: Any) -> None:
        read, entry = self.path.read, self.path.completions.entry
        size = self.config.beat_bytes
        while True:
            ctx.set(read.command.ready, int(self.random.random() >= self.stall))
            ctx.set(entry.ready, int(self.random.random() >= self.stall and not self.holds))
            if (
                not self.offered
                and self.reads
                and self.reads[0][0] <= self.cycle
                and self.random.random() >= self.stall
            ):
                _, address, left, failed, _ = self.reads[0]
                piece = self.memory[address : address + min(size, left)]
                noise = self.random.randbytes(size - len(piece))
                ctx.set(
                    read.data.payload,
                    {
                        "data": int.from_bytes(piece + noise, "little"),
                        "count": len(piece),
                        "last": int(left <= size),
                        "error": int(failed and left <= size),
                    },
                )
                self.offered = True
            ctx.set(read.data.valid, int(self.offered))
            _, _, commanded, command, taken, handed, completion = await ctx.tick().sample(
                read.command.valid & read.command.ready,
                read.command.payload,
                read.data.ready,
                entry.valid & entry.ready,
                entry.payload,
            )
            self.cycle += 1
            if commanded:
                self.commands += 1
                failed = int(command.address >> 12 in self.bad_pages)
                first = self.cycle + self.latency
                self.reads.append([first, command.address, command.length, failed, command.address])
            if self.offered and taken:
                self.offered = False
                self.reads[0][1] += size
                self.reads[0][2] -= size
                if self.reads[0][2] <= 0:
                    self.read_whole[self.reads.popleft()[-1]] += 1
            if handed:
                raw = completion.entry.to_bytes(16, "little")
                self.completions[completion.queue].append(COMPLETION.unpack(raw))

    async def _wire(self, ctx: Any) -> None:
        wire, size = self.path.wire, self.config.beat_bytes
        while True:
            ctx.set(wire.ready, int(self.random.random() >= self.wire_stall))
            _, _, reset, valid, ready, beat = await ctx.tick().sample(
                self.reset_signal, wire.valid, wire.ready, wire.payload
            )
            if reset:
                self.partial, self.inside = b"", False
                continue
            assert valid or not self.inside, "a pause inside a frame"
            if valid and ready:
                assert beat.first == (not self.inside)
                assert beat.last or beat.count == size
                self.partial += beat.data.to_bytes(size, "little")[: beat.count]
                self.inside = not beat.last
                if beat.last:
                    self.frames.append(self.partial)
                    self.sent_at.append(self.cycle)
                    self.serials.append(beat.serial)
                    self.partial = b""

    async def _events(self, ctx: Any) -> None:
        path, fault = self.path, self.path.fault
        ctx.set(fault.ready, 1)
        logs = (
            (("strobe", "queue", "length", "error", "aborted"), path.queue_event, self.queue_events),
            (("strobe", "length", "multicast", "broadcast"), path.frame_event, self.frame_events),
        )
        fields = [Value.cast(getattr(event, name)) for names, event, _ in logs for name in names]
        while True:
            _, _, *values, faulted, queue, error = await ctx.tick().sample(
                *fields, fault.valid, fault.payload.queue, Value.cast(fault.payload.error)
            )
            for names, _, log in logs:
                event = dict(zip(names, values, strict=False))
                del values[: len(names)]
                if event["strobe"]:
                    log.append(event)
            if faulted:
                self.faults.append((queue, error))
