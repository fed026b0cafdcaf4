# SPDX-License-Identifier: BSD-2-Clause
"""RxWriter: segments become commands, bytes and entries, at the pace of the wire, and words are freed once read."""

import random
from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from amaranth.hdl import Module, Value
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import CompletionError, RxCompletion
from hw.config import preset
from hw.nic.packet_buffer import PacketBuffer
from hw.nic.rx.aligner import WriteBeat
from hw.nic.rx.writer import RxWriter

COMPLETION = Codec(RxCompletion)
FLAGS = {name: COMPLETION.mask("flags", name) for name in ("end_of_packet", "header_split")}


class Bench:
    """A writer and its packet buffer, between an ingress, a planner, a memory and a completion writer in Python.

    The ingress writes a frame's words as soon as there is room for each, and so over those that the writer has freed.
    ``stall`` is the chance, per cycle, that each of the others pauses; addresses of ``bad_pages`` answer with an error.
    """

    def __init__(self, width: int, *, seed: int = 0, stall: float = 0.0, **changes: Any):
        print(f"seed {seed}")
        sizes = {"rx_buffer_bytes": 2048, "max_frame": 1024, "outstanding_writes": 64} | changes
        self.config = config = preset("10g", data_width=width, **sizes)
        self.random, self.stall = random.Random(seed), stall
        self.words = config.rx_buffer_bytes // config.beat_bytes
        self.writer = RxWriter(config)
        self.buffer = PacketBuffer(width, self.words, WriteBeat(config))
        self.unwritten: deque[bytes] = deque()
        self.segments: deque[tuple[int, dict[str, Any]]] = deque()  # words that must lie in the buffer first
        self.queued = self.written = 0  # words
        self.memory: dict[int, int] = {}
        self.bad_pages: set[int] = set()
        self.commands: list[tuple[int, int, int]] = []
        self.beats_at: list[int] = []
        self.entries: list[Any] = []
        self.events: list[tuple[int, int, int]] = []
        self.top = m = Module()
        m.submodules.writer, m.submodules.buffer = self.writer, self.buffer
        connect(m, self.writer.request, self.buffer.request)
        connect(m, self.buffer.response, self.writer.response)

    def frame(self, frame: bytes, *segments: dict[str, Any], queue: int = 0, drop: bool = False) -> None:
        """A frame that is to be stored, and where its bytes go; the last segment takes the rest."""
        size = self.config.beat_bytes
        pieces = [frame[start : start + size] for start in range(0, len(frame), size)]
        self.unwritten.extend(piece + self.random.randbytes(size - len(piece)) for piece in pieces)
        self.queued += len(pieces)
        left = len(frame)
        for segment in segments:
            length = segment.get("length", left)
            left -= length
            ends = int(not left and not drop)
            fields = {"queue": queue, "length": length, "end_of_packet": ends, "drop": int(drop)}
            self.segments.append((self.queued, segment | fields))
        assert not left, "bytes of a frame go nowhere"

    def hold(self) -> None:
        """No segment comes before all words lie in the buffer."""
        assert self.queued <= self.words, "more than fits"
        self.segments = deque((self.queued, segment) for _, segment in self.segments)

    def run(self, frames: int, *watchers: Any, bound: int = 4000) -> None:
        """Until the ``frames`` that are not dropped have met their fate, and all words are free."""

        async def main(ctx: Any) -> None:
            for _ in range(bound):
                await ctx.tick()
                read = ctx.get(self.writer.read_pointer)
                if len(self.events) == frames and not self.segments and read == self.queued % (2 * self.words):
                    return
            raise AssertionError(f"Waited {bound} cycles for {frames} frames: {len(self.events)} came")

        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        for part in (self._ingress, self._memory, *watchers):
            simulator.add_testbench(part, background=True)
        simulator.run()

    def _pauses(self) -> bool:
        return self.random.random() < self.stall

    async def _ingress(self, ctx: Any) -> None:
        buffer, segments = self.buffer, self.writer.segments
        while True:
            used = (self.written - ctx.get(self.writer.read_pointer)) % (2 * self.words)
            assert used <= self.words, "words were read that are not written"
            writes = bool(self.unwritten) and used < self.words
            ctx.set(buffer.write_enable, writes)
            if writes:
                ctx.set(buffer.write_address, self.written % self.words)
                ctx.set(buffer.write_data, int.from_bytes(self.unwritten.popleft(), "little"))
            if not ctx.get(segments.valid) and self.segments and self.segments[0][0] <= self.written:
                ctx.set(segments.valid, not self._pauses())
                ctx.set(segments.payload, self.segments[0][1])
            *_, taken = await ctx.tick().sample(segments.valid & segments.ready)
            self.written += writes
            if taken:
                self.segments.popleft()
                ctx.set(segments.valid, 0)

    async def _memory(self, ctx: Any) -> None:
        write, entry, event = self.writer.write, self.writer.entry, self.writer.event
        open_: deque[list[int]] = deque()  # address, place in it, bytes left
        done: deque[int] = deque()
        cycle = 0
        while True:
            for port in (write.command, write.data, entry):
                ctx.set(port.ready, not self._pauses())
            answers = bool(done) and not self._pauses()
            ctx.set(write.done.valid, answers)
            if answers:
                ctx.set(write.done.payload.error, done.popleft())
            *_, commanded, command, moved, beat, handed, given, strobe, queue, length, fault = await ctx.tick().sample(
                write.command.valid & write.command.ready,
                write.command.payload,
                write.data.valid & write.data.ready,
                write.data.payload,
                entry.valid & entry.ready,
                entry.payload,
                *(Value.cast(getattr(event, name)) for name in ("strobe", "queue", "length", "fault")),
            )
            cycle += 1
            if moved:
                assert open_, "bytes before their command"
                address, place, left = open_[0]
                assert (beat.count, beat.last) == (min(left, self.config.beat_bytes), left <= self.config.beat_bytes)
                self.memory |= {address + place + lane: beat.data >> 8 * lane & 0xFF for lane in range(beat.count)}
                self.beats_at.append(cycle)
                open_[0] = [address, place + beat.count, left - beat.count]
                if beat.last:
                    open_.popleft()
                    done.append(int(address >> 12 in self.bad_pages))
            if commanded:
                self.commands.append((command.address, command.length, command.queue))
                open_.append([command.address, 0, command.length])
            if handed:
                self.entries.append(COMPLETION.unpack(given.entry.to_bytes(16, "little")))
            if strobe:
                self.events.append((queue, length, fault))

    def bytes_at(self, address: int, count: int) -> bytes:
        return bytes(self.memory[address + i] for i in range(count))


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize(("seed", "stall"), [(1, 0.0), (2, 0.3), (3, 0.6)])
def test_bytes_entries_and_events_are_those_of_the_segments_whatever_stalls(width, seed, stall):
    bench, rng = Bench(width, seed=seed, stall=stall), random.Random(seed)
    wanted_bytes, commands, entries, events = [], [], [], []
    for number in range(60):
        frame, queue, info = rng.randbytes(rng.choice((60, 64, 65, 130, 257, 511))), rng.randrange(2), {}
        if rng.random() < 0.2:
            bench.frame(frame, {}, drop=True)
            continue
        cuts = sorted(rng.sample(range(1, len(frame)), rng.randrange(4)))
        split = bool(cuts) and rng.random() < 0.5
        if split:
            info = {"header_length": cuts[0] % 256}
        segments, bounds = [], [0, *cuts, len(frame)]
        for part, (start, end) in enumerate(pairwise(bounds)):
            address, identity = number << 20 | part << 12 | rng.randrange(64), rng.randrange(1 << 16)
            header = split and part == 0
            segments.append({"address": address, "length": end - start, "info": info, "buffer_id": identity})
            segments[-1]["header"] = int(header)
            commands.append((address, end - start, queue))
            wanted_bytes.append((address, frame[start:end]))
            if not header:
                flags = FLAGS["end_of_packet"] * (end == len(frame)) | FLAGS["header_split"] * (split and part == 1)
                entries.append((identity, end - start, info.get("header_length", 0), flags, 0))
        bench.frame(frame, *segments, queue=queue)
        events.append((queue, len(frame), 0))
    bench.run(len(events), bound=30_000)
    for address, content in wanted_bytes:
        assert bench.bytes_at(address, len(content)) == content
    assert bench.commands == commands
    assert [(e.buffer_id, e.length, e.header_length, e.flags, e.error) for e in bench.entries] == entries
    assert bench.events == events


