# SPDX-License-Identifier: BSD-2-Clause
"""The RX planner between steered frames, a descriptor cache and completion slots, and what it should do."""

import random
from collections.abc import Container
from typing import Any, NamedTuple

from amaranth.hdl import Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.codec import Codec
from hw.abi.rings import DropReason, FillDescriptor, TransportLayer
from hw.config import NicConfig
from hw.nic.rx.planner import RxPlanner
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.standins import DescriptorCache, SlotCounter

FILL = Codec(FillDescriptor)


class Frame(NamedTuple):
    length: int
    queue: int
    routed: bool = True
    headers: int = 0  #: bytes of a TCP or UDP packet's headers; 0: it is neither


class HeaderArea(NamedTuple):
    """Where a queue's header buffers are, and their size."""

    address: int
    size: int


class Piece(NamedTuple):
    """A segment as it comes out."""

    queue: int
    length: int
    buffer_id: int
    end: bool
    drop: bool
    header_at: int | None = None  #: of headers, where they go


class PlannerBench:
    """Offers ``frames``, one a cycle or with random pauses, and keeps what comes out.

    ``stall`` is the chance, per cycle, that the output is not taken; ``pause`` that no frame is offered. ``areas`` are
    the header buffers of queues that split, whose completion rings have ``entries``.
    """

    def __init__(
        self, config: NicConfig, frames: list[Frame], *, seed: int = 0, stall: float = 0.0, pause: float = 0.0,
        slots: int = 1000, areas: dict[int, HeaderArea] | None = None, entries: int = 64,
    ):  # fmt: skip
        print(f"seed {seed}")
        self.config, self.frames, self.stall, self.pause = config, frames, stall, pause
        self.areas, self.entries = areas or {}, entries
        self.random = random.Random(seed)
        self.pieces: list[Piece] = []
        self.pieced_at: list[int] = []
        self.drops: list[tuple[int, int, DropReason]] = []  # queue, length, reason
        self.faults: list[int] = []  # queues
        self.cycle = 0
        self.planner, self.cache = RxPlanner(config), DescriptorCache(config)
        self.slots = SlotCounter(config, slots)
        self.top = m = Module()
        m.submodules.planner, m.submodules.cache, m.submodules.slots = self.planner, self.cache, self.slots
        connect(m, self.planner.descriptors, self.cache.port)
        connect(m, self.planner.slots, self.slots.port)
        m.d.comb += self.cache.clear.eq(self.planner.clear)

    @property
    def decided(self) -> int:
        """Frames that have left."""
        return sum(1 for piece in self.pieces if piece.end or piece.drop)

    def run(self, scenario: Any, *watchers: Any) -> None:
        """Run ``scenario(ctx)`` with all queues enabled, and ``watchers`` beside it; then all frames must be decided
        within reasonable time."""

        async def main(ctx: Any) -> None:
            for queue, area in self.areas.items():
                await self.set_headers(ctx, queue, area)
            ctx.set(self.planner.enable, (1 << self.config.queues) - 1)
            ctx.set(self.planner.starvation, 100)
            await scenario(ctx)
            await self.settle(ctx)

        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(main)
        simulator.add_testbench(self._offer, background=True)
        simulator.add_testbench(self._watch, background=True)
        for watcher in watchers:
            simulator.add_testbench(watcher, background=True)
        simulator.run()

    async def set_headers(self, ctx: Any, queue: int, area: HeaderArea | None) -> None:
        """Write what a queue's header split needs; none: it does not split."""
        fields = {}
        if area is not None:
            assert area.size in (64, 128, 256, 512)
            fields = {"enable": 1, "size": area.size.bit_length() - 7, "address": area.address >> 6}
        await write_register(ctx, self.planner.queue_write, "rx_completion_size", queue, entries=self.entries)
        await write_register(ctx, self.planner.queue_write, "rx_header", queue, **fields)

    async def settle(self, ctx: Any, bound: int = 20_000) -> None:
        for _ in range(bound):
            if self.decided == len(self.frames) and not ctx.get(self.planner.busy):
                await ctx.tick().repeat(20)
                assert self.decided == len(self.frames), "more came out than went in"
                assert not ctx.get(self.cache.underrun), "took descriptors that are not there"
                assert not ctx.get(self.slots.overrun), "reserved slots that are not there"
                return
            await ctx.tick()
        raise AssertionError(f"Waited {bound} cycles for {len(self.frames)} frames: {self.decided} decided")

    async def post(self, ctx: Any, queue: int, buffers: list[tuple[int, int]]) -> None:
        """Push descriptors: buffer id and length."""
        for buffer_id, length in buffers:
            raw = FILL.pack(address=buffer_id << 16, length=length, buffer_id=buffer_id)
            ctx.set(self.cache.push, 1)
            ctx.set(self.cache.push_queue, queue)
            ctx.set(self.cache.push_entry, int.from_bytes(raw, "little"))
            await ctx.tick()
        ctx.set(self.cache.push, 0)

    go = False  #: frames are offered

    async def _offer(self, ctx: Any) -> None:
        port = self.planner.input
        for number, frame in enumerate(self.frames):
            while not self.go or self.random.random() < self.pause:
                ctx.set(port.valid, 0)
                await ctx.tick()
            transport = number % 2 + 1 if frame.headers else (0, 3, 4)[number % 3]
            info = {
                "vlan": number,
                "header_length": frame.headers or self.random.randrange(60),
                "packet_type": {"transport": TransportLayer(transport)},
            }
            fields = {"length": frame.length, "queue": frame.queue, "routed": frame.routed, "info": info}
            ctx.set(port.payload, fields)
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)

    async def _watch(self, ctx: Any) -> None:
        planner = self.planner
        port, event = planner.output, planner.event
        ctx.set(planner.fault.ready, 1)
        while True:
            ctx.set(port.ready, int(self.random.random() >= self.stall))
            _, _, valid, ready, segment, strobe, queue, length, reason, faulted, stopped = await ctx.tick().sample(
                port.valid, port.ready, port.payload, event.strobe, event.queue, event.length, event.reason,
                planner.fault.valid, planner.fault.payload.queue,
            )  # fmt: skip
            self.cycle += 1
            if valid and ready:
                assert segment.info.vlan == self.decided, "what is known of a frame goes along with it"
                assert segment.drop or segment.header or segment.address == segment.buffer_id << 16
                assert not segment.header or segment.length == segment.info.header_length
                buffer_id = 0 if segment.drop or segment.header else segment.buffer_id
                end = bool(segment.end_of_packet and not segment.drop)
                header_at = segment.address if segment.header else None
                self.pieces.append(Piece(segment.queue, segment.length, buffer_id, end, bool(segment.drop), header_at))
                self.pieced_at.append(self.cycle)
            if strobe:
                self.drops.append((queue, length, DropReason(reason)))
            if faulted:
                self.faults.append(stopped)


