# SPDX-License-Identifier: BSD-2-Clause
"""Latency as a queue of release times: its cost does not grow with the delay."""

from typing import Any

from amaranth import Module, Value
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

TIME_BITS = 48  #: cycles since reset; does not wrap within two weeks of simulated time at 200 MHz
MIN_DELAY = 2  #: cycles from input to output if the release time is already there


class DelayFifo(wiring.Component):
    """Hands each item on at its release time, in order.

    An item taken in cycle *c* with ``release`` = *r* is offered from cycle max(*r*, *c* + 2) on, and not before the
    items ahead of it are taken. One item a cycle; up to ``depth`` wait, then ``input`` is not ready.

    Parameters
    ----------
    shape : of the payload
    depth : items, 2 or more

    Ports
    -----
    now : the current cycle's number
    release : release time of the item at ``input``
    input, output : streams of ``shape``
    """

    def __init__(self, shape: ShapeLike, depth: int):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"Depth of a delay must be an integer of 2 or more, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "now": In(TIME_BITS),
                "release": In(TIME_BITS),
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        item = data.StructLayout({"release": TIME_BITS, "payload": Shape.cast(self.shape)})
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=item.size, depth=self.depth)
        head = data.View(item, fifo.r_data)
        due = fifo.r_rdy & (head.release <= self.now)
        m.d.comb += [
            data.View(item, fifo.w_data).release.eq(self.release),
            data.View(item, fifo.w_data).payload.eq(Value.cast(self.input.payload)),
            fifo.w_en.eq(self.input.valid),
            self.input.ready.eq(fifo.w_rdy),
            Value.cast(self.output.payload).eq(head.payload),
            self.output.valid.eq(due),
            fifo.r_en.eq(due & self.output.ready),
        ]
        return m
