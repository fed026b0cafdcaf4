# SPDX-License-Identifier: BSD-2-Clause
"""The RX path between a wire, a memory and a driver, all in Python."""

import random
from collections import deque
from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal, Value
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import DropReason, FillDescriptor, RxCompletion
from hw.config import NicConfig
from hw.nic.rx.path import RxPath
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.standins import DescriptorCache, SlotCounter

FILL = Codec(FillDescriptor)
COMPLETION = Codec(RxCompletion)
END_OF_PACKET = COMPLETION.mask("flags", "end_of_packet")


class RxBench:
    """Drives frames in, keeps what memory was told, and what the completions say.

    ``stall`` is the chance, per cycle, that an interface of the memory side is not ready; ``latency`` the cycles from a
    transfer's last beat to its ``done``; addresses of ``bad_pages`` answer with an error.
    """

    def __init__(self, config: NicConfig, *, seed: int = 0, stall: float = 0.0, latency: int = 20, slots: int = 1000):
        print(f"seed {seed}")
        self.config, self.stall, self.latency = config, stall, latency
        self.random = random.Random(seed)
        self.memory: dict[int, int] = {}
        self.bad_pages: set[int] = set()
        self.completions: list[list[Any]] = [[] for _ in range(config.queues)]
        self.frame_events: list[dict[str, int]] = []
        self.queue_events: list[dict[str, int]] = []
        self.faults: list[tuple[int, int]] = []
        self.completed_at: list[int] = []
        self.cycle = 0
        self.frozen = False  # nothing is taken
        self.full = False  # the completion writer takes nothing
        self.path, self.cache = RxPath(config), DescriptorCache(config)
        self.slots = SlotCounter(config, slots)
        self.commands: deque[list[int]] = deque()  # address and bytes left
        self.done: deque[tuple[int, int]] = deque()  # cycle and error
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
        """Run ``scenario(ctx)``, and ``watchers`` beside it, against a path that is set up: link up, all queues
        enabled, limits 60 and 9,216 bytes."""

        async def main(ctx: Any) -> None:
            path = self.path
            ctx.set(path.rx_enable, 1)
            ctx.set(path.carrier, 1)
            ctx.set(path.min_length, 60)
            ctx.set(path.max_length, 9216)
            ctx.set(path.starvation, 100)
            ctx.set(path.control.enable, (1 << self.config.queues) - 1)
            await scenario(ctx)

        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.add_testbench(self._memory, background=True)
        simulator.add_testbench(self._events, background=True)
        for watcher in watchers:
            simulator.add_testbench(watcher, background=True)
        simulator.run()

    # What the driver does

    async def post(self, ctx: Any, buffers: list[tuple[int, int, int]], queue: int = 0) -> None:
        """Push fill descriptors (address, length, buffer id) into the cache."""
        for address, length, buffer_id in buffers:
            raw = FILL.pack(address=address, length=length, buffer_id=buffer_id)
            ctx.set(self.cache.push, 1)
            ctx.set(self.cache.push_queue, queue)
            ctx.set(self.cache.push_entry, int.from_bytes(raw, "little"))
            await ctx.tick()
        ctx.set(self.cache.push, 0)

    async def steer(self, ctx: Any, queue: int, address: bytes, enable: int = 1) -> None:
        """Write a queue's MAC_ADDRESS."""
        fields = {"address": int.from_bytes(address, "little"), "enable": enable}
        await write_register(ctx, self.path.queue_write, "mac_address", queue, **fields)

    async def send(self, ctx: Any, frame: bytes, *, error: int = 0, idle: int = 0, serial: int = 0) -> None:
        """A frame on the wire, one beat a cycle, then ``idle`` cycles."""
        wire, size = self.path.wire, self.config.beat_bytes
        for start in range(0, len(frame), size):
            piece = frame[start : start + size]
            last = start + size >= len(frame)
            # Lanes that do not count carry noise, as they may.
            padding = self.random.randbytes(size - len(piece))
            ctx.set(
                wire.payload,
                {
                    "data": int.from_bytes(piece + padding, "little"),
                    "count": len(piece),
                    "first": int(start == 0),
                    "last": int(last),
                    "error": error & last,
                    "serial": serial,
                },
            )
            ctx.set(wire.valid, 1)
            *_, ready = await ctx.tick().sample(wire.ready)
            assert ready, "the wire has no backpressure"
        ctx.set(wire.valid, 0)
        if idle:
            await ctx.tick().repeat(idle)

    async def settle(self, ctx: Any, frames: int, bound: int = 20_000) -> None:
        """Wait until ``frames`` frames have met their fate, and nothing is busy."""
        for _ in range(bound):
            await ctx.tick()
            dropped = sum(event["dropped"] for event in self.frame_events)
            if dropped + len(self.queue_events) >= frames and not ctx.get(self.path.control.busy):
                await ctx.tick().repeat(3)
                assert not ctx.get(self.cache.underrun), "took descriptors that are not there"
                assert not ctx.get(self.slots.overrun), "reserved slots that are not there"
                return
        raise AssertionError(
            f"Waited {bound} cycles for {frames} frames: {len(self.frame_events)} seen, {len(self.queue_events)} done"
        )

    async def reset(self, ctx: Any) -> None:
        """Reset the path in whatever it does; memory and driver forget it too."""
        ctx.set(self.path.wire.valid, 0)
        ctx.set(self.reset_signal, 1)
        await ctx.tick().repeat(2)
        for log in (self.commands, self.done, self.frame_events, self.queue_events, *self.completions):
            log.clear()
        self.memory.clear()
        ctx.set(self.reset_signal, 0)

    def received(self, buffers: dict[int, tuple[int, int]], queue: int = 0) -> list[bytes]:
        """Frames of a queue as its completions describe them; ``buffers``: id to (address, length)."""
        frames, parts = [], b""
        for completion in self.completions[queue]:
            address, length = buffers[completion.buffer_id]
            assert 0 < completion.length <= length
            parts += bytes(self.memory[address + i] for i in range(completion.length))
            if completion.flags & END_OF_PACKET:
                frames.append(parts)
                parts = b""
        assert not parts, "a frame without end"
        return frames

    def drops(self, reason: DropReason) -> int:
        """Frames dropped for a reason."""
        events = self.frame_events + self.queue_events
        return sum(1 for event in events if event["dropped"] and event["reason"] == reason.value)

    # What memory and completion writer do

    async def _memory(self, ctx: Any) -> None:
        write, entry = self.path.write, self.path.completions.entry
        commands, done = self.commands, self.done
        while True:
            for port in (write.command, write.data, entry):
                blocked = self.frozen or (self.full and port is entry)
                ctx.set(port.ready, int(not blocked and self.random.random() >= self.stall))
            offers = bool(done) and done[0][0] <= self.cycle
            ctx.set(write.done.valid, offers)
            if offers:
                ctx.set(write.done.payload.error, done[0][1])
            *_, commanded, command, moved, beat, finished, handed, completion = await ctx.tick().sample(
                write.command.valid & write.command.ready,
                write.command.payload,
                write.data.valid & write.data.ready,
                write.data.payload,
                write.done.ready,
                entry.valid & entry.ready,
                entry.payload,
            )
            self.cycle += 1
            if commanded:
                commands.append([command.address, command.length])
            if moved:
                assert commands, "bytes before their command"
                address, left = commands[0]
                assert beat.count == min(left, self.config.beat_bytes)
                assert beat.last == (left <= self.config.beat_bytes)
                for lane in range(beat.count):
                    self.memory[address + lane] = beat.data >> 8 * lane & 0xFF
                commands[0] = [address + beat.count, left - beat.count]
                if beat.last:
                    commands.popleft()
                    done.append((self.cycle + self.latency, int(address >> 12 in self.bad_pages)))
            if offers and finished:
                done.popleft()
            if handed:
                raw = completion.entry.to_bytes(16, "little")
                self.completions[completion.queue].append(COMPLETION.unpack(raw))
                self.completed_at.append(self.cycle)

    async def _events(self, ctx: Any) -> None:
        path, fault = self.path, self.path.fault
        ctx.set(fault.ready, 1)
        per_port = ("strobe", "length", "multicast", "broadcast", "dropped", "reason")
        per_queue = ("strobe", "queue", "length", "fault", "dropped", "reason")
        logs = (
            (per_port, path.frame_event, self.frame_events),
            (per_queue, path.drop_event, self.queue_events),
            (per_queue, path.delivery_event, self.queue_events),
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