def expected(
    frames: list[Frame],
    buffers: list[list[tuple[int, int]]],
    slots: int,
    areas: dict[int, HeaderArea] | None = None,
    entries: int = 64,
    refused: Container[int] = (),
    limited: Container[int] = (),
) -> tuple[list[Piece], list[tuple[int, int, DropReason]], list[int]]:
    """Pieces, drops and queues with a fault, if every queue has ``buffers`` and ``slots``, and gets no more; queues
    with header buffers in ``areas`` split; pools refuse and limit as told."""
    rings, free, faulted = [list(ring) for ring in buffers], [slots] * len(buffers), []
    pieces, drops = [], []
    for frame in frames:
        ring, own, left, reason = rings[frame.queue], [], frame.length, None
        area = (areas or {}).get(frame.queue)
        splits = area is not None and 0 < frame.headers <= area.size and frame.headers < frame.length
        left -= frame.headers if splits else 0
        if not frame.routed or frame.queue in faulted:
            reason = DropReason.QUEUE_DISABLED
        elif frame.queue in refused:
            reason = DropReason.POOL_LIMIT
        while reason is None and left:
            if free[frame.queue] <= len(own):
                reason = DropReason.COMPLETION_FULL
            elif len(ring) <= len(own):
                reason = DropReason.POOL_LIMIT if frame.queue in limited else DropReason.NO_BUFFER
            elif ring[len(own)][1] == 0:
                reason = DropReason.QUEUE_DISABLED
                faulted.append(frame.queue)
            else:
                buffer_id, length = ring[len(own)]
                own.append(Piece(frame.queue, min(length, left), buffer_id, length >= left, False))
                left -= own[-1].length
        if reason is None:
            if splits:
                place = area.address + (slots - free[frame.queue]) % entries * area.size
                pieces.append(Piece(frame.queue, frame.headers, 0, False, False, place))
            pieces += own
            del ring[: len(own)]
            free[frame.queue] -= len(own)
        else:
            pieces.append(Piece(frame.queue, frame.length, 0, False, True))
            drops.append((frame.queue, frame.length, reason))
    return pieces, drops, faulted
