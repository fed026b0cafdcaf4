# SPDX-License-Identifier: BSD-2-Clause
"""A whole NIC with memory, wire and a driver of few lines, in Amaranth's simulator.

::

    host = NicHost(seed=3, stall=0.2)

    async def bench(ctx):
        await host.bring_up(ctx)
        host.play(b"...")
        frames = await host.receive(ctx, 0, 1)

    host.run(bench)

Memory holds for each queue its four rings, and behind them header buffers, and buffers that are handed out round robin.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import (
    ENTRY_BYTES,
    FillDescriptor,
    QueueState,
    RxCompletion,
    TxCompletion,
    TxDataFlags,
    TxDescriptor,
    TxDescriptorType,
)
from hw.bus.axi4 import Response
from hw.config import preset
from hw.nic.nic import Nic
from tests.hw.axi_lite import RegisterMaster
from tests.hw.axi_memory import AxiMemory

FILL, RX_COMPLETION, TX_RING, TX_COMPLETION = (
    Codec(c) for c in (FillDescriptor, RxCompletion, TxDescriptor, TxCompletion)
)
END_OF_PACKET, HEADER_SPLIT = (RX_COMPLETION.mask("flags", name) for name in ("end_of_packet", "header_split"))
TX_FLAGS = TxDataFlags.as_shape()
ENTRIES = 64
BUFFER_BYTES = 2048
QUEUE_BYTES = 0x40000
PATIENCE = 20_000


@dataclass
class Queue:
    """What the driver knows of a queue pair."""

    base: int
    posted: int = 0
    received: int = 0
    header_bytes: int = 0
    sent: int = 0
    reclaimed: int = 0
    buffers: dict[int, int] = field(default_factory=dict)
    partial: bytes = b""

    def ring(self, number: int, index: int = 0) -> int:
        """Address of an entry of fill, RX completion, TX or TX completion ring."""
        return self.base + number * 0x1000 + index % ENTRIES * ENTRY_BYTES

    def header(self, index: int = 0) -> int:
        """Address of the header buffer of an RX completion."""
        return self.base + 0x4000 + index % ENTRIES * self.header_bytes

    def buffer(self, number: int) -> int:
        return self.base + 0x8000 + number % ENTRIES * BUFFER_BYTES


class NicHost:
    """The bench; parameters are those of :class:`tests.hw.axi_memory.AxiMemory` and of the NIC.

    Attributes: ``sent`` frames that left, ``vectors`` interrupts taken, ``writes`` (cycle, address, bytes) of memory,
    ``wire_stall`` and ``interrupt_stall`` probabilities of the MAC and the host not being ready.
    """

    def __init__(self, *, seed=0, stall=0.0, latency=4, wire_stall=0.0, **changes):
        self.config = preset("10g", **changes)
        self.nic = Nic(self.config)
        self.random = random.Random(seed)
        self.memory = AxiMemory(QUEUE_BYTES * (1 + self.config.queues), seed=seed, stall=stall, latency=latency)
        self.memory.on_write = lambda address, data: self.writes.append((self.memory.cycle, address, data))
        self.registers = RegisterMaster(self.nic.registers, self.config.queues)
        self.wire_stall = wire_stall
        self.interrupt_stall = 0.0
        self.queues = [Queue(QUEUE_BYTES * (1 + q)) for q in range(self.config.queues)]
        self.sent = []
        self.vectors = []
        self.writes = []
        self.offered = 0
        self._wire = deque()

    def run(self, bench):
        """Simulate until the bench ends."""
        sim = Simulator(self.nic)
        sim.add_clock(1e-6)
        self.memory.attach(sim, self.nic.axi)
        sim.add_testbench(self._play, background=True)
        sim.add_testbench(self._record, background=True)
        sim.add_testbench(self._interrupt, background=True)
        sim.add_testbench(bench)
        sim.run()

    # Wire and interrupts

    def play(self, frame, *, gap=0, damaged=False):
        """Queue a frame for the wire."""
        self._wire.append((bytes(frame), gap, damaged))
        self.offered += 1

    async def _play(self, ctx):
        port, lanes = self.nic.wire_rx, self.config.beat_bytes
        while True:
            if not self._wire:
                await ctx.tick()
                continue
            frame, gap, damaged = self._wire.popleft()
            for start in range(0, len(frame), lanes):
                beat, last = frame[start : start + lanes], start + lanes >= len(frame)
                ctx.set(port.payload.data, int.from_bytes(beat, "little"))
                ctx.set(port.payload.count, len(beat))
                ctx.set(port.payload.first, start == 0)
                ctx.set(port.payload.last, last)
                ctx.set(port.payload.error, damaged and last)
                ctx.set(port.valid, 1)
                _, _, ready = await ctx.tick().sample(port.ready)
                assert ready, "the NIC pushed back on the wire"
            ctx.set(port.valid, 0)
            await ctx.tick().repeat(3 + gap)

    @property
    def wire_empty(self):
        return not self._wire

    async def _record(self, ctx):
        port, frame, inside = self.nic.wire_tx, bytearray(), False
        while True:
            ready = self.random.random() >= self.wire_stall
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            assert valid or not inside, "the stream to the wire paused inside a frame"
            if valid and ready:
                assert payload.first == (not inside)
                frame += payload.data.to_bytes(self.config.beat_bytes, "little")[: payload.count]
                inside = not payload.last
                if payload.last:
                    self.sent.append(bytes(frame))
                    frame.clear()

    async def _interrupt(self, ctx):
        port = self.nic.interrupt
        while True:
            ready = self.random.random() >= self.interrupt_stall
            ctx.set(port.ready, ready)
            _, _, valid, vector = await ctx.tick().sample(port.valid, port.payload)
            if valid and ready:
                self.vectors.append(vector)

    # Driver

    async def write(self, ctx, name, queue=None, **fields):
        """A register write that must be accepted."""
        response = await self.registers.write(ctx, name, queue, **fields)
        assert response is Response.OKAY, f"write of {name} {fields} answered {response.name}"

    async def state(self, ctx, direction, queue):
        """State, stopped and error of a direction."""
        name = f"{direction}_status"
        word = await self.registers.read(ctx, name, queue)
        register = self.registers.map.queue[name]
        return QueueState(register.get(word, "state")), register.get(word, "stopped"), register.get(word, "error")

    async def bring_up(self, ctx, *, buffers=32, **timeouts):
        """Carrier, rings and buffers of all queues, both directions; queue 1 and on are steered by address
        ``02:00:00:00:00:qq``."""
        ctx.set(self.nic.carrier, 1)
        await self.write(ctx, "timeouts", **({"starvation": 200, "completion": 32} | timeouts))
        for number in range(self.config.queues):
            await self.start(ctx, number, buffers=buffers)
            await self.write(ctx, "moderation", number, vector=100 + number)
            if number:
                await self.write(ctx, "mac_address", number, address=2 | number << 40, enable=1)
        await self.write(ctx, "control", rx_enable=1, tx_enable=1)

    async def start(self, ctx, number, *, directions=("rx", "tx"), buffers=32, header_bytes=0):
        """Set up the rings of a queue from scratch and start its directions; with ``header_bytes``, header buffers of
        that size."""
        old = self.queues[number]
        queue = Queue(old.base)
        for direction in directions:
            rings = (0, 1) if direction == "rx" else (2, 3)
            for ring, name in zip(
                rings, {"rx": ("rx_fill", "rx_completion"), "tx": ("tx_ring", "tx_completion")}[direction]
            ):
                self.memory.data[queue.ring(ring) : queue.ring(ring) + 0x1000] = bytes(0x1000)
                await self.write(ctx, f"{name}_base", number, address=queue.ring(ring))
                await self.write(ctx, f"{name}_size", number, entries=ENTRIES)
            if direction == "rx" and self.config.header_split:
                queue.header_bytes = header_bytes
                setting = {"enable": 1, "size": header_bytes.bit_length() - 7, "address": queue.header() >> 6}
                await self.write(ctx, "rx_header", number, **(setting if header_bytes else {}))
            await self.write(ctx, f"{direction}_control", number, enable=1)
        if "rx" not in directions:
            queue.posted, queue.received, queue.buffers = old.posted, old.received, old.buffers
            queue.header_bytes = old.header_bytes
        if "tx" not in directions:
            queue.sent, queue.reclaimed = old.sent, old.reclaimed
        self.queues[number] = queue
        if "rx" in directions and buffers:
            await self.post(ctx, number, buffers)

    async def post(self, ctx, number, count, *, length=BUFFER_BYTES):
        """Hand empty buffers to the NIC."""
        queue = self.queues[number]
        for _ in range(count):
            address = queue.buffer(queue.posted)
            queue.buffers[queue.posted % 65536] = address
            entry = FILL.pack(address=address, length=length, buffer_id=queue.posted % 65536)
            self._store(queue.ring(0, queue.posted), entry)
            queue.posted += 1
        await self.ring_rx(ctx, number)

    async def ring_rx(self, ctx, number):
        queue = self.queues[number]
        await self.write(
            ctx, "rx_doorbell", number, fill_producer=queue.posted % 65536, completion_consumer=queue.received % 65536
        )

    def poll(self, number):
        """Completions that have become visible: (frame bytes so far, completion)."""
        queue = self.queues[number]
        while True:
            address = queue.ring(1, queue.received)
            raw = self.memory.data[address : address + ENTRY_BYTES]
            if bool(raw[-1] & 0x80) == bool(queue.received // ENTRIES & 1):
                return
            entry = RX_COMPLETION.unpack(raw)
            start = queue.buffers.pop(entry.buffer_id)
            if entry.flags & HEADER_SPLIT:
                assert not queue.partial, "only a frame's first completion tells of headers"
                place = queue.header(queue.received)
                queue.partial += self.memory.data[place : place + entry.header_length]
            queue.partial += self.memory.data[start : start + entry.length]
            queue.received += 1
            if entry.flags & END_OF_PACKET:
                frame, queue.partial = queue.partial, b""
                yield frame, entry

    async def receive(self, ctx, number, count, *, refill=True, patience=PATIENCE):
        """Frames of a queue, waited for."""
        frames = []
        for _ in range(patience):
            before = self.queues[number].received
            frames += [frame for frame, _ in self.poll(number)]
            used = self.queues[number].received - before
            if used:
                await (self.post(ctx, number, used) if refill else self.ring_rx(ctx, number))
            if len(frames) >= count:
                return frames
            await ctx.tick()
        raise AssertionError(f"waited {patience} cycles for {count} frames on queue {number}, got {len(frames)}")

    async def transmit(self, ctx, number, frames, *, pieces=1, report=True):
        """Put frames on a TX ring, each cut into pieces, and ring the doorbell."""
        queue = self.queues[number]
        for frame in frames:
            step = -(-len(frame) // pieces)
            cuts = [frame[start : start + step] for start in range(0, len(frame), step)]
            for position, cut in enumerate(cuts):
                last = position == len(cuts) - 1
                address = queue.buffer(queue.sent) + 0x20000 + queue.sent % 7
                self._store(address, cut)
                flags = TX_FLAGS.const({"end_of_packet": last, "report": report and last}).as_bits()
                entry = TX_RING.pack(
                    address=address,
                    length=len(cut),
                    buffer_id=queue.sent % 65536,
                    type=TxDescriptorType.DATA.value,
                    flags=flags,
                )
                self._store(queue.ring(2, queue.sent), entry)
                queue.sent += 1
        await self.ring_tx(ctx, number)

    async def ring_tx(self, ctx, number):
        queue = self.queues[number]
        await self.write(
            ctx, "tx_doorbell", number, producer=queue.sent % 65536, completion_consumer=queue.reclaimed % 65536
        )

    def reclaim(self, number):
        """TX completions that have become visible."""
        queue = self.queues[number]
        entries = []
        while True:
            address = queue.ring(3, queue.reclaimed)
            raw = self.memory.data[address : address + ENTRY_BYTES]
            if bool(raw[-1] & 0x80) == bool(queue.reclaimed // ENTRIES & 1):
                return entries
            entries.append(TX_COMPLETION.unpack(raw))
            queue.reclaimed += 1

    async def reclaimed(self, ctx, number, count, patience=PATIENCE):
        """TX completions, waited for."""
        entries = []
        for _ in range(patience):
            entries += self.reclaim(number)
            if len(entries) >= count:
                await self.ring_tx(ctx, number)
                return entries
            await ctx.tick()
        raise AssertionError(
            f"waited {patience} cycles for {count} TX completions of queue {number}, got {len(entries)}"
        )

    async def until(self, ctx, condition, what, patience=PATIENCE):
        """Wait for a Python condition."""
        for _ in range(patience):
            if condition():
                return
            await ctx.tick()
        raise AssertionError(f"waited {patience} cycles for {what}")

    async def stopped(self, ctx, direction, number):
        """Wait for a direction to have stopped; its state and error."""
        for _ in range(400):
            state, stopped, error = await self.state(ctx, direction, number)
            if stopped:
                return state, error
        raise AssertionError(f"{direction} of queue {number} did not stop: {state.name}")

    async def counters(self, ctx):
        """A snapshot: counters of the port by name, of queues by (queue, name)."""
        control = await self.registers.read(ctx, "control")
        snapshot = self.registers.map.port["control"].fields["snapshot"].mask
        await self.registers.write_at(ctx, self.registers.map.address("control"), control | snapshot)
        values = {}
        for name in self.registers.map.port:
            if "." in name:
                values[name] = await self.registers.read(ctx, name)
        for number in range(self.config.queues):
            for name in self.registers.map.queue:
                if "." in name:
                    values[number, name.partition(".")[2]] = await self.registers.read(ctx, name, number)
        return values

    def _store(self, address, data):
        self.memory.data[address : address + len(data)] = data


def balance(counters, queues):
    """Received, and what became of it: both sums must be equal once nothing is on its way."""
    dropped = sum(value for name, value in counters.items() if "drop_" in (name if isinstance(name, str) else name[1]))
    delivered = sum(counters[q, "rx_packets"] for q in range(queues))
    return counters["rx.frames"], delivered + dropped
