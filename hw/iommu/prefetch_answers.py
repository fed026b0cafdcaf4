# SPDX-License-Identifier: BSD-2-Clause
"""Answering prefetches, which bring no data."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import ReadData

DEPTH = 4  #: prefetches taken and not answered


class PrefetchAnswers(wiring.Component):
    """Puts answers to prefetches (OKAY, data 0) into a stream of read data, which passes without delay when there are
    none. An answer is offered from the cycle after its prefetch on, before all that the source has not offered by then,
    and so before data of any read that comes later.

    Parameters
    ----------
    response : layout of R

    Ports
    -----
    take, id, length : a prefetch, and how many beats less one it asked for; only while there is ``room``
    source : stream of read data of others
    device : stream of read data to the device
    """

    def __init__(self, response: ReadData):
        self._id_width = response["id"].width
        super().__init__(
            {
                "take": In(1),
                "id": In(self._id_width),
                "length": In(8),
                "room": Out(1),
                "source": In(stream.Signature(response)),
                "device": Out(stream.Signature(response)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source, device = self.source, self.device
        m.submodules.taken = taken = SyncFIFO(width=self._id_width + 8, depth=DEPTH)
        identifier, length = taken.r_data[: self._id_width], taken.r_data[self._id_width :]
        beat = Signal(8)
        serve = Signal()
        waits = Signal()  # the source's is on offer, and was not taken
        m.d.comb += [
            self.room.eq(taken.w_rdy),
            taken.w_en.eq(self.take),
            taken.w_data.eq(Cat(self.id, self.length)),
            serve.eq(taken.r_rdy & ~waits),
            device.valid.eq(source.valid | serve),
            source.ready.eq(device.ready & ~serve),
            taken.r_en.eq(serve & device.ready & (beat == length)),
        ]
        with m.If(serve):
            m.d.comb += [device.payload.id.eq(identifier), device.payload.last.eq(beat == length)]
        with m.Else():
            m.d.comb += device.payload.eq(source.payload)
        m.d.sync += waits.eq(source.valid & ~serve & ~device.ready)
        with m.If(serve & device.ready):
            m.d.sync += beat.eq(beat + 1)
        with m.If(taken.r_en):
            m.d.sync += beat.eq(0)
        return m
