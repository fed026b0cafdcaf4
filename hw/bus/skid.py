# SPDX-License-Identifier: BSD-2-Clause
"""A register in a stream, both ways."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SkidBuffer(wiring.Component):
    """Cut all paths of a stream: ``valid``, payload and ``ready`` come from registers.

    A payload comes out one cycle after it went in, one a cycle. Two fit: what comes in the cycle in which the output
    stalls goes into a spare register, and only the cycle after falls ``input.ready``.

    Parameters
    ----------
    shape : of the payload

    Ports
    -----
    input, output : streams
    """

    def __init__(self, shape: ShapeLike):
        self._shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spare, payload = Signal(self._shape, reset_less=True), Signal(self._shape, reset_less=True)
        occupied, holds, stays = Signal(), Signal(), Signal()
        m.d.comb += [
            self.input.ready.eq(~occupied),
            self.output.payload.eq(payload),
            holds.eq(self.input.valid | occupied),
            stays.eq(self.output.valid & ~self.output.ready),
        ]
        # Neither flag has an enable: each is one LUT of four, and their wires are the shortest that a stream can have.
        m.d.sync += [self.output.valid.eq(holds | stays), occupied.eq(holds & stays)]
        # What is spare counts only once `occupied`, so that it need not wait for either handshake.
        with m.If(~occupied):
            m.d.sync += spare.eq(self.input.payload)
        with m.If(~stays):
            m.d.sync += payload.eq(Mux(occupied, spare, self.input.payload))
        return m
