# SPDX-License-Identifier: BSD-2-Clause
"""A FIFO for short paths on both sides."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.room import Room
from hw.bus.skid import SkidBuffer


class StreamFifo(wiring.Component):
    """FIFO in distributed RAM that cuts all paths: both sides come from registers.

    A payload comes out two cycles after it went in, one a cycle.

    Parameters
    ----------
    shape : of the payload
    depth : payloads that fit at least, any number from 1 up; one cell of RAM holds 16

    Ports
    -----
    input, output : streams
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
            raise ValueError(f"Depth of a FIFO must be an integer from 1 up, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = max(2, self._depth)
        m.submodules.room = room = Room(self._depth)
        m.submodules.storage = storage = Memory(shape=self._shape, depth=words, init=[])
        m.submodules.skid = skid = SkidBuffer(self._shape)
        connect(m, skid.output, flipped(self.output))
        write, read = storage.write_port(), storage.read_port(domain="comb")
        stored = Signal(range(words + 1))
        more = Signal()  # it is not 0
        fetch = Signal()
        m.d.comb += [
            self.input.ready.eq(room.room),
            room.take.eq(self.input.valid & self.input.ready),
            room.give.eq(fetch),
            write.en.eq(room.take),
            write.data.eq(self.input.payload),
            skid.input.valid.eq(more),
            skid.input.payload.eq(read.data),
            fetch.eq(more & skid.input.ready),
        ]
        m.d.sync += [
            stored.eq(stored + room.take - fetch),
            more.eq(room.take | Mux(fetch, stored[1:].any(), more)),
        ]
        for port, moves in ((write, room.take), (read, fetch)):
            place = Signal(range(words))
            m.d.comb += port.addr.eq(place)
            with m.If(moves):
                m.d.sync += place.eq(Mux(place == words - 1, 0, place + 1))
        return m