def test_a_refused_write_shows_in_its_entry_and_one_of_headers_in_the_next_entry_alone():
    bench, rng = Bench(64), random.Random(4)
    bench.bad_pages = {0x1, 0x12}
    for base in (0x0, 0x10, 0x20):
        header = {"address": base + 0x1 << 12, "length": 54, "header": 1}
        first = {"address": base + 0x2 << 12, "length": 100}
        bench.frame(rng.randbytes(300), header, first, {"address": base + 0x3 << 12})
    bench.run(3)
    good, fault = CompletionError.NONE.value, CompletionError.WRITE_FAULT.value
    assert [entry.error for entry in bench.entries] == [fault, good, fault, good, good, good]
    assert bench.events == [(0, 300, 1), (0, 300, 1), (0, 300, 0)]


@pytest.mark.parametrize(("width", "length", "header"), [(64, 60, 0), (64, 64, 0), (512, 60, 0), (512, 1024, 1)])
def test_beats_come_one_a_cycle_within_and_between_segments(width, length, header):
    bench, rng = Bench(width, rx_buffer_bytes=16384), random.Random(5)
    size = width // 8
    beats = 0
    for i in range(12):
        segments = [{"address": i << 16, "length": 54, "header": 1}] * header + [{"address": i << 16 | 0x100}]
        bench.frame(rng.randbytes(length), *segments)
        beats += header + -(-(length - 54 * header) // size)
    bench.hold()
    bench.run(12)
    assert len(bench.beats_at) == beats
    assert bench.beats_at[-1] - bench.beats_at[0] == beats - 1


def test_dropped_frames_leave_one_a_cycle_and_free_their_words():
    bench, rng = Bench(512, rx_buffer_bytes=16384), random.Random(6)
    for _ in range(40):
        bench.frame(rng.randbytes(200), {}, drop=True)
    bench.frame(b"x" * 60, {"address": 0x1000})
    bench.hold()
    bench.run(1, bound=bench.queued + 40 + 30)
    assert bench.bytes_at(0x1000, 60) == b"x" * 60


@pytest.mark.parametrize(("width", "aligned"), [(64, 2), (512, 3)])
def test_latencies_are_as_stated(width, aligned):
    bench, seen = Bench(width), {}
    bench.frame(b"y" * 60, {"address": 0x1000})

    async def watch(ctx: Any) -> None:
        write, entry = bench.writer.write, bench.writer.entry
        points = {"segment": bench.writer.segments, "command": write.command, "data": write.data}
        points |= {"done": write.done, "entry": entry}
        for cycle in range(200):
            *_, a, b, c, d, e = await ctx.tick().sample(*(port.valid & port.ready for port in points.values()))
            for name, happens in zip(points, (a, b, c, d, e)):
                if happens:
                    seen.setdefault(name, cycle)

    bench.run(1, watch)
    assert seen["command"] - seen["segment"] == 3
    assert seen["data"] - seen["command"] == 6 + aligned
    assert seen["entry"] - seen["done"] == 5
