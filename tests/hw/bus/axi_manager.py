# SPDX-License-Identifier: BSD-2-Clause
"""An AXI4 manager for Amaranth's simulator: queues accesses, drives all channels at once, and notes every cycle."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

from hw.bus.axi4 import Response


@dataclass
class Access:
    """A burst, and what became of it. Cycles are those in which the transfer happened, from 0."""

    address: int
    beats: int
    size: int
    id: int = 0
    lock: bool = False
    data: bytes | None = None  #: bytes to write from ``address`` on
    user: Any = None  #: its sideband, as a dict of fields
    earliest: int = 0  #: cycle of its address at the earliest
    addressed: int | None = None
    moved: list[int] = field(default_factory=list)  #: cycle of each data beat
    answered: int | None = None  #: cycle of B, or of the last R
    response: Response = Response.OKAY
    result: bytes = b""  #: whole words that were read


class AxiManager:
    """Drives an interface from the manager's side.

    Parameters
    ----------
    seed : of all pauses
    stall : probability, per channel and cycle, of a pause
    """

    def __init__(self, port: Any, *, seed: int = 0, stall: float = 0.0):
        self.port = port
        self.word = len(port.w.payload.data) // 8
        self.stall = stall
        self.seed = seed
        self.done: list[Access] = []
        self._random = random.Random(seed)
        self._queues: dict[str, deque[Access]] = {name: deque() for name in ("aw", "w", "ar")}
        self._writes: dict[int, deque[Access]] = {}
        self._reads: dict[int, deque[Access]] = {}
        self._under_way = 0

    def read(self, address: int, beats: int = 1, **more: Any) -> Access:
        """Queue a read."""
        access = Access(address, beats, more.pop("size", self.word.bit_length() - 1), **more)
        self._queues["ar"].append(access)
        self._reads.setdefault(access.id, deque()).append(access)
        self._under_way += 1
        return access

    def write(self, address: int, data: bytes, **more: Any) -> Access:
        """Queue a write; as many beats as the bytes need."""
        size = more.pop("size", self.word.bit_length() - 1)
        beats = -(-(address % (1 << size) + len(data)) // (1 << size))
        access = Access(address, beats, size, data=data, **more)
        self._queues["aw"].append(access)
        self._queues["w"].append(access)
        self._writes.setdefault(access.id, deque()).append(access)
        self._under_way += 1
        return access

    def attach(self, sim: Simulator) -> None:
        """Add the benches of all channels."""
        for bench in (
            self._address("aw", self.port.aw),
            self._address("ar", self.port.ar),
            self._write_data,
            self._answers("b", self.port.b, self._writes),
            self._answers("r", self.port.r, self._reads),
        ):
            sim.add_testbench(bench, background=True)

    def forget(self) -> None:
        """Expect no more responses, as after a reset; all addresses and data must have been taken."""
        assert not any(self._queues.values()), "some accesses were not taken yet"
        self._writes.clear()
        self._reads.clear()
        self._under_way = 0

    async def finish(self, ctx: Any, timeout: int = 20_000) -> None:
        """Wait for every queued access."""
        for _ in range(timeout):
            if not self._under_way:
                return
            await ctx.tick()
        raise AssertionError(f"{self._under_way} accesses without response after {timeout} cycles (seed {self.seed})")

    def _pauses(self) -> bool:
        return self._random.random() < self.stall

    def _address(self, name: str, channel: Any) -> Any:
        async def bench(ctx: Any) -> None:
            cycle = 0
            queue = self._queues[name]
            while True:
                if not queue or cycle < queue[0].earliest or self._pauses():
                    await ctx.tick()
                    cycle += 1
                    continue
                access = queue.popleft()
                for key, value in (("id", access.id), ("addr", access.address), ("len", access.beats - 1)):
                    ctx.set(channel.payload[key], value)
                ctx.set(channel.payload.size, access.size)
                ctx.set(channel.payload.lock, access.lock)
                ctx.set(channel.payload.user, access.user or {})
                ctx.set(channel.valid, 1)
                taken = False
                while not taken:
                    _, _, taken = await ctx.tick().sample(channel.ready)
                    cycle += 1
                access.addressed = cycle - 1
                ctx.set(channel.valid, 0)

        return bench

    async def _write_data(self, ctx: Any) -> None:
        cycle = 0
        queue, channel = self._queues["w"], self.port.w
        while True:
            if not queue or cycle < queue[0].earliest:
                await ctx.tick()
                cycle += 1
                continue
            access = queue.popleft()
            step = 1 << access.size
            position, left = access.address, access.data
            for beat in range(access.beats):
                while self._pauses():
                    await ctx.tick()
                    cycle += 1
                raw = left[: step - position % step]
                left = left[len(raw) :]
                lane = position % self.word
                ctx.set(channel.payload.data, int.from_bytes(raw, "little") << 8 * lane)
                ctx.set(channel.payload.strb, ((1 << len(raw)) - 1) << lane)
                ctx.set(channel.payload.last, beat == access.beats - 1)
                ctx.set(channel.valid, 1)
                taken = False
                while not taken:
                    _, _, taken = await ctx.tick().sample(channel.ready)
                    cycle += 1
                access.moved.append(cycle - 1)
                ctx.set(channel.valid, 0)
                position += len(raw)

    def _answers(self, name: str, channel: Any, waiting: dict[int, deque[Access]]) -> Any:
        async def bench(ctx: Any) -> None:
            cycle = 0
            held = None
            while True:
                ready = not self._pauses()
                ctx.set(channel.ready, ready)
                _, _, valid, payload, bits = await ctx.tick().sample(
                    channel.valid, channel.payload, channel.payload.as_value()
                )
                assert held is None or (valid and bits == held), f"AXI {name} changed before it was taken"
                held = bits if valid and not ready else None
                if valid and ready:
                    assert waiting.get(payload.id), f"AXI {name} of ID {payload.id} that nobody asked for"
                    self._answer(name, waiting[payload.id], payload, cycle)
                cycle += 1

        return bench

    def _answer(self, name: str, waiting: deque[Access], payload: Any, cycle: int) -> None:
        access = waiting[0]
        access.response = max(access.response, payload.resp, key=lambda response: response.value)
        if name == "r":
            access.moved.append(cycle)
            access.result += payload.data.to_bytes(self.word, "little")
            assert payload.last == (len(access.moved) == access.beats), (
                f"R last on beat {len(access.moved)} of {access}"
            )
            if not payload.last:
                return
        access.answered = cycle
        self.done.append(waiting.popleft())
        self._under_way -= 1
