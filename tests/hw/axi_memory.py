# SPDX-License-Identifier: BSD-2-Clause
"""A memory behind AXI4 for Amaranth's simulator, hostile in timing and strict about the protocol.

It behaves like flip-flops (a process, not a testbench): it samples all channels on the clock edge, so benches around it
never race with it::

    memory = AxiMemory(1 << 16, seed=7, stall=0.3, latency=(5, 40))
    memory.attach(sim, dut.axi)                       # or attach_write(sim, aw, w, b), attach_read(sim, ar, r)
    memory.fail(range(0x1000, 0x2000))
    ...
    assert memory.data[0x40:0x50] == expected
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Value
from amaranth.sim import Simulator

from hw.bus.axi4 import PAGE_BYTES, Response


@dataclass
class Burst:
    """An accepted address, and when its transfer was over."""

    cycle: int
    id: int
    address: int
    beats: int
    user: int
    lock: bool = False
    release: int = 0  #: cycle from which it may be answered
    moved: int = 0
    response: Response = Response.OKAY


@dataclass
class WriteBeat:
    """An accepted W beat."""

    cycle: int
    data: int
    strobe: int
    last: bool


@dataclass
class _Input:
    """A channel into the memory: its ready follows a seeded coin."""

    name: str
    port: Any
    fields: tuple[str, ...]
    ready: bool = False
    held: tuple[int, ...] | None = None

    def signals(self) -> list[Value]:
        return [self.port.valid, *(Value.cast(self.port.payload[name]) for name in self.fields)]

    def sample(self, values: tuple[int, ...]) -> tuple[int, ...] | None:
        """The transfer of this cycle, if there was one; checks that an offer waits unchanged."""
        valid, payload = values[0], tuple(int(value) for value in values[1:])
        assert self.held is None or (valid and payload == self.held), (
            f"AXI {self.name} changed from {self.held} to {payload if valid else 'nothing'} before it was taken"
        )
        self.held = payload if valid and not self.ready else None
        return payload if valid and self.ready else None


class AxiMemory:
    """Bytes ``base`` .. ``base + size - 1``; everything else answers DECERR.

    Parameters
    ----------
    seed : of every random choice
    stall : probability, per channel and cycle, that the memory does not move (0 up to below 1)
    latency : cycles from the end of a request to the earliest answer: one number or (least, most)
    interleave : whether R beats of different IDs mix, and B and R of different IDs pass each other

    Attributes
    ----------
    data : the bytes
    writes, reads : every accepted burst, in order of its address
    write_beats : every accepted W beat
    read_beat_cycles : cycle of every accepted R beat
    on_write : called with (address, bytes) for each run of written bytes, when they become visible

    Exclusive accesses of single beats are known: a read reserves its word for its ID, a write to the word by anyone
    ends that; a write without reservation answers OKAY and changes nothing, the others EXOKAY.

    Assertions, which name the channel: a payload that changes while it waits, a burst over a 4 KiB boundary, a burst of
    narrow beats, W ``last`` not on the burst's last beat. A reset of the domain forgets whatever is under way.
    """

    def __init__(
        self,
        size: int,
        *,
        base: int = 0,
        seed: int = 0,
        stall: float = 0.0,
        latency: int | tuple[int, int] = 4,
        interleave: bool = True,
    ):
        self.base = base
        self.data = bytearray(size)
        self.stall = stall
        self.latency = (latency, latency) if isinstance(latency, int) else latency
        self.interleave = interleave
        self.cycle = 0
        self.writes: list[Burst] = []
        self.reads: list[Burst] = []
        self.write_beats: list[WriteBeat] = []
        self.read_beat_cycles: list[int] = []
        self.on_write: Callable[[int, bytes], None] | None = None
        self._random = random.Random(seed)
        self._failing: list[tuple[range, bool, bool]] = []
        self._far: list[tuple[range, int]] = []
        self._addressed: deque[Burst] = deque()
        self._beats: deque[WriteBeat] = deque()
        self._written: list[Burst] = []
        self._wanted: list[Burst] = []
        self._reserved: dict[int, int] = {}  # ID to word

    def fail(self, addresses: range, *, reads: bool = True, writes: bool = True) -> None:
        """Answer accesses to these addresses with SLVERR; such writes change nothing."""
        self._failing.append((addresses, reads, writes))

    def delay(self, addresses: range, cycles: int) -> None:
        """Answer reads that begin at these addresses so many cycles later than others."""
        self._far.append((addresses, cycles))

    def heal(self) -> None:
        """Forget all failing addresses."""
        self._failing.clear()

    @property
    def idle(self) -> bool:
        """No transaction is under way."""
        return not (self._addressed or self._beats or self._written or self._wanted)

    def attach(self, sim: Simulator, axi: Any) -> None:
        """Serve all five channels of an :class:`hw.bus.axi4.AXI4Signature` (the manager's side)."""
        self.attach_write(sim, axi.aw, axi.w, axi.b)
        self.attach_read(sim, axi.ar, axi.r)

    def attach_write(self, sim: Simulator, aw: Any, w: Any, b: Any) -> None:
        """Serve AW, W and B."""
        beat_bytes = len(Value.cast(w.payload.strb))
        address = _Input("AW", aw, ("id", "addr", "len", "size", "user", "lock"))
        beats = _Input("W", w, ("data", "strb", "last"))

        async def process(ctx: Any) -> None:
            cycle, offered, taps = 0, False, address.signals()
            async for _, reset, *values in ctx.tick().sample(*taps, *beats.signals(), b.ready):
                self.cycle = cycle = cycle + 1
                if reset:
                    self._addressed.clear()
                    self._beats.clear()
                    self._written.clear()
                    address.held = beats.held = None
                    offered = False
                    ctx.set(b.valid, False)
                    continue
                burst = address.sample(tuple(values[: len(taps)]))
                if burst:
                    self.writes.append(self._address("AW", burst, beat_bytes))
                    self._addressed.append(self.writes[-1])
                beat = beats.sample(tuple(values[len(taps) : -1]))
                if beat:
                    self.write_beats.append(WriteBeat(self.cycle, beat[0], beat[1], bool(beat[2])))
                    self._beats.append(self.write_beats[-1])
                self._join(beat_bytes)
                if offered and values[-1]:
                    offered = False
                if not offered and (offer := self._choose(self._written)):
                    self._written.remove(offer)
                    offered = True
                    ctx.set(b.payload.id, offer.id)
                    ctx.set(b.payload.resp, offer.response)
                ctx.set(b.valid, offered)
                for channel in (address, beats):
                    channel.ready = self._moves()
                    ctx.set(channel.port.ready, channel.ready)

        sim.add_process(process)

    def attach_read(self, sim: Simulator, ar: Any, r: Any) -> None:
        """Serve AR and R."""
        beat_bytes = len(r.payload.data) // 8
        address = _Input("AR", ar, ("id", "addr", "len", "size", "user", "lock"))

        async def process(ctx: Any) -> None:
            cycle, offered = 0, False
            async for _, reset, *values in ctx.tick().sample(*address.signals(), r.ready):
                self.cycle = cycle = cycle + 1
                if reset:
                    self._wanted.clear()
                    self._reserved.clear()
                    address.held = None
                    offered = False
                    ctx.set(r.valid, False)
                    continue
                burst = address.sample(tuple(values[:-1]))
                if burst:
                    self.reads.append(self._address("AR", burst, beat_bytes))
                    self._wanted.append(self.reads[-1])
                    later = sum(more for addresses, more in self._far if self.reads[-1].address in addresses)
                    self.reads[-1].release = self._release() + later
                if offered and values[-1]:
                    self.read_beat_cycles.append(self.cycle)
                    offered = False
                if not offered and (offer := self._choose(self._wanted)):
                    offered = True
                    self._offer(ctx, r, offer, beat_bytes)
                    if offer.moved == offer.beats:
                        self._wanted.remove(offer)
                ctx.set(r.valid, offered)
                address.ready = self._moves()
                ctx.set(ar.ready, address.ready)

        sim.add_process(process)

    def _moves(self) -> bool:
        return self._random.random() >= self.stall

    def _release(self) -> int:
        return self.cycle + self._random.randint(*self.latency)

    def _address(self, name: str, payload: tuple[int, ...], beat_bytes: int) -> Burst:
        identifier, address, length, size, user, lock = payload
        assert 1 << size == beat_bytes, f"AXI {name} has beats of {1 << size} bytes on a bus of {beat_bytes}"
        last = address // beat_bytes * beat_bytes + (length + 1) * beat_bytes - 1
        assert address // PAGE_BYTES == last // PAGE_BYTES, f"AXI {name} burst {address:#x}..{last:#x} crosses 4 KiB"
        return Burst(self.cycle, identifier, address, length + 1, user, bool(lock))

    def _join(self, beat_bytes: int) -> None:
        """Give W beats to the oldest address; a whole burst becomes visible and may be answered."""
        while self._addressed and self._beats:
            burst, beat = self._addressed[0], self._beats.popleft()
            self._store(burst, beat, beat_bytes)
            burst.moved += 1
            assert beat.last == (burst.moved == burst.beats), (
                f"AXI W last is {beat.last} on beat {burst.moved} of {burst.beats} of the burst at {burst.address:#x}"
            )
            if beat.last:
                burst.release = self._release()
                self._written.append(self._addressed.popleft())

    def _store(self, burst: Burst, beat: WriteBeat, beat_bytes: int) -> None:
        start = burst.address // beat_bytes * beat_bytes + burst.moved * beat_bytes
        raw = beat.data.to_bytes(beat_bytes, "little")
        lanes = [lane for lane in range(beat_bytes) if beat.strobe >> lane & 1]
        response = self._response(start, lanes, write=True)
        if response is not Response.OKAY:
            burst.response = response
            return
        if burst.lock and burst.beats == 1:
            if self._reserved.get(burst.id) != start:
                return
            burst.response = Response.EXOKAY
        self._reserved = {identifier: word for identifier, word in self._reserved.items() if word != start}
        for lane in lanes:
            self.data[start + lane - self.base] = raw[lane]
        if self.on_write and lanes:
            self.on_write(start + lanes[0], raw[lanes[0] : lanes[-1] + 1])

    def _choose(self, bursts: list[Burst]) -> Burst | None:
        """An answerable burst: the oldest of its ID."""
        if not bursts or not self._moves():
            return None
        heads: dict[int, Burst] = {}
        for burst in bursts:
            heads.setdefault(burst.id, burst)
        ready = [burst for burst in heads.values() if burst.release <= self.cycle]
        if not self.interleave:
            ready = [burst for burst in ready if burst is bursts[0]]
        return self._random.choice(ready) if ready else None

    def _offer(self, ctx: Any, r: Any, burst: Burst, beat_bytes: int) -> None:
        start = burst.address // beat_bytes * beat_bytes + burst.moved * beat_bytes
        burst.moved += 1
        # Bytes below an unaligned start are not asked for.
        response = self._response(start, range(max(0, burst.address - start), beat_bytes), write=False)
        if response is Response.OKAY and burst.lock and burst.beats == 1:
            response = Response.EXOKAY
            self._reserved[burst.id] = start
        raw = self.data[start - self.base : start - self.base + beat_bytes] if response is not Response.DECERR else b""
        ctx.set(r.payload.id, burst.id)
        ctx.set(r.payload.data, int.from_bytes(raw, "little"))
        ctx.set(r.payload.resp, response)
        ctx.set(r.payload.last, burst.moved == burst.beats)

    def _response(self, start: int, lanes: Any, *, write: bool) -> Response:
        for lane in lanes:
            if not self.base <= start + lane < self.base + len(self.data):
                return Response.DECERR
            for addresses, reads, writes in self._failing:
                if start + lane in addresses and (writes if write else reads):
                    return Response.SLVERR
        return Response.OKAY
