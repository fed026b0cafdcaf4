# SPDX-License-Identifier: BSD-2-Clause
"""Memory that holds frames between wire and DMA."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.skid import SkidBuffer
from hw.config import WIDTHS


class PacketBuffer(wiring.Component):
    """One write port and a pipelined read port over a memory of beats.

    Each request is answered in order, the tag with the word, one per cycle, after at least three cycles: the memory, a
    register before any logic, and a skid buffer, so that both handshakes come from registers. A stalled response stalls
    the pipeline, nothing is lost. A word written in one cycle can be requested in the next; what is requested in the
    same cycle comes back undefined (and so synthesis need not compare addresses).

    Parameters
    ----------
    width : bits of a word
    depth : words, a power of two
    tag : shape of what travels with a request

    Members
    -------
    write_enable, write_address, write_data : write a word
    request : stream of ``address`` and ``tag``
    response : stream of ``data`` and ``tag``
    """

    def __init__(self, width: int, depth: int, tag: ShapeLike):
        if width not in WIDTHS:
            raise ValueError(f"Packet buffer width must be one of {', '.join(map(str, WIDTHS))}, not {width!r}")
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise TypeError(f"Packet buffer depth must be an integer, not {depth!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Packet buffer depth must be a power of two from 2 up, not {depth!r}")
        self._width = width
        self._depth = depth
        self._tag = tag
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(range(depth)),
                "write_data": In(width),
                "request": In(stream.Signature(data.StructLayout({"address": range(depth), "tag": tag}))),
                "response": Out(stream.Signature(data.StructLayout({"data": width, "tag": tag}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=self._width, depth=self._depth, init=[], attrs={"no_rw_check": 1}
        )
        write_port, read_port = storage.write_port(), storage.read_port()
        m.submodules.skid = skid = SkidBuffer(self.response.payload.shape())
        wiring.connect(m, skid.output, wiring.flipped(self.response))
        answer = skid.input
        fetched, moves = Signal(), Signal()
        fetched_tag = Signal(self._tag)
        word = Signal(self._width, reset_less=True)
        m.d.comb += [
            answer.payload.data.eq(word),
            write_port.en.eq(self.write_enable),
            write_port.addr.eq(self.write_address),
            write_port.data.eq(self.write_data),
            moves.eq(~answer.valid | answer.ready),
            self.request.ready.eq(~fetched | moves),
            read_port.en.eq(self.request.ready),
            read_port.addr.eq(self.request.payload.address),
        ]
        with m.If(self.request.ready):
            m.d.sync += [fetched.eq(self.request.valid), fetched_tag.eq(self.request.payload.tag)]
        with m.If(moves):
            m.d.sync += [
                answer.valid.eq(fetched),
                word.eq(read_port.data),
                answer.payload.tag.eq(fetched_tag),
            ]
        return m
